"""What a customer carries: which of Clerk's values, and which of them are to be sent."""

import pytest

from counterfoil.core.customer import (
    MIRRORED,
    Customer,
    Subscription,
    address_of,
    difference,
    mirrored,
    overlay,
    wanted_fields,
)
from counterfoil.core.link import Address, Fields
from counterfoil.core.policy import EMAIL_LIMIT, PHONE_LIMIT

from .support import known, replace

FULL = Fields(
    email="ada@example.com",
    name="Ada",
    phone="+15550100",
    description="A friend",
    metadata={"plan": "pro", "seat": "1"},
)


def only(name: str) -> Fields:
    return replace(Fields(), **{name: "other"})


def test_email_and_name_are_mirrored_unless_told_otherwise() -> None:
    assert {"email", "name"} == MIRRORED
    assert mirrored("a@example.com", "Ada", "L", "+1") == Fields(email="a@example.com", name="Ada L")


@pytest.mark.parametrize(
    ("mirror", "fields"),
    [
        ({"email"}, Fields(email="a@example.com")),
        ({"name"}, Fields(name="Ada")),
        ({"phone"}, Fields(phone="+1")),
        (set(), Fields()),
    ],
)
def test_only_the_fields_that_were_chosen_are_mirrored(mirror: set[str], fields: Fields) -> None:
    assert mirrored("a@example.com", "Ada", None, "+1", mirror) == fields


def test_a_phone_number_too_long_is_left_out_for_a_cut_one_is_another() -> None:
    longest = "+" + "1" * (PHONE_LIMIT - 1)
    assert mirrored(None, None, None, longest, {"phone"}).phone == longest
    assert mirrored(None, None, None, longest + "1", {"phone"}).phone is None
    assert mirrored(None, None, None, "", {"phone"}).phone is None


LONGEST = "x" * (EMAIL_LIMIT - 2) + "@a"


@pytest.mark.parametrize(
    ("email", "status", "carried", "address"),
    [
        (None, None, None, Address.NONE),
        ("", "verified", "", Address.NONE),
        ("x" + LONGEST, "verified", "x" + LONGEST, Address.NONE),
        (LONGEST, "verified", LONGEST, Address.CARRIED),
        ("a@example.com", "verified", "a@example.com", Address.CARRIED),
        ("a@example.com", "verified", "other@example.com", Address.VERIFIED),
        ("a@example.com", "unverified", "a@example.com", Address.UNVERIFIED),
        ("a@example.com", None, "a@example.com", Address.UNVERIFIED),
        (None, "verified", None, Address.NONE),
    ],
)
def test_what_is_known_of_an_address(
    email: str | None, status: str | None, carried: str | None, address: Address
) -> None:
    assert address_of(email, status, Fields(email=carried)) is address


def test_no_address_is_refused_where_there_is_none() -> None:
    assert wanted_fields(known(fields=Fields(name="Ada"), refused_email=None)) == Fields(name="Ada")


def test_nothing_differs_from_itself() -> None:
    assert difference(FULL, FULL) == Fields()


@pytest.mark.parametrize("name", ["email", "name", "phone", "description"])
def test_each_field_that_differs_is_sent_alone(name: str) -> None:
    other = replace(FULL, **{name: "other"})
    assert difference(other, FULL) == only(name)
    assert difference(replace(FULL, **{name: None}), FULL) == Fields()
    assert overlay(FULL, only(name)) == other


def test_of_the_metadata_only_the_keys_that_differ_are_sent() -> None:
    wanted = replace(FULL, metadata={"plan": "pro", "seat": "2", "team": "red"})
    assert difference(wanted, FULL) == Fields(metadata={"seat": "2", "team": "red"})
    assert difference(replace(FULL, metadata=None), FULL) == Fields()
    assert overlay(FULL, Fields(metadata={"seat": "2"})).metadata == {"plan": "pro", "seat": "2"}


def test_all_is_sent_to_a_customer_of_which_nothing_is_known() -> None:
    assert difference(FULL, None) == FULL
    assert overlay(None, FULL) == FULL
    assert overlay(FULL, Fields()) == FULL


def test_a_subscription_that_has_changed_takes_the_place_of_its_former_self() -> None:
    first, second = (Subscription(subscription_id=name, status="active") for name in ("sub_1", "sub_2"))
    changed = replace(first, status="canceled")
    subscribed = Customer(customer_id="cus_1", subscriptions=(first, second))
    assert subscribed.with_subscription(changed).subscriptions == (second, changed)
    assert Customer(customer_id="cus_1").with_subscription(changed).subscriptions == (changed,)
    assert (first.live, changed.live) == (True, False)
