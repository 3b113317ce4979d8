"""Drift: how the two sides differ about one subject. Pure; who may adopt whom is in `claims`."""

from collections.abc import Sequence

import msgspec

from counterfoil.core.claims import as_link, named_anywhere, named_in, without
from counterfoil.core.customer import difference, wanted_fields
from counterfoil.core.finding import Finding, Kind, Repair, SeenCustomer, State, told
from counterfoil.core.link import Deletion, Ended, Fields, Link, Ruling
from counterfoil.core.news import UserBody
from counterfoil.core.policy import LinkBack, OnDeletion, Policy


def findings(state: State, policy: Policy, recent: int) -> list[Finding]:
    """What is not right about one subject.

    Args:
        state: what is known of it.
        policy: what the settings ask for.
        recent: what changed at or after this time (ms) may be a change on its way.
    """
    if state.user is not None:
        found = _of_user(state, state.user, policy)
    else:
        found = [_unread(state)] if state.unread else _of_gone(state, policy, recent)
    version = state.user.version if state.user is not None else 0
    return [msgspec.structs.replace(each, recent=_is_young(state, recent), version=version) for each in found]


def in_step(user: UserBody, customer: SeenCustomer, policy: Policy) -> bool:
    """Whether nothing can be found about a user with this one customer and no link: true of most, quickly told."""
    return (
        user.fields == customer.fields and not customer.archived and named_in(user, policy) == customer.customer_id
    )


def _is_young(state: State, recent: int) -> bool:
    at_work = state.link is not None and state.link.dirty_at is not None and state.link.parked is None
    return (
        at_work
        or (state.user is not None and state.user.version >= recent)
        or any(each.created >= recent for each in state.customers)
    )


def _unread(state: State) -> Finding:
    """The user is there: nothing of theirs is an orphan, and nothing else can be told."""
    return Finding(
        kind=Kind.MISLINKED,
        subject_id=state.subject_id,
        why="what Clerk says of this user cannot be read, so that nothing was compared",
        subscribed=sum(each.live or 0 for each in state.customers),
        evidence={"customers": [{"customer": each.customer_id, **told(each)} for each in state.customers]},
    )


def _of_gone(state: State, policy: Policy, recent: int) -> list[Finding]:
    """Nobody is there: each customer that is not archived is an orphan. One that a person must see holds all."""
    link = state.link
    kept = link is not None and (link.ended is Ended.KEPT or link.ruling is Ruling.UNDO)
    if policy.on_deletion is OnDeletion.KEEP or kept or (link is not None and _waits(link, policy, recent)):
        return []
    orphans = [each for each in state.customers if not each.archived]
    why = "its user is gone"
    repair: Repair | None = Repair.RETIRE
    if any(each.live is None for each in orphans):
        repair, why = None, "its user is gone; the key may not read subscriptions"
    elif any(each.live for each in orphans):
        repair, why = None, "its user is gone, and a customer of that user still has a live subscription"
    elif any(state.rivals.values()):
        repair, why = None, "its user is gone, and Clerk's metadata of another user names it"
    return [
        Finding(
            kind=Kind.ORPHAN,
            subject_id=state.subject_id,
            customer_id=each.customer_id,
            repair=repair,
            retire=(each.customer_id,) if repair else (),
            why=why,
            subscribed=each.live or 0,
            evidence=told(each),
        )
        for each in orphans
    ]


def _waits(link: Link, policy: Policy, recent: int) -> bool:
    """Whether the grace period still holds a removal that is under way; what only a plan named has none."""
    planned = link.ruling is Ruling.PLANNED and not link.wanted
    if planned or link.deleted_at is None or policy.deletion_grace == 0:
        return False
    return recent < link.deleted_at + policy.deletion_grace


def _of_user(state: State, user: UserBody, policy: Policy) -> list[Finding]:
    link = state.link
    if link is not None and link.deletion is Deletion.SIGNED:
        why = "the database has this user's deletion, signed by Clerk, and the user is there: counterfoil retry"
        return [Finding(kind=Kind.MISLINKED, subject_id=state.subject_id, why=why)]
    own = [each for each in state.customers if not each.archived]
    if len(state.customers) > 1:
        return _duplicates(state, user, own, policy)
    if not state.customers:
        return without(state, user, policy)
    (customer,) = state.customers
    return [
        *_archived(state, customer),
        *_fields(state, user, customer),
        *_name(state, user, customer, policy),
        *_held(state, customer),
    ]


def _archived(state: State, customer: SeenCustomer) -> list[Finding]:
    if not customer.archived:
        return []
    return [
        Finding(
            kind=Kind.MISLINKED,
            subject_id=state.subject_id,
            customer_id=customer.customer_id,
            repair=Repair.RECONCILE,
            why="the customer is archived, and its user is there",
            subscribed=customer.live or 0,
            evidence=told(customer),
        )
    ]


def keeper_of(customers: Sequence[SeenCustomer], named: str | None) -> SeenCustomer | str:
    """Which of several customers stays: live subscriptions, payments, Clerk's word, age; or why nobody can say."""
    if not customers:
        return "all of them are archived"
    if len(customers) == 1:
        return customers[0]
    if any(each.live is None for each in customers):
        return "the key may not read subscriptions"
    subscribed = [each for each in customers if each.live]
    if len(subscribed) > 1:
        return "more than one has a live subscription"
    if subscribed:
        return subscribed[0]
    if any(each.paid is None for each in customers):
        return "the key may not read payments"
    pool = [each for each in customers if each.paid] or customers
    for each in pool:
        if each.customer_id == named:
            return each
    return min(pool, key=lambda each: (each.created, each.customer_id))


def needs_payments(state: State) -> bool:
    """Whether only payments can tell which customer stays."""
    own = [each for each in state.customers if not each.archived]
    return state.user is not None and len(own) > 1 and not any(each.live is None or each.live for each in own)


def _duplicates(state: State, user: UserBody, own: list[SeenCustomer], policy: Policy) -> list[Finding]:
    named = named_in(user, policy)
    keeper = keeper_of(own, named_anywhere(user, policy))
    claimants = state.customers
    evidence = {"customers": [{"customer": each.customer_id, **told(each)} for each in claimants]}
    subscribed = sum(each.live or 0 for each in claimants)
    if not isinstance(keeper, str):
        keeper = _why_not(state, keeper) or keeper
    if isinstance(keeper, str):
        return [
            Finding(
                kind=Kind.DUPLICATE,
                subject_id=state.subject_id,
                why=f"{len(claimants)} customers claim this user; {keeper}",
                subscribed=subscribed,
                evidence=evidence,
            )
        ]
    others = tuple(sorted(each.customer_id for each in claimants if each is not keeper))
    misnamed = named if named in others else None
    duplicate = Finding(
        kind=Kind.DUPLICATE,
        subject_id=state.subject_id,
        customer_id=keeper.customer_id,
        repair=Repair.RETIRE,
        retire=others,
        named=misnamed,
        why=f"{len(claimants)} customers claim this user; {keeper.customer_id} stays: "
        + _reason(keeper, own, named),
        subscribed=subscribed,
        evidence=evidence,
    )
    name = [] if misnamed else _name(state, user, keeper, policy)
    return [duplicate, *_fields(state, user, keeper), *name]


def _why_not(state: State, keeper: SeenCustomer) -> str | None:
    """Why the others cannot go by a rule."""
    others = [each for each in state.customers if each is not keeper]
    if any(each.live is None or each.live for each in others):
        return "an archived one may have a live subscription"
    if any(state.rivals.get(each.customer_id) for each in others):
        return "Clerk's metadata of another user names one of them"
    return None


def _reason(keeper: SeenCustomer, own: list[SeenCustomer], named: str | None) -> str:
    if keeper.live:
        return "it has a live subscription"
    if len(own) == 1:
        return "the others are archived"
    if keeper.paid and sum(bool(each.paid) for each in own) == 1:
        return "it has payments"
    return "Clerk's metadata names it" if keeper.customer_id == named else "it is the oldest"


def _fields(state: State, user: UserBody, customer: SeenCustomer) -> list[Finding]:
    if user.mapping_error is not None:
        return []
    desired = wanted_fields(as_link(user, state.link)) if state.link is not None else user.fields
    changes = difference(desired, customer.fields)
    if changes == Fields():
        return []
    wanted = msgspec.to_builtins(changes)
    carried = msgspec.to_builtins(customer.fields)
    return [
        Finding(
            kind=Kind.STALE,
            subject_id=state.subject_id,
            customer_id=customer.customer_id,
            repair=Repair.UPDATE,
            why=f"{' and '.join(sorted(wanted))} differ{'s' if len(wanted) == 1 else ''}",
            fields=customer.fields,
            subscribed=customer.live or 0,
            evidence={name: {"clerk": value, "stripe": carried.get(name)} for name, value in wanted.items()},
        )
    ]


def _name(state: State, user: UserBody, customer: SeenCustomer, policy: Policy) -> list[Finding]:
    """Whether Clerk's metadata names the user's one customer."""
    if policy.link_back is LinkBack.OFF:
        return []
    named = named_in(user, policy)
    if named == customer.customer_id:
        return []
    base = Finding(
        kind=Kind.UNLINKED,
        subject_id=state.subject_id,
        customer_id=customer.customer_id,
        repair=Repair.LINK,
        why="Clerk's metadata names no customer",
        subscribed=customer.live or 0,
    )
    if named is None:
        return [base]
    base = msgspec.structs.replace(
        base, named=named, evidence={"metadata": named, "customer": customer.customer_id}
    )
    replaced = msgspec.structs.replace
    if not named.startswith("cus_"):
        why = "Clerk's metadata holds something else than a customer's id under our key"
        return [replaced(base, kind=Kind.FOREIGN, repair=None, why=why)]
    other = state.named
    if other is None:
        why = "Clerk's metadata names a customer that is not there: deleted, or of another mode or account"
        return [replaced(base, kind=Kind.FOREIGN, why=why)]
    if other.owner not in {None, state.subject_id}:
        why = "Clerk's metadata names another user's customer"
        return [replaced(base, kind=Kind.FOREIGN, why=why)]
    if other.owner is None and other.live != 0:
        why = "Clerk's metadata names a customer that nobody claims and that has a live subscription"
        return [replaced(base, repair=None, why=why, subscribed=base.subscribed + (other.live or 0))]
    return [replaced(base, why="Clerk's metadata names another customer than the one that names the user")]


def _held(state: State, customer: SeenCustomer) -> list[Finding]:
    held = state.link.customer_id if state.link is not None else None
    if held in {None, customer.customer_id} or customer.archived:
        return []  # what is archived is found as that, once
    return [
        Finding(
            kind=Kind.MISLINKED,
            subject_id=state.subject_id,
            customer_id=customer.customer_id,
            repair=Repair.ADOPT,
            why=f"the database holds {held}, and {customer.customer_id} names the user",
            subscribed=customer.live or 0,
            evidence={"database": held},
        )
    ]
