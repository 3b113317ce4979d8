"""Stripe's idempotency keys (v1): what is stored, replayed, refused and forgotten.

Source: Stripe's pages on idempotent requests and low-level errors.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from counterfoil.sandbox.messages import Answer


@dataclass(slots=True)
class Entry:
    """One key in use. `answer` is stored at once but replayed only after `answered_at`: until then it is in
    flight.
    """

    path: str
    params: Any
    first_used_at: float
    answered_at: float
    request_id: str
    subject: str | None = None
    answer: Answer | None = None


class KeyStore:
    """Keys are remembered for `keep` seconds from first use, then the same key does its work anew."""

    def __init__(self, keep: float) -> None:
        self.keep = keep
        # In order of first use, so that forgetting looks at the oldest only.
        self._entries: dict[str, Entry] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, key: str, now: float) -> Entry | None:
        """The entry of a key, unless its time is over."""
        while self._entries:
            oldest = next(iter(self._entries))
            if self._entries[oldest].first_used_at + self.keep > now:
                break
            del self._entries[oldest]
        return self._entries.get(key)

    def begin(self, key: str, entry: Entry) -> None:
        """Execution begins: the key is taken."""
        self._entries[key] = entry

    def forget(self, key: str) -> None:
        """As if every day were over for this key (tests of pruned keys use it)."""
        self._entries.pop(key, None)

    def forget_all(self) -> None:
        """Forget every key."""
        self._entries.clear()
