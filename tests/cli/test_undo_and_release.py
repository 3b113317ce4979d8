"""``counterfoil undo`` and ``counterfoil release``, beside a running serve and without one."""

import asyncio
import time
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from sqlalchemy import Connection, text

from counterfoil.core.link import Deletion, Doubt, Link, ParkReason, Ruling
from counterfoil.engine.deletions import HELD_AT, are_held
from counterfoil.store import environment, links
from counterfoil.store.database import InlineDatabase
from tests.acceptance.standing import Standing, standing_in
from tests.cli.support import beside, command, pinned, until
from tests.store.support import put

DELETED = "SELECT dirty_at IS NULL AND deleted_at IS NOT NULL FROM link_rows WHERE subject_id = ?"
HERE: dict[str, Any] = {
    "customer_id": "cus_1",
    "revision": 1,
    "deletion": Deletion.SIGNED,
    "deleted_at": 1_790_000_000_000,
}


def prepare(folder: Path, *rows: Link, held: bool = False) -> None:
    """A database with these links, and no serve."""

    async def make() -> None:
        await pinned(folder)
        database = InlineDatabase(f"sqlite:///{folder / 'counterfoil.db'}")

        def job(connection: Connection) -> None:
            for row in rows:
                put(connection, row)
            if held:
                environment.put(connection, {HELD_AT: "1790000000000"})

        await database.write(job)
        await database.close()

    asyncio.run(make())


def found(folder: Path, subject_id: str) -> Link:
    async def read() -> Link | None:
        database = InlineDatabase(f"sqlite:///{folder / 'counterfoil.db'}")
        link = await database.read(lambda connection: links.get(connection, subject_id))
        await database.close()
        return link

    link = asyncio.run(read())
    assert link is not None
    return link


def test_without_a_serve_the_link_is_marked_for_the_next(tmp_path: Path) -> None:
    prepare(
        tmp_path, Link(subject_id="user_a", **HERE), Link(subject_id="user_b", customer_id="cus_2", revision=1)
    )
    undone = command(tmp_path, "undo", "user_a")
    assert (undone.code, undone.out) == (0, "the customer stays\n")
    link = found(tmp_path, "user_a")
    assert link.ruling is Ruling.UNDO
    assert link.due_at is not None
    assert "called off by a person" in command(tmp_path, "show", "user_a").out
    assert command(tmp_path, "release", "user_a", "--json").json == {"released": 1}
    assert found(tmp_path, "user_a").ruling is Ruling.RELEASE
    for what in (("undo", "user_b"), ("release", "user_b"), ("undo", "user_c")):
        told = command(tmp_path, *what)
        assert (told.code, told.out) == (1, "")
        assert "nothing to" in told.err


def test_held_deletions_are_shown_and_released(tmp_path: Path) -> None:
    prepare(tmp_path, Link(subject_id="user_a", due_at=1, dirty_at=1, **HERE), held=True)
    status = command(tmp_path, "status")
    assert "counterfoil release deletions" in status.out
    assert "1 wait" in status.out
    assert command(tmp_path, "status", "--json").json["removals"]["links"] == 1
    done = command(tmp_path, "release", "deletions")
    assert (done.code, done.out) == (0, "1 user is read from Clerk, and who is gone is removed\n")
    assert found(tmp_path, "user_a").must_confirm is Doubt.READ
    again = command(tmp_path, "release", "deletions")
    assert again.code == 1
    assert "no removal is held" in again.err
    assert "counterfoil release deletions" not in command(tmp_path, "status").out


def test_what_waits_says_until_when(tmp_path: Path) -> None:
    later = int(time.time() * 1000) + 86_400_000
    prepare(tmp_path, Link(subject_id="user_a", due_at=later, **HERE))
    assert "the removal waits until" in command(tmp_path, "show", "user_a").out
    assert "1 wait, the next look in 2" in command(tmp_path, "status").out


@pytest.mark.parametrize("arguments", [("undo", "nobody"), ("release", "everything")])
def test_what_is_no_user_is_refused(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    prepare(tmp_path)
    told = command(tmp_path, *arguments)
    assert told.code == 1
    assert "not a Clerk user id" in told.err


def test_the_count_of_recent_deletions_uses_its_index(tmp_path: Path) -> None:
    prepare(tmp_path)

    async def explain() -> str:
        database = InlineDatabase(f"sqlite:///{tmp_path / 'counterfoil.db'}")

        def job(connection: Connection) -> str:
            assert not are_held(connection, 10, 1_790_000_000_000)
            counted = "SELECT 1 FROM link_rows WHERE deleted_at > 5 AND customer_id IS NOT NULL LIMIT 3"
            plan = f"EXPLAIN QUERY PLAN {counted}"
            return str(connection.execute(text(plan)).all())

        told = await database.read(job)
        await database.close()
        return told

    assert "ix_links_deleted" in asyncio.run(explain())


async def _deleted(standing: Standing, name: str) -> str:
    user = standing.sign_up(name)
    await standing.settled(user)
    stripe = standing.sandbox.stripe
    (customer,) = (each for each in stripe.live_customers() if each.metadata.get("clerkUserId") == user)
    stripe.add_subscription(time.time(), customer.id)
    standing.sandbox.clerk.delete_user(time.time(), user)
    await standing.parked(user)
    return user


async def test_a_running_serve_is_asked(tmp_path: Path) -> None:
    async with standing_in(tmp_path, COUNTERFOIL_IF_SUBSCRIBED="hold") as standing:
        kept, gone = await _deleted(standing, "kept"), await _deleted(standing, "gone")
        assert (await beside(tmp_path, "undo", kept)).out == "the customer stays\n"
        assert (await beside(tmp_path, "release", gone)).out == "the removal goes on\n"
        await until(lambda: standing.asks(DELETED, gone))
        await until(lambda: standing.asks("SELECT parked IS NULL FROM link_rows WHERE subject_id = ?", kept))
        owners = {each.metadata.get("clerkUserId") for each in standing.sandbox.stripe.live_customers()}
        assert owners == {kept}
        none = await beside(tmp_path, "release", "deletions", "--json")
        assert (none.code, none.json) == (1, {"released": 0})
        async with aiohttp.ClientSession() as session:
            for path in ("undo", "release"):
                async with session.post(f"{standing.serve.url}/v1/{path}", data=b"{}") as answer:
                    assert answer.status == 401, "only with the token"
            async with session.get(f"{standing.serve.url}/metrics") as answer:
                told = await answer.text()
        assert "counterfoil_deletions_held 0.0" in told
        assert ParkReason.SUBSCRIBED not in told
