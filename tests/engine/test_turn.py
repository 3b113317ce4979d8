"""A turn's part inside the database: what is written, under whose lease, and how a turn ends."""

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Connection

from counterfoil.core.backoff import delay
from counterfoil.core.customer import Customer
from counterfoil.core.link import Deletion, Doubt, Ended, Fields, Lane, Link, Order, ParkReason
from counterfoil.core.news import CustomerSeen, UserRead
from counterfoil.core.outcome import Again
from counterfoil.core.policy import Adopt
from counterfoil.core.step import (
    AdoptCustomer,
    ArchiveCustomer,
    CallStep,
    CancelSubscription,
    ClaimCustomer,
    CreateCustomer,
    FindByEmail,
    HandOver,
    InspectCustomer,
    OpenIntent,
    Park,
    ReadUser,
    RememberEnd,
    RemoveCustomer,
    ReserveCustomer,
    RetireCustomer,
    Settled,
    Step,
    Turn,
    UpdateCustomer,
    WaitUntil,
    WriteLinkBack,
)
from counterfoil.engine.carry_out import Effect
from counterfoil.engine.context import Rules
from counterfoil.engine.deletions import HELD_AT
from counterfoil.engine.turn import Next, advance, conclude, describe, end
from counterfoil.store import environment, journal, links, sightings
from counterfoil.store.engine import connect
from counterfoil.store.journal import Entry
from tests.core.support import ADA, BOB, DAY, NOW, POLICY, SUBJECT, WORLD, body, known, linked, replace
from tests.databases import Home
from tests.store.support import got, put

LEASE_END = NOW + 120_000
RULES = Rules(POLICY, dice=lambda: 1.0)
OTHER = "user_2other000000000000000000001"
CUSTOMER = Customer(customer_id="cus_1", owner=SUBJECT)


@pytest.fixture
def connection(home: Home) -> Iterator[Connection]:
    """A connection inside a transaction, with the schema made."""
    engine = connect(home.migrated())
    with engine.begin() as made:
        yield made
    engine.dispose()


def begin(connection: Connection, link: Link, *seen: CustomerSeen, **more: Any) -> Turn:
    """A turn of the link, put there and claimed, with the customers that a scan has met."""
    put(connection, replace(link, due_at=NOW, dirty_at=NOW))
    sightings.sight(connection, seen)
    (mine,) = links.claim(connection, NOW, LEASE_END, 1)
    met = sightings.of_subjects(connection, [SUBJECT]).get(SUBJECT, ())
    return Turn(link=mine, sightings=met, **more)


def lose(connection: Connection) -> Link:
    """Another worker takes the link over."""
    (theirs,) = links.claim(connection, LEASE_END, LEASE_END + 120_000, 1)
    return theirs


def go(connection: Connection, turn: Turn, rules: Rules = RULES) -> Next:
    return advance(connection, rules, turn, WORLD, NOW)


def came(connection: Connection, turn: Turn, effect: Effect, rules: Rules = RULES) -> Next:
    return conclude(connection, rules, turn, effect, WORLD, NOW + 5, 31)


def done(turn: Turn, step: CallStep, **more: Any) -> Effect:
    """The effect of a call that changed nothing of the row by itself."""
    return Effect(step, more.pop("link", turn.link), **more)


def told(connection: Connection, subject_id: str = SUBJECT) -> list[tuple[str, str]]:
    return [(each.kind, each.what) for each in journal.story(connection, subject_id)]


def seen(customer_id: str = "cus_9", subject_id: str = SUBJECT, order: Order = Order.NONE) -> CustomerSeen:
    return CustomerSeen(subject_id=subject_id, customer_id=customer_id, created=NOW - DAY, order=order)


def sighted(connection: Connection) -> list[str]:
    found = sightings.of_subjects(connection, [SUBJECT, OTHER])
    return sorted(each.customer_id for those in found.values() for each in those)


def following(turn: Next) -> tuple[Turn, CallStep]:
    """What follows, where something must."""
    assert turn is not None
    return turn


# What only changes the row.


def test_an_intent_is_committed_before_its_create_is_given_out(connection: Connection) -> None:
    turn, step = following(go(connection, begin(connection, known())))
    assert step == CreateCustomer(POLICY.intent_key(SUBJECT, 0), ADA)
    row = got(connection, SUBJECT)
    assert (row.intent_key, row.intent_params, row.intent_at) == (POLICY.intent_key(SUBJECT, 0), ADA, NOW)
    assert turn.link == row
    assert (row.held, row.due_at) == (1, LEASE_END)
    (entry,) = journal.story(connection, SUBJECT)
    assert entry == Entry(at=NOW, kind="decision", what="OpenIntent (email, name)", subject_id=SUBJECT)


def test_no_intent_is_opened_on_a_user_who_was_deleted_meanwhile(connection: Connection) -> None:
    turn = begin(connection, known())
    connection.exec_driver_sql(f"UPDATE link_rows SET deleted_at = {NOW}, deletion = 2")
    assert go(connection, turn) is None
    row = got(connection, SUBJECT)
    assert row.intent_key is None
    assert (row.held, row.due_at) == (1, LEASE_END)
    assert told(connection) == []


def test_a_step_of_the_row_is_not_taken_under_a_lease_that_is_gone(connection: Connection) -> None:
    turn = begin(connection, known(customer_id="cus_1", claiming=True), inspected={"cus_1": CUSTOMER})
    theirs = lose(connection)
    assert go(connection, turn) is None
    assert got(connection, SUBJECT) == theirs
    assert told(connection) == []


def test_a_link_in_step_is_settled_and_given_back(connection: Connection) -> None:
    assert go(connection, begin(connection, linked(lane=Lane.BULK, attempts=2))) is None
    row = got(connection, SUBJECT)
    assert (row.due_at, row.dirty_at, row.held, row.lane, row.attempts) == (None, None, 0, Lane.LIVE, 0)
    (entry,) = journal.story(connection, SUBJECT)
    assert entry == Entry(at=NOW, kind="result", what="Settled", subject_id=SUBJECT, detail={"note": "in step"})


def test_a_link_that_waits_comes_back_then_and_stays_unsettled(connection: Connection) -> None:
    turn = begin(connection, known(must_confirm=Doubt.READ, absent_at=NOW - 20_000))
    assert go(connection, turn) is None
    row = got(connection, SUBJECT)
    assert (row.due_at, row.dirty_at, row.held) == (NOW + 40_000, NOW, 0)
    (entry,) = journal.story(connection, SUBJECT)
    assert (entry.kind, entry.what, entry.detail) == ("result", "WaitUntil", {"until": NOW + 40_000})


def test_a_link_that_waits_for_a_policy_says_why_and_counts_as_settled(connection: Connection) -> None:
    policy = replace(POLICY, deletion_grace=DAY)
    gone = linked(deletion=Deletion.SIGNED, deleted_at=NOW, fields=None)
    assert go(connection, begin(connection, gone), Rules(policy)) is None
    row = got(connection, SUBJECT)
    assert (row.due_at, row.dirty_at) == (NOW + DAY, None)
    (entry,) = journal.story(connection, SUBJECT)
    assert entry.detail == {"until": NOW + DAY, "why": "the grace period"}


def test_a_link_that_needs_a_person_is_parked_with_its_reason(connection: Connection) -> None:
    assert go(connection, begin(connection, known(mapping_error="KeyError: 'plan'"))) is None
    row = got(connection, SUBJECT)
    assert (row.parked, row.last_error) == (ParkReason.MAPPING, "KeyError")
    assert (row.due_at, row.dirty_at, row.held) == (None, None, 0)
    (entry,) = journal.story(connection, SUBJECT)
    assert (entry.what, entry.detail) == ("Park", {"reason": "mapping", "detail": "KeyError"})


def test_who_only_observes_parks_what_would_act(connection: Connection) -> None:
    assert go(connection, begin(connection, known()), Rules(POLICY, observe=True)) is None
    row = got(connection, SUBJECT)
    assert (row.parked, row.last_error) == (ParkReason.OBSERVED, "would: OpenIntent (email, name)")
    assert row.intent_key is None


def test_who_only_observes_does_not_reserve_a_customer(connection: Connection) -> None:
    unowned = Customer(customer_id="cus_7")
    turn = begin(connection, known(link_back="cus_7"), inspected={"cus_7": unowned})
    assert go(connection, turn, Rules(POLICY, observe=True)) is None
    row = got(connection, SUBJECT)
    assert (row.customer_id, row.last_error) == (None, "would: ReserveCustomer cus_7")


@pytest.mark.parametrize(
    ("link", "step"),
    [
        (known(must_confirm=Doubt.UNSURE), ReadUser()),
        (linked(deletion=Deletion.SIGNED, deleted_at=NOW, fields=None), InspectCustomer("cus_1")),
    ],
)
def test_who_only_observes_still_reads(connection: Connection, link: Link, step: Step) -> None:
    assert following(go(connection, begin(connection, link), Rules(POLICY, observe=True)))[1] == step


def test_who_only_observes_settles_and_adopts_as_ever(connection: Connection) -> None:
    turn = begin(connection, known(link_back="cus_9", written_back="cus_9"), seen())
    assert go(connection, turn, Rules(POLICY, observe=True)) is None
    row = got(connection, SUBJECT)
    assert (row.customer_id, row.parked) == ("cus_9", ParkReason.OBSERVED)  # then its fields would be written
    assert row.last_error == "would: UpdateCustomer cus_9 (email, name)"


def test_who_only_observes_settles_what_is_in_step(connection: Connection) -> None:
    assert go(connection, begin(connection, linked()), Rules(POLICY, observe=True)) is None
    row = got(connection, SUBJECT)
    assert (row.parked, row.dirty_at, row.last_error) == (None, None, None)


def bury(connection: Connection, count: int) -> None:
    """So many users who were deleted just now."""
    put(
        connection,
        *(
            Link(
                subject_id=f"user_gone{each}",
                revision=1,
                customer_id=f"cus_gone{each}",
                deletion=Deletion.SIGNED,
                deleted_at=NOW - 5,
            )
            for each in range(count)
        ),
    )


def test_removals_are_held_when_too_many_users_went(connection: Connection) -> None:
    rules = Rules(replace(POLICY, deletion_breaker=2))
    bury(connection, 2)
    turn = begin(connection, linked(deletion=Deletion.SIGNED, deleted_at=NOW, fields=None))
    assert go(connection, turn, rules) is None
    assert got(connection, SUBJECT).customer_id == "cus_1"
    assert HELD_AT in environment.load(connection)
    assert "held" in str(journal.story(connection, SUBJECT)[-1].detail["why"])


def test_the_turn_of_a_user_who_is_there_asks_no_breaker(connection: Connection) -> None:
    bury(connection, 3)
    go(connection, begin(connection, linked()), Rules(replace(POLICY, deletion_breaker=2)))
    assert HELD_AT not in environment.load(connection)


def test_an_adopted_customer_is_no_sighting_any_more(connection: Connection) -> None:
    turn, step = following(go(connection, begin(connection, known(), seen())))
    assert step == UpdateCustomer("cus_9", ADA)
    assert turn.sightings == ()
    assert sighted(connection) == []
    assert told(connection) == [("decision", "AdoptCustomer cus_9")]


def test_the_sightings_beside_an_adopted_customer_stay(connection: Connection) -> None:
    made = CustomerSeen(subject_id=SUBJECT, customer_id="cus_9", created=1, mark=POLICY.intent_key(SUBJECT, 0))
    turn = begin(connection, known(link_back="cus_8"), made, seen("cus_8"))
    after, step = following(go(connection, turn))
    assert step == InspectCustomer("cus_8")
    assert [each.customer_id for each in after.sightings] == ["cus_9"]
    assert sighted(connection) == ["cus_9"]


@pytest.mark.parametrize("reserves", [False, True])
def test_a_customer_that_another_link_holds_is_not_taken(connection: Connection, *, reserves: bool) -> None:
    put(connection, Link(subject_id=OTHER, revision=1, customer_id="cus_9"))
    owner = None if reserves else SUBJECT
    found = {"cus_9": Customer(customer_id="cus_9", owner=owner)}
    assert go(connection, begin(connection, known(link_back="cus_9"), inspected=found)) is None
    row = got(connection, SUBJECT)
    assert (row.customer_id, row.parked, row.last_error) == (None, ParkReason.CLAIMED, "cus_9")
    assert got(connection, OTHER).customer_id == "cus_9"


def test_a_customer_that_the_link_holds_itself_is_taken(connection: Connection) -> None:
    turn = begin(connection, known(customer_id="cus_1", claiming=True), inspected={"cus_1": CUSTOMER})
    after, _ = following(go(connection, turn))
    assert not after.link.claiming
    assert after.link.customer_id == "cus_1"


def test_a_dropped_sighting_is_forgotten_and_the_rest_go_on(connection: Connection) -> None:
    gone = {"cus_1": CUSTOMER, "cus_8": Customer(customer_id="cus_8", gone=True)}
    turn = begin(connection, linked(), seen("cus_8"), seen("cus_9"), inspected=gone)
    after, step = following(go(connection, turn))
    assert step == InspectCustomer("cus_9", thoroughly=True)
    assert [each.customer_id for each in after.sightings] == ["cus_9"]
    assert sighted(connection) == ["cus_9"]


def test_an_order_that_lapses_leaves_a_sighting_like_any_other(connection: Connection) -> None:
    turn = begin(connection, known(), seen("cus_9", order=Order.ARCHIVE))
    after, _ = following(go(connection, turn))
    assert after.link.customer_id == "cus_9"
    assert told(connection)[:2] == [("decision", "LapseOrder cus_9"), ("decision", "AdoptCustomer cus_9")]


def test_a_lapsed_order_is_lapsed_for_good(connection: Connection) -> None:
    moved = {"cus_1": replace(CUSTOMER, owner=None)}
    turn = begin(connection, linked(), seen("cus_9", order=Order.ARCHIVE), inspected=moved)
    assert go(connection, turn) is None
    ((kept,),) = sightings.of_subjects(connection, [SUBJECT]).values()
    assert (kept.customer_id, kept.order) == ("cus_9", Order.NONE)
    assert got(connection, SUBJECT).parked is ParkReason.REASSIGNED


def test_a_customer_moved_to_another_user_is_told_to_that_ones_link(connection: Connection) -> None:
    put(connection, Link(subject_id=OTHER, revision=1))
    moved = {"cus_1": replace(CUSTOMER, owner=OTHER)}
    gone = linked(deletion=Deletion.SIGNED, deleted_at=NOW, fields=None)
    assert go(connection, begin(connection, gone, inspected=moved)) is None
    assert got(connection, SUBJECT).customer_id is None
    other = got(connection, OTHER)
    assert (other.sighted, other.due_at, other.wanted) == (True, NOW, False)
    ((met,),) = sightings.of_subjects(connection, [OTHER]).values()
    assert (met.customer_id, met.created, met.mark) == ("cus_1", 0, None)
    assert told(connection)[0] == ("decision", f"HandOver cus_1 to {OTHER}")


def test_a_look_that_a_scan_has_answered_is_counted(connection: Connection) -> None:
    turn = begin(connection, linked(generation=1, abandoned_at=NOW - DAY))
    assert go(connection, turn) is None
    assert got(connection, SUBJECT).looks == 1


# What came of a call.


def test_a_call_is_written_down_with_what_came_of_it(connection: Connection) -> None:
    turn = begin(connection, linked())
    came(connection, turn, done(turn, UpdateCustomer("cus_1", ADA), outcome="Busy 429", request_id="req_1"))
    entry = journal.story(connection, SUBJECT)[0]
    assert entry == Entry(
        at=NOW + 5,
        kind="call",
        what="UpdateCustomer cus_1 (email, name)",
        subject_id=SUBJECT,
        detail={"outcome": "Busy 429"},
        request_id="req_1",
        ms=31,
    )


def test_a_call_that_was_not_sent_is_not_written_down(connection: Connection) -> None:
    turn = begin(connection, linked())
    assert came(connection, turn, done(turn, UpdateCustomer("cus_1", ADA), sent=False)) is None
    assert [kind for kind, _ in told(connection)] == ["result"]


def test_the_news_of_a_call_is_folded_before_it_goes_on(connection: Connection) -> None:
    turn = begin(connection, known(must_confirm=Doubt.UNSURE))
    news = UserRead(body=body(version=NOW, fields=BOB), at_revision=turn.link.revision)
    after, step = following(came(connection, turn, done(turn, ReadUser(), news=(news,), read=True)))
    assert step == CreateCustomer(POLICY.intent_key(SUBJECT, 0), BOB)
    assert after.link.must_confirm is Doubt.NONE
    assert after.read_at == turn.link.revision


def test_what_a_call_has_dealt_with_is_no_sighting_any_more(connection: Connection) -> None:
    turn = begin(connection, linked(), seen(), inspected={"cus_1": CUSTOMER, "cus_9": CUSTOMER})
    assert came(connection, turn, done(turn, RemoveCustomer("cus_9"), dealt_with="cus_9")) is None
    assert sighted(connection) == []
    assert got(connection, SUBJECT).dirty_at is None


def test_a_customer_that_another_link_got_meanwhile_is_not_shared(connection: Connection) -> None:
    put(connection, Link(subject_id=OTHER, revision=1, customer_id="cus_2"))
    turn = begin(connection, known(intent_key="cf1-x", intent_params=ADA, intent_at=NOW))
    made = replace(turn.link, customer_id="cus_2", applied=ADA)
    step = CreateCustomer("cf1-x", ADA)
    assert came(connection, turn, done(turn, step, link=made)) is None
    row = got(connection, SUBJECT)
    assert (row.customer_id, row.parked, row.last_error) == (None, ParkReason.CLAIMED, "cus_2")


def test_a_created_customer_is_kept_and_its_link_back_comes_next(connection: Connection) -> None:
    turn = begin(connection, known(intent_key="cf1-x", intent_params=ADA, intent_at=NOW))
    made = replace(turn.link, customer_id="cus_2", applied=ADA, intent_key=None, intent_params=None)
    after, step = following(came(connection, turn, done(turn, CreateCustomer("cf1-x", ADA), link=made)))
    assert step == WriteLinkBack("cus_2")
    assert after.link == got(connection, SUBJECT)
    assert after.link.customer_id == "cus_2"


def test_a_call_that_is_to_be_made_again_waits_for_its_back_off(connection: Connection) -> None:
    turn = begin(connection, linked(attempts=3, parked=ParkReason.REJECTED))
    ending = Again(after=1.5)
    assert came(connection, turn, done(turn, UpdateCustomer("cus_1", ADA), ending=ending)) is None
    row = got(connection, SUBJECT)
    assert (row.due_at, row.dirty_at, row.held) == (NOW + 5 + delay(3, 1.0), NOW, 0)
    assert row.parked is None


@pytest.mark.parametrize(("after", "wait"), [(None, 50), (0.0, 50), (0.02, 50), (7.25, 7_250)])
def test_an_early_try_comes_again_when_it_was_told_to(
    connection: Connection, after: float | None, wait: int
) -> None:
    turn = begin(connection, linked(attempts=3))
    ending = Again(counts=False, after=after)
    assert came(connection, turn, done(turn, UpdateCustomer("cus_1", ADA), ending=ending)) is None
    assert got(connection, SUBJECT).due_at == NOW + 5 + wait


def test_a_call_that_a_person_must_see_to_parks_the_link(connection: Connection) -> None:
    turn = begin(connection, linked())
    ending = Park(ParkReason.REJECTED, "stripe 400")
    assert came(connection, turn, done(turn, UpdateCustomer("cus_1", ADA), ending=ending)) is None
    row = got(connection, SUBJECT)
    assert (row.parked, row.last_error, row.dirty_at, row.held) == (ParkReason.REJECTED, "stripe 400", None, 0)


# What the next step is decided on.


def test_what_was_seen_before_a_change_is_not_seen_any_more(connection: Connection) -> None:
    turn = begin(
        connection,
        linked(fields=BOB, must_confirm=Doubt.UNSURE),
        inspected={"cus_1": CUSTOMER, "cus_8": CUSTOMER, "cus_9": CUSTOMER},
    )
    effect = done(turn, UpdateCustomer("cus_1", ADA), dealt_with="cus_8")
    after, _ = following(came(connection, turn, effect))
    assert dict(after.inspected) == {"cus_9": CUSTOMER}


def test_what_a_look_has_shown_is_seen_besides_what_was(connection: Connection) -> None:
    turn = begin(connection, linked(must_confirm=Doubt.UNSURE), inspected={"cus_9": CUSTOMER})
    effect = done(turn, InspectCustomer("cus_1"), inspected={"cus_1": CUSTOMER})
    after, _ = following(came(connection, turn, effect))
    assert dict(after.inspected) == {"cus_9": CUSTOMER, "cus_1": CUSTOMER}
    assert (after.read_at, after.wrote_back) == (None, False)


def test_a_read_at_a_revision_and_a_link_back_are_remembered(connection: Connection) -> None:
    turn = begin(connection, linked(must_confirm=Doubt.UNSURE), read_at=1)
    after, _ = following(came(connection, turn, done(turn, WriteLinkBack("cus_1"))))
    assert (after.read_at, after.wrote_back) == (1, True)
    turn = replace(after, link=after.link)
    again, _ = following(came(connection, turn, done(turn, InspectCustomer("cus_1"))))
    assert (again.read_at, again.wrote_back) == (1, True)


def test_what_carries_an_address_is_remembered_until_another_is_looked_for(connection: Connection) -> None:
    rules = Rules(replace(POLICY, adopt=Adopt.VERIFIED_EMAIL))
    turn = begin(connection, known())
    free = Customer(customer_id="cus_5")
    found = done(turn, FindByEmail("ada@example.com"), candidates=(free,))
    after, step = following(came(connection, turn, found, rules))
    assert step == InspectCustomer("cus_5")
    assert (after.candidates, after.searched) == ((free,), "ada@example.com")
    last, step = following(came(connection, after, done(after, step, inspected={"cus_5": free}), rules))
    assert step == ClaimCustomer("cus_5")
    assert (last.candidates, last.searched) == ((free,), "ada@example.com")


def test_sightings_that_came_during_a_call_are_met_after_it(connection: Connection) -> None:
    turn = begin(connection, linked(applied=None))
    sightings.sight(connection, [seen()])
    step = UpdateCustomer("cus_1", ADA)
    after, next_step = following(came(connection, turn, done(turn, step, link=replace(turn.link, applied=ADA))))
    assert [each.customer_id for each in after.sightings] == ["cus_9"]
    assert next_step == InspectCustomer("cus_1")


# A lease that was lost during the call.


def test_an_effect_under_a_lost_lease_leaves_nothing_taken_for_known(connection: Connection) -> None:
    turn = begin(connection, linked(written_back="cus_1"))
    theirs = lose(connection)
    links.save(connection, replace(theirs, applied=BOB))
    step = UpdateCustomer("cus_1", ADA)
    assert came(connection, turn, done(turn, step, link=replace(turn.link, applied=ADA))) is None
    row = got(connection, SUBJECT)
    assert (row.applied, row.revision, row.lease) == (None, theirs.revision + 1, theirs.lease)
    assert (row.written_back, row.ended) == ("cus_1", None)
    assert row.due_at == theirs.due_at
    assert told(connection)[0][0] == "call"


def test_a_read_under_a_lost_lease_leaves_the_link_alone(connection: Connection) -> None:
    turn = begin(connection, linked())
    theirs = lose(connection)
    assert came(connection, turn, done(turn, InspectCustomer("cus_1"))) is None
    assert got(connection, SUBJECT) == theirs


@pytest.mark.parametrize("answered", [True, False])
def test_a_link_back_under_a_lost_lease_is_known_as_ours_if_it_was_written(
    connection: Connection, *, answered: bool
) -> None:
    turn = begin(connection, linked(written_back=None, link_back=None))
    lose(connection)
    news = (UserRead(body=body(version=NOW, link_back="cus_1")),) if answered else ()
    assert came(connection, turn, done(turn, WriteLinkBack("cus_1"), news=news)) is None
    assert got(connection, SUBJECT).written_back == ("cus_1" if answered else None)


@pytest.mark.parametrize(
    ("step", "outcome", "ended"),
    [
        (ArchiveCustomer("cus_1", NOW), "ok", Ended.ARCHIVED),
        (ArchiveCustomer("cus_1", NOW), "Unreachable", None),
        (UpdateCustomer("cus_1", ADA), "ok", None),
    ],
)
def test_an_archived_mark_under_a_lost_lease_is_known_if_it_was_written(
    connection: Connection, step: CallStep, outcome: str, ended: Ended | None
) -> None:
    gone = linked(deletion=Deletion.SIGNED, deleted_at=NOW, fields=None, written_back="cus_0")
    turn = begin(connection, gone)
    lose(connection)
    news = (UserRead(body=body(version=NOW, link_back="cus_1")),)
    assert came(connection, turn, done(turn, step, outcome=outcome, news=news)) is None
    row = got(connection, SUBJECT)
    assert (row.ended, row.written_back) == (ended, "cus_0")


def test_a_turn_that_ends_under_a_lost_lease_says_nothing(connection: Connection) -> None:
    turn = begin(connection, linked(), seen("cus_1"))
    theirs = lose(connection)
    assert go(connection, turn) is None
    assert got(connection, SUBJECT) == theirs
    assert sighted(connection) == ["cus_1"]
    assert told(connection) == []


# How a turn ends.


@pytest.mark.parametrize(("order", "left"), [(Order.NONE, ["cus_8"]), (Order.ADOPT, ["cus_1", "cus_8"])])
def test_the_links_own_customer_is_no_sighting_after_a_turn_unless_it_was_ordered(
    connection: Connection, order: Order, left: list[str]
) -> None:
    turn = begin(connection, linked(), seen("cus_1", order=order), seen("cus_8"))
    end(connection, turn, Settled(), NOW)
    assert sighted(connection) == left


def test_a_link_without_a_customer_forgets_no_sighting(connection: Connection) -> None:
    end(connection, begin(connection, known(), seen("cus_8")), Park(ParkReason.DUPLICATE), NOW)
    assert sighted(connection) == ["cus_8"]


def test_a_wait_may_count_as_settled(connection: Connection) -> None:
    end(connection, begin(connection, linked()), WaitUntil(NOW + 7, settled=True), NOW)
    row = got(connection, SUBJECT)
    assert (row.due_at, row.dirty_at) == (NOW + 7, None)


def test_a_deleted_users_customer_is_looked_at_and_removed(connection: Connection) -> None:
    turn = begin(connection, linked(deletion=Deletion.SIGNED, deleted_at=NOW, fields=None))
    looked, step = following(go(connection, turn))
    assert step == InspectCustomer("cus_1")
    effect = done(looked, step, inspected={"cus_1": CUSTOMER})
    found, step = following(came(connection, looked, effect))
    assert step == RemoveCustomer("cus_1")
    assert dict(found.inspected) == {"cus_1": CUSTOMER}


def test_a_turn_of_many_steps_of_the_row_comes_to_its_end(connection: Connection) -> None:
    count = 20
    names = [f"cus_{each:02}" for each in range(count)]
    inspected = {name: Customer(customer_id=name, gone=True) for name in names} | {"cus_1": CUSTOMER}
    turn = begin(connection, linked(), *(seen(name) for name in names), inspected=inspected)
    assert go(connection, turn) is None
    assert sighted(connection) == []
    assert [kind for kind, _ in told(connection)] == ["decision"] * count + ["result"]


@pytest.mark.parametrize(
    ("step", "words"),
    [
        (OpenIntent("cf1-x", Fields()), "OpenIntent (nothing)"),
        (CreateCustomer("cf1-x", ADA), "CreateCustomer (email, name)"),
        (UpdateCustomer("cus_1", Fields(phone="+1")), "UpdateCustomer cus_1 (phone)"),
        (CancelSubscription("cus_1", "sub_1"), "CancelSubscription sub_1 (with its period)"),
        (CancelSubscription("cus_1", "sub_1", at_once=True), "CancelSubscription sub_1 (at once)"),
        (HandOver("cus_1", "user_2"), "HandOver cus_1 to user_2"),
        (RememberEnd(Ended.KEPT), "RememberEnd kept"),
        (RememberEnd(None), "RememberEnd none"),
        (AdoptCustomer("cus_1"), "AdoptCustomer cus_1"),
        (ReserveCustomer("cus_1"), "ReserveCustomer cus_1"),
        (RetireCustomer("cus_1", NOW), "RetireCustomer cus_1"),
        (FindByEmail("ada@example.com"), "FindByEmail"),
        (ReadUser(), "ReadUser"),
    ],
)
def test_a_step_is_described_without_personal_data(step: Step, words: str) -> None:
    assert describe(step) == words
