"""One conformance suite: every test that takes one of these runs on SQLite and on PostgreSQL."""

from collections.abc import Iterator

import pytest
from sqlalchemy import Connection

from counterfoil.store.engine import connect
from tests.databases import Home


@pytest.fixture
def url(home: Home) -> str:
    """A database without anything."""
    return home.empty()


@pytest.fixture
def migrated_url(home: Home) -> str:
    """A database with our schema."""
    return home.migrated()


@pytest.fixture
def connection(migrated_url: str) -> Iterator[Connection]:
    """A connection inside a transaction, with the schema made."""
    engine = connect(migrated_url)
    with engine.begin() as made:
        yield made
    engine.dispose()
