"""Databases of both kinds for tests: empty, migrated, copied, and gone afterwards."""

import itertools
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Protocol

import psycopg

from counterfoil.store.engine import connect, parse
from counterfoil.store.upgrade import upgrade
from tests.postgresql import Server

KINDS = ("sqlite", "postgresql")


class Home(Protocol):
    """Where a test's databases are."""

    @property
    def kind(self) -> str: ...

    def empty(self) -> str:
        """The URL of a database without anything."""

    def migrated(self) -> str:
        """The URL of a database with our schema and no rows."""

    def copy(self, url: str) -> str:
        """The URL of a copy of a database that no transaction is open on."""


class SqliteHome:
    """Files in a folder."""

    kind = "sqlite"

    def __init__(self, folder: Path, template: Path) -> None:
        self._files = (folder / f"counterfoil{number or ''}.db" for number in itertools.count())
        self._template = template

    def empty(self) -> str:
        return f"sqlite:///{next(self._files)}"

    def migrated(self) -> str:
        return self.copy(f"sqlite:///{self._template}")

    def copy(self, url: str) -> str:
        made = self.empty()
        with closing(sqlite3.connect(_path(url))) as source, closing(sqlite3.connect(_path(made))) as target:
            source.backup(target)
        return made


class PostgresqlHome:
    """Databases on a server, dropped by `close`."""

    kind = "postgresql"

    def __init__(self, server: Server) -> None:
        self._server = server
        self._made: list[str] = []

    def empty(self) -> str:
        return self._kept(self._server.empty())

    def migrated(self) -> str:
        return self._kept(self._server.migrated())

    def copy(self, url: str) -> str:
        return self._kept(self._server.copy(url))

    def close(self) -> None:
        for url in self._made:
            self._server.drop(url)

    def _kept(self, url: str) -> str:
        self._made.append(url)
        return url


@contextmanager
def looking(url: str) -> Iterator["psycopg.Connection[tuple[object, ...]] | sqlite3.Connection"]:
    """Somebody else's connection, that shares nothing with the product's; both kinds have ``execute``."""
    if parse(url).get_backend_name() == "sqlite":
        with closing(sqlite3.connect(f"file:{_path(url)}?mode=ro", uri=True)) as connection:
            yield connection
    else:
        with psycopg.connect(url, autocommit=True, options="-c search_path=counterfoil") as other:
            yield other


def migrate(url: str) -> None:
    """Give a database our schema."""
    engine = connect(url)
    with engine.begin() as connection:
        upgrade(connection)
    engine.dispose()


def _path(url: str) -> str:
    path = parse(url).database
    assert path is not None
    return path
