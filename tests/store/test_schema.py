"""The migrations make the schema that the statements mean, and the claim stays cheap."""

from collections.abc import Iterator

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, inspect, text

from counterfoil.core.link import Deletion, Link, ParkReason
from counterfoil.store import journal, links
from counterfoil.store.engine import connect
from counterfoil.store.journal import Entry
from counterfoil.store.rows import COLUMNS, INTAKE_COLUMNS, NEWCOMER_COLUMNS, OTHER_DEFAULTS, WORKER_COLUMNS
from counterfoil.store.schema import metadata
from counterfoil.store.upgrade import needed, upgrade, versions
from tests.databases import Home
from tests.store.support import NOW, put


@pytest.fixture
def migrated(url: str) -> Iterator[Connection]:
    """A database made by the migrations, from nothing."""
    engine = connect(url)
    with engine.begin() as made:
        upgrade(made)
        yield made
    engine.dispose()


def test_the_migrations_make_the_schema(migrated: Connection) -> None:
    assert compare_metadata(MigrationContext.configure(migrated), metadata) == []


def test_columns_types_defaults_and_indexes_are_the_same_both_ways(migrated: Connection, home: Home) -> None:
    engine = connect(home.empty())
    with engine.begin() as made:
        if home.kind == "postgresql":
            made.exec_driver_sql("CREATE SCHEMA counterfoil")
        metadata.create_all(made)
        wanted = _shape(made)
    engine.dispose()
    assert _shape(migrated) == wanted


def _shape(connection: Connection) -> dict[str, object]:
    """Tables and indexes as the database describes them; in what order a table's columns come is no matter."""
    if connection.dialect.name == "postgresql":
        columns = connection.exec_driver_sql(
            "SELECT table_name, column_name, data_type, column_default, is_nullable"
            " FROM information_schema.columns"
            " WHERE table_schema = 'counterfoil' AND table_name NOT IN ('links', 'alembic_version')"
        )
        indexes = connection.exec_driver_sql(
            "SELECT indexdef FROM pg_indexes WHERE schemaname = 'counterfoil' AND tablename <> 'alembic_version'"
        )
        return {"columns": {tuple(row) for row in columns}, "indexes": {row[0] for row in indexes}}
    found: dict[str, object] = {}
    for name in ("link_rows", "sightings", "journal", "environment", "quotas"):
        rows = connection.exec_driver_sql(f"PRAGMA table_info({name})").all()
        found[name] = sorted(tuple(row)[1:] for row in rows)
    made = connection.exec_driver_sql("SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql > ''")
    # A rename leaves the table's name quoted.
    return {**found, **{row.name: row.sql.replace('"', "") for row in made}}


def test_an_upgrade_of_what_is_up_to_date_does_nothing(migrated: Connection) -> None:
    put(migrated, Link(subject_id="user_a", revision=1))
    now, needed = versions(migrated)
    assert now == needed
    upgrade(migrated)
    assert links.get(migrated, "user_a") is not None


def test_versions_of_an_empty_database(url: str) -> None:
    engine = connect(url)
    with engine.begin() as connection:
        assert versions(connection) == (None, needed())
    engine.dispose()


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
    names = {column["name"] for column in inspect(migrated).get_columns("link_rows")}
    assert names == {*COLUMNS, "walked"}
    assert set(INTAKE_COLUMNS) & set(WORKER_COLUMNS) == set()
    assert set(INTAKE_COLUMNS) | set(WORKER_COLUMNS) | {"lease", "held"} == set(COLUMNS)


def test_what_a_newcomers_row_leaves_out_is_what_the_columns_hold_by_default(migrated: Connection) -> None:
    migrated.exec_driver_sql("INSERT INTO link_rows (subject_id) VALUES ('user_1')")
    names = INTAKE_COLUMNS[len(NEWCOMER_COLUMNS) :]
    row = migrated.exec_driver_sql(f"SELECT {', '.join(names)} FROM link_rows").one()
    assert tuple(row) == OTHER_DEFAULTS


def test_what_status_and_metrics_count_comes_from_indexes(migrated: Connection) -> None:
    put(migrated, *[Link(subject_id=f"user_{number:06}", revision=1) for number in range(2_000)])
    entries = [Entry(at=number, kind="note", what="x", subject_id=f"user_{number:06}") for number in range(2_000)]
    journal.append(migrated, entries)
    migrated.exec_driver_sql("ANALYZE")
    for query, index in (
        ("SELECT COUNT(*), MIN(dirty_at) FROM link_rows WHERE dirty_at IS NOT NULL", "ix_links_dirty"),
        ("SELECT parked, COUNT(*) FROM link_rows WHERE parked IS NOT NULL GROUP BY parked", "ix_links_parked"),
        ("SELECT MIN(due_at) FROM link_rows WHERE due_at IS NOT NULL", "ix_links_due"),
        ("SELECT 1 FROM journal WHERE subject_id = 'user_1' ORDER BY id DESC LIMIT 5", "ix_journal_subject"),
        ("SELECT id FROM journal WHERE at < 5 ORDER BY at LIMIT 5", "ix_journal_at"),
    ):
        explain = "EXPLAIN QUERY PLAN" if migrated.dialect.name == "sqlite" else "EXPLAIN"
        plan = [row[-1] for row in migrated.execute(text(f"{explain} {query}"))]
        assert any(index in line for line in plan), (query, plan)
