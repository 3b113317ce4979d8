"""Small values: what is mirrored, what differs, and what can be a user's id."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from counterfoil.core.customer import difference, mirrored, overlay, wanted_fields
from counterfoil.core.link import Fields
from counterfoil.core.policy import EMAIL_LIMIT, NAME_LIMIT
from counterfoil.core.subject import user_id
from counterfoil.errors import BadSubject

from .support import ADA, FIELDS, known, quick


@pytest.mark.parametrize(
    ("first", "last", "name"),
    [
        ("Ada", "Lovelace", "Ada Lovelace"),
        ("Ada", None, "Ada"),
        (None, "Lovelace", "Lovelace"),
        (None, None, None),
        ("", "", None),
        (" ", None, None),
        ("Zoë", "Ångström", "Zoë Ångström"),
    ],
)
def test_a_name_is_made_of_what_there_is(first: str | None, last: str | None, name: str | None) -> None:
    assert mirrored(None, first, last) == Fields(name=name)


def test_a_name_too_long_is_cut_and_does_not_end_in_a_space() -> None:
    assert mirrored(None, "x" * 300, None).name == "x" * NAME_LIMIT
    assert mirrored(None, "x" * (NAME_LIMIT - 1), "Last").name == "x" * (NAME_LIMIT - 1)


def test_an_address_too_long_is_left_out_for_a_cut_one_is_another() -> None:
    fits = "x" * (EMAIL_LIMIT - 2) + "@a"
    assert mirrored(fits, None, None).email == fits
    assert mirrored("x" + fits, None, None).email is None
    assert mirrored("", None, None).email is None


@quick(150)
@given(first=st.none() | st.text(max_size=300), last=st.none() | st.text(max_size=300))
def test_a_name_never_exceeds_what_stripe_takes(first: str | None, last: str | None) -> None:
    name = mirrored(None, first, last).name
    assert name is None or 0 < len(name) <= NAME_LIMIT


def test_only_the_very_address_that_was_refused_is_left_out() -> None:
    assert wanted_fields(known(refused_email=ADA.email)) == Fields(name="Ada")
    assert wanted_fields(known(refused_email="ADA@example.com")) == ADA
    assert wanted_fields(known(fields=None)) == Fields()


@quick(100)
@given(wanted=FIELDS, applied=st.none() | FIELDS)
def test_sending_the_difference_leaves_none(wanted: Fields, applied: Fields | None) -> None:
    after = overlay(applied, difference(wanted, applied))
    assert difference(wanted, after) == Fields()
    assert after.email == (wanted.email or (applied or Fields()).email)
    assert after.name == (wanted.name or (applied or Fields()).name)


@pytest.mark.parametrize("text", ["user_2g7np7Hrk0SN6kj5EDMLDaKNL0S", "user_1", "user_" + "x" * 120])
def test_what_clerk_calls_a_user_is_taken(text: str) -> None:
    assert user_id(text) == text


@pytest.mark.parametrize(
    "text",
    ["", "user_", "org_1", "user_1\n", " user_1", "user_1/../x", "user_é", "user_" + "x" * 121, "user_1'; --"],
)
def test_what_cannot_be_a_user_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(BadSubject) as refused:
        user_id(text)
    assert len(text) < 6 or text not in str(refused.value)
