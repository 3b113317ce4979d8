"""The filter, and the user's own functions: what they may say, and what becomes of it when they go wrong."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from counterfoil.core.eligibility import Eligibility
from counterfoil.core.link import Fields
from counterfoil.core.own import KEY_LIMIT, VALUE_LIMIT, OwnFunction, mapped
from counterfoil.core.policy import DESCRIPTION_LIMIT, EMAIL_LIMIT, NAME_LIMIT, PHONE_LIMIT
from counterfoil.errors import OwnFunctionFailed

from .support import quick

OURS = frozenset({"clerkUserId", "counterfoil"})


def giving(answer: object) -> OwnFunction:
    return lambda user: answer


def fields(answer: object) -> Fields:
    return mapped(giving(answer), {}, OURS)


def admits(filter_: Eligibility, email: str | None = None, **metadata: str) -> bool:
    return filter_.admits(email, metadata.get, dict)


def test_a_mapping_gives_every_field() -> None:
    everything = {"email": "a@b.c", "name": "A", "phone": "+1", "description": "d", "metadata": {"k": "v"}}
    assert fields(everything) == Fields("a@b.c", "A", "+1", "d", {"k": "v"})


def test_a_mapping_sees_the_user_as_it_was_sent() -> None:
    user = {"id": "user_1", "last_sign_in_at": None}
    assert mapped(lambda given: {"name": given["id"]}, user, OURS) == Fields(name="user_1")


@pytest.mark.parametrize(
    "nothing", [{}, {"email": None, "name": "", "metadata": None}, {"metadata": {}}, {"metadata": {"k": ""}}]
)
def test_nothing_given_is_nothing_kept(nothing: dict[str, Any]) -> None:
    assert fields(nothing) == Fields()


def test_what_is_too_long_is_cut_where_it_may_be_and_left_out_where_not() -> None:
    long = fields(
        {
            "email": "x" * (EMAIL_LIMIT + 1),
            "name": "x" * (NAME_LIMIT - 1) + " y",
            "phone": "1" * (PHONE_LIMIT + 1),
            "description": "x" * (DESCRIPTION_LIMIT + 1),
        }
    )
    assert long == Fields(name="x" * (NAME_LIMIT - 1), description="x" * DESCRIPTION_LIMIT)


def test_what_is_as_long_as_may_be_is_kept() -> None:
    given = {
        "email": "x" * EMAIL_LIMIT,
        "phone": "1" * PHONE_LIMIT,
        "metadata": {"k" * KEY_LIMIT: "v" * VALUE_LIMIT, **{str(key): "v" for key in range(47)}},
    }
    kept = fields(given)
    assert (kept.email, kept.phone, kept.metadata) == (given["email"], given["phone"], given["metadata"])


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (None, "the answer is None, not a mapping"),
        ([("name", "A")], "the answer is a list, not a mapping"),
        ({"emial": "a@b.c"}, "unknown field 'emial'"),
        ({1: "a"}, "unknown field '1'"),
        ({"name": 7}, "name is a int, not a text"),
        ({"name": "a\0b"}, "name holds a character that cannot be stored"),
        ({"name": "\ud800"}, "name holds a character that cannot be stored"),
        ({"metadata": ["k"]}, "metadata is a list, not a mapping"),
        ({"metadata": {"clerkUserId": "user_2"}}, "metadata key 'clerkUserId' is Counterfoil's own"),
        ({"metadata": {"counterfoil": "cf1-x"}}, "metadata key 'counterfoil' is Counterfoil's own"),
        ({"metadata": {"a[b]": "c"}}, "metadata key 'a[b]' has a square bracket"),
        ({"metadata": {"a[": "c"}}, "metadata key 'a[' has a square bracket"),
        ({"metadata": {"]b": "c"}}, "metadata key ']b' has a square bracket"),
        ({"metadata": {"": "c"}}, "a metadata key is not a text of 1 to 40 characters"),
        ({"metadata": {1: "c"}}, "a metadata key is not a text of 1 to 40 characters"),
        ({"metadata": {"k" * (KEY_LIMIT + 1): "c"}}, "a metadata key is not a text of 1 to 40 characters"),
        ({"metadata": {"k": None}}, "metadata 'k' is not a text of up to 500 characters"),
        ({"metadata": {"k": "v" * (VALUE_LIMIT + 1)}}, "metadata 'k' is not a text of up to 500 characters"),
        ({"metadata": {"k": 5}}, "metadata 'k' is a int, not a text"),
        ({"metadata": {str(key): "v" for key in range(49)}}, "more than 48 metadata keys"),
    ],
)
def test_what_no_customer_can_carry_is_an_error_that_says_what_is_wrong(answer: object, told: str) -> None:
    with pytest.raises(OwnFunctionFailed) as failed:
        fields(answer)
    assert str(failed.value) == f"wrong return: {told}"


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("not even its text")


@pytest.mark.parametrize(
    ("error", "begins"),
    [
        (KeyError("plan"), "KeyError: 'plan'"),
        (ValueError("two\nlines"), "ValueError: two"),
        (ValueError("a\0b \ud800"), "ValueError: a?b ?"),
        (ValueError(), "ValueError"),
        (Unspeakable(), "tests.core.test_own.Unspeakable: <exception str() failed>"),
        (ValueError("x" * 1000), "ValueError: xxx"),
        (RecursionError("too deep"), "RecursionError: too deep"),
    ],
)
def test_what_a_function_raises_is_told_in_one_line_that_can_be_stored(error: Exception, begins: str) -> None:
    def fails(user: dict[str, Any]) -> object:
        raise error

    for use in (lambda: mapped(fails, {}, OURS), lambda: admits(Eligibility(function=fails))):
        with pytest.raises(OwnFunctionFailed) as failed:
            use()
        assert str(failed.value).startswith(begins)
        assert len(str(failed.value)) <= 200


def test_an_asynchronous_function_in_disguise_is_refused_without_a_warning() -> None:
    async def later() -> dict[str, str]:
        return {}

    with pytest.raises(OwnFunctionFailed, match="a coroutine"):
        mapped(lambda user: later(), {}, OURS)


_texts = st.text(max_size=600) | st.none() | st.integers()
_keys = st.sampled_from(["email", "name", "phone", "description", "metadata", "other"]) | st.text(max_size=45)


@quick(400)
@given(answer=st.dictionaries(_keys, _texts | st.dictionaries(_keys, _texts, max_size=4), max_size=5) | _texts)
def test_whatever_a_mapping_returns_what_is_kept_fits_into_a_customer(answer: object) -> None:
    try:
        kept = fields(answer)
    except OwnFunctionFailed:
        return
    limits = {"email": EMAIL_LIMIT, "name": NAME_LIMIT, "phone": PHONE_LIMIT, "description": DESCRIPTION_LIMIT}
    for name, limit in limits.items():
        value = getattr(kept, name)
        assert value is None or 0 < len(value) <= limit
    assert kept.metadata is None or kept.metadata
    for key, value in (kept.metadata or {}).items():
        assert 0 < len(key) <= KEY_LIMIT
        assert key not in OURS
        assert 0 < len(value) <= VALUE_LIMIT


@pytest.mark.parametrize(
    ("email", "admitted"),
    [
        ("a@acme.com", True),
        ("a@ACME.com", True),
        ("a@eu.acme.com", False),
        ("a@x.acme.org", True),
        ("a@x.y.acme.org", True),
        ("a@acme.org", False),
        ("a@notacme.com", False),
        ("a@notacme.org", False),
        ('"a@acme.com"@evil.com', False),
        ("acme.com@evil.com", False),
        (None, False),
    ],
)
def test_a_domain_is_the_whole_domain_and_a_dot_stands_for_its_subdomains(
    email: str | None, admitted: bool
) -> None:
    assert admits(Eligibility(domains=("acme.com", ".acme.org")), email) is admitted


def test_a_filter_is_open_that_asks_nothing() -> None:
    assert Eligibility().is_open
    some = [
        Eligibility(domains=("a.com",)),
        Eligibility(metadata=("plan", "pro")),
        Eligibility(function=giving(True)),
    ]
    assert not any(each.is_open for each in some)


def test_who_is_not_of_the_domain_or_has_another_value_is_plainly_refused() -> None:
    assert admits(Eligibility(domains=("a.com",)), None) is False
    assert admits(Eligibility(domains=("a.com",)), "x@b.com") is False
    assert admits(Eligibility(metadata=("plan", "pro")), plan="free") is False


def test_all_parts_of_a_filter_must_hold_and_the_cheap_ones_are_asked_first() -> None:
    asked = []

    def function(user: dict[str, Any]) -> bool:
        asked.append(user)
        return True

    filter_ = Eligibility(domains=("acme.com",), metadata=("plan", "pro"), function=function)
    assert admits(filter_, "a@acme.com", plan="pro")
    assert len(asked) == 1
    assert not admits(filter_, "a@other.com", plan="pro")
    assert not admits(filter_, "a@acme.com", plan="free")
    assert not admits(filter_, "a@acme.com")
    assert len(asked) == 1
    assert Eligibility().is_open
    assert not filter_.is_open


@pytest.mark.parametrize("answer", [None, 1, "yes", []])
def test_a_filter_that_says_neither_true_nor_false_has_failed(answer: object) -> None:
    with pytest.raises(OwnFunctionFailed, match="not True or False"):
        admits(Eligibility(function=giving(answer)))


@pytest.mark.parametrize("answer", [True, False])
def test_a_filter_of_ones_own_decides(answer: bool) -> None:
    assert admits(Eligibility(function=giving(answer))) is answer
