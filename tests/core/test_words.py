"""How durations are said."""

import pytest

from counterfoil.core.policy import HOUR, MINUTE, SECOND
from counterfoil.core.words import ago

DAY = 24 * HOUR


@pytest.mark.parametrize(
    ("milliseconds", "said"),
    [
        (-5, "0 s"),
        (0, "0 s"),
        (1_999, "1 s"),
        (999, "0 s"),
        (119_999, "119 s"),
        (2 * MINUTE, "2 min"),
        (2 * HOUR - 1, "119 min"),
        (2 * HOUR, "2 h"),
        (2 * DAY - SECOND, "47 h"),
        (2 * DAY, "2 d"),
        (89 * DAY, "89 d"),
        (1_000 * DAY, "1000 d"),
    ],
)
def test_a_duration_is_said_in_the_largest_unit_of_which_it_has_two(milliseconds: int, said: str) -> None:
    assert ago(milliseconds) == said
