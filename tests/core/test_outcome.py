"""What came of a step: each kind of error at each kind of call, and what the row keeps."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from counterfoil.core.backoff import delay
from counterfoil.core.fold import fold_news
from counterfoil.core.link import Deletion, Ended, Fields, Link, ParkReason
from counterfoil.core.outcome import (
    Again,
    fold_dead_replay,
    fold_end,
    fold_failure,
    fold_row_step,
    fold_success,
)
from counterfoil.core.plan import plan
from counterfoil.core.policy import HOUR, MINUTE, SECOND, Policy
from counterfoil.core.step import (
    AbandonIntent,
    AdoptCustomer,
    CallStep,
    ClaimCustomer,
    CountLook,
    CreateCustomer,
    DropCustomer,
    DropSighting,
    ForgoCustomer,
    InspectCustomer,
    LookForCustomer,
    OpenIntent,
    Park,
    ReadUser,
    RemoveCustomer,
    ReserveCustomer,
    RestoreCustomer,
    Settled,
    StartLook,
    Turn,
    UpdateCustomer,
    WaitUntil,
    WriteLinkBack,
)
from counterfoil.errors import (
    KeyRefused,
    KeyReused,
    NotFound,
    ObjectLocked,
    Paused,
    RateLimited,
    Rejected,
    ReplayedFailure,
    ServerFailed,
    Unreachable,
    UpstreamError,
)

from .support import (
    ADA,
    BOB,
    INTAKE,
    NOW,
    POLICY,
    SCHEDULE,
    SINCE,
    SUBJECT,
    WORLD,
    known,
    linked,
    quick,
    read,
    replace,
)

KEY = POLICY.intent_key(SUBJECT, 0)
INTENT = {"intent_key": KEY, "intent_params": ADA, "intent_at": NOW - SECOND}
CLOSED = {"intent_key": None, "intent_params": None, "intent_at": None, "look_after": None}

CREATE = CreateCustomer(KEY, ADA)
READS: list[CallStep] = [ReadUser(), InspectCustomer("cus_1", thoroughly=True), LookForCustomer(NOW)]
EFFECTS: list[CallStep] = [
    CREATE,
    ClaimCustomer("cus_5"),
    UpdateCustomer("cus_1", BOB),
    RemoveCustomer("cus_1"),
    WriteLinkBack("cus_1"),
]
CALLS = READS + EFFECTS
NAMES = [type(each).__name__ for each in CALLS]


def error(kind: type[UpstreamError], **more: Any) -> UpstreamError:
    return kind("ada@example.com is no good", **{"upstream": "stripe", "status": 400, **more})


def before(call: CallStep) -> Link:
    """A link that would make this call, after two failures."""
    if isinstance(call, CreateCustomer):
        return known(**INTENT, attempts=2)
    claim = known(customer_id="cus_5", claiming=True, link_back="cus_5", attempts=2)
    return claim if isinstance(call, ClaimCustomer) else linked(attempts=2)


def columns(link: Link, *names: str) -> dict[str, Any]:
    return {name: getattr(link, name) for name in names}


# Success.


@pytest.mark.parametrize("call", READS, ids=NAMES[:3])
def test_a_read_that_went_well_changes_nothing(call: CallStep) -> None:
    """Nor does it end a series of failures: the failing call that follows it must still back off."""
    link = linked(attempts=3, last_error="stripe 500")
    assert fold_success(link, call) is link


@pytest.mark.parametrize("call", EFFECTS, ids=NAMES[3:])
def test_an_effect_ends_a_series_of_failures(call: CallStep) -> None:
    link = fold_success(before(call), call, "cus_1")
    assert (link.attempts, link.last_error) == (0, None)


def test_a_customer_that_was_created_is_kept_and_its_intent_closed() -> None:
    link = fold_success(known(**INTENT), CREATE, "cus_1")
    assert (link.customer_id, link.applied, link.generation) == ("cus_1", ADA, 0)
    assert columns(link, *CLOSED) == CLOSED


def test_a_customer_that_was_claimed_is_kept_and_nothing_is_known_of_its_fields() -> None:
    link = fold_success(known(link_back="cus_5", customer_id="cus_5", claiming=True), ClaimCustomer("cus_5"))
    assert (link.customer_id, link.claiming, link.applied) == ("cus_5", False, None)


def test_an_update_lays_what_was_sent_over_what_was_known() -> None:
    link = fold_success(linked(), UpdateCustomer("cus_1", Fields(name="Ada L.")))
    assert link.applied == Fields(email="ada@example.com", name="Ada L.")


def test_an_update_of_a_customer_of_unknown_fields_makes_known_what_was_sent() -> None:
    link = fold_success(linked(applied=None), UpdateCustomer("cus_1", Fields(name="Ada L.")))
    assert link.applied == Fields(name="Ada L.")


def test_the_links_own_customer_removed_is_let_go_with_its_generation() -> None:
    link = fold_success(linked(), RemoveCustomer("cus_1"))
    assert (link.customer_id, link.applied, link.generation) == (None, None, 1)


def test_a_surplus_customer_removed_changes_nothing_of_the_link() -> None:
    assert fold_success(linked(), RemoveCustomer("cus_9")) == linked()


@pytest.mark.parametrize("place", ["link_back", "private_name"])
def test_the_name_of_a_surplus_customer_that_was_removed_is_of_our_writing(place: str) -> None:
    """After a database was restored that is not known: the metadata named it, and the link parked."""
    named = linked(written_back=None, **{place: "cus_9"})
    assert fold_success(named, RemoveCustomer("cus_9")) == replace(named, written_back="cus_9")


def test_the_link_back_is_remembered() -> None:
    assert fold_success(linked(written_back=None), WriteLinkBack("cus_1")).written_back == "cus_1"


def test_a_replayed_creation_of_a_dead_customer_ends_the_generation() -> None:
    link = fold_dead_replay(known(**INTENT))
    assert (link.generation, link.customer_id) == (1, None)
    assert columns(link, *CLOSED) == CLOSED
    following = plan(Turn(link=link), POLICY, WORLD, NOW)
    assert following == OpenIntent(POLICY.intent_key(SUBJECT, 1), ADA)


# Steps of the row.


def test_an_intent_is_opened_with_its_time() -> None:
    link = fold_row_step(known(), OpenIntent(KEY, ADA), NOW)
    assert columns(link, *CLOSED) == {
        "intent_key": KEY,
        "intent_params": ADA,
        "intent_at": NOW,
        "look_after": None,
    }


def test_a_look_is_remembered_with_the_intent() -> None:
    link = fold_row_step(known(**INTENT), StartLook(NOW + SECOND), NOW)
    assert (link.look_after, link.intent_key) == (NOW + SECOND, KEY)


def test_an_intent_given_up_leads_to_the_next_generation_and_to_later_looks() -> None:
    link = fold_row_step(known(**INTENT, looks=2, abandoned_at=1), AbandonIntent(), NOW)
    assert (link.generation, link.abandoned_at, link.looks) == (1, NOW, 0)
    assert columns(link, *CLOSED) == CLOSED


def test_an_adopted_customer_closes_the_intent_and_nothing_is_known_of_its_fields() -> None:
    link = fold_row_step(known(**INTENT), AdoptCustomer("cus_9"), NOW)
    assert (link.customer_id, link.applied) == ("cus_9", None)
    assert columns(link, *CLOSED) == CLOSED


def test_a_customer_found_gone_is_let_go_with_its_generation() -> None:
    link = fold_row_step(linked(), DropCustomer("cus_1"), NOW)
    assert (link.customer_id, link.applied, link.generation) == (None, None, 1)


def test_a_dropped_sighting_changes_nothing_of_the_link() -> None:
    assert fold_row_step(linked(), DropSighting("cus_9"), NOW) == linked()


def test_looks_are_counted() -> None:
    assert fold_row_step(linked(abandoned_at=NOW), CountLook(), NOW).looks == 1


# Failure.

TRANSIENT = [Unreachable, ServerFailed, RateLimited, ObjectLocked]


@pytest.mark.parametrize("call", CALLS, ids=NAMES)
@pytest.mark.parametrize("kind", TRANSIENT)
def test_a_passing_failure_is_counted_and_tried_again(kind: type[UpstreamError], call: CallStep) -> None:
    """An open intent stays open: the same key and the same parameters are sent again."""
    link, ending = fold_failure(before(call), call, error(kind, retry_after=7.0), POLICY, WORLD)
    assert link == replace(before(call), attempts=3, last_error=link.last_error)
    assert ending == Again(counts=True, after=7.0)


@pytest.mark.parametrize("call", CALLS, ids=NAMES)
def test_a_refused_key_is_not_the_links_fault(call: CallStep) -> None:
    link, ending = fold_failure(before(call), call, error(KeyRefused, retry_after=30.0), POLICY, WORLD)
    assert link == replace(before(call), last_error=link.last_error)
    assert ending == Again(counts=False, after=30.0)


@pytest.mark.parametrize("call", CALLS, ids=NAMES)
def test_a_call_that_was_not_sent_leaves_no_trace(call: CallStep) -> None:
    link, ending = fold_failure(before(call), call, error(Paused, retry_after=3.0), POLICY, WORLD)
    assert link == before(call)
    assert ending == Again(counts=False, after=3.0)


@pytest.mark.parametrize("call", CALLS, ids=NAMES)
@pytest.mark.parametrize("kind", [KeyReused, ReplayedFailure])
def test_a_key_that_will_bring_nothing_more_leads_to_a_look(kind: type[UpstreamError], call: CallStep) -> None:
    link, ending = fold_failure(before(call), call, error(kind), POLICY, WORLD)
    if isinstance(call, CreateCustomer):
        assert link.look_after == WORLD.stripe_now + POLICY.quiet
        assert (link.intent_key, link.attempts) == (KEY, 2)
        assert ending == Again(counts=False, after=0)
    else:
        assert link.attempts == 3
        assert ending == Again()


@pytest.mark.parametrize("call", CALLS, ids=NAMES)
def test_what_is_not_there_is_let_go_where_it_was_the_links_customer(call: CallStep) -> None:
    link, ending = fold_failure(before(call), call, error(NotFound, status=404), POLICY, WORLD)
    if isinstance(call, UpdateCustomer | RemoveCustomer):
        assert (link.customer_id, link.applied, link.generation) == (None, None, 1)
        assert ending == Again(counts=False, after=0)
    else:
        assert link == replace(before(call), attempts=3, last_error=link.last_error)
        assert ending == Again()


def test_a_surplus_customer_that_is_not_there_costs_the_link_nothing() -> None:
    link, ending = fold_failure(linked(), RemoveCustomer("cus_9"), error(NotFound), POLICY, WORLD)
    assert (link.customer_id, link.applied, link.generation) == ("cus_1", ADA, 0)
    assert ending == Again(counts=False, after=0)


@pytest.mark.parametrize("call", CALLS, ids=NAMES)
def test_a_refused_request_needs_a_person_and_closes_its_intent(call: CallStep) -> None:
    link, ending = fold_failure(before(call), call, error(Rejected, code="parameter_missing"), POLICY, WORLD)
    assert ending == Park(ParkReason.REJECTED, "stripe 400 parameter_missing")
    if isinstance(call, CreateCustomer):
        assert (link.generation, link.abandoned_at) == (1, None)
        assert columns(link, *CLOSED) == CLOSED
    else:
        assert link == replace(before(call), last_error=link.last_error)


REFUSED = error(Rejected, code="email_invalid")


def test_a_creation_goes_on_without_an_email_that_stripe_refuses() -> None:
    link, ending = fold_failure(known(**INTENT), CREATE, REFUSED, POLICY, WORLD)
    assert ending == Again(counts=False, after=0)
    assert (link.refused_email, link.generation, link.intent_key) == (ADA.email, 1, None)
    following = plan(Turn(link=link), POLICY, WORLD, NOW)
    assert following == OpenIntent(POLICY.intent_key(SUBJECT, 1), Fields(name="Ada"))


def test_an_update_goes_on_without_an_email_that_stripe_refuses() -> None:
    link = linked(fields=BOB)
    first = plan(Turn(link=link), POLICY, WORLD, NOW)
    assert first == UpdateCustomer("cus_1", BOB)
    assert isinstance(first, UpdateCustomer)
    link, ending = fold_failure(link, first, REFUSED, POLICY, WORLD)
    assert ending == Again(counts=False, after=0)
    second = plan(Turn(link=link), POLICY, WORLD, NOW)
    assert second == UpdateCustomer("cus_1", Fields(name="Bob"))
    assert isinstance(second, UpdateCustomer)
    link = fold_success(link, second)
    assert plan(Turn(link=link), POLICY, WORLD, NOW) == Settled("in step")
    assert link.refused_email == BOB.email


@pytest.mark.parametrize(
    "call", [CreateCustomer(KEY, Fields(name="Ada")), UpdateCustomer("cus_1", Fields(name="Ada")), ReadUser()]
)
def test_a_refused_email_where_none_was_sent_needs_a_person(call: CallStep) -> None:
    link, ending = fold_failure(before(call), call, REFUSED, POLICY, WORLD)
    assert isinstance(ending, Park)
    assert link.refused_email is None


@pytest.mark.parametrize(
    ("failure", "text"),
    [
        (error(Unreachable, status=0), "stripe no answer Unreachable"),
        (error(ServerFailed, status=503), "stripe 503 ServerFailed"),
        (error(RateLimited, status=429, code="rate_limit", upstream="clerk"), "clerk 429 rate_limit"),
        (error(ServerFailed, code="x" * 500), ("stripe 400 " + "x" * 500)[:200]),
    ],
)
def test_the_last_error_is_short_and_never_the_vendors_sentence(failure: UpstreamError, text: str) -> None:
    link, _ = fold_failure(linked(), UpdateCustomer("cus_1", BOB), failure, POLICY, WORLD)
    assert link.last_error == text


@pytest.mark.parametrize("call", CALLS, ids=NAMES)
def test_no_outcome_touches_what_intake_and_the_schedule_own(call: CallStep) -> None:
    link = before(call)
    kept = columns(link, *INTAKE, *SCHEDULE)
    assert columns(fold_success(link, call, "cus_1"), *INTAKE, *SCHEDULE) == kept
    for kind in [*TRANSIENT, KeyRefused, Paused, KeyReused, ReplayedFailure, NotFound, Rejected]:
        after, _ = fold_failure(link, call, error(kind), POLICY, WORLD)
        assert columns(after, *INTAKE, *SCHEDULE) == kept


def test_a_call_that_always_fails_backs_off_though_a_read_comes_before_it() -> None:
    link = linked()
    for attempt in range(1, 8):
        link = fold_success(link, InspectCustomer("cus_1"))
        link, _ = fold_failure(link, RemoveCustomer("cus_1"), error(ServerFailed), POLICY, WORLD)
        assert link.attempts == attempt


# The end of a turn.


def test_a_parked_link_says_why() -> None:
    link = fold_end(linked(attempts=2), Park(ParkReason.MISNAMED, "cus_5"))
    assert (link.parked, link.last_error, link.attempts) == (ParkReason.MISNAMED, "cus_5", 2)


@pytest.mark.parametrize("end", [Settled("in step"), WaitUntil(NOW + HOUR, settled=True)])
def test_a_settled_link_forgets_its_failures(end: Settled | WaitUntil) -> None:
    link = fold_end(linked(attempts=2, last_error="x", parked=ParkReason.REJECTED), end)
    assert link == linked()


def test_a_link_that_waits_unsettled_keeps_its_failures() -> None:
    link = fold_end(linked(attempts=2, last_error="x", parked=ParkReason.REJECTED), WaitUntil(NOW + MINUTE))
    assert link == linked(attempts=2, last_error="x")


def test_of_a_user_who_is_gone_nothing_personal_is_kept() -> None:
    gone = known(
        fields=None,
        deletion=Deletion.SIGNED,
        deleted_at=NOW,
        generation=1,
        applied=ADA,
        refused_email="ada@example.com",
    )
    link = fold_end(gone, Settled("gone on both sides"))
    assert "ada@example.com" not in repr(link)


def test_a_user_back_from_an_absence_is_not_parked_for_the_name_of_a_removed_customer() -> None:
    absent = linked(fields=None, link_back=None, deletion=Deletion.ABSENT, deleted_at=NOW, source_version=0)
    link = fold_end(fold_success(absent, RemoveCustomer("cus_1")), Settled("gone on both sides"))
    back = fold_news(link, read(NOW + HOUR, ADA, link_back="cus_1"), SINCE, NOW + HOUR)
    assert back is not None
    following = plan(Turn(link=back), POLICY, WORLD, NOW + HOUR)
    assert following == OpenIntent(POLICY.intent_key(SUBJECT, 1), ADA)


@pytest.mark.parametrize("heard", [None, "cus_1"], ids=["echo not heard yet", "echo heard"])
def test_a_link_back_whose_answer_was_lost_is_known_as_ours_when_its_customer_dies(heard: str | None) -> None:
    link = fold_row_step(linked(link_back=heard, written_back=None), DropCustomer("cus_1"), NOW)
    echo = fold_news(link, read(NOW, ADA, link_back="cus_1"), SINCE, NOW)
    assert echo is not None
    following = plan(Turn(link=echo), POLICY, WORLD, NOW)
    assert following == OpenIntent(POLICY.intent_key(SUBJECT, 1), ADA)


# Keys.


def test_a_key_is_the_same_on_every_node_for_one_generation() -> None:
    """And in every release: a key that changed its form would make a second customer."""
    other_node = Policy(environment=POLICY.environment, since=SINCE + 5, livemode=True, intent_ttl=1)
    assert other_node.intent_key(SUBJECT, 4) == POLICY.intent_key(SUBJECT, 4)
    assert POLICY.intent_key("user_1", 0) == "cf1-5e7a11d297920ba5b7cb2e5e7fe67201743d6feb"


@quick(150)
@given(
    pairs=st.lists(
        st.tuples(
            st.sampled_from(["production", "test"]),
            st.from_regex(r"user_[0-9A-Za-z]{1,12}", fullmatch=True),
            st.integers(0, 50),
        ),
        min_size=2,
        max_size=12,
        unique=True,
    )
)
def test_keys_differ_between_generations_environments_and_subjects(pairs: list[tuple[str, str, int]]) -> None:
    keys = {
        Policy(environment=name, since=SINCE, livemode=False).intent_key(subject, generation)
        for name, subject, generation in pairs
    }
    assert len(keys) == len(pairs)
    assert all(key.startswith("cf1-") and len(key) <= 255 for key in keys)


def test_a_key_holds_nothing_of_the_user() -> None:
    assert "user" not in POLICY.intent_key("user_ada", 0)


# Back-off.


@quick(200)
@given(attempts=st.integers(0, 10_000), dice=st.floats(0, 1, exclude_max=True))
def test_a_delay_is_between_a_twentieth_of_a_second_and_an_hour(attempts: int, dice: float) -> None:
    assert 50 <= delay(attempts, dice) <= HOUR


def test_in_an_outage_no_link_comes_to_wait_for_long() -> None:
    failed = linked(attempts=0)
    for _ in range(30):
        failed, _ = fold_failure(failed, UpdateCustomer("cus_1", BOB), error(ServerFailed), POLICY, WORLD)
    assert failed.attempts == 7
    assert delay(failed.attempts, 1.0) == 128 * SECOND


def test_an_intent_begins_without_a_look() -> None:
    assert fold_row_step(known(look_after=5), OpenIntent(KEY, ADA), NOW).look_after is None


@pytest.mark.parametrize(
    "step", [AdoptCustomer("cus_1"), ReserveCustomer("cus_1"), ClaimCustomer("cus_1"), CREATE], ids=repr
)
def test_a_customer_that_is_kept_ends_the_look_and_what_was_done_with_another(step: Any) -> None:
    link = known(**INTENT, look_after=5, ended=Ended.CLOSING)
    if isinstance(step, CreateCustomer | ClaimCustomer):
        after = fold_success(link, step, "cus_1")
    else:
        after = fold_row_step(link, step, NOW)
    assert columns(after, *CLOSED) == CLOSED
    assert (after.customer_id, after.ended) == ("cus_1", None)


def test_the_next_generation_begins_without_a_look() -> None:
    assert fold_dead_replay(known(**INTENT, look_after=5)).look_after is None


def test_with_a_reserved_customer_that_is_gone_the_claim_is_over() -> None:
    dropped = fold_row_step(known(customer_id="cus_5", claiming=True), DropCustomer("cus_5"), NOW)
    assert (dropped.customer_id, dropped.claiming) == (None, False)


def test_of_a_restored_customer_the_fields_are_not_known() -> None:
    back = fold_success(linked(ended=Ended.ARCHIVED), RestoreCustomer("cus_1"))
    assert (back.ended, back.applied) == (None, None)


def test_why_a_link_is_parked_is_cut_short_or_nothing() -> None:
    assert fold_end(linked(), Park(ParkReason.MISNAMED, "x" * 300)).last_error == "x" * 200
    assert fold_end(linked(last_error="before"), Park(ParkReason.MISNAMED)).last_error is None


def test_an_effect_forgets_the_last_error() -> None:
    link = linked(attempts=2, last_error="stripe 500")
    after = fold_success(link, UpdateCustomer("cus_1", BOB))
    assert (after.attempts, after.last_error) == (0, None)


def test_the_shortest_delay_is_a_twentieth_of_a_second() -> None:
    assert delay(0, 0.0) == 50


def test_the_longest_delay_doubles_up_to_an_hour() -> None:
    assert [delay(attempts, 0.9999999) for attempts in range(4)] == [999, 1999, 3999, 7999]
    assert delay(12, 0.5) == delay(400, 0.5) == HOUR // 2


def test_a_reserved_customer_is_held_and_let_be_without_a_trace() -> None:
    link = known(link_back="cus_5")
    held = fold_row_step(link, ReserveCustomer("cus_5"), NOW)
    assert (held.customer_id, held.claiming, held.applied) == ("cus_5", True, None)
    assert fold_row_step(held, ForgoCustomer("cus_5"), NOW) == link


@pytest.mark.parametrize(
    ("public", "private", "written", "known_as_ours"),
    [
        (None, "cus_1", "cus_1", "cus_1"),
        (None, "cus_0", "cus_0", "cus_0"),
        ("cus_0", None, "cus_0", "cus_0"),
        ("cus_0", "cus_1", "cus_1", "cus_1"),
        (None, None, None, "cus_1"),
        ("cus_7", "cus_8", "cus_0", "cus_0"),
        (None, None, "cus_0", "cus_1"),
        ("cus_1", None, "cus_0", "cus_1"),
        ("cus_1", "cus_1", "cus_0", "cus_1"),
    ],
)
def test_the_id_let_go_stays_known_as_ours_wherever_the_link_back_is(
    public: str | None, private: str | None, written: str | None, known_as_ours: str
) -> None:
    link = linked(link_back=public, private_name=private, written_back=written)
    assert fold_row_step(link, DropCustomer("cus_1"), NOW).written_back == known_as_ours
