"""Plain words that the command line, the API and alerts share: why a link needs a person, or has no customer."""

PARKED = {
    "duplicate": "two live customers claim this user: keep one, take the user's id from the other's metadata",
    "claimed": "Clerk's metadata names a customer that is another user's: correct the metadata",
    "foreign": "Clerk's metadata names a customer that is deleted or unknown: correct or remove it",
    "misnamed": "Clerk's metadata names another customer than the link's: correct or remove it",
    "reassigned": "the link's customer now carries another user's id: nothing was touched",
    "subscribed": "the user is deleted, the customer still subscribed: release it, or end that and retry, or undo",
    "attached": "a surplus customer has a subscription or payments: move them, then delete it",
    "wrong_mode": "the customer is of the other mode (live or test)",
    "rejected": "the request itself is refused: see the story",
    "review": "customers in Stripe have this user's address, and none may be taken unseen: write the user's id"
    " into the right one's metadata, or take the address from the others",
    "mapping": "your own function (COUNTERFOIL_MAPPING or COUNTERFOIL_ELIGIBLE) failed: mend it, restart, retry",
    "observed": "only observed: serve without --observe does it",
}
"""Each reason to park, and what a person does about it."""

WITHOUT = {
    "no_email": "the user has no email address: a customer is made as soon as there is one",
    "older": "the user is older than the first start, and nobody has asked for a customer",
    "unasked": "customers are made on demand (COUNTERFOIL_CREATE), and nobody has asked for one",
    "not_eligible": "the user is not among those who get customers (COUNTERFOIL_ONLY_..., COUNTERFOIL_ELIGIBLE)",
    "unverified": "the user's email address is not verified: a customer is made as soon as it is",
    "unread": "nothing is known of the user but the id, and nobody has asked for a customer",
}
"""Each reason why a settled link has no customer."""


def ago(milliseconds: int) -> str:
    """A duration as a person says it."""
    seconds = max(0, milliseconds) // 1000
    for size, name in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds // size} {name}"
    return f"{seconds} s"
