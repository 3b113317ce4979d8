"""Faults of the ground: nothing is answered 2xx that is not on disk, and all goes on by itself once a fault ends.

Each fault is one of the operating system's own, put under a real serve: a full file system and a read-only one (a
small tmpfs; skipped where this process may not mount), a limit on file sizes (the same to SQLite: a write is
refused), another process's lock, a damaged file, a PostgreSQL that cannot be reached.
"""

import asyncio
import json
import resource
import signal
import sqlite3
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager, suppress
from pathlib import Path

import aiohttp
import pytest

from counterfoil.sandbox.sandbox import Sandbox
from counterfoil.sandbox.svix import SvixSettings
from tests.acceptance.node import free_port
from tests.acceptance.standing import LINK, Standing, standing_in
from tests.cli.support import keys, pinned, process, until
from tests.databases import looking
from tests.hostile.support import signed
from tests.postgresql import server

SWIFT = SvixSettings(time_scale=0.02)
"""Tried again after 0.1 s, 6 s, 36 s and 144 s."""
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MB of its own."""
    place = tmp_path / "disk"
    place.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", place], capture_output=True, check=False
    )
    if made.returncode:
        pytest.skip(f"may not mount: {made.stderr.decode().strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", place], check=True)


def body_of(user: str) -> bytes:
    now = int(time.time() * 1000)
    data = {
        "id": user,
        "first_name": "x" * 250,
        "created_at": now,
        "updated_at": now,
        "primary_email_address_id": "idn_1",
        "email_addresses": [{"id": "idn_1", "email_address": f"{user}@example.com"}],
    }
    event = {
        "type": "user.created",
        "timestamp": now,
        "instance_id": "ins_2sandbox0000000000000000000",
        "data": data,
    }
    return json.dumps(event).encode()


async def deliver(standing: Standing, users: list[str]) -> dict[str, int]:
    """Post one genuine event for each user, all at once; answers the statuses."""
    secret, url = standing.sandbox.settings.svix.secret, f"{standing.serve.url}/webhooks/clerk"

    async def post(session: aiohttp.ClientSession, user: str) -> int:
        body = body_of(user)
        headers = {name.decode(): value.decode() for name, value in signed(secret, body, int(time.time()))}
        async with session.post(url, data=body, headers=headers) as answer:
            return answer.status

    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=15)) as session:
        statuses = await asyncio.gather(*(post(session, user) for user in users))
    return dict(zip(users, statuses, strict=True))


async def status_of(standing: Standing, path: str) -> int:
    async with aiohttp.ClientSession() as session, session.get(standing.serve.url + path) as answer:
        return answer.status


@contextmanager
def full(folder: Path, _: Standing) -> Iterator[None]:
    """Not a byte is left."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(b"\0" * 4096):
            pass
    yield
    ballast.unlink()


@contextmanager
def limited(folder: Path, standing: Standing) -> Iterator[None]:
    """No file of serve's may grow."""
    assert standing.serve.process is not None
    pid = standing.serve.process.pid
    size = (folder / "counterfoil.db-wal").stat().st_size
    before = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, before[1]))
    yield
    resource.prlimit(pid, resource.RLIMIT_FSIZE, before)


@contextmanager
def locked(folder: Path, _: Standing) -> Iterator[None]:
    """Another process writes, and does not end."""
    with closing(sqlite3.connect(folder / "counterfoil.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


FAULTS = {"full": full, "limited": limited, "locked": locked}


@pytest.mark.parametrize("name", sorted(FAULTS))
async def test_nothing_is_taken_that_is_not_on_disk_and_work_goes_on_when_the_fault_ends(
    name: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    folder = request.getfixturevalue("small_disk") if name == "full" else tmp_path
    async with standing_in(folder, svix=SWIFT) as standing:
        await standing.settled(standing.sign_up("before"))
        answers: dict[str, int] = {}
        with FAULTS[name](folder, standing):
            waiting = standing.sign_up("meanwhile")
            for round_ in range(3):
                answers |= await deliver(standing, [f"user_{name}{round_}{number}" for number in range(200)])
            assert set(answers.values()) <= {204, 503}
            assert 503 in answers.values(), "the fault was none"
            assert await status_of(standing, "/readyz") == 503
            assert await status_of(standing, "/metrics") in {200, 503}
            assert await status_of(standing, "/healthz") == 200
        # Nobody is told: the next deliveries find out.
        with closing(sqlite3.connect(folder / "counterfoil.db")) as connection:
            known = {row[0] for row in connection.execute("SELECT subject_id FROM link_rows")}
        assert {user for user, status in answers.items() if status == 204} <= known
        await until(lambda: standing.asks(LINK, waiting), 160)
        await standing.settled(standing.sign_up("after"))
        again = await deliver(standing, list(answers))
        assert set(again.values()) == {204}
        assert await status_of(standing, "/readyz") == 200
        assert standing.serve.process is not None
        assert standing.serve.process.returncode is None
        assert await standing.serve.end(signal.SIGTERM) == 0


async def test_a_disk_that_is_read_only_at_the_start_is_said_and_nothing_is_served(small_disk: Path) -> None:
    await pinned(small_disk)
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    environ = {
        "CLERK_SECRET_KEY": "sk_test_x",
        "CLERK_WEBHOOK_SIGNING_SECRET": "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3",
        "STRIPE_SECRET_KEY": "sk_test_x",
        "DATABASE_URL": f"sqlite:///{small_disk / 'counterfoil.db'}",
        "COUNTERFOIL_PORT": str(free_port()),
    }
    ended = await process(small_disk.parent, "serve", **environ)
    assert ended.code == 5, ended
    assert "Traceback" not in ended.err
    assert "read-only" in ended.err.lower().replace("readonly", "read-only"), ended.err


# --- PostgreSQL ------------------------------------------------------------------------------------------


class Door:
    """A socket in front of a PostgreSQL server's, that can be shut: whoever is inside is thrown out."""

    def __init__(self, real: Path, folder: Path) -> None:
        self._real = real
        self._path = folder / ".s.PGSQL.5432"
        self._server: asyncio.Server | None = None
        self._inside: set[asyncio.StreamWriter] = set()

    async def open(self) -> None:
        self._server = await asyncio.start_unix_server(self._enter, str(self._path))

    async def shut(self) -> None:
        assert self._server is not None
        self._server.close()
        for writer in list(self._inside):
            writer.transport.abort()
        self._path.unlink(missing_ok=True)

    async def _enter(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        theirs, ours = await asyncio.open_unix_connection(str(self._real))
        self._inside |= {writer, ours}

        async def carry(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
            with suppress(OSError):
                while part := await source.read(65_536):
                    target.write(part)
                    await target.drain()
            target.close()

        await asyncio.gather(carry(reader, ours), carry(theirs, writer))
        self._inside -= {writer, ours}


@asynccontextmanager
async def behind_a_door(folder: Path) -> AsyncIterator[tuple[Door, str, str]]:
    """A PostgreSQL of its own, its door, the URL through the door, and the one round it."""
    with server(durable=True) as made:
        url = made.migrated()
        base, _, query = url.partition("?")
        socket_folder = Path(query.removeprefix("host=").replace("%2F", "/"))
        door = Door(socket_folder / ".s.PGSQL.5432", folder)
        await door.open()
        try:
            yield door, f"{base}?host={folder}", url
        finally:
            with suppress(OSError):
                await door.shut()


async def test_a_postgresql_that_is_away_for_a_while_costs_nothing_but_the_while(tmp_path: Path) -> None:
    async with (
        behind_a_door(tmp_path) as (door, url, real),
        standing_in(tmp_path, svix=SWIFT, DATABASE_URL=url) as standing,
    ):

        async def settled(user: str) -> None:
            async def asked() -> bool:
                with looking(real) as connection:
                    query = f"SELECT customer_id FROM link_rows WHERE subject_id = '{user}' AND dirty_at IS NULL"
                    row = connection.execute(query).fetchone()
                return row is not None and row[0] is not None

            await until(asked, 60)

        await settled(standing.sign_up("before"))
        await door.shut()
        waiting = standing.sign_up("meanwhile")
        answers: dict[str, int] = {}
        for round_ in range(8):
            answers |= await deliver(standing, [f"user_away{round_}{number}" for number in range(20)])
            await asyncio.sleep(1)
        assert set(answers.values()) == {503}
        assert await status_of(standing, "/readyz") == 503
        await door.open()
        await settled(waiting)
        await settled(standing.sign_up("after"))
        assert set((await deliver(standing, list(answers))).values()) == {204}
        assert await status_of(standing, "/readyz") == 200
        assert await standing.serve.end(signal.SIGTERM) == 0


# --- a damaged file --------------------------------------------------------------------------------------


async def test_a_damaged_file_is_noticed_at_the_start_and_not_worked_on(tmp_path: Path) -> None:
    await pinned(tmp_path)
    file = tmp_path / "counterfoil.db"
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        rows = [(number, "x" * 50) for number in range(2_000)]
        connection.executemany("INSERT INTO journal (at, kind, what, detail) VALUES (?, 'note', ?, '{}')", rows)
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    content = bytearray(file.read_bytes())
    middle = len(content) // 2 // 4096 * 4096
    content[middle : middle + 4096 * 6] = b"\xa5" * (4096 * 6)
    file.write_bytes(content)
    environ = keys(Sandbox(), COUNTERFOIL_PORT=str(free_port()))
    ended = await process(tmp_path, "serve", **environ)
    assert ended.code == 5, ended
    assert "damaged" in ended.err or "malformed" in ended.err
    assert "Traceback" not in ended.err
    assert file.read_bytes() == bytes(content), "it is left as it is, for whoever repairs it"
