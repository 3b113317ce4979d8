"""How long to wait before the next try."""

from counterfoil.core.policy import HOUR, SECOND

_FIRST = SECOND
_LONGEST = HOUR


def delay(attempts: int, dice: float) -> int:
    """Exponential back-off with full jitter: up to 1 s, 2 s, 4 s ... 1 h, for ever.

    Args:
        attempts: failures so far, from 0.
        dice: a random number in [0, 1).

    Returns:
        Milliseconds; at least 50, so that a failing link never spins.
    """
    ceiling = min(_LONGEST, _FIRST * 2 ** min(attempts, 20))
    return max(50, int(ceiling * dice))
