"""What a link needs next: each branch of the plan, and what no plan may ever do."""

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from counterfoil.core.customer import Customer
from counterfoil.core.fold import fold_news
from counterfoil.core.link import Address, Deletion, Doubt, Fields, Link, Order, ParkReason, Sighting
from counterfoil.core.plan import plan
from counterfoil.core.policy import (
    ABSENT_TWICE,
    DISAGREED,
    HOUR,
    LATER_LOOKS,
    MINUTE,
    SECOND,
    Adopt,
    Create,
    LinkBack,
    NoEmail,
    Policy,
)
from counterfoil.core.step import (
    AbandonIntent,
    AdoptCustomer,
    ClaimCustomer,
    CountLook,
    CreateCustomer,
    DropCustomer,
    DropSighting,
    FindByEmail,
    ForgoCustomer,
    HandOver,
    InspectCustomer,
    LookForCustomer,
    OpenIntent,
    Park,
    ReadUser,
    RemoveCustomer,
    ReserveCustomer,
    Settled,
    StartLook,
    Step,
    Turn,
    UpdateCustomer,
    WaitUntil,
    Without,
    World,
    WriteLinkBack,
)

from .support import (
    ADA,
    BOB,
    DAY,
    FIELDS,
    NOW,
    POLICY,
    SINCE,
    SUBJECT,
    WORLD,
    known,
    linked,
    quick,
    read,
    replace,
    sighting,
)

KEY = POLICY.intent_key(SUBJECT, 0)
MINE = {"owner": SUBJECT, "attached": False}


def customer(customer_id: str = "cus_1", **more: Any) -> dict[str, Customer]:
    return {customer_id: Customer(customer_id=customer_id, **{**MINE, **more})}


def step(
    link: Link,
    *sightings: Sighting,
    inspected: Mapping[str, Customer] | None = None,
    world: World = WORLD,
    now: int = NOW,
    **turn: Any,
) -> Step:
    whole = Turn(link=link, sightings=sightings, inspected=inspected or {}, **turn)
    return plan(whole, POLICY, world, now)


def intended(**columns: Any) -> Link:
    return known(**{"intent_key": KEY, "intent_params": BOB, "intent_at": NOW - SECOND, "attempts": 1, **columns})


def gone(**columns: Any) -> Link:
    """A user deleted, whose customer is still there."""
    return linked(
        **{
            "deletion": Deletion.SIGNED,
            "deleted_at": NOW - SECOND,
            "fields": None,
            "link_back": None,
            "source_version": 0,
            **columns,
        }
    )


# An open intent.


@pytest.mark.parametrize(
    "columns",
    [
        {},
        {"must_confirm": Doubt.READ, "doubted_at": NOW},
        {"deletion": Deletion.SIGNED, "deleted_at": NOW, "fields": None},
        {"fields": ADA},
    ],
    ids=["plain", "in doubt", "deleted meanwhile", "changed meanwhile"],
)
def test_an_open_intent_is_sent_again_with_its_own_key_and_parameters(columns: dict[str, Any]) -> None:
    assert step(intended(**columns)) == CreateCustomer(KEY, BOB)


def test_an_open_intent_whose_customer_was_met_is_over() -> None:
    assert step(intended(), sighting("cus_8"), sighting("cus_9", mark=KEY)) == AdoptCustomer("cus_9")


def test_an_open_intent_whose_customer_was_archived_since_is_over_too() -> None:
    met = replace(sighting("cus_9", mark=KEY), archived=True)
    assert step(intended(), met) == AdoptCustomer("cus_9", archived=True)


@pytest.mark.parametrize("age", [POLICY.intent_ttl, POLICY.intent_ttl + 1])
def test_an_intent_past_its_time_is_looked_for_not_sent(age: int) -> None:
    expected = CreateCustomer(KEY, BOB) if age == POLICY.intent_ttl else StartLook(NOW + POLICY.quiet)
    assert step(intended(intent_at=NOW - age)) == expected


def test_an_intent_of_unknown_age_is_looked_for() -> None:
    assert step(intended(intent_at=None)) == StartLook(WORLD.stripe_now + POLICY.quiet)


def test_a_look_waits_until_a_scan_has_seen_far_enough() -> None:
    link = intended(look_after=NOW)
    assert step(link, world=World(seen_to=NOW, stripe_now=NOW)) == LookForCustomer(NOW)
    assert step(link, world=World(seen_to=NOW + 1, stripe_now=NOW)) == AbandonIntent()


def test_a_look_that_finds_the_customer_keeps_it() -> None:
    link = intended(look_after=NOW - MINUTE)
    assert step(link, sighting("cus_9", mark=KEY)) == AdoptCustomer("cus_9")


# Doubt.


@pytest.mark.parametrize("doubt", [Doubt.UNSURE, Doubt.CONFLICT, Doubt.READ])
def test_news_in_doubt_is_confirmed_before_anything_is_done(doubt: Doubt) -> None:
    assert step(linked(must_confirm=doubt), sighting()) == ReadUser()
    assert step(gone(deletion=Deletion.ABSENT, must_confirm=doubt)) == ReadUser()


def test_the_second_404_is_asked_for_a_minute_after_the_first() -> None:
    link = linked(must_confirm=Doubt.READ, absent_at=NOW)
    assert step(link) == WaitUntil(NOW + ABSENT_TWICE)
    assert step(link, now=NOW + ABSENT_TWICE) == ReadUser()


def test_a_read_that_settled_nothing_is_not_repeated_at_once() -> None:
    link = linked(must_confirm=Doubt.READ)
    assert step(link, read_at=link.revision) == WaitUntil(NOW + DISAGREED)
    assert step(link, read_at=link.revision - 1) == ReadUser()


# Removal.


def test_a_deleted_users_customer_is_retrieved_and_then_removed() -> None:
    assert step(gone()) == InspectCustomer("cus_1")
    assert step(gone(), inspected=customer()) == RemoveCustomer("cus_1")


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        ({"gone": True}, DropCustomer("cus_1")),
        ({"livemode": True}, Park(ParkReason.WRONG_MODE, "cus_1")),
        ({"owner": "user_2"}, HandOver("cus_1", "user_2")),
        ({"owner": "nobody of Clerk's"}, Park(ParkReason.REASSIGNED, "cus_1")),
        ({"owner": None}, Park(ParkReason.REASSIGNED, "cus_1")),
    ],
)
def test_a_customer_that_is_not_plainly_this_users_is_not_removed(seen: dict[str, Any], expected: Step) -> None:
    assert step(gone(), inspected=customer(**seen)) == expected


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (None, InspectCustomer("cus_9")),
        ({"gone": True}, DropSighting("cus_9")),
        ({"owner": "user_2"}, DropSighting("cus_9")),
        ({"livemode": True}, Park(ParkReason.WRONG_MODE, "cus_9")),
        ({}, AdoptCustomer("cus_9")),
    ],
)
@pytest.mark.parametrize("mark", [None, KEY])
def test_a_customer_that_was_only_met_is_taken_to_go_with_its_user(
    seen: dict[str, Any] | None, expected: Step, mark: str | None
) -> None:
    link = gone(customer_id=None, applied=None)
    inspected = None if seen is None else customer("cus_9", **seen)
    assert step(link, sighting(mark=mark), inspected=inspected) == expected


def test_a_stranger_beside_the_users_own_customer_is_left_for_a_person() -> None:
    found = sighting("cus_9")
    both = customer("cus_1") | customer("cus_9")
    assert step(gone(), found, inspected=both) == RemoveCustomer("cus_1")
    after = gone(customer_id=None, applied=None, generation=1)
    assert step(after, found, inspected=both) == Park(ParkReason.DUPLICATE, "cus_9")


def test_of_two_strangers_none_is_removed() -> None:
    link = gone(customer_id=None, applied=None)
    both = customer("cus_8") | customer("cus_9")
    assert step(link, sighting("cus_8"), sighting("cus_9"), inspected=both) == Park(
        ParkReason.DUPLICATE, "cus_8, cus_9"
    )


def test_what_we_made_goes_though_strangers_stay() -> None:
    link = gone(customer_id=None, applied=None)
    all_three = customer("cus_7") | customer("cus_8") | customer("cus_9")
    found = [sighting("cus_7"), sighting("cus_8"), sighting("cus_9", mark=KEY)]
    assert step(link, *found, inspected=all_three) == AdoptCustomer("cus_9")


def test_with_no_customer_left_a_deleted_user_is_settled() -> None:
    assert step(gone(customer_id=None, applied=None)) == Settled("gone on both sides")


def test_a_deleted_user_is_still_looked_after_for_a_late_customer() -> None:
    link = gone(customer_id=None, applied=None, generation=1, abandoned_at=NOW)
    assert step(link) == WaitUntil(NOW + LATER_LOOKS[0], settled=True)


# Customers that a scan met.


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (None, InspectCustomer("cus_9")),
        ({"gone": True}, DropSighting("cus_9")),
        ({"owner": "user_2"}, DropSighting("cus_9")),
        ({}, AdoptCustomer("cus_9")),
    ],
)
def test_for_a_user_who_was_asked_for_a_sighted_customer_is_looked_at_before_it_is_taken(
    seen: dict[str, Any] | None, expected: Step
) -> None:
    inspected = None if seen is None else customer("cus_9", **seen)
    assert step(known(asked=True), sighting(), inspected=inspected) == expected


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (None, InspectCustomer("cus_1")),
        ({"gone": True}, DropCustomer("cus_1")),
        ({"owner": "user_2"}, Park(ParkReason.REASSIGNED, "cus_1")),
        ({}, WriteLinkBack("cus_1")),
    ],
)
def test_an_old_pair_that_is_wanted_is_named_in_clerk_if_it_is_there_and_nothing_else_is_written(
    seen: dict[str, Any] | None, expected: Step
) -> None:
    pair = linked(source_version=SINCE - 1, applied=None, sighted=True, wanted=True, link_back=None)
    inspected = None if seen is None else customer("cus_1", **seen)
    assert step(pair, inspected=inspected) == expected
    assert step(replace(pair, mapping_error="ValueError: no"), inspected=inspected) == expected


@pytest.mark.parametrize("more", [{"wanted": False}, {"link_back": "cus_1"}, {"link_back": "cus_2"}])
def test_an_old_pair_that_nobody_asked_for_or_that_is_named_is_left_as_it_is(more: dict[str, Any]) -> None:
    pair = linked(**{"source_version": SINCE - 1, "applied": None, "sighted": True, "link_back": None, **more})
    assert step(pair) == Settled("in step")


def test_a_name_that_was_written_to_an_old_pairs_user_is_waited_for() -> None:
    pair = linked(source_version=SINCE - 1, applied=None, sighted=True, link_back=None, written_back="cus_1")
    assert step(pair, inspected=customer(), wrote_back=True) == WaitUntil(NOW + DISAGREED)


def test_the_one_customer_that_names_the_user_is_kept() -> None:
    assert step(known(), sighting()) == AdoptCustomer("cus_9")
    assert step(known(wanted=False, fields=None), sighting()) == AdoptCustomer("cus_9")


def test_of_several_the_one_that_clerk_names_is_kept() -> None:
    link = known(link_back="cus_9")
    assert step(link, sighting("cus_8"), sighting("cus_9")) == AdoptCustomer("cus_9")


def test_of_several_the_one_that_clerk_names_in_private_is_kept_too() -> None:
    link = known(private_name="cus_9", written_back="cus_9")
    assert step(link, sighting("cus_8"), sighting("cus_9")) == AdoptCustomer("cus_9")


def test_of_several_of_ours_the_oldest_is_kept() -> None:
    young, old = sighting("cus_8", mark="cf1-b", created=NOW), sighting("cus_9", mark="cf1-a")
    assert step(known(), young, old) == AdoptCustomer("cus_9")
    same = [sighting("cus_9", mark="cf1-a"), sighting("cus_8", mark="cf1-b")]
    assert step(known(), *same) == AdoptCustomer("cus_8")


def test_between_strangers_a_person_chooses_once_both_were_seen_alive() -> None:
    found = [sighting("cus_8"), sighting("cus_9", mark=KEY)]
    assert step(known(), *found) == InspectCustomer("cus_8", thoroughly=True)
    assert step(known(), *found, inspected=customer("cus_8", gone=True)) == DropSighting("cus_8")
    assert step(known(), *found, inspected=customer("cus_8")) == InspectCustomer("cus_9", thoroughly=True)
    both = customer("cus_8") | customer("cus_9")
    assert step(known(), *found, inspected=both) == Park(ParkReason.DUPLICATE, "cus_8, cus_9")


def test_before_anything_is_surplus_the_links_own_customer_must_be_alive() -> None:
    late = sighting(mark=KEY)
    assert step(linked(), late) == InspectCustomer("cus_1")
    assert step(linked(), late, inspected=customer(gone=True)) == DropCustomer("cus_1")


def test_nothing_is_surplus_while_the_links_own_customer_is_another_users() -> None:
    both = customer("cus_1", owner="user_2") | customer("cus_9")
    assert step(linked(), sighting(mark=KEY), inspected=both) == Park(ParkReason.REASSIGNED, "cus_1")


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (None, InspectCustomer("cus_9", thoroughly=True)),
        ({"gone": True}, DropSighting("cus_9")),
        ({"owner": "user_2"}, DropSighting("cus_9")),
        ({"attached": True}, Park(ParkReason.ATTACHED, "cus_9")),
        ({"attached": None}, InspectCustomer("cus_9", thoroughly=True)),
        ({"livemode": True}, Park(ParkReason.ATTACHED, "cus_9")),
        ({}, RemoveCustomer("cus_9")),
    ],
)
def test_a_surplus_customer_of_ours_goes_only_if_nothing_hangs_on_it(
    seen: dict[str, Any] | None, expected: Step
) -> None:
    inspected = customer() | ({} if seen is None else customer("cus_9", **seen))
    assert step(linked(), sighting(mark=KEY), inspected=inspected) == expected


def test_a_surplus_customer_that_is_gone_is_dropped_whatever_hung_on_it() -> None:
    both = customer("cus_1") | customer("cus_9", gone=True, attached=None)
    assert step(linked(), sighting("cus_9", mark=KEY), inspected=both) == DropSighting("cus_9")


def test_a_surplus_customer_of_ours_that_is_archived_is_left_for_a_person() -> None:
    both = customer("cus_1") | customer("cus_9", archived=True)
    found = step(linked(), sighting("cus_9", mark=KEY), inspected=both)
    assert found == Park(ParkReason.DUPLICATE, "cus_9")


def test_what_a_person_has_approved_goes_before_what_was_only_met() -> None:
    approved = replace(sighting("cus_9"), order=Order.ADOPT)
    assert step(known(), sighting("cus_8"), approved) == InspectCustomer("cus_9")
    assert step(known(), replace(approved, order=Order.NONE)) == AdoptCustomer("cus_9")


def test_a_strangers_customer_beside_the_links_own_is_left_for_a_person() -> None:
    both = customer() | customer("cus_9")
    assert step(linked(), sighting(), inspected=both) == Park(ParkReason.DUPLICATE, "cus_9")


def test_the_links_own_customer_is_no_sighting() -> None:
    assert step(linked(), sighting("cus_1", mark=KEY)) == Settled("in step")


# Creation.


def test_a_wanted_user_with_an_email_gets_an_intent() -> None:
    assert step(known()) == OpenIntent(KEY, ADA)
    assert step(known(generation=3)) == OpenIntent(POLICY.intent_key(SUBJECT, 3), ADA)


def test_an_address_that_was_refused_is_left_out() -> None:
    assert step(known(refused_email=ADA.email)) == OpenIntent(KEY, Fields(name="Ada"))
    assert step(known(refused_email="old@example.com")) == OpenIntent(KEY, ADA)


def test_a_user_without_an_email_waits_for_one() -> None:
    link = known(fields=Fields(name="Ada"), address=Address.NONE)
    assert step(link) == Settled("waiting for an email address", Without.NO_EMAIL)


def test_a_user_older_than_the_first_start_gets_no_customer() -> None:
    assert step(known(wanted=False)) == Settled("older than the first start", Without.OLDER)


def test_a_user_of_whom_only_the_id_is_known_is_read_if_wanted() -> None:
    assert step(known(fields=None, source_version=0)) == ReadUser()
    assert step(known(fields=None, source_version=0, wanted=False)) == Settled("nothing known yet", Without.UNREAD)


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (None, InspectCustomer("cus_5")),
        ({"gone": True}, Park(ParkReason.FOREIGN, "cus_5")),
        ({"livemode": True}, Park(ParkReason.WRONG_MODE, "cus_5")),
        ({"owner": None}, ReserveCustomer("cus_5")),
        ({"owner": SUBJECT}, AdoptCustomer("cus_5")),
        ({"owner": "user_2"}, Park(ParkReason.CLAIMED, "cus_5")),
    ],
)
def test_a_customer_that_clerk_names_is_taken_only_if_nobody_else_has_it(
    seen: dict[str, Any] | None, expected: Step
) -> None:
    inspected = None if seen is None else customer("cus_5", **seen)
    assert step(known(link_back="cus_5"), inspected=inspected) == expected


def test_something_else_than_a_customers_id_in_the_metadata_is_never_overwritten() -> None:
    assert isinstance(step(known(link_back="acct_1")), Park)


def test_a_name_that_we_wrote_ourselves_does_not_stop_a_new_customer() -> None:
    link = known(link_back="cus_1", written_back="cus_1", generation=1)
    assert step(link) == OpenIntent(POLICY.intent_key(SUBJECT, 1), ADA)


def test_an_old_user_whom_clerk_gave_a_customer_is_left_until_changed() -> None:
    old = known(link_back="cus_5", wanted=False, source_version=SINCE - 1)
    assert step(old) == Settled("older than the first start", Without.OLDER)
    changed = known(link_back="cus_5", wanted=False, source_version=SINCE)
    assert step(changed) == InspectCustomer("cus_5")


def test_a_user_back_from_an_absence_gets_a_customer_again() -> None:
    """Clerk's metadata still names the customer that was removed: it is known to have been ours."""
    absent = gone(deletion=Deletion.ABSENT, customer_id=None, applied=None, generation=1, written_back="cus_1")
    back = fold_news(absent, read(NOW, ADA, link_back="cus_1"), SINCE, NOW)
    assert back is not None
    assert step(back) == OpenIntent(POLICY.intent_key(SUBJECT, 1), ADA)


# Upkeep.


def test_only_what_differs_is_sent() -> None:
    link = linked(fields=Fields(email="ada@example.com", name="Ada L."))
    assert step(link) == UpdateCustomer("cus_1", Fields(name="Ada L."))


def test_all_is_sent_where_it_is_not_known_what_the_customer_has() -> None:
    assert step(linked(applied=None)) == UpdateCustomer("cus_1", ADA)


def test_what_clerk_does_not_have_is_left_alone() -> None:
    assert step(linked(fields=Fields())) == Settled("in step")
    assert step(linked(fields=Fields(name="Ada"))) == Settled("in step")


def test_an_old_pair_is_left_as_it_is_until_the_user_changes() -> None:
    old = linked(wanted=False, source_version=SINCE - 1, applied=None, link_back=None)
    assert step(old) == Settled("in step")
    changed = linked(wanted=False, source_version=SINCE, applied=None, link_back=None)
    assert step(changed) == UpdateCustomer("cus_1", ADA)


def test_a_customer_without_a_known_user_is_left_alone() -> None:
    assert step(linked(fields=None, source_version=0)) == Settled("in step")


def test_the_customer_of_a_user_of_whom_only_that_is_known_is_left_alone() -> None:
    assert step(linked(fields=None, link_back=None, written_back=None)) == Settled("in step")


def test_a_mapping_that_fails_parks_who_has_a_customer_too() -> None:
    link = linked(mapping_error="KeyError: 'plan of ada@example.com'")
    assert step(link) == Park(ParkReason.MAPPING, "KeyError")


def test_no_link_back_is_written_where_none_is_to_be() -> None:
    turn = Turn(link=linked(link_back=None, written_back=None))
    assert plan(turn, replace(POLICY, link_back=LinkBack.OFF), WORLD, NOW) == Settled("in step")


def test_of_a_strange_name_in_clerk_no_more_is_told_than_fits() -> None:
    parked = step(linked(link_back="x" * 200))
    assert parked == Park(ParkReason.MISNAMED, f"metadata {'x' * 64}, link cus_1")


@pytest.mark.parametrize(
    ("columns", "left"),
    [
        ({"wanted": False}, True),
        ({"wanted": True, "sighted": True}, True),
        ({"wanted": True}, False),
        ({"wanted": False, "applied": BOB}, False),
        ({"wanted": False, "source_version": SINCE}, False),
    ],
)
def test_only_an_old_pair_of_which_nothing_is_known_is_left_at_first_contact(
    columns: dict[str, Any], left: bool
) -> None:
    link = linked(**{"source_version": SINCE - 1, "applied": None, **columns})
    assert step(link) == (Settled("in step") if left else UpdateCustomer("cus_1", ADA))


@pytest.mark.parametrize(
    ("heard", "written"), [(None, None), (None, "cus_1"), ("cus_0", "cus_0")], ids=["first", "lost", "replaced"]
)
def test_the_customers_id_is_written_where_nothing_else_stands(heard: str | None, written: str | None) -> None:
    link = linked(link_back=heard, written_back=written)
    assert step(link) == WriteLinkBack("cus_1")
    assert step(link, wrote_back=True) == WaitUntil(NOW + DISAGREED)


def test_a_name_in_clerk_that_we_did_not_write_is_never_overwritten() -> None:
    link = linked(link_back="cus_5", written_back="cus_0")
    assert step(link) == Park(ParkReason.MISNAMED, "metadata cus_5, link cus_1")


# Later looks.


def test_after_a_given_up_intent_two_later_looks_are_owed() -> None:
    link = linked(generation=1, abandoned_at=NOW)
    first = NOW + LATER_LOOKS[0]
    assert step(link) == WaitUntil(first, settled=True)
    assert step(link, now=first) == LookForCustomer(first)
    assert step(link, world=World(seen_to=first + 1, stripe_now=first)) == CountLook()
    once = linked(generation=1, abandoned_at=NOW, looks=1)
    assert step(once, now=first) == WaitUntil(NOW + LATER_LOOKS[1], settled=True)
    assert step(linked(generation=1, abandoned_at=NOW, looks=2)) == Settled("in step")


def test_a_look_that_has_seen_no_further_than_to_its_time_goes_on() -> None:
    link, first = linked(generation=1, abandoned_at=NOW), NOW + LATER_LOOKS[0]
    assert step(link, world=World(seen_to=first, stripe_now=first), now=first) == LookForCustomer(first)


def test_a_later_look_holds_up_nothing_that_is_owed() -> None:
    assert step(linked(fields=BOB, generation=1, abandoned_at=NOW)) == UpdateCustomer("cus_1", BOB)


def test_a_later_look_that_is_due_goes_before_what_is_owed() -> None:
    due = NOW - HOUR
    link = linked(fields=BOB, generation=1, abandoned_at=due - LATER_LOOKS[0])
    assert step(link) == CountLook()


def test_the_last_look_falls_between_stripes_memory_and_25_hours() -> None:
    assert DAY < LATER_LOOKS[-1] < 25 * HOUR - POLICY.quiet


# Whatever the turn.

IDS = st.sampled_from(["cus_1", "cus_8", "cus_9"])
maybe_id = st.none() | IDS
customers = st.builds(
    Customer,
    customer_id=IDS,
    gone=st.booleans(),
    owner=st.sampled_from([SUBJECT, "user_2", None]),
    mark=st.sampled_from([None, KEY]),
    livemode=st.booleans(),
    attached=st.sampled_from([True, False, None]),
)
sightings = st.lists(
    st.builds(
        Sighting,
        customer_id=IDS,
        subject_id=st.just(SUBJECT),
        created=st.sampled_from([NOW - DAY, NOW]),
        mark=st.sampled_from([None, KEY, "cf1-other"]),
    ),
    max_size=3,
    unique_by=lambda each: each.customer_id,
)


@st.composite
def turns(draw: st.DrawFn) -> Turn:
    intent = draw(st.booleans())
    link = Link(
        subject_id=SUBJECT,
        source_version=draw(st.sampled_from([0, SINCE - 1, NOW - HOUR])),
        fields=draw(st.none() | FIELDS),
        link_back=draw(maybe_id | st.just("acct_1")),
        private_name=draw(maybe_id),
        address=draw(st.sampled_from(Address)),
        eligible=draw(st.booleans()),
        mapping_error=draw(st.sampled_from([None, None, "KeyError: 'plan'"])),
        wanted=draw(st.booleans()),
        asked=draw(st.booleans()),
        deletion=draw(st.sampled_from(Deletion)),
        must_confirm=draw(st.sampled_from([Doubt.NONE, Doubt.NONE, Doubt.READ])),
        revision=draw(st.integers(1, 2)),
        customer_id=(own := draw(maybe_id)),
        claiming=own is not None and not intent and draw(st.booleans()),
        applied=draw(st.none() | FIELDS),
        written_back=draw(maybe_id),
        intent_key=KEY if intent else None,
        intent_params=draw(FIELDS) if intent else None,
        intent_at=draw(st.sampled_from([None, NOW - DAY, NOW - HOUR])) if intent else None,
        look_after=draw(st.sampled_from([None, NOW - HOUR, NOW])) if intent else None,
        generation=draw(st.integers(0, 2)),
        abandoned_at=draw(st.sampled_from([None, NOW - DAY, NOW - HOUR, NOW])),
        looks=draw(st.integers(0, 2)),
        refused_email=draw(st.sampled_from([None, ADA.email])),
    )
    return Turn(
        link=link,
        sightings=tuple(draw(sightings)),
        inspected={each.customer_id: each for each in draw(st.lists(customers, max_size=3))},
        candidates=tuple(draw(st.lists(customers, max_size=3, unique_by=lambda each: each.customer_id))),
        searched=draw(st.sampled_from([None, ADA.email, BOB.email])),
        read_at=draw(st.none() | st.integers(1, 2)),
        wrote_back=draw(st.booleans()),
    )


policies = st.builds(
    Policy,
    environment=st.just(POLICY.environment),
    since=st.just(SINCE),
    livemode=st.just(False),
    create=st.sampled_from(Create),
    no_email=st.sampled_from(NoEmail),
    adopt=st.sampled_from(Adopt),
    link_back=st.sampled_from(LinkBack),
)


@quick(1500)
@given(turn=turns(), policy=policies)
def test_no_turn_leads_to_what_must_never_be_done(turn: Turn, policy: Policy) -> None:
    link, found = turn.link, turn.inspected
    own = link.customer_id
    match plan(turn, policy, WORLD, NOW):
        case OpenIntent() as opened:
            assert link.intent_key is None
            assert link.customer_id is None
            assert link.deletion is Deletion.NONE
            assert link.must_confirm is Doubt.NONE
            assert link.wanted
            assert opened.key == POLICY.intent_key(SUBJECT, link.generation)
            assert not turn.sightings
            assert link.eligible
            assert link.mapping_error is None
            assert policy.create is not Create.ON_DEMAND or link.asked
            assert policy.create is not Create.ON_VERIFIED_EMAIL or link.address >= Address.VERIFIED
        case CreateCustomer() as create:
            assert (create.key, create.fields) == (link.intent_key, link.intent_params)
        case RemoveCustomer() as removal:
            seen = found[removal.customer_id]
            assert not seen.gone
            assert seen.owner == SUBJECT
            assert seen.livemode == POLICY.livemode
            if link.deletion is Deletion.NONE:
                assert seen.attached is False
                assert own is not None
                assert removal.customer_id != own
                assert not found[own].gone
        case ReserveCustomer() as reserve:
            seen = found[reserve.customer_id]
            assert seen.owner is None
            assert not seen.gone
            assert seen.livemode == POLICY.livemode
            assert own is None
            assert policy.adopt is not Adopt.NEVER
            named = reserve.customer_id in {link.link_back, link.private_name}
            assert named or (policy.adopt is Adopt.VERIFIED_EMAIL and link.address is Address.CARRIED)
        case FindByEmail() as wish:
            assert policy.adopt is Adopt.VERIFIED_EMAIL
            assert link.address is Address.CARRIED
            assert link.fields is not None
            assert wish.email == link.fields.email
        case ClaimCustomer() as claim:
            seen = found[claim.customer_id]
            assert seen.owner is None
            assert not seen.gone
            assert claim.customer_id == own
            assert link.claiming
            assert link.deletion is Deletion.NONE
        case ForgoCustomer() as forgone:
            assert link.claiming
            assert forgone.customer_id == own
        case UpdateCustomer() as update:
            assert update.customer_id == own
            assert update.changes != Fields()
            assert update.changes.email != link.refused_email or link.refused_email is None
            assert link.fields is not None
            for name in ("email", "name", "phone", "description"):
                assert getattr(update.changes, name) in {None, getattr(link.fields, name)}
            assert (update.changes.metadata or {}).items() <= (link.fields.metadata or {}).items()
        case WriteLinkBack() as written:
            assert written.customer_id == own
            assert policy.link_back is not LinkBack.OFF
            held = link.private_name if policy.link_back is LinkBack.PRIVATE else link.link_back
            assert held in {None, link.written_back}
        case AdoptCustomer() as adoption:
            named = any(each.customer_id == adoption.customer_id for each in turn.sightings)
            listed = {each.customer_id: each for each in turn.candidates} | dict(found)
            assert named or listed[adoption.customer_id].owner == SUBJECT
            assert own is None or link.intent_key is not None or link.claiming
        case _:
            pass


@quick(150)
@given(turn=turns())
def test_nothing_but_reads_and_resolving_comes_before_the_doubt_is_gone(turn: Turn) -> None:
    if turn.link.must_confirm is Doubt.NONE:
        return
    chosen = plan(turn, POLICY, WORLD, NOW)
    if turn.link.intent_key is None:
        assert isinstance(chosen, ReadUser | WaitUntil)
    else:
        assert isinstance(chosen, CreateCustomer | StartLook | LookForCustomer | AbandonIntent | AdoptCustomer)
