"""A clock that follows the database's."""

import pytest

from counterfoil.engine.clock import FollowingClock


class Own:
    """A node's clock, that says what it is told."""

    def __init__(self) -> None:
        self.at = 1_000_000

    def now(self) -> int:
        return self.at

    def elapsed(self) -> float:
        return self.at / 1000


class Database:
    """Answers its time, ``ahead`` of the node's, after ``takes`` milliseconds on each way."""

    def __init__(self, own: Own, ahead: int, takes: int) -> None:
        self._own, self.ahead, self._takes = own, ahead, takes

    async def __call__(self) -> int:
        self._own.at += self._takes
        told = self._own.at + self.ahead
        self._own.at += self._takes
        return told


@pytest.mark.parametrize("ahead", [-3_600_000, -500, 500, 3_600_000])
async def test_it_is_put_right_within_the_time_that_the_answer_took(ahead: int) -> None:
    own = Own()
    clock = FollowingClock(own)
    await clock.follow(Database(own, ahead, 40))
    assert abs(clock.now() - (own.at + ahead)) <= 40
    await clock.follow(Database(own, ahead, 1))
    assert abs(clock.now() - (own.at + ahead)) <= 1


async def test_a_slow_answer_does_not_spoil_what_is_known() -> None:
    own = Own()
    clock = FollowingClock(own)
    await clock.follow(Database(own, 700, 1))
    known = clock.now() - own.at
    await clock.follow(Database(own, 700, 5_000))
    assert clock.now() - own.at == known


async def test_a_node_that_is_alone_goes_by_its_own() -> None:
    own = Own()
    clock = FollowingClock(own)

    async def nobody() -> None:
        return None

    await clock.follow(nobody)
    assert (clock.now(), clock.elapsed()) == (own.at, own.at / 1000)
