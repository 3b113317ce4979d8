"""Freezes the statements of the release that is about to be the previous one.

    python -m tests.store.previous.record

A node is played with on a database of each kind, and each statement is written down as the driver got it, with
its parameters and how many rows it touched. `test_previous_release` plays that on the newest schema. Record anew
when a release was made, from its tag, and never to make a test green: that test is what tells whether the last
release goes on working while the next one's migrations have run.
"""

import asyncio
import base64
import json
import random
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, event

from counterfoil.core.link import Lane, ParkReason, Ruling
from counterfoil.sandbox.faults import Fault
from counterfoil.store import figures, journal, links, quota, server, tombstones
from counterfoil.upstream.shared_quota import Ask
from tests import postgresql
from tests.databases import Home, PostgresqlHome, SqliteHome, migrate
from tests.harness import DAY, World, new_loop, world

FOLDER = Path(__file__).parent
_OF_THE_SESSION = ("BEGIN", "PRAGMA", "COMMIT", "ROLLBACK", "LOCK TABLE")
_READS = 5
"""Of one text, and of what found nothing; what changes rows is kept whole, for the next statement builds on it."""


class Tape:
    """What was asked, in its order; each statement's text is kept once."""

    def __init__(self) -> None:
        self.statements: dict[str, int] = {}
        self.calls: list[list[Any]] = []
        self._asked: Counter[int] = Counter()

    def note(self, _c: Any, cursor: Any, statement: str, parameters: Any, _x: Any, many: bool) -> None:
        """Called after each statement."""
        if statement.startswith(_OF_THE_SESSION):
            return
        number = self.statements.setdefault(statement, len(self.statements))
        changes = "UPDATE " in statement or not statement.startswith("SELECT")
        self._asked[number] += 1
        if (not changes or cursor.rowcount == 0) and self._asked[number] > _READS:
            return
        rows = cursor.rowcount if changes and not statement.startswith("WITH") else None
        for each in parameters if many else [parameters]:
            self.calls.append([number, _plain(each), None if many else rows])

    def write(self, path: Path) -> None:
        """One line for each statement, then one for each call."""
        lines = [*[json.dumps(each) for each in self.statements], *[json.dumps(each) for each in self.calls]]
        path.write_text("\n".join([str(len(self.statements)), *lines, ""]))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return {"bytes": base64.b64encode(value).decode()} if isinstance(value, bytes) else value


@contextmanager
def recording(tape: Tape) -> Iterator[None]:
    """All statements of all engines, while the block lasts."""
    event.listen(Engine, "after_cursor_execute", tape.note)
    try:
        yield
    finally:
        event.remove(Engine, "after_cursor_execute", tape.note)


async def _play(world: World) -> None:
    """A little of everything that happens to links."""
    sandbox = world.sandbox
    await world.start(COUNTERFOIL_JOURNAL_KEEP="2d")
    users = [world.sign_up(email=f"user{number}@example.com") for number in range(6)]
    sandbox.plan_fault("stripe", "customers.create", Fault(kind="stored_500"))
    await world.settle()
    sandbox.clerk.change_email(world.time(), users[0], "countess@example.com")
    sandbox.clerk.change_name(world.time(), users[1], "Augusta", "King")
    sandbox.clerk.delete_user(world.time(), users[2])
    sandbox.stripe.create_customer(world.time(), metadata={"clerkUserId": users[3]})
    await world.settle()
    await world.restart(COUNTERFOIL_CREATE="on_verified_email", COUNTERFOIL_ON_DELETION="archive")
    sandbox.clerk.delete_user(world.time(), users[4])
    await world.run(DAY)
    await world.settle()
    supervisor = world.nodes[-1].supervisor
    await supervisor.retry(users[:2])
    await supervisor.rule([users[4]], Ruling.UNDO)
    await supervisor.release_deletions()
    await world.settle()


def _the_rest(now: int) -> list[Callable[[Any], object]]:
    """What the play may not have come to."""
    return [
        lambda c: links.hasten(c, now),
        lambda c: links.reclaim(c, now),
        lambda c: links.reconsider(c, now),
        lambda c: links.disown(c, "user_nobody", now),
        lambda c: links.claim(c, now, now + 1_000, 5),
        lambda c: links.after(c, "", 5),
        figures.figures,
        figures.next_due,
        lambda c: figures.parked_ids(c, ParkReason.FOREIGN, "", 5),
        tombstones.waiting,
        lambda c: tombstones.doubt_all(c, 0, now),
        lambda c: journal.prune(c, now),
        lambda c: journal.story(c, "user_nobody"),
        server.look,
    ]


def _of_nodes(now: int) -> list[Callable[[Any], object]]:
    return [
        lambda c: quota.reserve(c, Ask("stripe", 0.1, Lane.LIVE, 2, 5), now * 1_000),
        lambda c: quota.push(c, "stripe", 1.0, now * 1_000),
    ]


async def _record(home: Home, folder: Path) -> None:
    tape = Tape()
    async with world(folder, home) as made:
        with recording(tape):
            await _play(made)
            now = made.clock.now()
            for job in [*_the_rest(now), *(_of_nodes(now) if home.kind == "postgresql" else [])]:
                await made.database.write(job)
    tape.write(FOLDER / f"{home.kind}.jsonl")
    print(home.kind, len(tape.statements), "statements,", len(tape.calls), "calls")


def main() -> None:
    """Record on both databases."""
    for kind in ("sqlite", "postgresql"):
        random.seed(0)
        with tempfile.TemporaryDirectory() as name, asyncio.Runner(loop_factory=new_loop) as runner:
            folder = Path(name)
            if kind == "sqlite":
                migrate(f"sqlite:///{folder / 'template.db'}")
                runner.run(_record(SqliteHome(folder, folder / "template.db"), folder))
                continue
            with postgresql.server() as made:
                home = PostgresqlHome(made)
                runner.run(_record(home, folder))
                home.close()


if __name__ == "__main__":
    main()
