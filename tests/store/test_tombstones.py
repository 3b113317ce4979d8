"""Deleted users: how many there were lately, which removals are owed, and which wait."""

import pytest
from sqlalchemy import Connection

from counterfoil.core.link import Deletion, Doubt, Ended, Link, Ruling
from counterfoil.store import tombstones
from counterfoil.store.tombstones import Waiting
from tests.store.support import LEASE_END, NOW, due, got, put


def gone(subject_id: str, deleted_at: int = NOW, **more: object) -> Link:
    """A deleted user's link."""
    values = {"customer_id": f"cus_{subject_id}", "deletion": Deletion.SIGNED, "wanted": False, **more}
    return due(subject_id, deleted_at=deleted_at, **values)


def test_recent_deletions_are_those_of_users_who_had_something_to_lose(connection: Connection) -> None:
    put(
        connection,
        gone("user_linked", NOW - 1),
        gone("user_being_made", NOW - 1, customer_id=None, intent_key="cf1-x"),
        gone("user_removed", NOW - 1, customer_id=None, generation=1),
        gone("user_never_served", NOW - 1, customer_id=None),
        gone("user_long_gone", NOW - 100),
        due("user_here", customer_id="cus_here"),
    )
    assert tombstones.count_recent(connection, NOW - 50, 10) == 3
    assert tombstones.count_recent(connection, NOW - 50, 2) == 2, "it stops counting at the limit"
    assert tombstones.count_recent(connection, NOW - 1, 10) == 0


@pytest.mark.parametrize(
    ("link", "owed"),
    [
        (gone("user_a"), True),
        (gone("user_a", customer_id=None, intent_key="cf1-x"), True),
        (gone("user_a", customer_id=None, sighted=True), True),
        (gone("user_a", customer_id=None, sighted=True, dirty_at=None), False),
        (gone("user_a", ended=Ended.CLOSING), True),
        (gone("user_a", ended=Ended.ARCHIVED), False),
        (gone("user_a", ruling=Ruling.UNDO), False),
        (gone("user_a", ruling=Ruling.RELEASE), True),
        (due("user_a", customer_id="cus_a"), False),
    ],
)
def test_a_removal_is_owed_until_it_is_done_or_called_off(connection: Connection, link: Link, owed: bool) -> None:
    put(connection, link)
    assert tombstones.count_held(connection) == int(owed)


def test_what_waits_is_told_with_the_time_of_the_first(connection: Connection) -> None:
    assert tombstones.waiting(connection) == Waiting(links=0, next_due=None)
    put(
        connection,
        gone("user_a", due_at=NOW + 7),
        gone("user_b", due_at=NOW + 3),
        gone("user_c", due_at=NOW + 1, customer_id=None),
        gone("user_d", due_at=None),
    )
    assert tombstones.waiting(connection) == Waiting(links=2, next_due=NOW + 3)


def test_all_who_may_not_be_gone_are_read_again_and_a_lease_is_left_alone(connection: Connection) -> None:
    put(
        connection,
        gone("user_owed", due_at=NOW + 9, dirty_at=None),
        gone("user_held", held=1, due_at=LEASE_END),
        gone("user_done_lately", NOW - 1, customer_id=None, generation=1, due_at=None),
        gone("user_done_long_ago", NOW - 100, customer_id=None, generation=1, due_at=None),
    )
    assert tombstones.doubt_all(connection, NOW - 50, NOW) == 3
    owed, held = got(connection, "user_owed"), got(connection, "user_held")
    assert (owed.must_confirm, owed.doubted_at, owed.due_at, owed.dirty_at) == (Doubt.READ, NOW, NOW, NOW)
    assert (held.must_confirm, held.due_at) == (Doubt.READ, LEASE_END)
    assert owed.revision == held.revision == 2, "a turn under way does not end as if nothing had happened"
    assert got(connection, "user_done_lately").must_confirm is Doubt.READ
    assert got(connection, "user_done_long_ago").must_confirm is Doubt.NONE
