"""Databases in a temporary folder."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection

from counterfoil.store.database import connect
from counterfoil.store.schema import metadata


@pytest.fixture
def url(tmp_path: Path) -> str:
    """A database that is not there yet."""
    return f"sqlite:///{tmp_path / 'counterfoil.db'}"


@pytest.fixture
def connection(url: str) -> Iterator[Connection]:
    """A connection inside a transaction, with the tables made."""
    engine = connect(url)
    with engine.begin() as made:
        metadata.create_all(made)
        yield made
    engine.dispose()
