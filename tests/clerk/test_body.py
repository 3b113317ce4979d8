"""What the settings make of a body: addresses, phone numbers, filters and the user's own functions."""

import json
from typing import Any

import pytest

from counterfoil.clerk.body import BodyReader, View
from counterfoil.core.eligibility import Eligibility
from counterfoil.core.link import Address, Fields
from counterfoil.core.news import UserBody
from counterfoil.errors import WebhookUnreadable

KEY = "stripeCustomerId"


def user(**more: Any) -> dict[str, Any]:
    address = {"id": "idn_1", "email_address": "ada@example.com", "verification": {"status": "verified"}}
    return {
        "id": "user_1",
        "created_at": 1,
        "updated_at": 2,
        "first_name": "Ada",
        "primary_email_address_id": "idn_1",
        "email_addresses": [address],
        "primary_phone_number_id": "idn_3",
        "phone_numbers": [{"id": "idn_2", "phone_number": "+1555"}, {"id": "idn_3", "phone_number": "+15550100"}],
        "public_metadata": {"plan": "pro", "seats": 3, "on": True, "none": None, "tags": ["a"]},
        **more,
    }


def body(view: View | None = None, **more: Any) -> UserBody:
    return BodyReader(KEY, view).read(json.dumps(user(**more)).encode())


def address(verification: Any, email: str = "ada@example.com") -> Address:
    entry = {"id": "idn_1", "email_address": email, "verification": verification}
    return body(email_addresses=[entry]).address


@pytest.mark.parametrize(
    ("verification", "expected"),
    [
        ({"status": "verified", "strategy": "something_new"}, Address.CARRIED),
        ({"status": "unverified"}, Address.UNVERIFIED),
        ({"status": "expired"}, Address.UNVERIFIED),
        ({"status": "a new one"}, Address.UNVERIFIED),
        ({"status": None}, Address.UNVERIFIED),
        ({}, Address.UNVERIFIED),
        (None, Address.UNVERIFIED),
    ],
)
def test_only_verified_is_verified_and_what_is_new_is_not(verification: Any, expected: Address) -> None:
    assert address(verification) is expected


@pytest.mark.parametrize(
    "more",
    [
        {"primary_email_address_id": None},
        {"primary_email_address_id": "idn_elsewhere"},
        {"email_addresses": []},
        {"email_addresses": None},
    ],
)
def test_without_a_primary_address_there_is_none(more: dict[str, Any]) -> None:
    assert body(**more).address is Address.NONE


def test_an_address_that_no_customer_can_carry_is_none() -> None:
    assert address({"status": "verified"}, "x" * 520 + "@a.b") is Address.NONE


def test_a_verified_address_that_is_not_mirrored_is_verified_and_not_carried() -> None:
    assert body(View(mirror=frozenset({"name"}))).address is Address.VERIFIED
    assert body(View(mapping=lambda given: {"email": "billing@b.c"})).address is Address.VERIFIED
    assert body(View(mapping=lambda given: {"email": "ada@example.com"})).address is Address.CARRIED


def test_the_primary_phone_number_is_read_only_where_it_is_mirrored() -> None:
    everything = View(mirror=frozenset({"email", "name", "phone"}))
    assert body(everything).fields == Fields("ada@example.com", "Ada", "+15550100")
    assert body(everything, primary_phone_number_id="idn_9").fields.phone is None
    assert body(everything, primary_phone_number_id=None, phone_numbers=None).fields.phone is None
    assert body(phone_numbers="whatever it is").fields == Fields("ada@example.com", "Ada")
    with pytest.raises(WebhookUnreadable):
        body(everything, phone_numbers=[{"id": "idn_3", "phone_number": "+1\0"}])


@pytest.mark.parametrize(
    ("wanted", "eligible"),
    [
        (("plan", "pro"), True),
        (("plan", "free"), False),
        (("seats", "3"), True),
        (("on", "true"), True),
        (("none", "null"), True),
        (("tags", "a"), False),
        (("missing", ""), False),
    ],
)
def test_a_value_of_the_public_metadata_is_compared_as_a_text(wanted: tuple[str, str], eligible: bool) -> None:
    assert body(View(eligibility=Eligibility(metadata=wanted))).eligible is eligible


def test_private_and_unsafe_metadata_make_nobody_eligible() -> None:
    view = View(eligibility=Eligibility(metadata=("plan", "pro")))
    other = {"plan": "pro"}
    assert not body(view, public_metadata=None, private_metadata=other, unsafe_metadata=other).eligible


def test_own_functions_see_the_whole_user_and_not_what_each_other_did_to_it() -> None:
    seen = []

    def function(given: dict[str, Any]) -> bool:
        seen.append(json.loads(json.dumps(given)))
        given.clear()
        return True

    def mapping(given: dict[str, Any]) -> dict[str, str]:
        seen.append(given)
        return {"name": given["something_new"]["deep"][0]}

    view = View(eligibility=Eligibility(function=function), mapping=mapping)
    read = body(view, something_new={"deep": ["Augusta"]})
    assert seen == [user(something_new={"deep": ["Augusta"]})] * 2
    assert (read.fields, read.eligible, read.mapping_error) == (Fields(name="Augusta"), True, None)


def test_a_function_that_fails_leaves_a_body_that_says_so() -> None:
    def fails(given: dict[str, Any]) -> bool:
        raise KeyError("company")

    failed = body(View(mapping=fails))
    assert (failed.fields, failed.eligible, failed.mapping_error) == (Fields(), True, "KeyError: 'company'")
    undecided = body(View(eligibility=Eligibility(function=fails)))
    assert (undecided.eligible, undecided.mapping_error) == (True, "KeyError: 'company'")
    assert undecided.fields == Fields("ada@example.com", "Ada")
