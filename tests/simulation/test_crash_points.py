"""A crash after every effect and every commit of a story, one after the other; each time all comes right.

The points are not listed here: a first play counts them, then each is crashed at in turn.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import pytest

from counterfoil.sandbox.sandbox import SandboxSettings
from tests.databases import SqliteHome
from tests.harness import HOUR, MINUTE
from tests.simulation.actors import Cast
from tests.simulation.end import faults_of
from tests.simulation.pace import pace, shared
from tests.simulation.play import quiet, template, temporary
from tests.simulation.stage import Manners, Stage
from tests.simulation.virtual_time import VirtualLoop

SETTLING = 26 * HOUR


@dataclass(frozen=True, slots=True)
class Told:
    """How a story went: its points, whether one was crashed at, and what was wrong in the end."""

    points: int
    crashed: bool
    violations: tuple[str, ...]


Story = Callable[[Cast], Awaitable[None]]


async def sign_up(cast: Cast) -> None:
    await cast._sign_up(email=True, refused=False, named=None, old=False)


async def change(cast: Cast) -> None:
    await cast._change_email(0, "new")
    await cast._change_name(0)


async def leave(cast: Cast) -> None:
    await cast._leave(0)


async def sign_up_and_leave(cast: Cast) -> None:
    await sign_up(cast)
    await asyncio.sleep(0.3)
    await cast._leave(0)


async def adoption(cast: Cast) -> None:
    await cast._sign_up(email=True, refused=False, named="private", old=False)


async def refused_address(cast: Cast) -> None:
    await cast._sign_up(email=True, refused=True, named=None, old=False)


async def ensure(cast: Cast) -> None:
    """The webhook never tells: the app does."""
    await cast._sign_up(email=True, refused=False, named=None, old=True)
    await cast.app.play("newest", who=0, node=0, wait=2)


async def audit_and_apply(cast: Cast) -> None:
    """An old handler's duplicate, orphan and lost link, repaired by a node that is asked to."""
    await cast.auditor.play(deletes=1, beside=False, pause=0.0, crashes=[])


async def audit_and_apply_beside(cast: Cast) -> None:
    """The same, by workers of its own."""
    await cast.auditor.play(deletes=1, beside=True, pause=0.0, crashes=[])


STORIES: dict[str, tuple[bool, Story, int]] = {
    # Whether somebody is there already; the story; the least number of points that it must have.
    "sign up": (False, sign_up, 10),
    "change": (True, change, 6),
    "leave": (True, leave, 8),
    "sign up and leave": (False, sign_up_and_leave, 12),
    "adoption": (False, adoption, 14),
    "refused address": (False, refused_address, 12),
    "ensure": (False, ensure, 12),
    "apply": (False, audit_and_apply, 40),
    "apply, by itself": (False, audit_and_apply_beside, 40),
}
MESSY = ("twice", "gone", "plain", "stale")
"""What the old handler has left before an apply."""
LONG = ("apply", "apply, by itself")
"""Of these `make test` dies at some points only."""


def tell(story: str, crash_at: int, *, away: float = 1.0) -> Told:
    """Play a story; the process dies at point ``crash_at`` (0: it does not), and comes back."""
    random.seed(0)
    with quiet(), temporary() as folder, pace() as set_pace, shared(story == "apply, by itself"):
        home = SqliteHome(folder, template())

        async def play() -> Told:
            stage = Stage(home, folder, SandboxSettings(seed=1, latency=(0.01, 0.1)), Manners())
            cast = Cast(stage, 1)
            there, act, _ = STORIES[story]
            applies = story.startswith("apply")
            try:
                if applies:
                    cast.handler.settle_in(MESSY)
                    await asyncio.sleep(2 * HOUR)
                stage.chore(stage.courier())
                await stage.launch(0)
                await asyncio.sleep(MINUTE)
                if there:
                    await sign_up(cast)
                    await asyncio.sleep(MINUTE)
                before = stage.points
                stage.crash_at, stage.back = before + crash_at if crash_at else 0, away
                await act(cast)
                await asyncio.sleep(20.0)
                points = stage.points - before
                stage.crash_at = 0
                await asyncio.sleep(10 * MINUTE)
                if applies:
                    assert not cast.auditor.busy
                    await cast.auditor.verify()
                set_pace(True)
                await asyncio.sleep(SETTLING)
                return Told(points, bool(stage.graves), (*stage.watch.violations, *faults_of(cast)))
            finally:
                await stage.close()

        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            return runner.run(play())


def check(story: str, every: int = 1) -> None:
    """Crash at each point of a story, or at every so manieth."""
    quiet_play = tell(story, 0)
    assert quiet_play.violations == ()
    assert quiet_play.points >= STORIES[story][2]
    for point in range(1, quiet_play.points + 1, every):
        told = tell(story, point)
        assert told.crashed
        assert told.violations == (), f"crashed at point {point} of {quiet_play.points} of: {story}"


@pytest.mark.timeout(300)
@pytest.mark.parametrize("story", [name for name in STORIES if name not in LONG])
def test_a_crash_at_any_point_of_a_story_is_recovered_from(story: str) -> None:
    check(story)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("story", LONG)
def test_a_crash_in_an_audit_or_its_apply_is_recovered_from(story: str) -> None:
    check(story, every=32)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("story", LONG)
def test_a_crash_at_any_point_of_an_audit_and_its_apply_is_recovered_from(story: str) -> None:
    check(story)


def test_the_stories_have_at_least_sixty_points_between_them(capsys: pytest.CaptureFixture[str]) -> None:
    points = {story: tell(story, 0).points for story in STORIES}
    with capsys.disabled():
        told = ", ".join(f"{story} {count}" for story, count in points.items())
        print(f"\n{sum(points.values())} points to crash at: {told}")
    assert sum(points.values()) >= 60
