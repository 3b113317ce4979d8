"""Identifiers with the vendors' prefixes and lengths, drawn from a seeded generator so that a run replays."""

from __future__ import annotations

from random import Random

_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


class Identifiers:
    """Makes ids; the same seed makes the same ids in the same order."""

    def __init__(self, random: Random) -> None:
        self._random = random

    def make(self, prefix: str, length: int) -> str:
        """`prefix` and `length` letters and digits."""
        number = self._random.getrandbits(6 * length)
        letters = []
        for _ in range(length):
            number, digit = divmod(number, 62)
            letters.append(_ALPHABET[digit])
        return prefix + "".join(letters)
