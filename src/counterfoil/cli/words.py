"""Plain words for what the journal and the links hold."""

from datetime import UTC, datetime

from counterfoil.core.words import PARKED

_STEPS = {
    "ReadUser": "read the user from Clerk",
    "InspectCustomer": "looked at customer {0}",
    "LookForCustomer": "looked through Stripe's newest customers",
    "FindByEmail": "looked for Stripe's customers with the user's verified address",
    "CreateCustomer": "asked Stripe to create the customer",
    "ClaimCustomer": "wrote the user's id into customer {0}",
    "UpdateCustomer": "updated customer {0}",
    "RemoveCustomer": "deleted customer {0}",
    "ArchiveCustomer": "archived customer {0}",
    "RetireCustomer": "archived customer {0}, which names the user no more",
    "RestoreCustomer": "took the archive's mark from customer {0}",
    "CancelSubscription": "asked Stripe to end subscription {0}",
    "WriteLinkBack": "wrote {0} into the user's metadata",
    "OpenIntent": "decided to create a customer, and wrote that down first",
    "StartLook": "will look for what came of the create, instead of sending it again",
    "AbandonIntent": "looked, and nothing had come of the create: the next try gets a new key",
    "AdoptCustomer": "took customer {0}, which already names this user",
    "ReserveCustomer": "reserved customer {0}, which names nobody",
    "ForgoCustomer": "let customer {0} be: it was not to be had",
    "DropCustomer": "customer {0} is gone from Stripe: let it go",
    "DropSighting": "customer {0} is gone, or no longer names this user",
    "LapseOrder": "did not do what was approved for customer {0}: things have changed",
    "HandOver": "let a customer go that a person has moved: {0}",
    "RememberEnd": "noted what becomes of the customer: {0}",
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
        text += f": {detail['why']}" if detail.get("why") else ""
    return text
