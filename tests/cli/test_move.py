"""``counterfoil move``: from a file to PostgreSQL, and what is refused."""

import asyncio
from pathlib import Path

from counterfoil.sandbox.sandbox import Sandbox
from counterfoil.store.ownership import Ownership
from tests.cli.support import command, keys, pinned, process
from tests.databases import PostgresqlHome
from tests.postgresql import Server


def test_the_new_database_is_used_and_the_old_one_refused(tmp_path: Path, postgresql: Server) -> None:
    asyncio.run(pinned(tmp_path))
    here, home = f"sqlite:///{tmp_path / 'counterfoil.db'}", PostgresqlHome(postgresql)
    there = home.empty()
    moved = command(tmp_path, "move", "--from", here, "--to", there, "--json")
    assert moved.code == 0, moved.err
    assert moved.json == {"rows": {"link_rows": 0, "sightings": 0, "journal": 0}, "again": False}
    old = command(tmp_path, "status", DATABASE_URL=here)
    assert old.code == 5
    assert "was moved to" in old.err
    assert command(tmp_path, "status", DATABASE_URL=there).code == 0
    again = command(tmp_path, "move", "--from", here, "--to", there)
    assert again.code == 3
    assert "already" in again.err
    home.close()


async def test_serve_refuses_a_database_that_was_moved(tmp_path: Path, postgresql: Server) -> None:
    await pinned(tmp_path)
    here, home = f"sqlite:///{tmp_path / 'counterfoil.db'}", PostgresqlHome(postgresql)
    assert command(tmp_path, "move", "--from", here, "--to", home.empty()).code == 0
    served = await process(tmp_path, "serve", **keys(Sandbox(), DATABASE_URL=here, COUNTERFOIL_PORT="0"))
    assert served.code == 5
    assert "was moved to" in served.err
    home.close()


def test_a_database_that_serve_owns_is_not_moved(tmp_path: Path) -> None:
    asyncio.run(pinned(tmp_path))
    here = f"sqlite:///{tmp_path / 'counterfoil.db'}"
    with Ownership(here):
        moved = command(tmp_path, "move", "--from", here, "--to", "postgresql://localhost/nowhere")
    assert moved.code == 5
    assert "another process owns" in moved.err


def test_wrong_ends_are_refused_with_what_to_do(tmp_path: Path) -> None:
    asyncio.run(pinned(tmp_path))
    here = f"sqlite:///{tmp_path / 'counterfoil.db'}"
    for source, target, code, words in (
        ("postgresql://localhost/a", "postgresql://localhost/b", 3, "pg_dump"),
        (here, "sqlite:///other.db", 3, "--to"),
        ("sqlite:///missing.db", "postgresql://localhost/b", 5, "does not exist"),
        (here, "postgresql://nobody:secret@127.0.0.1:1/b", 5, "cannot be used"),
    ):
        told = command(tmp_path, "move", "--from", source, "--to", target)
        assert told.code == code, told
        assert words in told.err
        assert "secret" not in told.err
