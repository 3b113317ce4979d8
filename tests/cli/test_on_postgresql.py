"""The commands on PostgreSQL: each in a database of its own, and in the schema that a setting names."""

import asyncio
import signal
import time
from pathlib import Path

import pytest

from counterfoil.core.link import Link, ParkReason
from counterfoil.sandbox.courier import Courier
from counterfoil.sandbox.http import serve as serve_sandbox
from counterfoil.sandbox.sandbox import Sandbox
from counterfoil.store import links
from counterfoil.store.database import InlineDatabase
from counterfoil.store.upgrade import needed, upgrade
from tests.acceptance.node import Serve
from tests.cli.support import beside, command, keys, pinned, process, until
from tests.databases import PostgresqlHome, looking
from tests.postgresql import Server
from tests.store.support import NOW, put

ONLY_POSTGRESQL = True


@pytest.fixture
def url(home: PostgresqlHome) -> str:
    """A database without anything."""
    return home.empty()


async def parked(url: str, schema: str) -> None:
    """A migrated schema with one parked link."""
    database = InlineDatabase(url, schema)
    await database.write(upgrade)
    link = Link(subject_id="user_parked1", revision=1, customer_id="cus_1", parked=ParkReason.FOREIGN)
    await database.write(lambda connection: put(connection, link))
    await database.close()


def test_upgrade_makes_the_schema_and_check_finds_it(tmp_path: Path, url: str) -> None:
    for schema in ("counterfoil", "billing_2"):
        settings = {"DATABASE_URL": url, "COUNTERFOIL_SCHEMA": schema}
        missing = command(tmp_path, "db", "check", **settings)
        assert (missing.code, "counterfoil db upgrade" in missing.err) == (5, True)
        made = command(tmp_path, "db", "upgrade", **settings)
        assert (made.code, made.out) == (0, f"schema none -> {needed()}\n")
        found = command(tmp_path, "db", "check", **settings)
        assert (found.code, found.out) == (0, f"schema {needed()} (this release needs {needed()})\n")
    assert list(tmp_path.iterdir()) == []


async def test_status_show_and_retry_work_in_the_schema_that_is_named(tmp_path: Path, url: str) -> None:
    await parked(url, "billing_2")
    settings = {"DATABASE_URL": url, "COUNTERFOIL_SCHEMA": "billing_2"}
    status = await beside(tmp_path, "status", **settings)
    assert status.code == 0, status
    assert "1 foreign" in status.out
    assert "not running" not in status.out
    told = await beside(tmp_path, "status", "--json", **settings)
    assert (told.json["links"], told.json["serving"]) == (1, None)
    shown = await beside(tmp_path, "show", "user_parked1", **settings)
    assert "cus_1" in shown.out
    retried = await beside(tmp_path, "retry", "--all", "--json", **settings)
    assert retried.json == {"retried": 1}
    database = InlineDatabase(url, "billing_2")
    link = await database.read(lambda connection: links.get(connection, "user_parked1"))
    await database.close()
    assert link is not None
    assert link.due_at is not None
    assert link.due_at > NOW
    missing = await beside(tmp_path, "status", DATABASE_URL=url)
    assert (missing.code, "schema is missing" in missing.err) == (5, True)


def test_a_schemas_name_that_is_none_is_a_matter_of_settings(tmp_path: Path, url: str) -> None:
    found = command(tmp_path, "status", DATABASE_URL=url, COUNTERFOIL_SCHEMA='x"; DROP')
    assert found.code == 3
    assert "COUNTERFOIL_SCHEMA" in found.err


def test_a_server_that_is_away_is_told_without_the_password(tmp_path: Path) -> None:
    for arguments in (("status",), ("db", "check"), ("db", "upgrade"), ("retry", "--all")):
        found = command(tmp_path, *arguments, DATABASE_URL="postgres://app:hunter2@127.0.0.1:9/nowhere")
        assert found.code == 5, found
        assert "127.0.0.1" in found.err
        assert "hunter2" not in found.out + found.err


async def test_check_says_how_the_server_is(
    tmp_path: Path, sandbox: Sandbox, postgresql: Server, url: str
) -> None:
    async def database_line(url: str) -> tuple[int, str, str]:
        async with serve_sandbox(sandbox) as base:
            found = await beside(tmp_path, "check", "--json", **keys(sandbox, base, DATABASE_URL=url))
        assert "hunter2" not in found.out + found.err
        (line,) = [each for each in found.json if each["name"] == "database"]
        return found.code, line["mark"], line["text"]

    code, mark, told = await database_line(url)
    assert (code, mark) == (0, "warning")
    await pinned(tmp_path, url)
    code, mark, told = await database_line(url)
    assert code == 0
    assert "PostgreSQL " in told
    assert "can be written, synchronous_commit on" in told
    fsync = str(postgresql.execute("SHOW fsync")[0][0])
    assert (mark, "fsync off" in told) == (("ok", False) if fsync == "on" else ("warning", True))
    code, mark, told = await database_line("postgresql://app:hunter2@127.0.0.1:9/nowhere")
    assert (code, mark) == (1, "failed")
    assert "127.0.0.1" in told


async def test_serve_settles_a_sign_up_and_ends_with_zero(tmp_path: Path, sandbox: Sandbox, url: str) -> None:
    async with serve_sandbox(sandbox) as base:
        serve = Serve(tmp_path, sandbox.settings, base, DATABASE_URL=url, COUNTERFOIL_SCHEMA="billing_2")
        await serve.start()
        await serve.ready()
        async with Courier(sandbox.svix, f"{serve.url}/webhooks/clerk"):
            user = sandbox.clerk.create_user(time.time(), email="ada@example.com")
            await until(lambda: asyncio.to_thread(_settled, url, user))
        assert await serve.end(signal.SIGTERM) == 0
    verdict = sandbox.verdict(time.time())
    assert verdict.clean, verdict.as_json()


def _settled(url: str, user: str) -> bool:
    with looking(url) as connection:
        rows = connection.execute(
            "SELECT subject_id FROM billing_2.links WHERE settled AND customer_id IS NOT NULL"
        )
        return (user,) in [tuple(row) for row in rows]


async def test_the_demo_leaves_nothing_of_its_own_and_touches_nothing_else(
    tmp_path: Path, postgresql: Server, url: str
) -> None:
    await parked(url, "counterfoil")
    found = await process(tmp_path, "demo", "--users", "20", "--exit", "--json", "--database", url)
    assert found.code == 0, found
    with looking(url) as connection:
        schemas = {row[0] for row in connection.execute("SELECT nspname FROM pg_namespace")}
        rows = connection.execute("SELECT subject_id, parked FROM links").fetchall()
    assert {name for name in schemas if not str(name).startswith(("pg_", "information_"))} == {
        "counterfoil",
        "public",
    }
    assert rows == [("user_parked1", "foreign")]


async def test_the_demo_takes_no_file(tmp_path: Path) -> None:
    found = await process(tmp_path, "demo", "--exit", "--database", f"sqlite:///{tmp_path / 'x.db'}")
    assert found.code == 3
    assert list(tmp_path.iterdir()) == []
