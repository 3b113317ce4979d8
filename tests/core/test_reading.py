"""JSON that others wrote."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from counterfoil.core.reading import elements, holds_nul

texts = st.text(max_size=12) | st.sampled_from(['"', "\\", '\\"', "[", "}],", "\0", "\\u0000", "\\\\u0000"])
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)


@given(st.lists(anything, max_size=6), st.sampled_from([None, 1]), st.booleans())
def test_an_arrays_elements_are_what_a_decoder_finds(
    array: list[Any], indent: int | None, ascii_only: bool
) -> None:
    text = json.dumps(array, indent=indent, ensure_ascii=ascii_only).encode(errors="replace")
    assert [json.loads(each) for each in elements(text)] == json.loads(text)


@given(st.binary(max_size=200) | st.text(alphabet='[]{},"\\ a1', max_size=60).map(str.encode))
def test_the_elements_of_anything_else_raise_nothing(text: bytes) -> None:
    elements(text)


def test_depth_is_no_matter_to_elements() -> None:
    deep = b"[" * 100_000 + b"]" * 100_000
    assert elements(b'[{"a":1},' + deep + b',"]"]') == [b'{"a":1}', deep, b'"]"']


@given(anything)
def test_a_nul_is_seen_and_nothing_else_is_taken_for_one(value: Any) -> None:
    def there(value: Any) -> bool:
        match value:
            case str():
                return "\0" in value
            case list():
                return any(map(there, value))
            case dict():
                return any(there(key) or there(each) for key, each in value.items())
            case _:
                return False

    assert holds_nul(json.dumps(value).encode()) == there(value)
