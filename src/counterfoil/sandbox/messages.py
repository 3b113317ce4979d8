"""What goes in and what comes out of a stand-in, with no server and no socket in sight.

Times everywhere in this package are float Unix seconds, given as `now`; nothing here reads a clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import unquote

import msgspec

Upstream = Literal["clerk", "stripe"]


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request. `path` is raw (percent-encoded) and begins with /v1; header names are lower case."""

    method: str
    path: str
    query: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    def segments(self) -> list[str]:
        """The path's parts after /v1, decoded; empty when the path does not begin with /v1/."""
        head, *parts = self.path.lstrip("/").split("/")
        return [unquote(part) for part in parts] if head == "v1" else []


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """The body, decoded."""
        return msgspec.json.decode(self.body)


@dataclass(frozen=True, slots=True)
class Handled:
    """What a stand-in did with a request: the answer, and what the call log wants to know of it."""

    answer: Answer
    subject: str | None = None
    effect_at: float | None = None
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class Reply:
    """What the caller gets. `answer` None means that the connection is cut instead.

    `delay` is how many seconds to wait before answering (or cutting). Locks and keys in flight are held until
    `begin`'s now + delay, whether or not anybody still waits for the answer, as on a real server.
    """

    answer: Answer | None
    delay: float


def json_answer(status: int, value: object, headers: Mapping[str, str] | None = None) -> Answer:
    """An answer with a JSON body."""
    merged = {"Content-Type": "application/json"}
    if headers:
        merged.update(headers)
    return Answer(status, merged, msgspec.json.encode(value))
