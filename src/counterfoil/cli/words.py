"""Plain words for what the journal and the links hold."""

from datetime import UTC, datetime

PARKED = {
    "duplicate": "two live customers claim this user: keep one, take the user's id from the other's metadata",
    "claimed": "Clerk's metadata names a customer that is another user's: correct the metadata",
    "foreign": "Clerk's metadata names a customer that is deleted or unknown: correct or remove it",
    "misnamed": "Clerk's metadata names another customer than the link's: correct or remove it",
    "reassigned": "the link's customer now carries another user's id: nothing was touched",
    "attached": "a surplus customer has a subscription or payments: move them, then delete it",
    "wrong_mode": "the customer is of the other mode (live or test)",
    "rejected": "the request itself is refused: see the story",
    "observed": "only observed: serve without --observe does it",
}
"""Each reason to park, and what a person does about it."""

_STEPS = {
    "ReadUser": "read the user from Clerk",
    "InspectCustomer": "looked at customer {0}",
    "LookForCustomer": "looked through Stripe's newest customers",
    "CreateCustomer": "asked Stripe to create the customer",
    "ClaimCustomer": "wrote the user's id into customer {0}",
    "UpdateCustomer": "updated customer {0}",
    "RemoveCustomer": "deleted customer {0}",
    "WriteLinkBack": "wrote {0} into the user's metadata",
    "OpenClaim": "decided to take customer {0}, and wrote that down first",
    "CloseClaim": "did not take customer {0}",
    "OpenIntent": "decided to create a customer, and wrote that down first",
    "StartLook": "will look for what came of the create, instead of sending it again",
    "AbandonIntent": "looked, and nothing had come of the create: the next try gets a new key",
    "AdoptCustomer": "took customer {0}, which already names this user",
    "DropCustomer": "customer {0} is gone from Stripe: let it go",
    "DropSighting": "customer {0} is gone, or no longer names this user",
    "CountLook": "looked again for a customer that Stripe might have made late",
    "WaitUntil": "waits",
    "Settled": "settled",
    "Park": "parked",
}
_NEWS = {
    "user.created": "Clerk said: created",
    "user.updated": "Clerk said: updated",
    "user.deleted": "Clerk said: deleted",
    "sweep": "the sweep found a change that no delivery had told",
    "walk": "the daily walk found a difference",
}


def ago(milliseconds: int) -> str:
    """A duration as a person says it."""
    seconds = max(0, milliseconds) // 1000
    for size, name in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds // size} {name}"
    return f"{seconds} s"


def moment(milliseconds: int) -> str:
    """A time, in UTC, to the millisecond."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]


def sentence(kind: str, what: str, detail: dict[str, object]) -> str:
    """One journal entry as a sentence."""
    if kind == "news":
        text = _NEWS.get(what, what)
        return text + (" (not by the pinned instance: to be confirmed)" if detail.get("trusted") is False else "")
    name, _, rest = what.partition(" ")
    target, _, fields = rest.partition("(")
    text = _STEPS.get(name, what).format(target.strip())
    if fields:
        text += f" ({fields.rstrip(')')})"
    outcome = detail.get("outcome")
    if outcome not in {None, "ok"}:
        text += f": {outcome}"
    if name == "Settled" and detail.get("note"):
        text += f": {detail['note']}"
    if name == "Park":
        text += f": {detail.get('reason')} {detail.get('detail') or ''}".rstrip()
        text += f" — {PARKED.get(str(detail.get('reason')), '')}"
    if name == "WaitUntil" and isinstance(detail.get("until"), int):
        text += f" until {moment(int(str(detail['until'])))}"
    return text
