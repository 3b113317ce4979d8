"""What was ever true of each user: what reads that lag answer, and what a claim may rest on."""

import random
from collections import Counter
from typing import Any

import msgspec

from counterfoil.sandbox.clerk_user import User, user_body
from counterfoil.sandbox.messages import Answer, Request, json_answer
from tests.simulation.watch import LINK_BACK


class Hearsay:
    """Each user's past. ``lag``: reads are up to so many seconds old."""

    def __init__(self, lag: float, dice: random.Random, marks: Counter[str]) -> None:
        self._lag = lag
        self._dice = dice
        self._marks = marks
        self._history: dict[str, list[tuple[float, Any]]] = {}
        self._names: dict[str, set[str]] = {}

    def changed(self, user_id: str, user: User | None, at: float) -> None:
        """Remember how a user is now; ``None``: gone."""
        body = user_body(user) if user is not None else None
        self._history.setdefault(user_id, []).append((at, msgspec.json.encode(body)))
        if user is not None:
            for values in (user.public_metadata, user.private_metadata):
                if isinstance(name := values.get(LINK_BACK), str):
                    self._names.setdefault(user_id, set()).add(name)

    def named(self, user_id: str, customer_id: str) -> bool:
        """Whether a user's metadata names this customer, or did."""
        return customer_id in self._names.get(user_id, set())

    def heard(self, request: Request, answer: Answer, at: float) -> Answer:
        """Clerk's answer to a read, or an older one."""
        parts = request.segments()
        if not (self._lag and request.method == "GET" and parts[0] == "users"):
            return answer
        then = at - self._dice.uniform(0.0, self._lag)
        if len(parts) == 1 and answer.status == 200:
            users = [self._as_of(user["id"], then) for user in answer.json()]
            return self._late(answer, json_answer(200, [user for user in users if user is not None]))
        if len(parts) == 2 and parts[1] in self._history and answer.status in {200, 404}:
            user = self._as_of(parts[1], then)
            missing = {"errors": [{"message": "not found", "code": "resource_not_found"}]}
            return self._late(answer, json_answer(404, missing) if user is None else json_answer(200, user))
        return answer

    def _as_of(self, user_id: str, then: float) -> Any:
        """A user as it was; ``None``: it was not."""
        known = [body for at, body in self._history.get(user_id, []) if at <= then]
        return msgspec.json.decode(known[-1]) if known else None

    def _late(self, now: Answer, old: Answer) -> Answer:
        if old.status != now.status or (old.status == 200 and old.body != now.body):
            self._marks["a read lagged"] += 1
        return old
