"""The previous release's statements run on this one's schema: nodes of both work side by side in an upgrade."""

import base64
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from counterfoil.store.engine import parse

PREVIOUS = Path(__file__).parent / "previous"


def played(kind: str) -> list[tuple[str, Any, int | None]]:
    """What was frozen: the statement, its parameters, and how many rows it changed then."""
    first, *lines = (PREVIOUS / f"{kind}.jsonl").read_text().splitlines()
    statements = [json.loads(line) for line in lines[: int(first)]]
    calls = [json.loads(line) for line in lines[int(first) :]]
    return [(statements[number], given(parameters), rows) for number, parameters, rows in calls]


def given(value: Any) -> Any:
    """Parameters as the driver takes them."""
    if isinstance(value, dict):
        if set(value) == {"bytes"}:
            return base64.b64decode(value["bytes"])
        return {key: given(each) for key, each in value.items()}
    return [given(each) for each in value] if isinstance(value, list) else value


@contextmanager
def driver(url: str) -> Iterator[Any]:
    """The bare driver: nothing of this release stands between."""
    if parse(url).get_backend_name() == "sqlite":
        with closing(sqlite3.connect(str(parse(url).database), isolation_level=None)) as connection:
            yield connection
    else:
        with psycopg.connect(url, autocommit=True, options="-c search_path=counterfoil") as other:
            yield other


def play(url: str) -> None:
    """All of it, in its order."""
    kind = parse(url).get_backend_name()
    with driver(url) as connection:
        for statement, parameters, rows in played(kind):
            cursor = connection.execute(statement, parameters)
            returned = cursor.fetchall() if cursor.description else []
            if rows is not None:
                # SQLite tells of rows that are returned only once they were read.
                changed = len(returned) if cursor.description else cursor.rowcount
                assert rows in (changed, -1) or kind == "sqlite", (statement, parameters)


def test_they_do_what_they_did(migrated_url: str) -> None:
    play(migrated_url)


def test_a_column_that_is_gone_would_be_found(migrated_url: str) -> None:
    with driver(migrated_url) as connection:
        connection.execute("ALTER TABLE link_rows RENAME COLUMN attempts TO tries")
    with pytest.raises((psycopg.Error, sqlite3.Error), match="attempts"):
        play(migrated_url)


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_what_is_frozen_is_all_that_matters(kind: str) -> None:
    texts = " ".join(statement for statement, _, _ in played(kind))
    for part in (
        "INSERT INTO link_rows",
        "INSERT INTO journal",
        "INSERT INTO sightings",
        "INSERT INTO environment",
        "DELETE FROM sightings",
        "DELETE FROM journal",
        "SET lease = lease + 1",
        "held = 0,",
        "AND deleted_at IS NULL RETURNING",
        "walked = ",
    ):
        assert part in texts, part
