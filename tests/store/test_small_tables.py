"""The journal, the environment, and the figures."""

from sqlalchemy import Connection

from counterfoil.core.link import Deletion, Link, ParkReason
from counterfoil.store import environment, figures, journal
from counterfoil.store.journal import Entry
from tests.store.support import NOW, due, put


def note(at: int, subject_id: str | None = "user_a", what: str = "it happened") -> Entry:
    return Entry(at=at, kind="note", what=what, subject_id=subject_id)


def test_a_story_is_told_in_the_order_in_which_it_was_written(connection: Connection) -> None:
    call = Entry(
        at=NOW,
        kind="call",
        what="CreateCustomer",
        subject_id="user_a",
        detail={"outcome": "ok", "deep": [1, {"x": None}]},
        request_id="req_1",
        ms=12,
    )
    journal.append(connection, [note(NOW + 5), call, note(NOW, "user_b"), note(NOW + 1)])
    assert journal.story(connection, "user_a") == [note(NOW + 5), call, note(NOW + 1)]
    assert journal.story(connection, "user_none") == []
    journal.append(connection, [])


def test_a_long_story_is_told_by_its_end(connection: Connection) -> None:
    journal.append(connection, [note(NOW + number, what=str(number)) for number in range(20)])
    assert [entry.what for entry in journal.story(connection, "user_a", 3)] == ["17", "18", "19"]


def test_an_unreadable_body_is_kept_as_it_came(connection: Connection) -> None:
    kept = Entry(at=NOW, kind="unreadable", what="a body", body=b"\x00\xff{")
    journal.append(connection, [kept, note(NOW)])
    row = connection.exec_driver_sql("SELECT body FROM journal WHERE kind = 'unreadable'").one()
    assert row.body == b"\x00\xff{"
    assert figures.figures(connection).unreadable == 1


def test_pruning_takes_the_oldest_in_bites_and_nothing_younger(connection: Connection) -> None:
    journal.append(connection, [note(NOW + number, what=str(number)) for number in range(10)])
    assert journal.prune(connection, NOW + 5, limit=3) == 3
    assert journal.story(connection, "user_a")[0].what == "3"
    assert journal.prune(connection, NOW + 5, limit=3) == 2
    assert journal.prune(connection, NOW + 5, limit=3) == 0
    assert [entry.what for entry in journal.story(connection, "user_a")] == ["5", "6", "7", "8", "9"]


def test_what_is_remembered_is_replaced_and_forgotten(connection: Connection) -> None:
    assert environment.load(connection) == {}
    environment.put(connection, {"a": "1", "b": "2"})
    environment.put(connection, {"b": "3", "c": "4", "a": None, "never": None})
    assert environment.load(connection) == {"b": "3", "c": "4"}
    environment.lock(connection)
    environment.put(connection, {})
    assert environment.load(connection) == {"b": "3", "c": "4"}


def test_who_looks_before_writing_may_shut_others_out(connection: Connection) -> None:
    environment.lock(connection)
    environment.put(connection, {"a": "1"})
    environment.lock(connection)
    assert environment.load(connection) == {"a": "1"}


def test_an_empty_database_has_figures(connection: Connection) -> None:
    found = figures.figures(connection)
    assert (found.links, found.deleted, found.linked, found.flagged, found.unreadable) == (0, 0, 0, 0, 0)
    assert found.backlog == figures.Backlog(unsettled=0, oldest=None, parked={})
    assert figures.next_due(connection) is None


def test_figures_count_each_kind(connection: Connection) -> None:
    put(
        connection,
        due("user_a", dirty_at=NOW - 50, due_at=NOW + 9),
        due("user_b", dirty_at=NOW - 90, due_at=NOW + 5, customer_id="cus_b", refused_email="x@example.com"),
        Link(subject_id="user_c", revision=1, customer_id="cus_c"),
        Link(subject_id="user_d", revision=1, deleted_at=NOW, deletion=Deletion.SIGNED),
        Link(subject_id="user_e", revision=1, parked=ParkReason.FOREIGN),
        Link(subject_id="user_f", revision=1, parked=ParkReason.FOREIGN),
        Link(subject_id="user_g", revision=1, parked=ParkReason.DUPLICATE),
    )
    found = figures.figures(connection)
    assert (found.links, found.deleted, found.linked, found.flagged) == (7, 1, 2, 1)
    parked = {"duplicate": 1, "foreign": 2}
    assert found.backlog == figures.Backlog(unsettled=2, oldest=NOW - 90, parked=parked)
    assert figures.backlog(connection) == found.backlog
    assert figures.next_due(connection) == NOW + 5


def test_parked_links_are_paged_by_reason(connection: Connection) -> None:
    for name, reason in (("a", "foreign"), ("b", "duplicate"), ("c", "foreign"), ("d", "foreign")):
        put(connection, Link(subject_id=f"user_{name}", revision=1, parked=ParkReason(reason)))
    put(connection, Link(subject_id="user_e", revision=1))
    assert figures.parked_ids(connection, "foreign", "", 2) == ["user_a", "user_c"]
    assert figures.parked_ids(connection, "foreign", "user_c", 2) == ["user_d"]
    assert figures.parked_ids(connection, "", "", 9) == ["user_a", "user_b", "user_c", "user_d"]
    assert figures.parked_ids(connection, "attached", "", 9) == []


def test_the_walk_is_told_whom_it_did_not_meet(connection: Connection) -> None:
    put(
        connection,
        Link(subject_id="user_met", revision=1, wanted=True, source_version=1),
        Link(subject_id="user_missed", revision=1, wanted=True, source_version=1),
        Link(subject_id="user_missed_too", revision=1, source_version=1),
        Link(subject_id="user_new", revision=1, wanted=True, source_version=NOW),
        Link(subject_id="user_deleted", revision=1, wanted=True, deleted_at=1, deletion=Deletion.SIGNED),
        Link(subject_id="user_sighted_only", revision=1, sighted=True),
    )
    figures.mark_walked(connection, ["user_met", "user_unknown"], 7)
    figures.mark_walked(connection, [], 7)
    missed = figures.unwalked(connection, 7, NOW, "", 9)
    assert [link.subject_id for link in missed] == ["user_missed", "user_missed_too"]
    assert [link.subject_id for link in figures.unwalked(connection, 7, NOW, "user_missed", 9)] == [
        "user_missed_too"
    ]
    assert [link.subject_id for link in figures.unwalked(connection, 7, NOW, "", 1)] == ["user_missed"]
    assert "user_met" in {link.subject_id for link in figures.unwalked(connection, 8, NOW, "", 9)}
