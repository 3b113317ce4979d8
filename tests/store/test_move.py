"""A move can be stopped anywhere, counts only what is the same, and never leaves two databases in use."""

from collections.abc import Callable, Iterator
from functools import partial

import msgspec
import pytest
from sqlalchemy import Connection, Engine

from counterfoil.core.link import Fields, Link, ParkReason, Sighting
from counterfoil.core.news import CustomerSeen
from counterfoil.errors import ConfigurationError, DatabaseOutdated
from counterfoil.store import environment, figures, journal, links, sightings
from counterfoil.store.engine import connect, transact
from counterfoil.store.journal import Entry
from counterfoil.store.move import MOVED_TO, MOVING, TABLES, Move, digest, refuse_moved
from counterfoil.store.upgrade import upgrade
from tests.databases import PostgresqlHome, migrate
from tests.postgresql import Server
from tests.store.support import NOW, SINCE, changed, due, got, put

LINKS = 2_300
"""More than two pages."""


def _user(number: int) -> str:
    # Mixed case: byte order and a language's order differ.
    return f"user_{'aB'[number % 2]}{number:05d}"


def _fill(connection: Connection) -> None:
    made = [
        due(_user(number), fields=Fields(email=f"p{number}@example.com", name="Zoë")) for number in range(LINKS)
    ]
    made[7] = changed(made[7], customer_id="cus_7", parked=ParkReason.CLAIMED, deleted_at=NOW, due_at=None)
    put(connection, *made)
    seen = [
        CustomerSeen(subject_id=_user(9), customer_id=f"cus_x{each}", created=NOW, mark=None) for each in (1, 2)
    ]
    links.fold_batch(connection, seen, SINCE, NOW)
    told = [Entry(at=NOW, kind="news", what="user.created", subject_id=_user(7), detail={"delivery": "msg_1"})]
    kept = Entry(at=NOW, kind="unreadable", what="a body", body=b"\x00\xff{")
    journal.append(connection, [*told, kept])
    environment.put(connection, {"clerk_instance": "ins_1", "since": "5", "stripe_seen_to": "17"})


@pytest.fixture
def source(tmp_path: object) -> Iterator[Engine]:
    """A file with something in it."""
    url = f"sqlite:///{tmp_path}/source.db"
    migrate(url)
    engine = connect(url)
    transact(engine, _fill)
    yield engine
    engine.dispose()


@pytest.fixture
def target(postgresql: Server) -> Iterator[Engine]:
    """A database of PostgreSQL without anything."""
    home = PostgresqlHome(postgresql)
    engine = connect(home.empty())
    yield engine
    engine.dispose()
    home.close()


def quietly(*_: object) -> None:
    """Nobody looks at the progress."""


def stopping_at(number: int) -> Callable[[str, int, int], None]:
    """The process is killed when it tells of its progress for this time."""
    told = []

    def tell(*what: object) -> None:
        told.append(what)
        if len(told) == number:
            raise KeyboardInterrupt

    return tell


def _assert_moved(source: Engine, target: Engine) -> None:
    for table in TABLES:
        seals = [transact(engine, partial(digest, table=table)) for engine in (source, target)]
        assert seals[0] == seals[1]
        assert seals[0].rows > 0
    here, there = transact(source, environment.load), transact(target, environment.load)
    assert MOVED_TO in here
    assert MOVING not in there
    assert there == {"clerk_instance": "ins_1", "since": "5", "stripe_seen_to": "17"}


def test_everything_is_there_and_the_source_is_not_used_again(source: Engine, target: Engine) -> None:
    report = Move(source, target, quietly).run()
    assert report.rows == {"link_rows": LINKS, "sightings": 2, "journal": 2}
    assert not report.again
    _assert_moved(source, target)
    with pytest.raises(DatabaseOutdated, match="was moved to postgresql"):
        refuse_moved(transact(source, environment.load))
    refuse_moved(transact(target, environment.load))


def test_what_was_moved_can_be_worked_with(source: Engine, target: Engine) -> None:
    Move(source, target, quietly).run()

    def work(connection: Connection) -> tuple[Link, dict[str, tuple[Sighting, ...]], int, list[Entry]]:
        # PostgreSQL's own numbers go on after those that were copied.
        journal.append(connection, [Entry(at=NOW + 1, kind="note", what="later", subject_id=_user(7))])
        claimed = links.claim(connection, NOW, NOW + 1_000, 5)
        assert len(claimed) == 5
        return (
            got(connection, _user(7)),
            sightings.of_subjects(connection, [_user(9)]),
            figures.figures(connection).links,
            journal.story(connection, _user(7)),
        )

    link, sighted, count, story = transact(target, work)
    assert (link.customer_id, link.parked, link.fields) == (
        "cus_7",
        ParkReason.CLAIMED,
        Fields(email="p7@example.com", name="Zoë"),
    )
    assert {each.customer_id for each in sighted[_user(9)]} == {"cus_x1", "cus_x2"}
    assert count == LINKS
    assert [entry.what for entry in story] == ["user.created", "later"]


@pytest.mark.parametrize("number", range(1, 12))
def test_a_move_that_is_killed_goes_on_where_it_was(source: Engine, target: Engine, number: int) -> None:
    with pytest.raises(KeyboardInterrupt):
        Move(source, target, stopping_at(number)).run()
    # Until it has ended the old one may be used, the new one not.
    refuse_moved(transact(source, environment.load))
    with pytest.raises(DatabaseOutdated, match="has not ended"):
        refuse_moved(transact(target, environment.load))
    already: list[int] = []
    report = Move(source, target, lambda what, done, _: already.append(done)).run()
    assert not report.again
    assert already[0] == min(1_000 * (number - 1), 2_000) if number <= 3 else already[0] >= LINKS
    _assert_moved(source, target)


def test_a_source_that_was_used_between_two_attempts_is_copied_anew(source: Engine, target: Engine) -> None:
    with pytest.raises(KeyboardInterrupt):
        Move(source, target, stopping_at(3)).run()
    transact(source, lambda connection: put(connection, due("user_A-new")))
    with_claim = transact(source, lambda connection: links.claim(connection, NOW, NOW + 1, 1))
    assert len(with_claim) == 1
    report = Move(source, target, quietly).run()
    assert report.again
    assert report.rows["link_rows"] == LINKS + 1
    _assert_moved(source, target)


def test_a_kill_between_the_two_marks_is_finished_by_the_next_attempt(source: Engine, target: Engine) -> None:
    with pytest.raises(KeyboardInterrupt):
        Move(source, target, stopping_at(2)).run()
    half = transact(target, environment.load)[MOVING]
    Move(source, target, quietly).run()
    transact(target, lambda connection: environment.put(connection, {MOVING: half}))
    Move(source, target, quietly).run()
    _assert_moved(source, target)


def test_a_target_that_is_in_use_is_refused_and_left_as_it_is(source: Engine, target: Engine) -> None:
    transact(target, upgrade)
    transact(target, lambda connection: environment.put(connection, {"clerk_instance": "ins_2"}))
    with pytest.raises(ConfigurationError, match="holds a database"):
        Move(source, target, quietly).run()
    assert transact(target, environment.load) == {"clerk_instance": "ins_2"}
    refuse_moved(transact(source, environment.load))


def test_one_source_moves_to_one_target_only(source: Engine, target: Engine, postgresql: Server) -> None:
    Move(source, target, quietly).run()
    home = PostgresqlHome(postgresql)
    other = connect(home.empty())
    with pytest.raises(ConfigurationError, match="was moved to postgresql"):
        Move(source, other, quietly).run()
    other.dispose()
    home.close()


def test_one_changed_value_changes_the_digest(source: Engine) -> None:
    def seal(connection: Connection) -> tuple[int, int]:
        found = digest(connection, TABLES[0])
        return found.rows, found.total

    before = transact(source, seal)
    link = transact(source, lambda connection: got(connection, _user(3)))
    altered = changed(link, fields=Fields(email="p3@example.com", name="Zoe"))

    def alter(connection: Connection) -> None:
        connection.exec_driver_sql(
            "UPDATE link_rows SET fields = ? WHERE subject_id = ?",
            (msgspec.json.encode(altered.fields).decode(), link.subject_id),
        )

    transact(source, alter)
    after = transact(source, seal)
    assert after[0] == before[0]
    assert after[1] != before[1]
