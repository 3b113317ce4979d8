"""Reads of the user decide what events left in doubt, and a user who answers 404 goes."""

import pytest

from counterfoil.core.link import Deletion, Doubt, Fields, Link
from counterfoil.core.news import Asked, CustomerSeen, UserAbsent
from counterfoil.core.policy import ABSENT_TWICE, HOUR, MINUTE, OLD_READ_WINS, SECOND

from .support import (
    ADA,
    BOB,
    DAY,
    NOW,
    SINCE,
    SUBJECT,
    absent,
    deleted,
    event,
    fold,
    kept,
    known,
    linked,
    read,
    replace,
    unconfirmed,
)


def doubted(doubt: Doubt = Doubt.UNSURE, **columns: int) -> Link:
    return known(must_confirm=doubt, doubted_at=NOW, revision=5, **columns)


@pytest.mark.parametrize("doubt", [Doubt.UNSURE, Doubt.CONFLICT, Doubt.READ])
@pytest.mark.parametrize("newer", [0, MINUTE])
def test_a_read_of_this_revision_ends_every_doubt(doubt: Doubt, newer: int) -> None:
    link = kept(doubted(doubt), read(NOW - HOUR + newer, BOB, at=5))
    assert (link.must_confirm, link.doubted_at) == (Doubt.NONE, None)
    assert link.fields == BOB


def test_a_read_of_an_earlier_revision_confirms_nothing() -> None:
    link = kept(doubted(Doubt.CONFLICT), read(NOW - HOUR, ADA, at=4))
    assert link.must_confirm is Doubt.CONFLICT


def test_a_page_of_a_list_does_not_confirm_the_version_that_is_in_doubt() -> None:
    link = kept(doubted(Doubt.UNSURE), read(NOW - HOUR, BOB))
    assert (link.must_confirm, link.fields) == (Doubt.UNSURE, BOB)


def test_a_newer_body_on_a_list_ends_the_doubt_about_an_older_one() -> None:
    link = kept(doubted(Doubt.CONFLICT), read(NOW - MINUTE, BOB))
    assert (link.must_confirm, link.fields) == (Doubt.NONE, BOB)


def test_a_newer_body_on_a_list_does_not_stand_in_for_a_read_that_was_demanded() -> None:
    assert kept(doubted(Doubt.READ), read(NOW - MINUTE, BOB)).must_confirm is Doubt.READ


@pytest.mark.parametrize("waited", [0, OLD_READ_WINS])
def test_an_older_read_leaves_the_doubt_for_ten_minutes(waited: int) -> None:
    link = doubted()
    assert fold(link, read(NOW - DAY, BOB, at=5), now=NOW + waited) is link


def test_after_ten_minutes_the_older_read_wins() -> None:
    link = kept(doubted(), read(NOW - DAY, BOB, at=5), now=NOW + OLD_READ_WINS + 1)
    assert link.must_confirm is Doubt.NONE
    assert (link.source_version, link.fields) == (NOW - DAY, BOB)


def test_an_older_body_on_a_list_never_wins() -> None:
    link = doubted()
    assert fold(link, read(NOW - DAY, BOB), now=NOW + HOUR) is link


def test_an_older_read_changes_nothing_where_nothing_is_in_doubt() -> None:
    link = linked(revision=5)
    assert fold(link, read(NOW - DAY, BOB, at=5), now=NOW + HOUR) is link


def test_the_answer_of_our_own_link_back_is_old_news_when_its_echo_comes() -> None:
    link = kept(linked(link_back=None, written_back=None), read(NOW - SECOND, ADA, link_back="cus_1"))
    assert link.link_back == "cus_1"
    assert fold(link, event(NOW - SECOND, ADA, link_back="cus_1")) is link


def test_an_old_untouched_user_on_a_list_makes_no_row() -> None:
    assert fold(None, read(SINCE - 1, ADA, created_at=SINCE - DAY)) is None


@pytest.mark.parametrize(("created_at", "version"), [(SINCE - DAY, SINCE), (SINCE, SINCE - 1)])
def test_a_user_on_a_list_who_is_new_or_changed_makes_a_row(created_at: int, version: int) -> None:
    link = kept(None, read(version, ADA, created_at=created_at))
    assert link.wanted is (created_at >= SINCE)
    assert link.due_at == NOW


def test_an_old_untouched_user_who_has_a_row_is_folded_like_any_other() -> None:
    link = kept(None, Asked(subject_id=SUBJECT, want=True), read(SINCE - 1, ADA, created_at=SINCE - DAY))
    assert (link.fields, link.wanted) == (ADA, True)


def test_a_user_who_never_was_is_dropped_at_the_first_404() -> None:
    """The dashboard's example event: validly signed, and of nobody."""
    link = kept(None, event(trusted=False))
    assert fold(link, absent(link)) is None


def test_news_during_the_read_keeps_the_row_from_being_dropped() -> None:
    link = kept(None, event(trusted=False))
    asked_before = absent(link)
    newer = kept(link, event(NOW, BOB))
    assert fold(newer, asked_before) is newer


def test_a_404_about_nobody_makes_no_row() -> None:
    assert fold(None, UserAbsent(subject_id=SUBJECT, at_revision=0)) is None
    assert fold(None, UserAbsent(subject_id=SUBJECT, at_revision=3)) is None


def test_a_user_whose_customer_was_met_is_not_dropped() -> None:
    met = CustomerSeen(subject_id=SUBJECT, customer_id="cus_9", created=NOW)
    link = kept(None, met, unconfirmed())
    link = kept(link, absent(link))
    link = kept(link, absent(link), now=NOW + ABSENT_TWICE)
    assert link.deletion is Deletion.ABSENT


def test_one_404_is_not_a_deletion() -> None:
    link = linked(must_confirm=Doubt.UNSURE, doubted_at=NOW)
    once = kept(link, absent(link))
    assert once.deletion is Deletion.NONE
    assert (once.must_confirm, once.absent_at) == (Doubt.READ, NOW)


def test_a_second_404_within_a_minute_is_not_a_deletion() -> None:
    once = kept(linked(), absent(linked()))
    assert fold(once, absent(once), now=NOW + ABSENT_TWICE - 1) is once


def test_two_404s_a_minute_apart_are_a_deletion() -> None:
    once = kept(linked(), absent(linked()))
    twice = kept(once, absent(once), now=NOW + ABSENT_TWICE)
    assert (twice.deletion, twice.deleted_at) == (Deletion.ABSENT, NOW + ABSENT_TWICE)
    assert (twice.fields, twice.link_back, twice.source_version) == (None, None, 0)
    assert (twice.must_confirm, twice.doubted_at, twice.absent_at) == (Doubt.NONE, None, None)
    assert twice.wanted is True
    assert twice.customer_id == "cus_1"
    assert twice.revision > once.revision


@pytest.mark.parametrize("changed", [NOW, NOW - OLD_READ_WINS + 5 * MINUTE])
def test_404s_about_a_user_who_was_there_just_now_are_not_a_deletion_yet(changed: int) -> None:
    link = linked(source_version=changed)
    once = kept(link, absent(link))
    at = changed + OLD_READ_WINS
    assert fold(once, absent(once), now=at - 1) is once
    assert kept(once, absent(once), now=at).deletion is Deletion.ABSENT


def test_a_change_that_is_dated_ahead_delays_a_deletion_no_longer_than_one_of_now() -> None:
    link = linked(source_version=NOW + DAY)
    once = kept(link, absent(link))
    assert kept(once, absent(once), now=NOW + OLD_READ_WINS).deletion is Deletion.ABSENT


def test_a_200_between_two_404s_starts_the_count_again() -> None:
    once = kept(linked(), absent(linked()))
    alive = kept(once, read(NOW, ADA, at=once.revision))
    assert alive.absent_at is None
    again = kept(alive, absent(alive), now=NOW + HOUR)
    assert again.deletion is Deletion.NONE


def test_a_404_of_an_earlier_revision_counts_for_nothing() -> None:
    link = linked(revision=5)
    assert fold(link, UserAbsent(subject_id=SUBJECT, at_revision=4)) is link


GONE = replace(
    linked(revision=7),
    source_version=0,
    fields=None,
    link_back=None,
    deletion=Deletion.ABSENT,
    deleted_at=NOW - HOUR,
)


@pytest.mark.parametrize("at", [None, 7])
def test_a_later_200_lifts_an_absence(at: int | None) -> None:
    link = kept(GONE, read(NOW, ADA, at=at))
    assert (link.deletion, link.deleted_at) == (Deletion.NONE, None)
    assert (link.fields, link.must_confirm) == (ADA, Doubt.NONE)
    assert link.due_at == NOW


def test_a_200_never_lifts_a_signed_deletion() -> None:
    link = kept(linked(), deleted())
    assert fold(link, read(NOW + HOUR, ADA)) is link
    assert fold(link, read(NOW + HOUR, ADA, at=link.revision), now=NOW + DAY) is link


def test_a_404_changes_nothing_about_a_signed_deletion() -> None:
    link = kept(linked(), deleted())
    assert fold(link, absent(link)) is link


def test_an_event_about_an_absent_user_asks_for_a_read() -> None:
    link = kept(GONE, event())
    assert link.deletion is Deletion.ABSENT
    assert link.must_confirm is Doubt.UNSURE


def test_an_absent_user_who_answers_404_again_is_forgotten_again() -> None:
    link = kept(GONE, event())
    again = kept(link, absent(link))
    assert (again.fields, again.must_confirm, again.deletion) == (None, Doubt.NONE, Deletion.ABSENT)
    assert again.deleted_at == NOW - HOUR


def test_the_walk_leaves_users_alone_who_are_known_to_be_gone() -> None:
    signed = kept(linked(), deleted())
    assert fold(GONE, unconfirmed()) is GONE
    assert fold(signed, unconfirmed()) is signed


def test_fields_that_clerk_no_longer_has_are_none_after_a_read() -> None:
    assert kept(linked(), read(NOW, Fields())).fields == Fields()
