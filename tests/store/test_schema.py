"""The migrations make the schema that the statements mean, and the claim stays cheap."""

from collections.abc import Iterator

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, text

from counterfoil.core.link import Deletion, Lane, Link, ParkReason
from counterfoil.store import links
from counterfoil.store.engine import connect
from counterfoil.store.rows import COLUMNS, INTAKE_COLUMNS, WORKER_COLUMNS
from counterfoil.store.schema import metadata
from counterfoil.store.upgrade import upgrade, versions
from tests.store.support import LEASE_END, NOW, put


@pytest.fixture
def migrated(url: str) -> Iterator[Connection]:
    """A database made by the migrations."""
    engine = connect(url)
    with engine.begin() as made:
        upgrade(made)
        yield made
    engine.dispose()


def test_the_migrations_make_the_schema(migrated: Connection) -> None:
    assert compare_metadata(MigrationContext.configure(migrated), metadata) == []


def test_columns_types_defaults_and_indexes_are_the_same_both_ways(
    migrated: Connection, tmp_path_factory: pytest.TempPathFactory
) -> None:
    engine = connect(f"sqlite:///{tmp_path_factory.mktemp('other') / 'x.db'}")
    with engine.begin() as made:
        metadata.create_all(made)
        wanted = _shape(made)
    engine.dispose()
    assert _shape(migrated) == wanted


def _shape(connection: Connection) -> dict[str, object]:
    """Tables and indexes as SQLite describes them; in what order a table's columns come is no matter."""
    found: dict[str, object] = {}
    for name in ("link_rows", "sightings", "journal", "environment"):
        columns = connection.exec_driver_sql(f"PRAGMA table_info({name})").all()
        found[name] = sorted(tuple(row)[1:] for row in columns)
    indexes = connection.exec_driver_sql("SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql > ''")
    # A rename leaves the table's name quoted.
    return {**found, **{row.name: row.sql.replace('"', "") for row in indexes}}


def test_an_upgrade_of_what_is_up_to_date_does_nothing(migrated: Connection) -> None:
    put(migrated, Link(subject_id="user_a", revision=1))
    now, needed = versions(migrated)
    assert now == needed
    upgrade(migrated)
    assert links.get(migrated, "user_a") is not None


def test_versions_of_an_empty_database(url: str) -> None:
    engine = connect(url)
    with engine.begin() as connection:
        now, needed = versions(connection)
    engine.dispose()
    assert now is None
    assert needed is not None


def test_the_view_shows_how_each_link_stands(migrated: Connection) -> None:
    put(
        migrated,
        Link(subject_id="user_done", revision=1, source_version=NOW, customer_id="cus_1"),
        Link(subject_id="user_gone", revision=2, deleted_at=NOW, deletion=Deletion.SIGNED),
        Link(subject_id="user_new", revision=1, source_version=NOW, dirty_at=NOW, due_at=NOW),
        Link(subject_id="user_parked", revision=1, source_version=NOW, parked=ParkReason.FOREIGN),
    )
    view = migrated.execute(text("SELECT * FROM links ORDER BY subject_id"))
    assert list(view.keys()) == ["subject_id", "customer_id", "settled", "parked", "deleted", "user_updated_at"]
    assert [tuple(row) for row in view] == [
        ("user_done", "cus_1", True, None, False, NOW),
        ("user_gone", None, True, None, True, None),
        ("user_new", None, False, None, False, NOW),
        ("user_parked", None, True, "foreign", False, NOW),
    ]


def test_the_links_columns_are_the_tables(migrated: Connection) -> None:
    names = {row[1] for row in migrated.exec_driver_sql("PRAGMA table_info(link_rows)")}
    assert names == {*COLUMNS, "walked"}
    assert set(INTAKE_COLUMNS) & set(WORKER_COLUMNS) == set()
    assert set(INTAKE_COLUMNS) | set(WORKER_COLUMNS) | {"lease", "held"} == set(COLUMNS)


@pytest.mark.parametrize("due_every", [1, 50])
def test_a_claim_reads_the_due_links_from_their_index_without_sorting(
    migrated: Connection, due_every: int
) -> None:
    many = [
        Link(
            subject_id=f"user_{number:06}",
            revision=1,
            lane=Lane.BULK if number % 2 else Lane.LIVE,
            due_at=NOW - number % 977 if number % due_every == 0 else None,
        )
        for number in range(10_000)
    ]
    put(migrated, *many)
    migrated.exec_driver_sql("ANALYZE")
    values = {"lane": 0, "now": NOW, "lease_end": LEASE_END, "limit": 64}
    plan = [row.detail for row in migrated.execute(text(f"EXPLAIN QUERY PLAN {links._CLAIM_HERE.text}"), values)]
    assert any("ix_links_due" in line for line in plan), plan
    assert not any("TEMP B-TREE" in line for line in plan), plan
    assert not any(line.startswith("SCAN link_rows") for line in plan), plan
    claimed = links.claim(migrated, NOW, LEASE_END, 64)
    assert len(claimed) == 64


def test_what_status_and_metrics_count_comes_from_indexes(migrated: Connection) -> None:
    put(migrated, *[Link(subject_id=f"user_{number:06}", revision=1) for number in range(2_000)])
    migrated.exec_driver_sql("ANALYZE")
    for query, index in (
        ("SELECT COUNT(*), MIN(dirty_at) FROM link_rows WHERE dirty_at IS NOT NULL", "ix_links_dirty"),
        ("SELECT parked, COUNT(*) FROM link_rows WHERE parked IS NOT NULL GROUP BY parked", "ix_links_parked"),
        ("SELECT MIN(due_at) FROM link_rows WHERE due_at IS NOT NULL", "ix_links_due"),
        ("SELECT 1 FROM journal WHERE subject_id = 'user_1' ORDER BY id DESC LIMIT 5", "ix_journal_subject"),
        ("SELECT id FROM journal WHERE at < 5 ORDER BY at LIMIT 5", "ix_journal_at"),
    ):
        plan = [row.detail for row in migrated.execute(text(f"EXPLAIN QUERY PLAN {query}"))]
        assert any(index in line for line in plan), (query, plan)
