"""Group commit: who waits for what, and what a failed commit means."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

import pytest

from counterfoil.clerk.webhook import Unreadable
from counterfoil.core.news import UserDeleted
from counterfoil.engine import intake as module
from counterfoil.engine.intake import PROBE, Intake, Taken
from counterfoil.errors import IntakeFull


class Store:
    """Commits only when told to, and fails when told to."""

    def __init__(self) -> None:
        self.batches: list[list[Taken]] = []
        self.gate = asyncio.Semaphore(0)
        self.begun = asyncio.Semaphore(0)
        self.failures = 0
        self.woken = 0

    async def commit(self, items: Sequence[Taken]) -> None:
        self.begun.release()
        await self.gate.acquire()
        if self.failures:
            self.failures -= 1
            raise OSError("disk full, row of zoe@example.com")
        self.batches.append(list(items))

    def wake(self) -> None:
        self.woken += 1

    def allow(self, commits: int = 1) -> None:
        for _ in range(commits):
            self.gate.release()

    @property
    def written(self) -> list[str]:
        return [item.subject_id for batch in self.batches for item in batch if isinstance(item, UserDeleted)]


def news(number: int) -> UserDeleted:
    return UserDeleted(subject_id=f"user_{number}", sent_at=0, trusted=True)


def unreadable(size: int = 4) -> Unreadable:
    return Unreadable("msg_1", b"x" * size, 0)


@asynccontextmanager
async def running(intake: Intake) -> AsyncIterator["asyncio.Task[None]"]:
    pump = asyncio.create_task(intake.run())
    try:
        yield pump
    finally:
        pump.cancel()
        with suppress(asyncio.CancelledError):
            await pump


async def taken(intake: Intake, item: Taken) -> None:
    """Return when the item is written; `IntakeFull` where it is not, or will not be."""
    told: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
    intake.take(item, lambda written: None if told.cancelled() else told.set_result(written))
    if not await told:
        raise IntakeFull("the database did not take it")


async def start(intake: Intake, *numbers: int) -> list["asyncio.Task[None]"]:
    """Hand in news; return when all of it waits or was refused."""
    tasks = [asyncio.create_task(taken(intake, news(number))) for number in numbers]
    for _ in range(3):
        await asyncio.sleep(0)
    return tasks


async def outcomes(tasks: Sequence["asyncio.Task[None]"]) -> list[str]:
    results = await asyncio.gather(*tasks, return_exceptions=True)
    return ["taken" if result is None else type(result).__name__ for result in results]


async def test_who_hands_in_is_told_only_after_the_commit() -> None:
    store = Store()
    intake = Intake(store.commit, wake=store.wake)
    async with running(intake):
        [task] = await start(intake, 1)
        await store.begun.acquire()
        assert not task.done()
        assert store.woken == 0
        store.allow()
        await task
        assert store.written == ["user_1"]
        assert store.woken == 1


async def test_senders_who_wait_for_their_answers_do_not_come_to_keep_in_step() -> None:
    """62 in one transaction and two early ones in the next would be two commits for 64, all of them waited for."""
    sizes: list[int] = []

    async def commit(items: Sequence[Taken]) -> None:
        sizes.append(len(items))
        await asyncio.sleep(0)

    async def send() -> None:
        while len(sizes) < 40:
            await taken(intake, news(1))

    intake = Intake(commit, wake=lambda: None)
    async with running(intake):
        await asyncio.gather(*(send() for _ in range(64)))
    assert set(sizes[2:40]) == {32}


async def test_a_batch_grows_halfway_to_all_that_wait_and_a_few_are_always_taken() -> None:
    store = Store()
    intake = Intake(store.commit, wake=store.wake)
    async with running(intake):
        tasks = await start(intake, *range(7))
        store.allow()
        await asyncio.gather(*tasks)
        tasks = await start(intake, *range(300))
        store.allow(10)
        await asyncio.gather(*tasks)
    assert [len(batch) for batch in store.batches] == [7, 154, 146]
    assert store.written == [f"user_{number}" for number in (*range(7), *range(300))]


async def test_while_one_commit_is_under_way_the_next_batch_gathers() -> None:
    store = Store()
    intake = Intake(store.commit, wake=store.wake)
    async with running(intake):
        first = await start(intake, 1)
        await store.begun.acquire()
        rest = await start(intake, *range(2, 18))
        assert intake.waiting == 16
        store.allow()
        await asyncio.gather(*first)
        assert not any(task.done() for task in rest)
        store.allow()
        await asyncio.gather(*rest)
    assert [len(batch) for batch in store.batches] == [1, 16]
    assert store.written == [f"user_{number}" for number in range(1, 18)]


async def test_what_came_before_the_pump_is_taken_and_a_batch_has_a_limit() -> None:
    store = Store()
    intake = Intake(store.commit, wake=store.wake, batch=4)
    tasks = await start(intake, *range(10))
    store.allow(3)
    async with running(intake):
        await asyncio.gather(*tasks)
    assert [len(batch) for batch in store.batches] == [4, 4, 2]


async def test_a_full_queue_refuses_at_once() -> None:
    store = Store()
    intake = Intake(store.commit, wake=store.wake, limit=2)
    tasks = await start(intake, 1, 2, 3)
    assert [task.done() for task in tasks] == [False, False, True]
    store.allow()
    async with running(intake):
        assert await outcomes(tasks) == ["taken", "taken", "IntakeFull"]
        store.allow()
        await taken(intake, news(4))


async def test_a_failed_commit_fails_its_own_batch_and_no_other() -> None:
    store = Store()
    store.failures = 1
    intake = Intake(store.commit, wake=store.wake, batch=2)
    tasks = await start(intake, 1, 2, 3, 4)
    store.allow(2)
    async with running(intake):
        assert await outcomes(tasks) == ["IntakeFull", "IntakeFull", "taken", "taken"]
    assert store.written == ["user_3", "user_4"]
    assert store.woken == 1


@pytest.mark.looptime
async def test_while_the_database_fails_the_queue_is_shut_and_it_opens_by_itself() -> None:
    store = Store()
    store.failures = 2
    store.allow(3)
    intake = Intake(store.commit, wake=store.wake, pause=1.0)
    async with running(intake):
        for _ in range(2):
            assert await outcomes(await start(intake, 1)) == ["IntakeFull"]
            assert intake.failing
            await asyncio.sleep(0.9)
            with pytest.raises(IntakeFull):
                await taken(intake, news(2))
            assert intake.waiting == 0
            await asyncio.sleep(0.2)
        await taken(intake, news(3))
        assert not intake.failing
    assert store.written == ["user_3"]


async def test_the_log_of_a_failed_commit_holds_no_personal_data(capsys: pytest.CaptureFixture[str]) -> None:
    store = Store()
    store.failures = 1
    store.allow()
    intake = Intake(store.commit, wake=store.wake)
    async with running(intake):
        with pytest.raises(IntakeFull) as caught:
            await taken(intake, news(1))
    shown = capsys.readouterr()
    assert "example.com" not in shown.out + shown.err + str(caught.value)


async def test_a_waiter_that_has_gone_disturbs_nobody_and_its_item_is_written() -> None:
    store = Store()
    intake = Intake(store.commit, wake=store.wake)
    async with running(intake):
        [in_commit, other] = await start(intake, 1, 2)
        await store.begun.acquire()
        [waiting, third] = await start(intake, 3, 4)
        in_commit.cancel()
        waiting.cancel()
        store.allow(2)
        assert await outcomes([in_commit, other, waiting, third]) == [
            "CancelledError",
            "taken",
            "CancelledError",
            "taken",
        ]
    assert store.written == ["user_1", "user_2", "user_3", "user_4"]


async def test_a_batch_without_news_wakes_nobody() -> None:
    store = Store()
    store.allow(2)
    intake = Intake(store.commit, wake=store.wake)
    async with running(intake):
        await taken(intake, unreadable())
        assert store.woken == 0
        assert store.batches == [[unreadable()]]
        await taken(intake, news(1))
        assert store.woken == 1


async def test_bodies_that_wait_have_a_limit_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BYTES_LIMIT", 10)
    store = Store()
    intake = Intake(store.commit, wake=store.wake)
    async with running(intake):
        for _ in range(3):
            task = asyncio.create_task(taken(intake, unreadable(8)))
            await store.begun.acquire()
            with pytest.raises(IntakeFull):
                await taken(intake, unreadable(8))
            store.allow()
            await task


async def test_drain_commits_what_waits_and_refuses_what_comes() -> None:
    store = Store()
    intake = Intake(store.commit, wake=store.wake, batch=2)
    async with running(intake) as pump:
        tasks = await start(intake, 1, 2, 3)
        drained = asyncio.create_task(intake.drain())
        await asyncio.sleep(0)
        with pytest.raises(IntakeFull):
            await taken(intake, news(4))
        assert not drained.done()
        store.allow(2)
        await drained
        await pump
        assert await outcomes(tasks) == ["taken"] * 3
    assert store.written == ["user_1", "user_2", "user_3"]
    await intake.drain()  # once more does no harm


async def test_drain_of_an_idle_pump_ends_it() -> None:
    store = Store()
    intake = Intake(store.commit, wake=store.wake)
    async with running(intake) as pump:
        await asyncio.sleep(0)
        await intake.drain()
        await pump


async def test_drain_without_a_pump_commits_by_itself() -> None:
    store = Store()
    store.allow()
    intake = Intake(store.commit, wake=store.wake)
    tasks = await start(intake, 1, 2)
    await intake.drain()
    assert await outcomes(tasks) == ["taken", "taken"]


async def test_drain_ends_even_where_the_database_fails() -> None:
    store = Store()
    store.failures = 2
    store.allow(2)
    intake = Intake(store.commit, wake=store.wake, batch=1)
    tasks = await start(intake, 1, 2)
    await intake.drain()
    assert await outcomes(tasks) == ["IntakeFull", "IntakeFull"]


async def test_a_pump_that_is_cancelled_leaves_nobody_waiting() -> None:
    store = Store()
    intake = Intake(store.commit, wake=store.wake, batch=1)
    async with running(intake):
        tasks = await start(intake, 1, 2)
        await store.begun.acquire()
    assert await outcomes(tasks) == ["IntakeFull", "IntakeFull"]
    with pytest.raises(IntakeFull):
        await taken(intake, news(3))


@pytest.mark.looptime
async def test_a_pump_that_is_started_again_takes_again() -> None:
    store = Store()
    intake = Intake(store.commit, wake=store.wake)
    async with running(intake):
        tasks = await start(intake, 1)
        await store.begun.acquire()
    await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.sleep(2)
    store.allow()
    async with running(intake):
        await asyncio.sleep(0)
        await taken(intake, news(2))
    assert store.written == ["user_2"]


@pytest.mark.looptime
async def test_where_no_delivery_comes_an_empty_batch_tells_that_the_database_is_back() -> None:
    """A node that says that it is not ready is sent nothing."""
    store = Store()
    intake = Intake(store.commit, wake=store.wake)
    async with running(intake):
        store.failures = 3
        store.allow(4)
        assert await outcomes(await start(intake, 1)) == ["IntakeFull"]
        for _ in range(2):
            await asyncio.sleep(PROBE)
            assert intake.failing
        await asyncio.sleep(PROBE + 1.0)
        assert not intake.failing
        assert (store.batches, store.woken) == ([[]], 0)
        await asyncio.sleep(60 * PROBE)
        assert len(store.batches) == 1, "it is not asked again"
        store.allow()
        await taken(intake, news(2))
    assert store.written == ["user_2"]
