"""A storm of sign-ups, changes and deletions by seed, as a plain sequence of what happens when.

`Storm(...)` gives (seconds from the start, action) in order of time; a `Player` carries actions out on a
sandbox. So that drivers in real and in virtual time can use the same storm.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from heapq import heappop, heappush
from random import Random
from typing import assert_never

from counterfoil.sandbox.clerk import ClerkState

_FIRST = ("Ada", "Zoë", "Grace", "José", "Linus", "Mary-Jane", "Olu", "Søren", "Xiù", None)
_LAST = ("Lovelace", "O'Neill", "Hopper", "García", "van der Berg", "Ó Súilleabháin", "Nakamura", None)


@dataclass(frozen=True, slots=True)
class SignUp:
    """Person `number` signs up."""

    number: int
    email: str | None
    first_name: str | None
    last_name: str | None


@dataclass(frozen=True, slots=True)
class ChangeEmail:
    """A new primary address; for somebody without one, the first."""

    number: int
    email: str


@dataclass(frozen=True, slots=True)
class ChangeName:
    """Another name."""

    number: int
    first_name: str | None
    last_name: str | None


@dataclass(frozen=True, slots=True)
class Touch:
    """A change of nothing that is mirrored."""

    number: int


@dataclass(frozen=True, slots=True)
class Delete:
    """Person `number` leaves."""

    number: int


Action = SignUp | ChangeEmail | ChangeName | Touch | Delete


@dataclass(frozen=True, slots=True, kw_only=True)
class Storm:
    """`sign_ups` people over `seconds`; shares say how many of them do what, `deletions` is a number of them.

    What follows a sign-up comes within a few seconds for `hasty` of it (so that it races the creation),
    and otherwise any time until the end. People without an email get one later.
    """

    seed: int
    sign_ups: int
    seconds: float
    email_changes: float = 0.2
    name_changes: float = 0.2
    touches: float = 0.3
    without_email: float = 0.05
    deletions: int = 50
    hasty: float = 0.5

    def __iter__(self) -> Iterator[tuple[float, Action]]:
        random = Random(f"{self.seed} storm")
        leavers = set(random.sample(range(self.sign_ups), min(self.deletions, self.sign_ups)))
        coming: list[tuple[float, int, Action]] = []
        serial = 0
        for number in range(self.sign_ups):
            at = self.seconds * (number + random.random()) / (self.sign_ups + 1)
            while coming and coming[0][0] <= at:
                yield _popped(coming)
            sign_up = self._sign_up(random, number)
            yield at, sign_up
            for follow_up in self._follow_ups(random, sign_up, number in leavers):
                serial += 1
                heappush(coming, (self._later(random, at), serial, follow_up))
        while coming:
            yield _popped(coming)

    def _sign_up(self, random: Random, number: int) -> SignUp:
        email = None if random.random() < self.without_email else f"person{number}@example.com"
        return SignUp(number, email, random.choice(_FIRST), random.choice(_LAST))

    def _follow_ups(self, random: Random, sign_up: SignUp, leaves: bool) -> Iterator[Action]:
        number = sign_up.number
        if sign_up.email is None or random.random() < self.email_changes:
            yield ChangeEmail(number, f"Person{number}.{random.randrange(10_000)}@example.org")
        if random.random() < self.name_changes:
            yield ChangeName(number, random.choice(_FIRST), random.choice(_LAST))
        if random.random() < self.touches:
            yield Touch(number)
        if leaves:
            yield Delete(number)

    def _later(self, random: Random, at: float) -> float:
        left = max(0.0, self.seconds - at)
        wait = random.expovariate(1.0) if random.random() < self.hasty else random.uniform(0.0, left)
        return min(self.seconds, at + wait)


class Player:
    """Carries actions out on Clerk. `silent` plays them without any event."""

    def __init__(self, clerk: ClerkState, *, silent: bool = False) -> None:
        self.ids: dict[int, str] = {}
        self._clerk = clerk
        self._silent = silent

    def play(self, now: float, action: Action) -> None:
        """Do one thing; what befalls somebody who has left already is skipped."""
        clerk, silent = self._clerk, self._silent
        if isinstance(action, SignUp):
            self.ids[action.number] = clerk.create_user(
                now,
                silent=silent,
                email=action.email,
                first_name=action.first_name,
                last_name=action.last_name,
            )
            return
        user_id = self.ids[action.number]
        if user_id not in clerk.users:
            return
        match action:
            case ChangeEmail(_, email):
                clerk.change_email(now, user_id, email, silent=silent)
            case ChangeName(_, first_name, last_name):
                clerk.change_name(now, user_id, first_name, last_name, silent=silent)
            case Touch():
                clerk.touch(now, user_id, silent=silent)
            case Delete():
                clerk.delete_user(now, user_id, silent=silent)
            case _:
                assert_never(action)


def _popped(coming: list[tuple[float, int, Action]]) -> tuple[float, Action]:
    at, _, action = heappop(coming)
    return at, action
