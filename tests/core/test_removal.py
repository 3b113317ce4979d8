"""What becomes of a deleted user's customer: each policy, a person's rulings, and the breaker."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from counterfoil.core.customer import HIDDEN, Customer, Subscription
from counterfoil.core.fold import fold_news
from counterfoil.core.link import Deletion, Doubt, Ended, Link, ParkReason, Ruling
from counterfoil.core.news import Ruled
from counterfoil.core.outcome import fold_end, fold_row_step, fold_success
from counterfoil.core.plan import plan
from counterfoil.core.policy import CLOSED_BY, HELD_FOR, HOUR, MINUTE, SECOND, IfSubscribed, OnDeletion
from counterfoil.core.step import (
    AdoptCustomer,
    ArchiveCustomer,
    CallStep,
    CancelSubscription,
    DropCustomer,
    HandOver,
    InspectCustomer,
    Park,
    RememberEnd,
    RemoveCustomer,
    RestoreCustomer,
    RowStep,
    Settled,
    Step,
    Turn,
    UpdateCustomer,
    WaitUntil,
)

from .support import (
    ADA,
    DAY,
    NOW,
    POLICY,
    SINCE,
    SUBJECT,
    WORLD,
    absent,
    deleted,
    kept,
    linked,
    quick,
    read,
    replace,
    sighting,
)

ARCHIVE = replace(POLICY, on_deletion=OnDeletion.ARCHIVE)
KEEP = replace(POLICY, on_deletion=OnDeletion.KEEP)
HOLD = replace(POLICY, if_subscribed=IfSubscribed.HOLD)
CANCEL = replace(POLICY, if_subscribed=IfSubscribed.CANCEL_AT_PERIOD_END)
GRACE = replace(POLICY, deletion_grace=7 * DAY)
HELD = replace(WORLD, deletions_held=True)
GONE_AT = NOW - SECOND


def gone(**columns: Any) -> Link:
    values = {"deletion": Deletion.SIGNED, "deleted_at": GONE_AT, "fields": None, "link_back": None, **columns}
    return linked(source_version=0, applied=None, **values)


def subscription(name: str = "sub_1", **more: Any) -> Subscription:
    values: dict[str, Any] = {"status": "active", "period_end": NOW + 20 * DAY, **more}
    return Subscription(subscription_id=name, **values)


def seen(*subscriptions: Subscription, **more: Any) -> dict[str, Customer]:
    """The link's customer, retrieved with its subscriptions."""
    values = {"customer_id": "cus_1", "owner": SUBJECT, "attached": False, **more}
    found = Customer(**{"subscriptions": subscriptions, **values})
    return {found.customer_id: found}


def step(link: Link, policy: Any = POLICY, world: Any = WORLD, now: int = NOW, **turn: Any) -> Step:
    return plan(Turn(link=link, **turn), policy, world, now)


# Archive and keep.


def test_archiving_looks_writes_down_marks_and_settles() -> None:
    assert step(gone(), ARCHIVE) == InspectCustomer("cus_1", subscriptions=True)
    assert step(gone(), ARCHIVE, inspected=seen()) == RememberEnd(Ended.CLOSING)
    closing = gone(ended=Ended.CLOSING)
    assert step(closing, ARCHIVE, inspected=seen()) == ArchiveCustomer("cus_1", GONE_AT)
    done = fold_success(closing, ArchiveCustomer("cus_1", GONE_AT))
    assert done.ended is Ended.ARCHIVED
    assert step(done, ARCHIVE, inspected=seen(archived=True)) == Settled("the customer is archived")


def test_what_is_archived_already_is_only_noted() -> None:
    """The answer was lost after the effect, or a backup was restored."""
    for ended in (None, Ended.CLOSING):
        assert step(gone(ended=ended), ARCHIVE, inspected=seen(archived=True)) == RememberEnd(Ended.ARCHIVED)


@pytest.mark.parametrize("policy", [POLICY, ARCHIVE])
def test_a_customer_that_was_archived_for_good_is_let_go(policy: Any) -> None:
    """By a plan: it names nobody. One that names nobody and is not archived is for a person."""
    assert step(gone(), policy, inspected=seen(archived=True, owner=None)) == DropCustomer("cus_1")
    assert step(gone(), policy, inspected=seen(owner=None)) == Park(ParkReason.REASSIGNED, "cus_1")


@pytest.mark.parametrize("policy", [POLICY, ARCHIVE, KEEP, HOLD, CANCEL])
@pytest.mark.parametrize("ended", [Ended.ARCHIVED, Ended.KEPT])
def test_what_was_done_stays_done_whatever_the_policy_is_by_now(policy: Any, ended: Ended) -> None:
    link = gone(ended=ended)
    assert step(link, policy) == InspectCustomer("cus_1")
    found = seen(subscription(), archived=ended is Ended.ARCHIVED)
    assert isinstance(step(link, policy, inspected=found), Settled)


def test_keeping_touches_nothing_and_is_remembered() -> None:
    assert step(gone(), KEEP) == InspectCustomer("cus_1")
    for found in (seen(subscription()), seen(livemode=True), seen(owner=None)):
        assert step(gone(), KEEP, inspected=found) == RememberEnd(Ended.KEPT)
    met = gone(customer_id=None)
    assert step(met, KEEP, sightings=(sighting(),)) == Settled("the customer is kept")


def test_an_archived_customer_is_restored_when_its_user_is_there_after_all() -> None:
    back = linked(ended=Ended.ARCHIVED, applied=None)
    assert step(back) == InspectCustomer("cus_1")
    assert step(back, inspected=seen(archived=True)) == RestoreCustomer("cus_1")
    assert step(back, inspected=seen(gone=True)) == DropCustomer("cus_1")
    assert step(back, inspected=seen(owner="user_2")) == Park(ParkReason.REASSIGNED, "cus_1")
    restored = fold_success(back, RestoreCustomer("cus_1"))
    assert step(restored, inspected=seen()) == UpdateCustomer("cus_1", ADA)


def test_a_crash_while_archiving_leaves_no_mark_on_a_user_who_is_back() -> None:
    back = linked(ended=Ended.CLOSING, applied=None)
    assert step(back, inspected=seen(archived=True)) == RestoreCustomer("cus_1")
    assert step(back, inspected=seen()) == RememberEnd(None)
    assert fold_row_step(back, RememberEnd(None), NOW).ended is None


# Customers that a scan met.


def test_an_archived_customer_that_a_scan_met_is_taken_and_left_alone() -> None:
    found = replace(sighting("cus_1"), archived=True)
    nobody = Link(subject_id=SUBJECT, revision=1, sighted=True)
    assert step(nobody, sightings=(found,)) == AdoptCustomer("cus_1", archived=True)
    taken = fold_row_step(nobody, AdoptCustomer("cus_1", archived=True), NOW)
    assert taken.ended is Ended.ARCHIVED
    assert step(taken) == Settled("in step")
    tombstone = gone(customer_id=None)
    inspected = seen(archived=True)
    assert step(tombstone, sightings=(found,), inspected=inspected) == AdoptCustomer("cus_1", archived=True)
    beside = replace(found, customer_id="cus_9")
    assert isinstance(step(gone(ended=Ended.ARCHIVED), sightings=(beside,), inspected=inspected), Settled)


def test_a_customer_of_ours_made_late_beside_an_archived_one_goes_if_nothing_hangs_on_it() -> None:
    late = sighting("cus_9", mark=POLICY.intent_key(SUBJECT, 1))
    link = gone(ended=Ended.ARCHIVED, generation=1)
    found = seen(archived=True) | seen(customer_id="cus_9")
    assert step(link, ARCHIVE, sightings=(late,), inspected=found) == RemoveCustomer("cus_9")
    used = seen(archived=True) | seen(customer_id="cus_9", attached=True)
    assert step(link, ARCHIVE, sightings=(late,), inspected=used) == Park(ParkReason.ATTACHED, "cus_9")


def test_a_customer_that_was_moved_here_is_never_a_surplus_of_ours() -> None:
    moved = sighting("cus_9", mark=POLICY.intent_key("user_2", 0))
    found = seen() | seen(customer_id="cus_9")
    assert step(linked(), sightings=(moved,), inspected=found) == Park(ParkReason.DUPLICATE, "cus_9")


@pytest.mark.parametrize("policy", [POLICY, ARCHIVE, KEEP, HOLD, CANCEL])
def test_a_customer_that_names_another_user_is_handed_over(policy: Any) -> None:
    found = seen(subscription(), owner="user_2")
    for ended in (None, Ended.KEPT, Ended.ARCHIVED, Ended.CLOSING):
        assert step(gone(ended=ended), policy, inspected=found) == HandOver("cus_1", "user_2")
    freed = fold_row_step(gone(ended=Ended.KEPT), HandOver("cus_1", "user_2"), NOW)
    assert (freed.customer_id, freed.ended) == (None, None)


def test_what_was_kept_is_forgotten_without_a_look_when_its_user_is_there_after_all() -> None:
    assert step(linked(ended=Ended.KEPT)) == RememberEnd(None)
    assert step(linked(ended=Ended.ARCHIVED, customer_id=None)) == RememberEnd(None)


def test_where_subscriptions_matter_a_look_without_them_is_not_enough() -> None:
    looked = {"cus_1": Customer(customer_id="cus_1", owner=SUBJECT)}
    for policy in (ARCHIVE, HOLD, CANCEL):
        assert step(gone(), policy, inspected=looked) == InspectCustomer("cus_1", subscriptions=True)
    assert step(gone(), POLICY, inspected=looked) == RemoveCustomer("cus_1")
    dead = {"cus_1": Customer(customer_id="cus_1", gone=True)}
    assert step(gone(), HOLD, inspected=dead) == DropCustomer("cus_1")


def test_what_others_made_is_looked_at_only_where_nothing_is_ours() -> None:
    strangers = (sighting("cus_7"), sighting("cus_8"))
    none = gone(customer_id=None)
    assert step(none, sightings=strangers) == InspectCustomer("cus_7")
    ours = sighting("cus_9", mark=POLICY.intent_key(SUBJECT, 0))
    found = step(none, sightings=(*strangers, ours), inspected=seen(customer_id="cus_9"))
    assert found == AdoptCustomer("cus_9")


# The grace period and the breaker.


@pytest.mark.parametrize("more", [{}, {"on_deletion": OnDeletion.ARCHIVE}, {"if_subscribed": IfSubscribed.HOLD}])
def test_nothing_is_done_before_the_grace_is_over(more: dict[str, Any]) -> None:
    policy, end = replace(GRACE, **more), GONE_AT + 7 * DAY
    for link, met in ((gone(), ()), (gone(customer_id=None), (sighting(),))):
        waiting = step(link, policy, sightings=met, inspected=seen())
        assert waiting == WaitUntil(end, settled=True, why="the grace period")
        assert not isinstance(step(link, policy, now=end, sightings=met), WaitUntil)
    assert step(gone(customer_id=None), policy) == Settled("gone on both sides")


@pytest.mark.parametrize("policy", [POLICY, ARCHIVE, HOLD, CANCEL, GRACE])
def test_while_deletions_are_held_every_removal_waits(policy: Any) -> None:
    for ruling in (Ruling.NONE, Ruling.RELEASE):
        waiting = step(gone(ruling=ruling), policy, HELD, inspected=seen())
        assert isinstance(waiting, WaitUntil)
        assert (waiting.at, waiting.settled) == (NOW + HELD_FOR, False)
        assert "counterfoil release deletions" in waiting.why
    assert step(gone(customer_id=None), policy, HELD) == Settled("gone on both sides")


def test_of_a_deleted_user_nothing_personal_is_kept_while_the_removal_waits() -> None:
    told = gone(deletion=Deletion.ABSENT, refused_email=ADA.email)
    link = replace(told, applied=ADA)
    for end in (WaitUntil(NOW + DAY), WaitUntil(NOW + DAY, settled=True), Park(ParkReason.SUBSCRIBED)):
        ended = fold_end(link, end)
        assert (ended.applied, ended.refused_email) == (None, None)
        assert ended.customer_id == "cus_1"


# What a person rules.


@pytest.mark.parametrize("policy", [POLICY, ARCHIVE, KEEP, HOLD, CANCEL, GRACE])
@pytest.mark.parametrize("world", [WORLD, HELD])
def test_a_removal_that_was_called_off_touches_nothing(policy: Any, world: Any) -> None:
    link = gone(ruling=Ruling.UNDO)
    note = Settled("the removal was called off: the customer is kept")
    assert step(link, policy, world) == InspectCustomer("cus_1")
    assert step(link, policy, world, inspected=seen(subscription())) == note
    archived = gone(ruling=Ruling.UNDO, ended=Ended.ARCHIVED)
    assert step(archived, policy, world, inspected=seen(archived=True)) == RestoreCustomer("cus_1")


def test_a_removal_is_called_off_of_what_there_is() -> None:
    alone, off = gone(ruling=Ruling.UNDO, customer_id=None), "the removal was called off: the customer is kept"
    assert step(alone) == Settled("gone on both sides")
    assert step(alone, sightings=(sighting(),)) == Settled(off)


def test_a_mark_on_what_is_not_the_users_any_more_is_left_there() -> None:
    link = gone(ruling=Ruling.UNDO, ended=Ended.ARCHIVED)
    moved = step(link, inspected=seen(archived=True, owner=None))
    assert moved == Settled("the removal was called off: the customer is kept")


def test_a_ruling_goes_with_its_deletion() -> None:
    undo = Ruled(subject_id=SUBJECT, ruling=Ruling.UNDO)
    link = kept(linked(), deleted(), undo)
    assert link.ruling is Ruling.UNDO
    assert kept(link, deleted()).ruling is Ruling.UNDO
    away = replace(gone(deletion=Deletion.ABSENT, ruling=Ruling.UNDO), fields=None)
    assert kept(away, read(NOW)).ruling is Ruling.NONE


def test_there_is_nothing_to_rule_about_a_user_who_lives_or_was_never_heard_of() -> None:
    undo = Ruled(subject_id=SUBJECT, ruling=Ruling.UNDO)
    assert fold_news(None, undo, SINCE, NOW) is None
    link = linked()
    assert fold_news(link, undo, SINCE, NOW) is link


# What a plan rules: about a user of whom no deletion was known.

PLANNED = Ruled(subject_id=SUBJECT, ruling=Ruling.PLANNED)


def test_a_plan_rules_before_the_deletion_and_not_after_it() -> None:
    told = kept(linked(), PLANNED)
    assert (told.ruling, told.due_at, told.revision) == (Ruling.PLANNED, NOW, linked().revision + 1)
    for deletion in (Deletion.ABSENT, Deletion.SIGNED):
        link = gone(deletion=deletion)
        assert fold_news(link, PLANNED, SINCE, NOW) is link
    undo = Ruled(subject_id=SUBJECT, ruling=Ruling.UNDO)
    assert kept(replace(told, deletion=Deletion.ABSENT, deleted_at=NOW), undo).ruling is Ruling.UNDO


def test_what_a_plan_ruled_lasts_until_the_user_is_found_or_clerk_says_deleted() -> None:
    told = replace(linked(), ruling=Ruling.PLANNED, must_confirm=Doubt.READ, absent_at=NOW - HOUR)
    absent_now = kept(told, absent(told))
    assert (absent_now.deletion, absent_now.ruling) == (Deletion.ABSENT, Ruling.PLANNED)
    assert kept(told, read(NOW)).ruling is Ruling.NONE
    assert kept(told, deleted(trusted=False)).ruling is Ruling.PLANNED
    signed = kept(absent_now, deleted())
    assert (signed.deletion, signed.ruling) == (Deletion.SIGNED, Ruling.NONE)


@pytest.mark.parametrize("policy", [POLICY, ARCHIVE, KEEP, HOLD, CANCEL])
@pytest.mark.parametrize("world", [WORLD, HELD])
def test_of_a_user_known_by_a_plan_alone_nothing_else_is_touched(policy: Any, world: Any) -> None:
    for link in (gone(ruling=Ruling.PLANNED), gone(ruling=Ruling.PLANNED, customer_id=None)):
        left = step(replace(link, wanted=False), policy, world, sightings=(sighting(),), inspected=seen())
        assert left == Settled("what the plan names is dealt with, and nothing else is touched")
        # Whom we serve, the usual policy serves to the end.
        served, unruled = replace(link, wanted=True), replace(link, wanted=True, ruling=Ruling.NONE)
        assert step(served, policy, world, inspected=seen()) == step(unruled, policy, world, inspected=seen())


# Subscriptions.


def test_a_plain_removal_needs_no_look_at_subscriptions() -> None:
    assert step(gone()) == InspectCustomer("cus_1")
    assert step(gone(), inspected=seen(subscription())) == RemoveCustomer("cus_1")


@pytest.mark.parametrize("status", ["active", "trialing", "past_due", "unpaid", "paused", "incomplete", "new_one"])
def test_whatever_is_not_over_is_held_for_a_person(status: str) -> None:
    found = seen(subscription(status=status))
    assert step(gone(), HOLD, inspected=found) == Park(ParkReason.SUBSCRIBED, f"sub_1 {status}")


@pytest.mark.parametrize("status", ["canceled", "incomplete_expired"])
def test_what_is_over_holds_nothing(status: str) -> None:
    assert step(gone(), HOLD, inspected=seen(subscription(status=status))) == RemoveCustomer("cus_1")


@pytest.mark.parametrize("policy", [HOLD, CANCEL, ARCHIVE])
def test_subscriptions_that_the_key_may_not_see_count_as_live(policy: Any) -> None:
    hidden = seen(Subscription(subscription_id="", status=HIDDEN))
    parked = step(gone(ended=Ended.CLOSING), policy, inspected=hidden)
    assert isinstance(parked, Park)
    assert parked.reason is ParkReason.SUBSCRIBED


@pytest.mark.parametrize("policy", [HOLD, CANCEL])
def test_a_released_removal_goes_on_as_the_policy_says(policy: Any) -> None:
    link = gone(ruling=Ruling.RELEASE, ended=Ended.CLOSING)
    assert step(link, policy, inspected=seen(subscription())) == RemoveCustomer("cus_1")
    both = replace(policy, on_deletion=OnDeletion.ARCHIVE)
    expected = CancelSubscription("cus_1", "sub_1", at_once=True)
    assert step(link, both, inspected=seen(subscription())) == expected


def test_what_is_archived_is_billed_no_more() -> None:
    two = seen(subscription("sub_1"), subscription("sub_2"))
    assert step(gone(), ARCHIVE, inspected=two) == CancelSubscription("cus_1", "sub_1", at_once=True)


def test_to_cancel_at_the_periods_end_is_written_down_done_and_waited_for() -> None:
    one, two = subscription("sub_1"), subscription("sub_2", period_end=NOW + 9 * DAY)
    assert step(gone(), CANCEL, inspected=seen(one, two)) == RememberEnd(Ended.CLOSING)
    closing = gone(ended=Ended.CLOSING)
    half = seen(replace(one, closing=True), two)
    assert step(closing, CANCEL, inspected=half) == CancelSubscription("cus_1", "sub_2")
    all_ = seen(replace(one, closing=True), replace(two, closing=True))
    waiting = step(closing, CANCEL, inspected=all_)
    assert isinstance(waiting, WaitUntil)
    assert (waiting.at, waiting.settled) == (NOW + 9 * DAY + CLOSED_BY, True)
    assert waiting.why == "the end of what the customer has paid for"
    assert step(closing, CANCEL, inspected=seen()) == ArchiveCustomer("cus_1", GONE_AT)
    assert step(gone(), CANCEL, inspected=seen()) == RemoveCustomer("cus_1"), "nothing was subscribed at all"


@pytest.mark.parametrize("end", [None, NOW - DAY, NOW + MINUTE])
def test_a_period_that_should_be_over_is_looked_at_each_hour(end: int | None) -> None:
    late = seen(subscription(period_end=end, closing=True))
    waiting = step(gone(ended=Ended.CLOSING), CANCEL, inspected=late)
    assert isinstance(waiting, WaitUntil)
    assert waiting.at == NOW + HOUR


# A deletion that a person has doubted: the breaker's release.


def test_a_200_lifts_even_a_signed_deletion_that_is_doubted() -> None:
    doubted = gone(must_confirm=Doubt.READ, doubted_at=NOW, revision=7, wanted=False)
    back = kept(doubted, read(NOW, ADA, at=7))
    assert (back.deletion, back.deleted_at, back.must_confirm, back.wanted) == (
        Deletion.NONE,
        None,
        Doubt.NONE,
        True,
    )
    assert kept(doubted, read(NOW, ADA, at=6)).deletion is Deletion.SIGNED, "a read from before"
    assert kept(doubted, read(NOW, ADA)).deletion is Deletion.SIGNED, "a page of a list"
    assert kept(gone(revision=7), read(NOW, ADA, at=7)).deletion is Deletion.SIGNED, "nobody has doubted it"


def test_a_404_settles_the_doubt() -> None:
    for deletion in (Deletion.SIGNED, Deletion.ABSENT):
        doubted = gone(deletion=deletion, must_confirm=Doubt.READ, doubted_at=NOW)
        told = kept(doubted, absent(doubted))
        assert (told.deletion, told.deleted_at, told.must_confirm) == (deletion, GONE_AT, Doubt.NONE)


# Whatever the turn.

links = st.builds(
    gone,
    deletion=st.sampled_from([Deletion.ABSENT, Deletion.SIGNED]),
    deleted_at=st.sampled_from([NOW - 8 * DAY, GONE_AT]),
    customer_id=st.sampled_from([None, "cus_1"]),
    ended=st.none() | st.sampled_from(Ended),
    ruling=st.sampled_from(Ruling),
    generation=st.integers(0, 2),
    wanted=st.booleans(),
)
customers = st.builds(
    Customer,
    customer_id=st.sampled_from(["cus_1", "cus_9"]),
    gone=st.booleans(),
    owner=st.sampled_from([SUBJECT, SUBJECT, "user_2", None]),
    livemode=st.booleans(),
    attached=st.sampled_from([True, False, None]),
    archived=st.booleans(),
    subscriptions=st.none()
    | st.lists(
        st.builds(
            subscription,
            st.sampled_from(["sub_1", "sub_2"]),
            status=st.sampled_from(["active", "canceled", HIDDEN]),
            closing=st.booleans(),
        ),
        max_size=2,
        unique_by=lambda each: each.subscription_id,
    ).map(tuple),
)
policies = st.builds(
    lambda **chosen: replace(POLICY, **chosen),
    on_deletion=st.sampled_from(OnDeletion),
    if_subscribed=st.sampled_from(IfSubscribed),
    deletion_grace=st.sampled_from([0, 7 * DAY]),
)


@quick(1500)
@given(
    link=links,
    found=st.lists(customers, max_size=2, unique_by=lambda each: each.customer_id),
    mark=st.sampled_from([None, POLICY.intent_key(SUBJECT, 0)]),
    met=st.booleans(),
    policy=policies,
    held=st.booleans(),
)
def test_no_turn_takes_more_than_the_policy_gives(
    link: Link, found: list[Customer], mark: str | None, met: bool, policy: Any, held: bool
) -> None:
    inspected = {each.customer_id: each for each in found}
    sightings = (sighting("cus_9", mark=mark),) if met else ()
    turn = Turn(link=link, sightings=sightings, inspected=inspected)
    chosen = plan(turn, policy, replace(WORLD, deletions_held=held), NOW)
    if not isinstance(chosen, RemoveCustomer | ArchiveCustomer | CancelSubscription):
        return
    assert not held
    assert link.deleted_at is not None
    assert link.deleted_at + policy.deletion_grace <= NOW
    assert policy.on_deletion is not OnDeletion.KEEP
    assert link.ruling is not Ruling.UNDO
    assert link.ruling is not Ruling.PLANNED or link.wanted
    customer = inspected[chosen.customer_id]
    assert (customer.owner, customer.gone, customer.livemode) == (SUBJECT, False, policy.livemode)
    if chosen.customer_id != link.customer_id:
        assert (isinstance(chosen, RemoveCustomer), customer.attached, customer.archived) == (True, False, False)
        return
    assert link.ended not in {Ended.ARCHIVED, Ended.KEPT}
    live = [each for each in customer.subscriptions or () if each.live]
    if isinstance(chosen, RemoveCustomer):
        assert policy.on_deletion is OnDeletion.DELETE
        assert not live or IfSubscribed.DELETE in {policy.if_subscribed} or link.ruling is Ruling.RELEASE
    if isinstance(chosen, ArchiveCustomer):
        assert not live


@quick(300)
@given(link=links, policy=policies)
def test_every_removal_comes_to_an_end(link: Link, policy: Any) -> None:
    """Played out against a customer that does what it is told: no policy runs in circles."""
    customer, now = seen(subscription())["cus_1"], NOW
    link = replace(link, customer_id="cus_1")
    inspected: dict[str, Customer] = {}
    for _ in range(12):
        chosen = plan(Turn(link=link, inspected=inspected), policy, WORLD, now)
        match chosen:
            case Settled() | Park():
                return
            case WaitUntil():
                now, inspected = chosen.at, {}
                over = [
                    replace(each, status="canceled") if each.closing else each
                    for each in customer.subscriptions or ()
                ]
                customer = replace(customer, subscriptions=tuple(over))
                continue
            case InspectCustomer():
                inspected = {"cus_1": customer}
                continue
            case ArchiveCustomer() | RestoreCustomer():
                customer = replace(customer, archived=isinstance(chosen, ArchiveCustomer))
            case CancelSubscription():
                (old,) = customer.subscriptions or ()
                new = replace(old, status="canceled") if chosen.at_once else replace(old, closing=True)
                customer = customer.with_subscription(new)
            case RemoveCustomer():
                customer = replace(customer, gone=True)
        inspected = {"cus_1": customer}
        if isinstance(chosen, RowStep):
            link = fold_row_step(link, chosen, now)
        else:
            assert isinstance(chosen, CallStep)
            link = fold_success(link, chosen)
    raise AssertionError("no end")
