"""What a node cannot do without at its start is tried until it works."""

import pytest

from counterfoil.engine.patience import patiently
from counterfoil.errors import ConfigurationError, DatabaseUnavailable, Unreachable
from tests.upstream.support import failure, now, virtual


class Attempt:
    """Fails so and so often."""

    def __init__(self, *errors: Exception) -> None:
        self._errors = list(errors)
        self.at: list[float] = []

    async def __call__(self) -> None:
        self.at.append(round(now(), 1))
        if self._errors:
            raise self._errors.pop(0)


@virtual
async def test_a_database_that_fails_over_in_the_first_scan_does_not_end_the_node() -> None:
    attempt = Attempt(*[DatabaseUnavailable("away") for _ in range(6)])
    await patiently(attempt, "catch_up.failed")
    assert attempt.at == [0.0, 1.0, 3.0, 7.0, 12.0, 17.0, 22.0]


@virtual
async def test_an_upstream_is_given_more_time_from_try_to_try() -> None:
    attempt = Attempt(*[failure(Unreachable) for _ in range(8)])
    await patiently(attempt, "keys.not_verified")
    assert attempt.at == [0.0, 1.0, 3.0, 7.0, 15.0, 31.0, 63.0, 123.0, 183.0]


@virtual
async def test_an_upstream_that_asks_for_more_time_is_obeyed_and_one_that_asks_for_less_is_not() -> None:
    asked = [7.0, 1.0, None, 20.0, 7.0, 0.0]
    attempt = Attempt(*[failure(Unreachable, retry_after=each) for each in asked])
    await patiently(attempt, "keys.not_verified")
    assert attempt.at == [0.0, 7.0, 9.0, 13.0, 33.0, 49.0, 81.0]


@virtual
async def test_what_trying_again_would_not_help_is_raised() -> None:
    with pytest.raises(ConfigurationError):
        await patiently(Attempt(ConfigurationError("no")), "keys.not_verified")
