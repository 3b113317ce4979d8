"""Reading JSON that others wrote."""

import re

import msgspec

NOT_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""All that a decoder raises: no JSON or another shape, no UTF-8 in a text, nested deeper than it can follow."""

# What matters for the structure; the rest (numbers, white space, colons) is passed over.
_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*+"|[\[\]{},]', re.DOTALL)
_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
_STEP = {b"[": 1, b"{": 1, b"]": -1, b"}": -1}


def holds_nul(json: bytes) -> bool:
    """Whether a text in it holds a NUL, which PostgreSQL cannot store."""
    return _NUL.search(json) is not None


def elements(array: bytes) -> list[bytes]:
    """The elements of a JSON array, each as it is written, however deeply one is nested.

    Nothing is checked: what is no JSON comes out as elements that are none either.
    """
    depth, found = 0, []
    begin = array.find(b"[") + 1
    for token in _TOKEN.finditer(array):
        mark = token[0]
        if depth == 1 and mark in {b",", b"]"}:
            element = array[begin : token.start()].strip()
            if element:
                found.append(element)
            begin = token.end()
        depth += _STEP.get(mark, 0)
    return found
