"""What a question, a person's ruling and a scan's find do to a link that is there."""

from typing import Any

import pytest

from counterfoil.core.link import Deletion, Doubt, Lane, ParkReason, Ruling
from counterfoil.core.news import Asked, CustomerSeen, News, Ruled

from .support import DAY, NOW, SINCE, SUBJECT, deleted, kept, known, linked, unconfirmed

ASKED = Asked(subject_id=SUBJECT)
WANTED = Asked(subject_id=SUBJECT, want=True)
GONE: dict[str, Any] = {"deletion": Deletion.SIGNED, "deleted_at": NOW - DAY, "fields": None}


def met(**more: Any) -> CustomerSeen:
    return CustomerSeen(subject_id=SUBJECT, customer_id="cus_9", **{"created": NOW - DAY, **more})


@pytest.mark.parametrize(
    ("before", "news", "asked"), [(False, ASKED, False), (False, WANTED, True), (True, ASKED, True)]
)
def test_that_somebody_asked_for_a_customer_is_remembered(before: bool, news: News, asked: bool) -> None:
    link = kept(known(wanted=False, asked=before), news)
    assert (link.asked, link.wanted) == (asked, news == WANTED)


def test_a_question_about_a_user_who_was_deleted_asks_for_no_customer() -> None:
    link = kept(known(wanted=False, **GONE), WANTED)
    assert (link.asked, link.wanted) == (False, False)


@pytest.mark.parametrize("news", [ASKED, WANTED, met(), Ruled(subject_id=SUBJECT, ruling=Ruling.UNDO)])
def test_a_question_a_find_and_a_ruling_are_news_each_time(news: News) -> None:
    """The row may come to be the same: it is thought about again all the same, once for each."""
    link = linked(revision=7, **(GONE if isinstance(news, Ruled) else {}))
    once = kept(link, news)
    again = kept(once, news)
    assert (once.revision, again.revision) == (8, 9)
    assert (once.due_at, again.due_at) == (NOW, NOW)


@pytest.mark.parametrize(
    ("columns", "doubt"),
    [
        ({"parked": ParkReason.MISNAMED}, Doubt.READ),
        ({"parked": ParkReason.OBSERVED}, Doubt.NONE),
        ({"parked": None}, Doubt.NONE),
        ({"parked": ParkReason.SUBSCRIBED, **GONE}, Doubt.NONE),
        ({"parked": ParkReason.SUBSCRIBED, **GONE, "deletion": Deletion.ABSENT}, Doubt.NONE),
    ],
)
def test_a_question_about_a_parked_link_has_its_user_read_again(columns: dict[str, Any], doubt: Doubt) -> None:
    link = kept(linked(**columns), ASKED)
    assert link.must_confirm is doubt
    assert link.doubted_at == (NOW if doubt is Doubt.READ else None)


@pytest.mark.parametrize(
    ("news", "lane"),
    [
        (ASKED, Lane.LIVE),
        (Asked(subject_id=SUBJECT, bulk=True), Lane.BULK),
        (deleted(), Lane.LIVE),
        (deleted(trusted=False), Lane.LIVE),
        (met(), Lane.BULK),
    ],
)
def test_what_a_person_waits_for_goes_first(news: News, lane: Lane) -> None:
    assert kept(linked(), news).lane is lane


def test_a_ruling_goes_first() -> None:
    assert kept(linked(**GONE), Ruled(subject_id=SUBJECT, ruling=Ruling.RELEASE)).lane is Lane.LIVE


@pytest.mark.parametrize(
    ("more", "wanted"),
    [
        ({"created": SINCE}, True),
        ({"created": SINCE - 1}, False),
        ({"created": SINCE - 1, "mark": "cf1-x"}, True),
        ({"created": SINCE, "archived": True}, False),
        ({"mark": "cf1-x", "archived": True}, False),
    ],
)
def test_a_customer_that_was_met_tells_that_one_is_wanted_unless_it_is_archived(
    more: dict[str, Any], wanted: bool
) -> None:
    link = kept(known(wanted=False), met(**more))
    assert (link.wanted, link.sighted) == (wanted, True)
    assert kept(known(wanted=True), met(**more)).wanted


@pytest.mark.parametrize(
    ("doubt", "before", "since"),
    [
        (Doubt.READ, NOW - DAY, NOW - DAY),
        (Doubt.UNSURE, NOW - DAY, NOW - DAY),
        (Doubt.READ, None, NOW),
        (Doubt.NONE, None, NOW),
        (Doubt.NONE, NOW - DAY, NOW),
    ],
)
def test_a_doubt_is_as_old_as_its_beginning(doubt: Doubt, before: int | None, since: int) -> None:
    link = kept(linked(must_confirm=doubt, doubted_at=before), unconfirmed())
    assert (link.must_confirm, link.doubted_at) == (Doubt.READ, since)
