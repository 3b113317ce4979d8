"""The end of a play: what must be true on both sides once the faults have stopped and time has passed.

Where people edit, move or delete customers in Stripe's dashboard, the product cannot know what they meant. Then
these hold instead:

- an edited field keeps the edit until Clerk changes that field;
- a customer that people deleted is made anew at the next news of its user, not before;
- of users whose customers people moved nothing is asked but that no third user suffers; they may be parked;
- where people deleted a customer and the database forgot it (a restore), the dead name in Clerk's metadata
  cannot be told from another's: parked;
- so is one that people deleted while it was about to be adopted, by its name in Clerk's metadata;
- a late customer to which people attached something stays, and is parked;
- where a plan archived a customer and the database forgot that, its user's link may be parked;
- of users for whom an old handler made a customer too, the last audit alone decides.

Users older than the first start are left as they are until they change; in an emptied database, that is the
first start after it.
"""

from collections.abc import Iterator

from counterfoil.core.link import Link, ParkReason
from counterfoil.sandbox.clerk_user import User
from counterfoil.sandbox.stripe_objects import Customer
from counterfoil.store import environment, links
from tests.harness import MINUTE
from tests.simulation.actors import Cast
from tests.simulation.watch import ARCHIVED, LINK_BACK, OWNER

_BY_MOVES = {
    ParkReason.REASSIGNED,
    ParkReason.DUPLICATE,
    ParkReason.CLAIMED,
    ParkReason.MISNAMED,
    ParkReason.FOREIGN,
    ParkReason.ATTACHED,
}
_BY_FORGOTTEN_DEATHS = {ParkReason.FOREIGN, ParkReason.MISNAMED}


def faults_of(cast: Cast) -> Iterator[str]:
    """Everything that is not as it should be."""
    stage = cast.stage
    stage.sandbox.advance(stage.time())
    stripe, clerk = stage.sandbox.stripe, stage.sandbox.clerk
    if stripe.late_creations():
        yield "customers are still to come"
    owned: dict[str, list[Customer]] = {}
    for customer in stripe.live_customers():
        if ARCHIVED not in customer.metadata:
            owned.setdefault(customer.metadata.get(OWNER) or "", []).append(customer)
    for user_id in cast.people:
        link = stage.look(lambda connection, user_id=user_id: links.get(connection, user_id))  # type: ignore[misc]
        mine = owned.get(user_id, [])
        for fault in _of(cast, user_id, clerk.users.get(user_id), mine, link):
            yield f"{user_id} (person {stage.numbers[user_id]}): {fault}"
    for customer_id, values in cast.strangers.items():
        now = stripe.customers[customer_id]
        if now.deleted or now.metadata != values["metadata"] or now.description != values["description"]:
            yield f"a stranger's customer was touched: {customer_id}"
    for user_id, keys in cast.marks.items():
        for key, where in keys.items():
            if user_id in clerk.users and key not in getattr(clerk.users[user_id], where):
                yield f"{user_id}: what the app wrote is lost: {key}"
    for customer_id, what in cast.edited:
        now = stripe.customers[customer_id]
        if (
            what == "other"
            and not now.deleted
            and (now.metadata.get("vip"), now.description) != ("yes", "a friend")
        ):
            yield f"{customer_id}: what a person wrote is lost"


def _of(cast: Cast, user_id: str, user: User | None, mine: list[Customer], link: Link | None) -> Iterator[str]:
    allowed = _allowed(cast, user_id)
    if link is not None:
        if link.parked is not None and link.parked not in allowed:
            yield f"parked: {link.parked} ({link})"
        if link.dirty_at is not None or link.intent_key is not None:
            yield f"not settled: {link}"
    if user_id in cast.moved | cast.handler.doubled or _forgotten(cast, user_id):
        return
    parked = link is not None and link.parked is not None
    found = [each.id for each in mine]
    if user is None:
        if mine and not parked:
            yield f"gone from Clerk, still in Stripe: {found} ({link})"
        return
    if parked:
        return
    if len(mine) > 1:
        yield f"has {found} ({link})"
    elif not mine:
        asked = user_id in cast.app.asked and not cast.restored
        unasked = (user_id in cast.old or _older(cast, user_id)) and not asked
        if user.email is not None and not unasked and not _still_bereft(cast, user_id):
            yield f"has no customer ({link})"
    else:
        yield from _pair(cast, user, mine[0], link)


def _pair(cast: Cast, user: User, customer: Customer, link: Link | None) -> Iterator[str]:
    if user.public_metadata.get(LINK_BACK) != customer.id:
        yield f"the metadata names {user.public_metadata.get(LINK_BACK)}, not {customer.id} ({link})"
    if link is None or link.customer_id != customer.id:
        yield f"the link has not {customer.id}: {link}"
    refused = user.email is not None and cast.stage.sandbox.settings.stripe.refuses_email(user.email)
    for what, wanted, has in (("email", user.email, customer.email), ("name", user.name, customer.name)):
        edited = cast.edited.get((customer.id, what), 0.0)
        if wanted is None or has == wanted or (what == "email" and refused):
            continue
        if edited < cast.changed[user.id, what] - 1.0:
            yield f"{what} is {has!r}, not {wanted!r} ({link})"


def _since(cast: Cast) -> float:
    """The first start after the database was emptied, and the clocks' difference; 0: it never was."""
    return int(cast.stage.look(environment.load)["since"]) / 1000 + 15 * MINUTE if cast.emptied else 0.0


def _older(cast: Cast, user_id: str) -> bool:
    """An emptied database makes customers for nobody who was there before, unless asked."""
    return cast.born[user_id] <= _since(cast)


def _forgotten(cast: Cast, user_id: str) -> bool:
    """An emptied database knows nothing of what was before its first start."""
    if user_id in cast.left:
        return _older(cast, user_id)  # whom no walk has met before he left is for the audit
    return max(cast.changed[user_id, "email"], cast.changed[user_id, "name"]) <= _since(cast)


def _still_bereft(cast: Cast, user_id: str) -> bool:
    """People deleted the customer, and there was no news that changes a customer since."""
    since = cast.bereft.get(user_id)
    if since is None:
        return False
    user = cast.stage.sandbox.clerk.users[user_id]
    # An address that Stripe refuses is refused before it says that the customer is gone.
    taken = user.email is not None and not cast.stage.sandbox.settings.stripe.refuses_email(user.email)
    last = max(cast.changed[user_id, "name"], cast.changed[user_id, "email"] if taken else 0.0)
    return last <= since + 300.0


def _allowed(cast: Cast, user_id: str) -> set[ParkReason]:
    allowed: set[ParkReason] = set()
    if user_id in cast.moved | cast.handler.doubled:
        allowed |= _BY_MOVES
    if user_id in cast.handler.doubled:
        allowed.add(ParkReason.SUBSCRIBED)
    if user_id in cast.bereft and (cast.restored or user_id in cast.named):
        allowed |= _BY_FORGOTTEN_DEATHS
    if user_id in cast.stage.watch.retired and cast.restored:
        allowed.add(ParkReason.REASSIGNED)
    if user_id in cast.attached:
        allowed.add(ParkReason.ATTACHED)
    return allowed
