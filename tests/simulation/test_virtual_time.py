"""The loop of a play: hours take moments, and each thing happens at its own time."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from tests.simulation.virtual_time import VirtualLoop


def run(work: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(work)


def test_who_sleeps_wakes_at_that_time_and_in_that_order() -> None:
    woken: list[tuple[str, float]] = []

    async def sleep(name: str, *seconds: float) -> None:
        for each in seconds:
            await asyncio.sleep(each)
            woken.append((name, asyncio.get_running_loop().time()))

    async def play() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(sleep("long", 86_400.0 * 100))
            group.create_task(sleep("short", 0.1, 0.2))
            group.create_task(sleep("between", 0.25))
            group.create_task(sleep("finer than it counts", 0.1000004, 0.0000004))

    run(play())
    assert woken == [
        ("short", 0.1),
        ("finer than it counts", 0.100001),
        ("finer than it counts", 0.100002),
        ("between", 0.25),
        ("short", 0.3),
        ("long", 8_640_000.0),
    ]


def test_no_time_passes_while_anything_can_be_done() -> None:
    async def play() -> None:
        for _ in range(1_000):
            await asyncio.sleep(0)
        assert asyncio.get_running_loop().time() == 0.0

    run(play())


def test_a_play_in_which_all_wait_for_each_other_is_told() -> None:
    async def play() -> None:
        await asyncio.Event().wait()

    with pytest.raises(RuntimeError, match="nothing will ever happen"):
        run(play())
