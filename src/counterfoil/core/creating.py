"""A live user without a customer: whom to adopt, whether to make one. The policies on that are all here."""

from counterfoil.core.customer import Customer, wanted_fields
from counterfoil.core.link import Address, Deletion, Link, ParkReason
from counterfoil.core.news import UserBody
from counterfoil.core.policy import Adopt, Create, LinkBack, NoEmail, Policy
from counterfoil.core.step import (
    AdoptCustomer,
    ClaimCustomer,
    FindByEmail,
    ForgoCustomer,
    InspectCustomer,
    OpenIntent,
    Park,
    ReadUser,
    ReserveCustomer,
    Settled,
    Step,
    Turn,
    Without,
)


def plan_creation(turn: Turn, policy: Policy) -> Step:
    """No customer is known. Adopt what Clerk names, or mean to make one."""
    link = turn.link
    if link.fields is None:
        return ReadUser() if link.wanted else Settled("nothing known yet", Without.UNREAD)
    named = _named(link, policy)
    if named is not None and (link.wanted or link.source_version >= policy.since):
        step = _adopt_named(turn, named, policy)
        if step is not None:
            return step
    why_not = obstacle(link, policy)
    if why_not is not None:
        return why_not
    if link.mapping_error is not None:
        return park_unmapped(link.mapping_error)
    return _adopt_by_email(turn, policy) or OpenIntent(
        policy.intent_key(link.subject_id, link.generation), wanted_fields(link)
    )


def obstacle(link: Link, policy: Policy) -> Settled | None:
    """Why no customer is to be made for a user now; any news about the user has this looked at again."""
    if not link.wanted:
        return Settled("older than the first start", Without.OLDER)
    if policy.create is Create.ON_DEMAND and not link.asked:
        return Settled("nobody asked for a customer", Without.UNASKED)
    if not link.eligible:
        return Settled("not eligible", Without.NOT_ELIGIBLE)
    if policy.create is Create.ON_VERIFIED_EMAIL and link.address < Address.VERIFIED:
        return Settled("waiting for a verified email address", Without.UNVERIFIED)
    without = link.fields is None or link.fields.email is None
    if policy.no_email is NoEmail.WAIT and link.address is Address.NONE and without:
        return Settled("waiting for an email address", Without.NO_EMAIL)
    return None


def park_unmapped(error: str) -> Park:
    """For a person to mend. What the error quotes stays on the link: the journal holds no personal data."""
    return Park(ParkReason.MAPPING, error.partition(":")[0])


def own_name(link: Link | UserBody, policy: Policy) -> str | None:
    """What Clerk holds in the place where we write the customer's id."""
    return link.private_name if policy.link_back is LinkBack.PRIVATE else link.link_back


def _named(link: Link, policy: Policy) -> str | None:
    """Whom Clerk names, unless it is what we wrote ourselves for a customer that is gone."""
    named = own_name(link, policy) or link.link_back or link.private_name
    return None if named == link.written_back else named


def _adopt_named(turn: Turn, customer_id: str, policy: Policy) -> Step | None:
    only_ours = policy.adopt is Adopt.NEVER
    if not customer_id.startswith("cus_"):
        foreign = Park(ParkReason.FOREIGN, "the metadata holds something else than a customer's id")
        return None if only_ours else foreign
    seen = turn.inspected.get(customer_id)
    if seen is None:
        return InspectCustomer(customer_id)
    ours = seen.owner == turn.link.subject_id and not seen.gone
    if only_ours and not ours:
        return None
    if seen.gone:
        return Park(ParkReason.FOREIGN, customer_id)
    if seen.livemode != policy.livemode:
        return Park(ParkReason.WRONG_MODE, customer_id)
    if ours:
        return AdoptCustomer(customer_id)
    return ReserveCustomer(customer_id) if seen.owner is None else Park(ParkReason.CLAIMED, customer_id)


def _adopt_by_email(turn: Turn, policy: Policy) -> Step | None:
    """The one customer with the user's verified address, if it is nobody's. ``None``: there is none to adopt.

    The list is read-after-write consistent, and its filter minds the case (facts 3.2, 3.4).
    """
    link = turn.link
    email = wanted_fields(link).email
    if policy.adopt is not Adopt.VERIFIED_EMAIL or link.address is not Address.CARRIED or email is None:
        return None
    if turn.searched != email:
        return FindByEmail(email)
    found = [turn.inspected.get(each.customer_id, each) for each in turn.candidates]
    live = [each for each in found if not each.gone and not each.archived]
    ours = [each for each in live if each.owner == link.subject_id]
    if len(ours) > 1:
        return Park(ParkReason.DUPLICATE, _names(ours))
    if not live:
        return None
    only = ours[0] if ours else live[0]
    if not ours and (len(live) > 1 or only.owner is not None or only.mark is not None):
        return Park(ParkReason.REVIEW, _why(live))
    if only.livemode != policy.livemode:
        return Park(ParkReason.WRONG_MODE, only.customer_id)
    if ours:
        return AdoptCustomer(only.customer_id)
    if only.customer_id not in turn.inspected:
        return InspectCustomer(only.customer_id)
    return ReserveCustomer(only.customer_id)


def _why(live: list[Customer]) -> str:
    if len(live) > 1:
        return f"several have this address: {_names(live)}"
    owner = live[0].owner
    whose = "made by Counterfoil for somebody" if owner is None else f"another user's ({owner[:64]})"
    return f"{live[0].customer_id} has this address and is {whose}"


def _names(customers: list[Customer]) -> str:
    return ", ".join(sorted(each.customer_id for each in customers))


def resolve_claim(turn: Turn) -> Step:
    """A customer is reserved: write the subject's id into it, unless that is done, or it is not to be had."""
    link = turn.link
    assert link.customer_id is not None
    seen = turn.inspected.get(link.customer_id)
    if seen is None:
        return InspectCustomer(link.customer_id)
    if not seen.gone and seen.owner == link.subject_id:
        return AdoptCustomer(link.customer_id)
    if seen.gone or seen.owner is not None or link.deletion is not Deletion.NONE:
        return ForgoCustomer(link.customer_id)
    return ClaimCustomer(link.customer_id)
