"""Three PostgreSQL servers that replace their primary by themselves: Debian's, under Debian's Patroni and etcd."""

import asyncio
import json
import os
import shutil
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.acceptance.node import free_port
from tests.kept import Kept
from tests.postgresql import PROGRAMS, other_user

Seen = list[dict[str, Any]]
"""What Patroni tells of its members."""
REQUIRED = "TEST_PATRONI"
"""Set to "required" where it must be there: a skip is a failure then."""
_DEBIAN = Path("/usr/lib/postgresql")
_HOST = "127.0.0.1"
_TRUSTED = [f"host {database} all {_HOST}/32 trust" for database in ("all", "replication")]
_ROLES = ["leader", "replica", "sync_standby"]
_SHARED = {
    # The shortest that Patroni takes: who has not been heard of for 20 s is replaced.
    "ttl": 20,
    "loop_wait": 1,
    "retry_timeout": 3,
    # A server that has crashed while its Patroni lives is replaced at once, not started again.
    "primary_start_timeout": 0,
    "synchronous_mode": True,
    "synchronous_mode_strict": True,
    "postgresql": {
        "use_pg_rewind": True,
        "parameters": {"max_connections": 100, "shared_buffers": "32MB", "timezone": "UTC"},
    },
}


def find() -> tuple[str, str, Path]:
    """Patroni, etcd, and the folder of PostgreSQL's programs; skips the test where one is missing."""
    patroni, etcd = shutil.which("patroni"), shutil.which("etcd")
    folders = sorted(_DEBIAN.glob("*/bin"))
    named = os.environ.get(PROGRAMS)
    programs = Path(named) if named else folders[-1] if folders else None
    if patroni and etcd and programs:
        return patroni, etcd, programs
    if os.environ.get(REQUIRED) == "required":
        raise AssertionError("Patroni, etcd or Debian's PostgreSQL is not installed")
    pytest.skip("Patroni, etcd or Debian's PostgreSQL is not installed")


class Member:
    """One server and its Patroni, as a machine of their own."""

    def __init__(self, name: str, folder: Path, etcd: int, found: tuple[str, str, Path]) -> None:
        self.name = name
        self.port, self.api = free_port(), free_port()
        self._patroni, _, programs = found
        self._folder = folder / name
        self._folder.mkdir()
        self._user = other_user(self._folder)
        self._data = self._folder / "data"
        settings = {
            "scope": "counterfoil",
            "name": name,
            "restapi": {"listen": f"{_HOST}:{self.api}", "connect_address": f"{_HOST}:{self.api}"},
            "etcd3": {"host": f"{_HOST}:{etcd}"},
            "bootstrap": {"dcs": _SHARED, "initdb": [{"encoding": "UTF8"}, {"locale": "C"}, "data-checksums"]},
            "postgresql": {
                "listen": f"{_HOST}:{self.port}",
                "connect_address": f"{_HOST}:{self.port}",
                "data_dir": str(self._data),
                "bin_dir": str(programs),
                "pgpass": str(self._folder / "pgpass"),
                "pg_hba": _TRUSTED,
                "parameters": {"unix_socket_directories": str(self._folder)},
                "authentication": {"superuser": {"username": "postgres"}, "replication": {"username": "standby"}},
                "remove_data_directory_on_diverged_timelines": True,
            },
        }
        (self._folder / "patroni.yml").write_text(json.dumps(settings))  # what is JSON is YAML

    def start(self) -> None:
        """Start its Patroni, which starts the server."""
        command = [self._patroni, str(self._folder / "patroni.yml")]
        self._kept = Kept(command, self._folder, self._user, signal.SIGTERM)

    def kill(self, *, whole: bool) -> None:
        """Kill the server; ``whole``: and its Patroni first, so that nobody tells of it."""
        server = int((self._data / "postmaster.pid").read_text().split()[0])
        if whole:
            self._kept.kill()
        os.kill(server, signal.SIGKILL)

    def stop(self) -> None:
        """End both in good order."""
        self._kept.stop()

    def said(self) -> str:
        return f"{self.name}: {self._kept.said()}"


class Cluster:
    """Three members, and what they agree by."""

    def __init__(self, members: list[Member], session: aiohttp.ClientSession) -> None:
        self.members = members
        self._session = session

    def url(self, database: str) -> str:
        """What a node is given: all servers, and which of them is wanted."""
        servers = ",".join(f"{_HOST}:{member.port}" for member in self.members)
        return f"postgresql://postgres@{servers}/{database}?target_session_attrs=read-write"

    async def whole(self, patience: float = 90.0) -> Member:
        """Wait until there is a primary, a synchronous standby and another one; returns the first."""

        def all_are_well(seen: Seen) -> bool:
            well = all(each["state"] in {"running", "streaming"} for each in seen)
            history = {each.get("timeline") for each in seen}
            return well and len(history) == 1 and sorted(each["role"] for each in seen) == _ROLES

        return await self._until(all_are_well, patience)

    async def replaced(self, gone: Member, patience: float = 90.0) -> Member:
        """Wait until another than ``gone`` is the primary; returns it."""
        return await self._until(
            lambda seen: any(each["role"] == "leader" and each["name"] != gone.name for each in seen), patience
        )

    async def _until(self, wanted: Callable[[Seen], bool], patience: float) -> Member:
        end = time.monotonic() + patience
        while not wanted(seen := await self._seen()):
            if time.monotonic() > end:
                raise AssertionError("\n".join([str(seen), *(member.said() for member in self.members)]))
            await asyncio.sleep(0.2)
        leader = next(each["name"] for each in seen if each["role"] == "leader")
        return next(member for member in self.members if member.name == leader)

    async def _seen(self) -> Seen:
        for member in self.members:
            try:
                async with self._session.get(f"http://{_HOST}:{member.api}/cluster") as answer:
                    found: Seen = (await answer.json())["members"]
                    return found
            except (aiohttp.ClientError, TimeoutError):
                continue
        return []


def _etcd(program: str, folder: Path, user: int | None, port: int) -> Kept:
    ours, peers = f"http://{_HOST}:{port}", f"http://{_HOST}:{free_port()}"
    options = {
        "data-dir": str(folder / "etcd"),
        "listen-client-urls": ours,
        "advertise-client-urls": ours,
        "listen-peer-urls": peers,
        "initial-advertise-peer-urls": peers,
        "initial-cluster": f"default={peers}",
        "logger": "zap",
        "log-level": "warn",
    }
    return Kept([program, *(f"--{name}={value}" for name, value in options.items())], folder, user, signal.SIGTERM)


@asynccontextmanager
async def cluster() -> AsyncIterator[Cluster]:
    """Three servers for as long as the block lasts."""
    found, port = find(), free_port()
    folder = Path(tempfile.mkdtemp(prefix="counterfoil-patroni-"))
    running: list[Kept | Member] = []
    try:
        running.append(_etcd(found[1], folder, other_user(folder), port))
        members = [Member(name, folder, port, found) for name in ("one", "two", "three")]
        for member in members:
            member.start()
            running.append(member)
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=3.0)) as session:
            made = Cluster(members, session)
            await made.whole()
            yield made
    finally:
        for each in reversed(running):
            await asyncio.to_thread(each.stop)
        shutil.rmtree(folder)
