"""What an applied plan asks of links, and what is kept of it until it is done."""

from typing import Any

import msgspec
import pytest
from sqlalchemy import Connection

from counterfoil.core.link import Deletion, Fields, Lane, Link, Order
from counterfoil.core.news import CustomerSeen, UserBody
from counterfoil.store import journal, links, orders, sightings
from counterfoil.store.orders import Errand
from tests.store.support import NOW, SINCE, changed, claimed, due, got, put

BODY = UserBody(subject_id="user_a", version=NOW, created_at=NOW, fields=Fields(email="ada@example.com"))


def seen(customer_id: str, order: Order = Order.NONE, subject_id: str = "user_a") -> CustomerSeen:
    return CustomerSeen(subject_id=subject_id, customer_id=customer_id, created=NOW, order=order)


def ordered(connection: Connection, subject_id: str = "user_a") -> dict[str, Order]:
    found = sightings.of_subjects(connection, [subject_id]).get(subject_id, ())
    return {each.customer_id: each.order for each in found}


def test_an_errand_makes_a_wanted_link_in_the_bulk_lane_and_is_told_in_its_story(connection: Connection) -> None:
    errand = Errand(subject_id="user_a", item="missing-1", body=BODY)
    assert orders.place(connection, [errand], SINCE, NOW) == []
    link = got(connection, "user_a")
    assert (link.asked, link.fields, link.lane, link.due_at) == (True, BODY.fields, Lane.BULK, NOW)
    assert [entry.detail for entry in journal.story(connection, "user_a")] == [{"item": "missing-1"}]


def test_an_errand_keeps_what_was_approved_for_each_customer(connection: Connection) -> None:
    customers = (seen("cus_1", Order.ADOPT), seen("cus_2", Order.DELETE))
    orders.place(connection, [Errand(subject_id="user_a", item="x", body=BODY, customers=customers)], SINCE, NOW)
    assert ordered(connection) == {"cus_1": Order.ADOPT, "cus_2": Order.DELETE}


def test_an_errand_about_a_user_who_is_gone_is_confirmed_by_the_links_own_turn(connection: Connection) -> None:
    errand = Errand(subject_id="user_a", item="orphan", customers=(seen("cus_1", Order.DELETE),))
    assert orders.place(connection, [errand], SINCE, NOW) == []
    link = got(connection, "user_a")
    assert link.deletion is Deletion.NONE
    assert link.must_confirm
    assert link.due_at is not None


def test_what_the_links_customer_carries_is_permitted_only_while_no_worker_holds_it(
    connection: Connection,
) -> None:
    stale = Errand(subject_id="user_a", item="stale", body=BODY, applied=Fields(email="old@example.com"))
    held = claimed(connection, due("user_a", customer_id="cus_1", fields=BODY.fields, applied=BODY.fields))
    before = got(connection, "user_a")
    assert orders.place(connection, [stale], SINCE, NOW) == ["user_a"]
    # Nor is it told anything: its turn ends, and no other begins before it is asked again.
    assert got(connection, "user_a") == before
    assert journal.story(connection, "user_a") == []
    links.release(connection, changed(held, revision=got(connection, "user_a").revision), NOW, None, clean=True)
    assert orders.place(connection, [stale], SINCE, NOW + 1) == []
    link = got(connection, "user_a")
    assert (link.applied, link.due_at) == (stale.applied, NOW + 1)


OLD = Fields(email="old@example.com")


@pytest.mark.parametrize(
    ("known", "then"),
    [
        ({}, BODY.fields),
        ({"customer_id": "cus_1", "sighted": True}, BODY.fields),
        ({"customer_id": "cus_1", "sighted": True, "applied": OLD}, OLD),
        # Ours, and in doubt: it is written again.
        ({"customer_id": "cus_1"}, None),
    ],
)
def test_fields_are_left_unwritten_only_where_nothing_is_known_of_a_customer_that_was_there(
    connection: Connection, known: dict[str, Any], then: Fields | None
) -> None:
    put(connection, due("user_a", **known))
    errand = Errand(subject_id="user_a", item="unlinked", body=BODY, unwritten=BODY.fields)
    assert orders.place(connection, [errand], SINCE, NOW) == []
    assert got(connection, "user_a").applied == then


def test_a_held_link_is_told_what_needs_no_permission_and_keeps_nothing_from_the_others(
    connection: Connection,
) -> None:
    claimed(connection, due("user_a", customer_id="cus_1", fields=BODY.fields, applied=BODY.fields))
    orphan = Errand(subject_id="user_a", item="orphan", customers=(seen("cus_2", Order.ARCHIVE),))
    other = UserBody(subject_id="user_b", version=NOW, created_at=NOW, fields=Fields())
    foreign = Errand(subject_id="user_b", item="foreign", body=other, replaces="cus_other")
    assert orders.place(connection, [orphan, foreign], SINCE, NOW) == []
    assert ordered(connection) == {"cus_2": Order.ARCHIVE}
    assert got(connection, "user_b").written_back == "cus_other"


def test_a_name_that_may_be_written_over_counts_as_our_own(connection: Connection) -> None:
    put(connection, due("user_a", customer_id="cus_1", written_back="cus_1"))
    foreign = Errand(subject_id="user_a", item="foreign", body=BODY, replaces="cus_other")
    orders.place(connection, [foreign], SINCE, NOW)
    assert got(connection, "user_a").written_back == "cus_other"


def test_only_what_is_still_to_be_done_stands(connection: Connection) -> None:
    put(connection, due("user_a", customer_id="cus_1"), Link(subject_id="user_b"))
    links.fold_batch(connection, [seen("cus_2", Order.ARCHIVE), seen("cus_3")], SINCE, NOW)
    found = orders.standings(connection, ["user_a", "user_b", "user_none"])
    assert {key: standing.ordered for key, standing in found.items()} == {"user_a": ("cus_2",), "user_b": ()}
    assert found["user_a"].link == got(connection, "user_a")
    assert orders.standings(connection, []) == {}


def test_what_was_approved_can_lapse_and_the_customer_stays_sighted(connection: Connection) -> None:
    links.fold_batch(connection, [seen("cus_1", Order.DELETE), seen("cus_2", Order.DELETE)], SINCE, NOW)
    sightings.lapse_order(connection, "cus_1")
    assert ordered(connection) == {"cus_1": Order.NONE, "cus_2": Order.DELETE}


def test_a_sight_says_what_was_not_known_so(connection: Connection) -> None:
    assert sightings.sight(connection, [seen("cus_1"), seen("cus_2")]) == {"cus_1", "cus_2"}
    assert sightings.sight(connection, [seen("cus_1"), seen("cus_2", subject_id="user_b")]) == {"cus_2"}


def test_to_meet_a_customer_again_does_not_undo_what_was_approved_for_it(connection: Connection) -> None:
    links.fold_batch(connection, [seen("cus_1", Order.DELETE)], SINCE, NOW)
    links.fold_batch(connection, [seen("cus_1")], SINCE, NOW)
    assert ordered(connection) == {"cus_1": Order.DELETE}


def test_what_was_approved_for_one_user_is_not_approved_for_the_next(connection: Connection) -> None:
    links.fold_batch(connection, [seen("cus_1", Order.DELETE)], SINCE, NOW)
    links.fold_batch(connection, [seen("cus_1", subject_id="user_b")], SINCE, NOW)
    assert ordered(connection, "user_b") == {"cus_1": Order.NONE}


def test_errands_go_through_json_and_come_out_the_same() -> None:
    given = [
        Errand(subject_id="user_a", item="x", body=BODY, customers=(seen("cus_1", Order.ADOPT),)),
        Errand(subject_id="user_b", item="y", applied=Fields(email="b@example.com"), replaces="cus_2"),
        Errand(
            subject_id="user_c",
            item="z",
            body=msgspec.structs.replace(BODY, subject_id="user_c"),
            unwritten=BODY.fields,
        ),
    ]
    assert orders.decode(orders.encode(given)) == given
    with pytest.raises(msgspec.DecodeError):
        orders.decode(b'[{"item": "no subject"}]')
