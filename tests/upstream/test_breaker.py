"""The breaker: an outage costs a probe at a time."""

import asyncio
from collections.abc import Sequence

import pytest

from counterfoil.errors import (
    KeyRefused,
    NotFound,
    ObjectLocked,
    Paused,
    RateLimited,
    Rejected,
    ReplayedFailure,
    ServerFailed,
    Unreachable,
    UpstreamError,
)
from counterfoil.upstream.breaker import _CANDIDATES, _UNCALLED, Breaker
from tests.upstream.support import failure, now, virtual

OUTAGES: Sequence[type[UpstreamError]] = (Unreachable, ServerFailed, ReplayedFailure)
ANSWERS: Sequence[type[UpstreamError]] = (NotFound, ObjectLocked, RateLimited, Rejected)


def tripped(kind: type[UpstreamError] = Unreachable) -> Breaker:
    """A breaker after five outages in a row."""
    breaker = Breaker("stripe")
    for _ in range(5):
        breaker.admit()
        breaker.failed(failure(kind))
    return breaker


def refused(breaker: Breaker) -> float:
    """The breaker lets nothing through; answers when to come back."""
    with pytest.raises(Paused, match="stripe is paused") as error:
        breaker.admit()
    assert error.value.retry_after is not None
    assert error.value.retry_after > 0
    return error.value.retry_after


@pytest.mark.parametrize("kind", OUTAGES)
@virtual
async def test_five_outages_in_a_row_open_it(kind: type[UpstreamError]) -> None:
    breaker = Breaker("stripe")
    for _ in range(4):
        breaker.admit()
        breaker.failed(failure(kind))
    assert not breaker.is_open
    breaker.admit()
    breaker.failed(failure(kind, status=503, code="down"))
    assert breaker.is_open
    assert breaker.reason == "503 down"
    refused(breaker)


@pytest.mark.parametrize("kind", ANSWERS)
@virtual
async def test_an_answer_of_any_kind_shows_that_the_upstream_lives(kind: type[UpstreamError]) -> None:
    breaker = Breaker("stripe")
    for _ in range(20):
        for _ in range(4):
            breaker.failed(failure(Unreachable))
        breaker.failed(failure(kind))
    assert not breaker.is_open


@virtual
async def test_a_refused_key_opens_it_at_once() -> None:
    breaker = Breaker("stripe")
    breaker.failed(failure(KeyRefused, status=401))
    assert breaker.is_open
    assert breaker.reason == "401"
    refused(breaker)


@virtual
async def test_one_probe_goes_at_a_time_and_its_success_closes_it() -> None:
    breaker = tripped()
    refused(breaker)
    await asyncio.sleep(1.0)
    breaker.admit()
    refused(breaker)
    breaker.succeeded()
    assert not breaker.is_open
    assert breaker.reason == ""
    for _ in range(10):
        breaker.admit()
    for _ in range(4):
        breaker.failed(failure(Unreachable))
    assert not breaker.is_open


@virtual
async def test_the_pause_doubles_with_each_probe_that_fails_up_to_a_minute() -> None:
    breaker = tripped()
    pauses = []
    for _ in range(9):
        begun = now()
        while True:
            try:
                breaker.admit()
                break
            except Paused:
                await asyncio.sleep(0.25)
        pauses.append(now() - begun)
        breaker.failed(failure(Unreachable))
    assert pauses == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0]


@virtual
async def test_calls_that_were_under_way_do_not_lengthen_the_pause() -> None:
    breaker = tripped()
    for _ in range(50):
        breaker.failed(failure(Unreachable))
    await asyncio.sleep(1.0)
    breaker.admit()


@virtual
async def test_a_probe_that_is_given_up_lets_the_next_one_go() -> None:
    breaker = tripped()
    await asyncio.sleep(1.0)
    breaker.admit()
    refused(breaker)
    breaker.abandoned()
    breaker.admit()


@virtual
async def test_a_few_come_back_for_the_next_probe_and_all_others_wait_to_be_called() -> None:
    breaker = tripped()
    waits = [refused(breaker) for _ in range(_CANDIDATES + 40)]
    candidates, others = waits[:_CANDIDATES], waits[_CANDIDATES:]
    assert all(0.99 <= wait <= 2.01 for wait in candidates)
    assert all(_UNCALLED / 2 <= wait <= 1.5 * _UNCALLED for wait in others)
    assert len({round(wait, 6) for wait in waits}) == len(waits)


@virtual
async def test_those_held_back_are_called_once_when_it_closes() -> None:
    called: list[float] = []
    breaker = tripped()
    breaker.recovered = lambda: called.append(now())
    refused(breaker)
    await asyncio.sleep(1.0)
    breaker.admit()
    assert called == []
    breaker.succeeded()
    breaker.succeeded()
    assert len(called) == 1


@virtual
async def test_it_tells_for_how_long_it_is_open_through_all_probes_and_that_it_has_recovered() -> None:
    breaker = Breaker("stripe")
    assert (breaker.open_for, breaker.proven) == (None, False), "nothing is known at the start"
    breaker.succeeded()
    assert breaker.proven
    for _ in range(5):
        breaker.failed(failure(Unreachable))
    await asyncio.sleep(1.0)
    breaker.admit()
    breaker.failed(failure(Unreachable))
    await asyncio.sleep(2.0)
    assert (breaker.open_for, breaker.proven) == (3.0, False)
    breaker.admit()
    breaker.succeeded()
    assert (breaker.open_for, breaker.proven) == (None, True)
