from __future__ import annotations

from collections import Counter

from counterfoil.sandbox import Player, Sandbox, Storm
from counterfoil.sandbox.storm import ChangeEmail, Delete, SignUp

from .support import NOW


def test_the_same_seed_makes_the_same_storm() -> None:
    first, again, other = (list(Storm(seed=seed, sign_ups=50, seconds=60)) for seed in (1, 1, 2))
    assert first == again != other


def test_things_happen_in_order_of_time_and_within_it() -> None:
    times = [at for at, _ in Storm(seed=3, sign_ups=300, seconds=60)]
    assert times == sorted(times)
    assert times[0] >= 0.0
    assert times[-1] <= 60.0


def test_nobody_does_anything_before_signing_up() -> None:
    present: set[int] = set()
    for _, action in Storm(seed=4, sign_ups=300, seconds=60):
        if isinstance(action, SignUp):
            present.add(action.number)
        assert action.number in present


def test_as_many_sign_up_and_leave_as_asked_for() -> None:
    kinds = Counter(type(action) for _, action in Storm(seed=5, sign_ups=500, seconds=60, deletions=20))
    assert (kinds[SignUp], kinds[Delete]) == (500, 20)


def test_whoever_has_no_email_gets_one_later() -> None:
    actions = [action for _, action in Storm(seed=6, sign_ups=500, seconds=60)]
    without = {action.number for action in actions if isinstance(action, SignUp) and action.email is None}
    given = {action.number for action in actions if isinstance(action, ChangeEmail)}
    assert without
    assert without <= given


def test_a_player_carries_the_storm_out(sandbox: Sandbox) -> None:
    player = Player(sandbox.clerk)
    for at, action in Storm(seed=7, sign_ups=200, seconds=60, deletions=30):
        player.play(NOW + at, action)
    assert len(sandbox.clerk.users) == 170
    assert len(sandbox.svix.messages("user.created")) == 200
    assert len(sandbox.svix.messages("user.deleted")) == 30
    assert len(sandbox.verdict().missing) == len([u for u in sandbox.clerk.live_users() if u.email])
