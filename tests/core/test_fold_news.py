"""News folds into a link: whatever the order, however often, whoever holds the row."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from counterfoil.core.fold import fold_news, never_used
from counterfoil.core.link import Deletion, Doubt, Fields, Lane, Link, ParkReason
from counterfoil.core.news import Asked, CustomerSeen, News, UserAbsent
from counterfoil.core.policy import AHEAD, HOUR, MINUTE, RETRY_AGE, SECOND

from .support import (
    ADA,
    BOB,
    DAY,
    NOW,
    SINCE,
    SUBJECT,
    WORKER,
    anything,
    asked,
    deleted,
    essence,
    event,
    events,
    fold,
    kept,
    known,
    linked,
    quick,
    read,
    replace,
    seen,
    unconfirmed,
    webhooks,
)


def _in_two_orders(data: st.DataObject, source: st.SearchStrategy[News]) -> tuple[list[News], list[News]]:
    first = data.draw(st.lists(source, min_size=1, max_size=7), label="in this order")
    second = data.draw(st.permutations(first), label="in that order")
    repeats = data.draw(st.lists(st.sampled_from(first), max_size=3), label="and again")
    for each in repeats:
        second.insert(data.draw(st.integers(0, len(second))), each)
    return first, second


@quick(400)
@given(data=st.data())
def test_any_order_and_any_repetition_of_deliveries_folds_to_the_same_link(data: st.DataObject) -> None:
    first, second = _in_two_orders(data, webhooks)
    assert essence(fold(None, *first)) == essence(fold(None, *second))


@quick(200)
@given(data=st.data())
def test_the_order_does_not_matter_to_a_link_that_exists_either(data: st.DataObject) -> None:
    first, second = _in_two_orders(data, webhooks)
    start = linked(revision=9, lease=4)
    assert essence(fold(start, *first)) == essence(fold(start, *second))


@quick(200)
@given(data=st.data())
def test_scans_and_questions_among_the_news_of_a_live_user_keep_it_so(data: st.DataObject) -> None:
    first, second = _in_two_orders(data, events | asked | seen)
    assert essence(fold(None, *first)) == essence(fold(None, *second))


@pytest.mark.parametrize(
    "late",
    [
        Asked(subject_id=SUBJECT, want=True),
        CustomerSeen(subject_id=SUBJECT, customer_id="cus_9", created=NOW, mark="cf1-mark"),
    ],
    ids=["ensure", "scan"],
)
def test_nothing_makes_a_signed_tombstone_wanted_again(late: News) -> None:
    assert essence(fold(None, deleted(), late)) == essence(fold(None, late, deleted()))
    assert kept(None, deleted(), late).wanted is False


@quick(300)
@given(start=st.lists(webhooks, max_size=5), again=webhooks)
def test_a_duplicate_changes_nothing_at_all(start: list[News], again: News) -> None:
    link = fold(None, *start, again)
    assert fold(link, again, now=NOW + 30 * SECOND) is link


@quick(300)
@given(before=st.lists(anything, max_size=5), after=st.lists(anything, max_size=5))
def test_a_signed_tombstone_wins_over_all_other_news_and_forgets_the_user(
    before: list[News], after: list[News]
) -> None:
    link = kept(None, *before, deleted(), *after)
    assert link.deletion is Deletion.SIGNED
    assert link.deleted_at is not None
    assert (link.fields, link.link_back, link.source_version) == (None, None, 0)
    assert (link.must_confirm, link.doubted_at, link.absent_at) == (Doubt.NONE, None, None)


def test_a_tombstone_keeps_the_time_of_the_first_deletion() -> None:
    link = kept(None, deleted())
    assert kept(link, deleted(), now=NOW + HOUR).deleted_at == NOW
    gone = linked(deletion=Deletion.ABSENT, deleted_at=NOW - HOUR, fields=None)
    assert kept(gone, deleted()).deleted_at == NOW - HOUR


def test_an_unsigned_deletion_only_asks_for_a_read() -> None:
    link = kept(linked(), deleted(trusted=False))
    assert link.deletion is Deletion.NONE
    assert link.must_confirm is Doubt.READ
    assert link.fields == ADA


@quick(300)
@given(start=st.lists(anything, max_size=4), news=anything, held=st.integers(0, 2))
def test_no_news_touches_what_the_worker_owns(start: list[News], news: News, held: int) -> None:
    base = linked(
        generation=2,
        abandoned_at=NOW - HOUR,
        looks=1,
        refused_email="no@example.com",
        attempts=4,
        last_error="stripe 500",
        parked=ParkReason.MISNAMED,
        due_at=NOW + HOUR,
        lease=7,
        held=held,
    )
    link = kept(base, *start, news)
    assert [getattr(link, name) for name in WORKER] == [getattr(base, name) for name in WORKER]
    assert (link.lease, link.held) == (7, held)


@quick(200)
@given(news=st.lists(anything, min_size=1, max_size=5))
def test_news_never_moves_the_end_of_a_lease(news: list[News]) -> None:
    lease_end = NOW + 5 * MINUTE
    link = kept(linked(due_at=lease_end, held=1), *news)
    assert link.due_at == lease_end


@quick(200)
@given(news=st.lists(anything, min_size=1, max_size=5))
def test_what_changes_the_revision_makes_a_free_link_due(news: list[News]) -> None:
    base = linked(due_at=None)
    link = kept(base, *news)
    if link.revision == base.revision:
        assert link.due_at is None
        assert link.dirty_at is None
    else:
        assert link.due_at == NOW
        assert link.dirty_at == NOW


@quick(200)
@given(news=st.lists(anything, min_size=1, max_size=6))
def test_the_revision_never_goes_back_and_the_first_moment_of_dirt_is_kept(news: list[News]) -> None:
    link: Link | None = linked(dirty_at=NOW - HOUR, due_at=NOW)
    for each in news:
        new = fold_news(link, each, SINCE, NOW)
        assert new is not None
        assert link is not None
        assert new.revision >= link.revision
        assert new.dirty_at == NOW - HOUR
        link = new


@pytest.mark.parametrize("minutes", [0, 30])
def test_an_echo_moves_neither_the_revision_nor_the_time(minutes: int) -> None:
    """Our own link-back comes back as an event: a later version, nothing new."""
    link = linked(source_version=NOW - HOUR)
    echo = event(NOW - SECOND, ADA, link_back="cus_1", sent_at=NOW + minutes * MINUTE)
    new = kept(link, echo, now=NOW + minutes * MINUTE)
    assert new == replace(link, source_version=NOW - SECOND)


def test_a_late_version_is_ignored() -> None:
    link = linked(source_version=NOW - HOUR)
    assert fold(link, event(NOW - 2 * HOUR, BOB)) is link


def test_a_parked_link_wakes_at_a_later_version_of_the_same_body() -> None:
    link = linked(parked=ParkReason.MISNAMED, due_at=None)
    new = kept(link, event(NOW - SECOND, ADA, link_back="cus_1"))
    assert new.revision == link.revision + 1
    assert new.due_at == NOW


def test_a_fresh_trusted_event_is_believed() -> None:
    link = kept(None, event(created=True))
    assert link.must_confirm is Doubt.NONE
    assert link.fields == ADA
    assert (link.revision, link.due_at, link.dirty_at, link.lane) == (1, NOW, NOW, Lane.LIVE)


@pytest.mark.parametrize(
    ("news", "doubt"),
    [
        (event(sent_at=NOW - RETRY_AGE), Doubt.NONE),
        (event(sent_at=NOW - RETRY_AGE - 1), Doubt.UNSURE),
        (event(sent_at=NOW + AHEAD), Doubt.NONE),
        (event(sent_at=NOW + AHEAD + 1), Doubt.UNSURE),
        (event(version=NOW + AHEAD), Doubt.NONE),
        (event(version=NOW + AHEAD + 1), Doubt.UNSURE),
        (event(trusted=False), Doubt.UNSURE),
    ],
    ids=["just fresh", "a retry", "just not ahead", "ahead", "version just not ahead", "version ahead", "alien"],
)
def test_an_event_is_doubted_when_it_is_old_ahead_or_another_instances(news: News, doubt: Doubt) -> None:
    link = kept(None, news)
    assert link.must_confirm is doubt
    assert (link.doubted_at is None) == (doubt is Doubt.NONE)


def test_a_fresh_trusted_event_clears_the_doubt_about_the_same_body() -> None:
    assert kept(None, event(trusted=False), event()).must_confirm is Doubt.NONE


def test_a_newer_trusted_event_clears_the_doubt_about_an_older_one() -> None:
    link = kept(None, event(NOW - HOUR, trusted=False), event(NOW - MINUTE, BOB))
    assert (link.must_confirm, link.fields) == (Doubt.NONE, BOB)


def test_two_bodies_of_one_version_conflict_whichever_came_first() -> None:
    one = kept(None, event(fields=ADA), event(fields=BOB))
    other = kept(None, event(fields=BOB), event(fields=ADA))
    assert one.must_confirm is other.must_confirm is Doubt.CONFLICT
    assert one.fields == other.fields


def test_only_a_newer_body_or_a_read_ends_a_conflict() -> None:
    link = kept(None, event(fields=ADA), event(fields=BOB))
    assert kept(link, event(fields=ADA), event(fields=BOB)).must_confirm is Doubt.CONFLICT
    assert kept(link, event(NOW - SECOND, ADA)).must_confirm is Doubt.NONE
    assert kept(link, read(fields=BOB, at=link.revision)).must_confirm is Doubt.NONE


def test_the_demand_for_a_read_survives_every_event() -> None:
    link = kept(linked(), unconfirmed(), event(NOW, BOB), event(NOW, BOB, trusted=False))
    assert link.must_confirm is Doubt.READ
    assert link.fields == BOB


def test_doubt_keeps_the_time_at_which_it_began() -> None:
    link = kept(linked(), unconfirmed())
    assert kept(link, event(NOW + MINUTE, BOB, trusted=False), now=NOW + MINUTE).doubted_at == NOW


@pytest.mark.parametrize(
    "columns",
    [
        {"must_confirm": Doubt.UNSURE, "doubted_at": None},
        {"must_confirm": Doubt.READ, "doubted_at": None},
        {"must_confirm": Doubt.NONE, "doubted_at": NOW - HOUR},
    ],
)
def test_whoever_is_believed_is_neither_doubted_nor_since_when(columns: dict[str, Any]) -> None:
    """Of a row, too, that has one of the two without the other."""
    link = known(source_version=NOW - MINUTE, **columns)
    settled = kept(link, read(at=link.revision))
    assert (settled.must_confirm, settled.doubted_at) == (Doubt.NONE, None)


@pytest.mark.parametrize(
    ("news", "wanted"),
    [
        (event(created_at=SINCE - 1), False),
        (event(created_at=SINCE), True),
        (event(created_at=SINCE - 1, created=True), True),
        (unconfirmed(), False),
        (Asked(subject_id=SUBJECT), False),
        (Asked(subject_id=SUBJECT, want=True), True),
        (CustomerSeen(subject_id=SUBJECT, customer_id="cus_9", created=SINCE - 1), False),
        (CustomerSeen(subject_id=SUBJECT, customer_id="cus_9", created=SINCE), True),
        (CustomerSeen(subject_id=SUBJECT, customer_id="cus_9", created=SINCE - 1, mark="cf1-x"), True),
    ],
)
def test_a_customer_is_wanted_for_new_users_and_for_those_asked_for(news: News, wanted: bool) -> None:
    assert kept(None, news).wanted is wanted


def test_once_wanted_stays_wanted() -> None:
    assert kept(known(), event(NOW, created_at=SINCE - DAY)).wanted is True


@pytest.mark.parametrize(
    ("first", "then", "lane"),
    [
        (unconfirmed(), event(NOW, BOB), Lane.LIVE),
        (event(NOW, BOB), unconfirmed(), Lane.LIVE),
        (read(NOW, BOB), unconfirmed(), Lane.BULK),
        (unconfirmed(), Asked(subject_id=SUBJECT), Lane.LIVE),
    ],
)
def test_what_somebody_waits_for_goes_before_what_was_found_by_looking(
    first: News, then: News, lane: Lane
) -> None:
    assert kept(linked(), first, then).lane is lane


def test_a_settled_link_found_by_looking_goes_into_the_bulk_lane() -> None:
    assert kept(linked(lane=Lane.LIVE), unconfirmed()).lane is Lane.BULK


def test_news_does_not_put_back_a_link_that_is_due_already() -> None:
    waiting = linked(due_at=NOW - HOUR, dirty_at=NOW - HOUR)
    assert kept(waiting, event(NOW, BOB)).due_at == NOW - HOUR


def test_news_brings_forward_a_link_that_waits_for_later() -> None:
    assert kept(linked(due_at=NOW + HOUR, dirty_at=NOW - HOUR), event(NOW, BOB)).due_at == NOW


@pytest.mark.parametrize(
    "used",
    [
        Link(subject_id=SUBJECT, customer_id="cus_1"),
        Link(subject_id=SUBJECT, intent_key="cf1-x", intent_params=Fields()),
        Link(subject_id=SUBJECT, generation=1),
        Link(subject_id=SUBJECT, written_back="cus_1"),
        Link(subject_id=SUBJECT, sighted=True),
        Link(subject_id=SUBJECT, deletion=Deletion.SIGNED),
    ],
)
def test_a_link_that_something_hangs_on_was_used(used: Link) -> None:
    assert not never_used(used)
    assert never_used(Link(subject_id=SUBJECT, fields=ADA, source_version=1, wanted=True, revision=5))


@quick(200)
@given(news=st.lists(anything, max_size=6))
def test_only_a_404_drops_a_row(news: list[News]) -> None:
    link: Link | None = None
    for each in news:
        new = fold_news(link, each, SINCE, NOW)
        if link is not None and new is None:
            assert isinstance(each, UserAbsent)
            assert never_used(link)
        link = new
