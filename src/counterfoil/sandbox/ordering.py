"""An order over many objects that is cheap to keep and cheap to page through, at 200,000 objects and more."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Iterator

Entry = tuple[int, int, str]


class Order:
    """Ids sorted by (key, serial). Entries that `alive(id, key)` denies are skipped, and swept out now and
    then.
    """

    def __init__(self, alive: Callable[[str, int], bool]) -> None:
        self._alive = alive
        self._entries: list[Entry] = []
        self._sweep_at = 1000

    def add(self, key: int, serial: int, identifier: str) -> None:
        """Put one in; nearly always at the end, which costs next to nothing."""
        entries = self._entries
        if len(entries) >= self._sweep_at:
            self._entries = entries = [entry for entry in entries if self._alive(entry[2], entry[0])]
            self._sweep_at = 2 * len(entries) + 1000
        insort(entries, (key, serial, identifier))

    def upwards(self, after: Entry | None = None, low: int | None = None) -> Iterator[str]:
        """Ids, smallest first, from `after` (left out) or from key `low` on."""
        start = 0
        if after is not None:
            start = bisect_left(self._entries, (after[0], after[1] + 1))
        elif low is not None:
            start = bisect_left(self._entries, (low,))
        for position in range(start, len(self._entries)):
            key, _, identifier = self._entries[position]
            if self._alive(identifier, key):
                yield identifier

    def downwards(
        self, after: Entry | None = None, low: int | None = None, high: int | None = None
    ) -> Iterator[str]:
        """Ids, largest first, from `after` (left out) or key `high` (kept) down to key `low` (kept)."""
        start = len(self._entries)
        if high is not None:
            start = bisect_left(self._entries, (high + 1,))
        if after is not None:
            start = min(start, bisect_left(self._entries, (after[0], after[1])))
        for position in range(start - 1, -1, -1):
            key, _, identifier = self._entries[position]
            if low is not None and key < low:
                return
            if self._alive(identifier, key):
                yield identifier
