"""One script, played from beginning to end; what came of it."""

import asyncio
import logging
import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import structlog
from sqlalchemy import text

from counterfoil.sandbox.messages import Upstream
from counterfoil.sandbox.svix import SvixSettings
from counterfoil.store import figures
from counterfoil.store.engine import connect
from tests.databases import Home, SqliteHome, migrate
from tests.harness import HOUR, MINUTE
from tests.simulation import watch
from tests.simulation.actors import Cast
from tests.simulation.end import faults_of
from tests.simulation.pace import pace, shared
from tests.simulation.script import (
    Event,
    Script,
    is_burst,
    last_plan,
    leavings,
    manners,
    sandbox_settings,
    several,
)
from tests.simulation.stage import Stage
from tests.simulation.virtual_time import VirtualLoop

SETTLING = 26 * HOUR
"""The last of the later looks, and a whole walk."""
_LONGEST = 60 * HOUR
_QUIET = 15 * MINUTE
"""A gap in which polls may be seldom."""


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a play."""

    script: Script
    violations: tuple[str, ...]
    digest: str
    marks: Counter[str]
    lines: tuple[str, ...]
    calls: int
    points: int
    hours: float


def play(script: Script, home: Home | None = None) -> Result:
    """Play a script in a world of its own."""
    random.seed(script.seed)  # jitter: the same play each time
    with quiet(), temporary() as folder:
        made = home or SqliteHome(folder, template())
        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            return runner.run(_play(script, made, folder))


async def _play(script: Script, home: Home, folder: Path) -> Result:
    begin = asyncio.get_running_loop().time()
    settings, faults = sandbox_settings(script, begin)
    stage = Stage(home, folder, settings, manners(script))
    cast = Cast(stage, script.seed)
    with pace() as set_pace, shared(several(script)):
        play = _Play(script, stage, cast, set_pace)
        try:
            await play.prologue()
            stage.sandbox.faults.faults = faults
            await play.turmoil()
            await play.epilogue()
        finally:
            play.collect()
            await stage.close()
    return Result(
        script,
        tuple(stage.watch.violations),
        stage.digest(),
        stage.watch.marks,
        tuple(stage.lines),
        len(stage.sandbox.calls("clerk")) + len(stage.sandbox.calls("stripe")),
        stage.points,
        (stage.loop.time() - begin) / HOUR,
    )


class _Play:
    def __init__(self, script: Script, stage: Stage, cast: Cast, set_pace: Callable[[bool], None]) -> None:
        self.script, self.stage, self.cast, self.set_pace = script, stage, cast, set_pace

    async def prologue(self) -> None:
        """The world before us, and the first start, in peace: it pins the environment."""
        stage = self.stage
        dice = random.Random(f"{self.script.seed} prologue")
        self.cast.settle_in(pairs=dice.randint(0, 2), old=dice.randint(0, 1))
        self.cast.handler.settle_in(leavings(self.script))
        await self.pass_time(HOUR)
        stage.chore(stage.courier())
        for number in range(stage.manners.nodes):
            await stage.launch(number)
        # Who comes within the clocks' difference of the first start may count as older than it.
        await self.pass_time(5 * MINUTE)

    async def turmoil(self) -> None:
        stage = self.stage
        stage.rough = True
        begin = stage.loop.time()
        for event in self.script.events:
            await self.pass_time(begin + event.at - stage.loop.time())
            await self.cast.play(event)
        await self.pass_time(MINUTE)

    async def epilogue(self) -> None:
        """The faults stop; time passes; all must be well."""
        await self._outlast()
        self.cast.last_words()
        await self.calm()
        await self.settle()
        self.judge()
        if await self.last_acts():
            await self.pass_time(5 * MINUTE)
            self.judge()
        for event in self.script.events:
            if event.kind == "years of replay":
                await self._replay(event)

    async def last_acts(self) -> bool:
        """In peace, the app asks for everybody, and somebody audits and repairs. Whether anything was done."""
        asks = any(event.kind == "ensure" for event in self.script.events)
        if asks:
            await self.cast.app.ask_for_all()
        plan = last_plan(self.script)
        if plan is not None:
            await self.cast.auditor.tidy_up(**plan)
        return asks or plan is not None

    async def _outlast(self) -> None:
        """Outages, stalls and keys that were taken away come to their own end."""
        stage = self.stage
        ends = [outage.end - stage.time() for outage in stage.sandbox.faults.outages]
        ends += [process.frozen_until - stage.loop.time() for process in stage.processes]
        await self.pass_time(max([0.0, *ends]))

    async def calm(self) -> None:
        stage = self.stage
        stage.rough = False
        stage.sandbox.calm()
        stage.sandbox.stripe.permit()
        stage.sandbox.stripe.expired_keys.clear()
        stage.sandbox.stripe.secret_key = stage.sandbox.settings.stripe.secret_key
        stage.sandbox.svix.settings = SvixSettings(secret=stage.sandbox.settings.svix.secret)
        for process in stage.processes:
            process.arms.clear()
        await self.pass_time(11 * MINUTE)
        await self.man()
        while self.cast.auditor.busy:
            await self.pass_time(MINUTE)

    async def man(self) -> None:
        """All nodes that should be there are."""
        here = {each.number for each in self.stage.processes}
        for number in range(self.stage.manners.nodes):
            if number not in here:
                await self.stage.launch(number)

    async def settle(self) -> None:
        stage = self.stage
        await self.pass_time(SETTLING, after=MINUTE)
        end = stage.loop.time() + _LONGEST
        while stage.loop.time() < end:
            left = stage.look(figures.backlog)
            if left.unsettled == 0 and not stage.sandbox.svix.pending():
                return
            await self.pass_time(HOUR, after=MINUTE)

    def judge(self) -> None:
        for fault in faults_of(self.cast):
            self.stage.watch.say(fault)

    async def _replay(self, event: Event) -> None:
        """Weeks later somebody sends old messages again; nothing may come of it."""
        stage = self.stage
        for process in list(stage.processes):
            await stage.stop(process)
        await self.pass_time(event.with_["after"])
        await self.man()
        await self.pass_time(MINUTE)
        await self.cast._replay(event.with_["share"])
        await self.pass_time(20 * MINUTE)
        await self.settle()
        stage.watch.marks["a replay after weeks"] += 1
        self.judge()

    async def pass_time(self, seconds: float, after: float = _QUIET) -> None:
        """Let time pass; long quiet stretches at a slow pace, which begins ``after`` so many seconds."""
        if seconds <= 0:
            return
        if seconds > 2 * _QUIET:
            await asyncio.sleep(after)
            self.set_pace(True)
            await asyncio.sleep(seconds - after - MINUTE)
            self.set_pace(False)
            await asyncio.sleep(MINUTE)
        else:
            await asyncio.sleep(seconds)

    def collect(self) -> None:
        """Marks: what the journal and the sandbox's logs tell of."""
        stage = self.stage
        marks = stage.watch.marks
        for upstream in _UPSTREAMS:
            for call in stage.sandbox.calls(upstream):
                if call.fault is not None:
                    marks[f"{upstream} {call.fault}"] += 1
        marks["a burst of sign-ups"] += is_burst(self.script)
        marks["news never came"] += any(each.lost for each in stage.sandbox.svix.messages())
        for fault in self.script.faults:
            marks[f"fault: {fault}"] += 1
        marks[f"{stage.manners.nodes} nodes"] += 1
        for kind, what, detail in stage.look(lambda connection: connection.execute(_TOLD).all()):
            marks[f"{kind} {what.split(' ')[0]}{_reason(kind, what, detail)}"] += 1


_UPSTREAMS: tuple[Upstream, ...] = ("clerk", "stripe")
_TOLD = text("SELECT kind, what, detail FROM journal WHERE kind IN ('decision', 'call', 'result')")


def _reason(kind: str, what: str, detail: str) -> str:
    if kind == "result" and what.startswith("Park"):
        return " " + detail.split('"reason":"', 1)[1].split('"', 1)[0]
    if kind == "call":
        outcome = detail.split('"outcome":"', 1)[1].split('"', 1)[0]
        return "" if outcome == "ok" else f": {outcome.split(' ')[0]}"
    return ""


@contextmanager
def temporary() -> Iterator[Path]:
    """Where fsync costs nothing, if there is such a place."""
    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="counterfoil", dir=memory if memory.is_dir() else None))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@cache
def template() -> Path:
    """A migrated file with the lookouts' triggers, made once for each process."""
    folder = Path(tempfile.mkdtemp(prefix="counterfoil"))
    file = folder / "template.db"
    url = f"sqlite:///{file}"
    migrate(url)
    engine = connect(url)
    with engine.begin() as connection:
        watch.lay(connection)
    engine.dispose()
    return file


@contextmanager
def quiet() -> Iterator[None]:
    """The product's log would be most of the work."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    try:
        yield
    finally:
        structlog.configure(**before)
