"""How each kind of database is connected to, and how one transaction is run on it.

No state is kept on a connection of PostgreSQL, so that PgBouncer may hand another one to each transaction:
what a transaction needs is set at its begin, for it alone, in the round trip that begins it.
"""

import random
import re
import sqlite3
import time
from collections.abc import Callable
from typing import Any, TypeVar

from sqlalchemy import URL, Connection, Engine, RootTransaction, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.pool import StaticPool

from counterfoil.errors import ConfigurationError, DatabaseUnavailable
from counterfoil.store.driver import ask_postgresql, driver, is_here

T = TypeVar("T")
Job = Callable[[Connection], T]

SCHEMA = "counterfoil"
"""PostgreSQL: the schema that holds everything of ours, unless a setting names another."""
_SCHEMA_NAME = re.compile(r"[a-z_][a-z0-9_]{0,62}")
_SERVERS = re.compile(r"(?P<before>\w+://(?:[^/?#]*@)?)(?P<servers>[^/?#@]*,[^/?#@]*)(?P<after>(?:[/?#].*)?)")
_SERVER = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^\[\]:]+)(?::(?P<port>[0-9]{1,5}))?")
_PORT = "5432"
WARNED = "warned"
"""Of a connection: the server has warned."""
TRIES = 8
AGAIN = {"40001", "40P01"}
"""Serialization failure and deadlock: the server has rolled back, and asks for another try."""
_DRIVERS = {"sqlite": "sqlite+pysqlite", "postgresql": "postgresql+psycopg", "postgres": "postgresql+psycopg"}
# A server that has gone without a word is noticed within 20 s, for a call's lease waits for nobody.
_CONNECTION = {
    "application_name": "counterfoil",
    "client_encoding": "UTF8",
    "connect_timeout": "5",
    "keepalives_idle": "10",
    "keepalives_interval": "3",
    "keepalives_count": "3",
    "tcp_user_timeout": "20000",
}
# An answer of 2xx means "on disk" (promise 1), whatever the role's or the database's default is.
_BEGIN_WRITING = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE"
_TO_WRITE = (
    "SELECT set_config('search_path', '\"{schema}\"', true), set_config('lock_timeout', '10s', true),"
    " set_config('statement_timeout', '60s', true), set_config('synchronous_commit',"
    " CASE current_setting('synchronous_commit') WHEN 'off' THEN 'on'"
    " ELSE current_setting('synchronous_commit') END, true)"
)
_BEGIN_READING = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
_TO_READ = "SELECT set_config('search_path', '\"{schema}\"', true), set_config('statement_timeout', '60s', true)"


def parse(url: str) -> URL:
    """``DATABASE_URL``, with the driver that is used for it.

    Raises:
        ConfigurationError: it is not one of SQLite's or PostgreSQL's. Nothing of it is repeated: it may
            hold a password.
    """
    several = _SERVERS.fullmatch(url)
    try:
        parsed = make_url(several["before"] + several["after"] if several else url)
    except (ArgumentError, ValueError):
        raise ConfigurationError("DATABASE_URL is not a database URL; try sqlite:///counterfoil.db") from None
    name = parsed.get_backend_name()
    if name not in _DRIVERS:
        raise ConfigurationError(f"DATABASE_URL: {name} is not supported; use sqlite:/// or postgresql://")
    if several:
        parsed = parsed.update_query_dict(_servers(several["servers"]))
    return parsed.set(drivername=_DRIVERS[name])


def _servers(text: str) -> dict[str, str]:
    """Several servers, as libpq has them before the database's name; SQLAlchemy takes them after its ``?``."""
    found = [_SERVER.fullmatch(each) for each in text.split(",")]
    servers = [each for each in found if each is not None]
    if len(servers) < len(found):
        raise ConfigurationError("DATABASE_URL: name servers as in postgresql://db1:5432,db2:5432/app")
    hosts = {"host": ",".join(each["host"].strip("[]") for each in servers)}
    if not any(each["port"] for each in servers):
        return hosts
    return {**hosts, "port": ",".join(each["port"] or _PORT for each in servers)}


def connect(url: str, schema: str = SCHEMA, connections: int = 1, patience: float = 5.0) -> Engine:
    """An engine for ``DATABASE_URL``; nothing is connected yet.

    Args:
        url: the database.
        schema: PostgreSQL: where our tables are.
        connections: PostgreSQL: how many transactions it runs at once at most.
        patience: SQLite: seconds for which the driver waits for a lock that somebody else holds.

    Raises:
        ConfigurationError: the URL or the schema's name is none, or the driver is not installed.
    """
    parsed = parse(url)
    if parsed.get_backend_name() == "sqlite":
        engine = create_engine(
            parsed, poolclass=StaticPool, connect_args={"check_same_thread": False, "timeout": patience}
        )
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    if _SCHEMA_NAME.fullmatch(schema) is None:
        raise ConfigurationError("COUNTERFOIL_SCHEMA: lower-case letters, digits and _, as in counterfoil")
    try:
        engine = create_engine(
            parsed,
            pool_size=connections,
            max_overflow=0,
            pool_reset_on_return=None,  # a transaction always ends before its connection goes back
            use_native_hstore=False,
            execution_options={"schema": schema},
            # Autocommit: transactions are begun by ourselves, with their settings. Prepared statements would
            # belong to one server connection.
            connect_args={
                "autocommit": True,
                "prepare_threshold": None,
                **{name: value for name, value in _CONNECTION.items() if name not in parsed.query},
            },
        )
        engine.dialect.create_connect_args(parsed)
    except ArgumentError:
        raise ConfigurationError("DATABASE_URL: with several hosts, name a port for each, or none") from None
    except ImportError:
        raise ConfigurationError(
            "DATABASE_URL: PostgreSQL needs its driver: pip install 'counterfoil[postgresql]'"
        ) from None
    event.listen(engine, "connect", _hear_warnings)
    event.listen(engine, "begin", _begin_postgresql)
    return engine


def _prepare_sqlite(connection: Any, _record: object) -> None:
    # We begin transactions ourselves: the driver's own begin comes too late for BEGIN IMMEDIATE.
    connection.isolation_level = None
    # secure_delete: what is erased of a deleted user is overwritten, not only given free.
    # temp_store: what a statement of many rows keeps in case it fails went to a file, made for it and removed.
    for pragma in (
        "journal_mode=WAL",
        "synchronous=FULL",
        "foreign_keys=ON",
        "journal_size_limit=67108864",
        "secure_delete=ON",
        "temp_store=MEMORY",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    # A writer that begins by reading and upgrades later can fail half-way; this one waits at the start.
    driver(connection).execute("BEGIN" if _reads_only(connection) else "BEGIN IMMEDIATE")


def _begin_postgresql(connection: Connection) -> None:
    schema = connection.get_execution_options()["schema"]
    both = (_BEGIN_READING, _TO_READ.format(schema=schema)) if _reads_only(connection) else begin_writing(schema)
    ask_postgresql(connection, ";".join(both))


def begin_writing(schema: str) -> tuple[str, str]:
    """PostgreSQL: the statements that begin a transaction that may write."""
    return _BEGIN_WRITING, _TO_WRITE.format(schema=schema)


def _hear_warnings(driver: Any, record: Any) -> None:
    def hear(told: Any) -> None:
        if (told.sqlstate or "").startswith("01"):
            record.info[WARNED] = True

    driver.add_notice_handler(hear)


def _reads_only(connection: Connection) -> bool:
    return bool(connection.get_execution_options().get("read_only", False))


def transact(engine: Engine, job: Job[T]) -> T:
    """Run ``job`` in one transaction, and return what it returns once that is committed.

    The job is run again where it is sure that nothing was kept: after a deadlock, and once after a
    connection that was lost, or refused to begin, before the commit was sent.

    Raises:
        DatabaseUnavailable: nothing was kept; or, where the connection was lost while the commit was under
            way, nobody knows.
    """
    tries, lost = 0, False
    while True:
        committing = False
        try:
            with engine.connect() as connection, _begun(connection) as transaction:
                result = job(connection)
                _check_whole(connection)
                committing = True
                _commit(connection, transaction)
                return result
        except sqlite3.Error as error:
            raise unavailable(error) from error
        except DBAPIError as error:
            tries += 1
            asked = getattr(error.orig, "sqlstate", None) in AGAIN
            first_loss = error.connection_invalidated and not committing and not lost
            lost = lost or first_loss
            if not (asked or first_loss) or tries >= TRIES:
                raise unavailable(error) from error
            if asked:
                time.sleep(until_again(tries))


def until_again(tries: int) -> float:
    """Seconds to wait after so many tries that the server has rolled back."""
    return random.uniform(0.001, 0.01) * tries


def _begun(connection: Connection) -> RootTransaction:
    try:
        return connection.begin()
    except DBAPIError as error:
        # A primary that has become a standby takes connections, and refuses to write: another one may not.
        if connection.dialect.name == "postgresql" and not connection.invalidated:
            connection.invalidate()
            error.connection_invalidated = True
        raise


def _commit(connection: Connection, transaction: RootTransaction) -> None:
    """Commit; a PostgreSQL that warns meanwhile has not done what a commit promises.

    Whose wait for a synchronous standby is cancelled (``pg_cancel_backend``) is told that it has committed,
    with a warning that the standby may not have it: after a failover it would be gone.
    """
    connection.info.pop(WARNED, None)
    transaction.commit()
    if connection.info.pop(WARNED, False):
        raise of_a_standby()


def of_a_standby() -> DatabaseUnavailable:
    """See `_commit`."""
    return DatabaseUnavailable("the database committed with a warning: a standby may not have it")


def _check_whole(connection: Connection) -> None:
    """A transaction of PostgreSQL in which a statement failed is rolled back by COMMIT without an error."""
    if not is_here(connection) and driver(connection).info.transaction_status.name != "INTRANS":
        raise DatabaseUnavailable("a statement failed, and its transaction with it")


def unavailable(error: DBAPIError | sqlite3.Error) -> DatabaseUnavailable:
    """What the driver says, without any value."""
    # The driver's sentence only: parameters, and the details that PostgreSQL adds, may hold personal data.
    original = error.orig if isinstance(error, DBAPIError) else error
    said = getattr(getattr(original, "diag", None), "message_primary", None) or str(original)
    return cannot_be_used(said)


def cannot_be_used(said: str) -> DatabaseUnavailable:
    """``said``: by the driver or the server, without any value."""
    return DatabaseUnavailable(f"the database cannot be used: {(said.splitlines() or [''])[0][:200]}")
