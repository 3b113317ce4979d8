"""A live user without a customer: each policy's branches."""

from collections.abc import Mapping
from typing import Any

import pytest

from counterfoil.core.creating import obstacle, plan_creation, resolve_claim
from counterfoil.core.customer import Customer
from counterfoil.core.link import Address, Deletion, Fields, Link, ParkReason
from counterfoil.core.policy import Adopt, Create, LinkBack, NoEmail
from counterfoil.core.step import (
    AdoptCustomer,
    ClaimCustomer,
    FindByEmail,
    ForgoCustomer,
    InspectCustomer,
    OpenIntent,
    Park,
    ReserveCustomer,
    Settled,
    Step,
    Turn,
    Without,
)

from .support import ADA, POLICY, SINCE, SUBJECT, known, replace

MAKE = OpenIntent(POLICY.intent_key(SUBJECT, 0), ADA)
ADDRESS = str(ADA.email)


def seen(customer_id: str = "cus_5", **more: Any) -> Customer:
    return Customer(customer_id=customer_id, **more)


def step(link: Link, inspected: Mapping[str, Customer] | None = None, **policy: Any) -> Step:
    return plan_creation(Turn(link=link, inspected=inspected or {}), replace(POLICY, **policy))


def by_email(
    *candidates: Customer, link: Link | None = None, inspected: Mapping[str, Customer] | None = None
) -> Step:
    """What comes after a list of those who carry the address."""
    turn = Turn(link=link or known(), inspected=inspected or {}, candidates=candidates, searched=ADDRESS)
    return plan_creation(turn, replace(POLICY, adopt=Adopt.VERIFIED_EMAIL))


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        (Address.NONE, None),
        (Address.UNVERIFIED, None),
        (Address.VERIFIED, MAKE),
        (Address.CARRIED, MAKE),
    ],
)
def test_a_customer_once_the_address_is_verified(address: Address, expected: Step | None) -> None:
    wait = Settled("waiting for a verified email address", Without.UNVERIFIED)
    assert step(known(address=address), create=Create.ON_VERIFIED_EMAIL) == (expected or wait)


def test_a_customer_on_demand_only_where_it_was_asked_for() -> None:
    assert step(known(), create=Create.ON_DEMAND) == Settled("nobody asked for a customer", Without.UNASKED)
    assert step(known(asked=True), create=Create.ON_DEMAND) == MAKE


@pytest.mark.parametrize("create", Create)
def test_who_is_not_eligible_gets_none_though_somebody_asked(create: Create) -> None:
    assert step(known(asked=True, eligible=False), create=create) == Settled("not eligible", Without.NOT_ELIGIBLE)


def test_a_mapping_that_failed_parks_only_who_would_get_a_customer() -> None:
    broken = known(mapping_error="KeyError: 'ada@example.com'")
    assert step(broken) == Park(ParkReason.MAPPING, "KeyError")
    assert step(replace(broken, eligible=False)) == Settled("not eligible", Without.NOT_ELIGIBLE)
    assert step(replace(broken, wanted=False)) == Settled("older than the first start", Without.OLDER)


@pytest.mark.parametrize(
    ("fields", "address", "waits"),
    [
        (Fields(name="Ada"), Address.NONE, True),
        (Fields(name="Ada"), Address.UNVERIFIED, False),
        (Fields(email="billing@example.com"), Address.NONE, False),
    ],
    ids=["neither", "an address that is not mirrored", "only a mapped one"],
)
def test_only_who_has_no_address_at_all_waits_for_one(fields: Fields, address: Address, waits: bool) -> None:
    link = known(fields=fields, address=address)
    assert isinstance(step(link), Settled if waits else OpenIntent)
    assert isinstance(step(link, no_email=NoEmail.CREATE), OpenIntent)


@pytest.mark.parametrize(
    ("candidates", "expected"),
    [
        ([], MAKE),
        ([seen(gone=True)], MAKE),
        ([seen(archived=True)], MAKE),
        ([seen()], InspectCustomer("cus_5")),
        ([seen(owner=SUBJECT)], AdoptCustomer("cus_5")),
        ([seen(owner=SUBJECT), seen("cus_6")], AdoptCustomer("cus_5")),
        ([seen(owner=SUBJECT), seen("cus_6", owner=SUBJECT)], Park(ParkReason.DUPLICATE, "cus_5, cus_6")),
        ([seen(livemode=True)], Park(ParkReason.WRONG_MODE, "cus_5")),
        (
            [seen(), seen("cus_6")],
            Park(ParkReason.REVIEW, "several have this address: cus_5, cus_6"),
        ),
        (
            [seen(owner="user_2")],
            Park(ParkReason.REVIEW, "cus_5 has this address and is another user's (user_2)"),
        ),
        (
            [seen(mark="cf1-x")],
            Park(ParkReason.REVIEW, "cus_5 has this address and is made by Counterfoil for somebody"),
        ),
    ],
)
def test_of_those_with_the_address_only_one_that_is_nobodys_may_be_taken(
    candidates: list[Customer], expected: Step
) -> None:
    assert by_email(*candidates) == expected


def test_a_candidate_is_looked_at_just_before_it_is_reserved_and_what_was_seen_then_counts() -> None:
    assert by_email(seen(), inspected={"cus_5": seen()}) == ReserveCustomer("cus_5")
    assert by_email(seen(), inspected={"cus_5": seen(gone=True)}) == MAKE
    assert isinstance(by_email(seen(), inspected={"cus_5": seen(owner="user_2")}), Park)


def test_the_address_is_looked_for_only_where_it_is_the_verified_one_that_the_customer_is_to_carry() -> None:
    adopt: dict[str, Any] = {"adopt": Adopt.VERIFIED_EMAIL}
    assert step(known(), **adopt) == FindByEmail(ADDRESS)
    for address in (Address.NONE, Address.UNVERIFIED, Address.VERIFIED):
        assert step(known(address=address), **adopt) == MAKE
    assert isinstance(step(known(refused_email=ADA.email), **adopt), OpenIntent)
    assert isinstance(step(known(eligible=False), **adopt), Settled)


def test_who_has_the_address_is_told_with_no_more_of_a_strange_owner_than_fits() -> None:
    parked = by_email(seen(owner="x" * 200))
    assert parked == Park(ParkReason.REVIEW, f"cus_5 has this address and is another user's ({'x' * 64})")


def test_an_address_that_stripe_has_refused_meanwhile_is_not_looked_for() -> None:
    assert by_email(link=known(refused_email=ADDRESS)) == replace(MAKE, fields=Fields(name="Ada"))


def test_who_is_wanted_gets_the_customer_that_clerk_names_however_old() -> None:
    assert step(known(source_version=SINCE - 1, link_back="cus_5")) == InspectCustomer("cus_5")


def test_of_whom_nothing_is_known_no_address_is_known() -> None:
    unread = known(fields=None, address=Address.NONE)
    assert obstacle(unread, POLICY) == Settled("waiting for an email address", Without.NO_EMAIL)


def test_a_list_of_another_address_is_not_used() -> None:
    assert by_email(seen(), link=known(fields=Fields(email="new@example.com"))) == FindByEmail("new@example.com")


def test_never_adopts_only_who_names_the_user_already() -> None:
    link = known(link_back="cus_5")
    never: dict[str, Any] = {"adopt": Adopt.NEVER}
    assert step(link, **never) == InspectCustomer("cus_5")
    assert step(link, {"cus_5": seen(owner=SUBJECT)}, **never) == AdoptCustomer("cus_5")
    assert step(link, {"cus_5": seen(owner=SUBJECT, livemode=True)}, **never) == Park(
        ParkReason.WRONG_MODE, "cus_5"
    )
    for other in (
        seen(),
        seen(owner="user_2"),
        seen(gone=True),
        seen(gone=True, owner=SUBJECT),
        seen(livemode=True),
    ):
        assert step(link, {"cus_5": other}, **never) == MAKE
    assert step(known(link_back="ask finance"), **never) == MAKE


@pytest.mark.parametrize("place", LinkBack)
def test_either_metadata_may_name_a_customer_to_adopt_and_the_own_place_goes_first(place: LinkBack) -> None:
    assert step(known(link_back="cus_5"), link_back=place) == InspectCustomer("cus_5")
    assert step(known(private_name="cus_6"), link_back=place) == InspectCustomer("cus_6")
    first = "cus_6" if place is LinkBack.PRIVATE else "cus_5"
    assert step(known(link_back="cus_5", private_name="cus_6"), link_back=place) == InspectCustomer(first)


@pytest.mark.parametrize(
    ("found", "deletion", "expected"),
    [
        (None, Deletion.NONE, InspectCustomer("cus_5")),
        (seen(), Deletion.NONE, ClaimCustomer("cus_5")),
        (seen(owner=SUBJECT), Deletion.NONE, AdoptCustomer("cus_5")),
        (seen(owner="user_2"), Deletion.NONE, ForgoCustomer("cus_5")),
        (seen(gone=True), Deletion.NONE, ForgoCustomer("cus_5")),
        (seen(gone=True, owner=SUBJECT), Deletion.NONE, ForgoCustomer("cus_5")),
        (seen(), Deletion.SIGNED, ForgoCustomer("cus_5")),
        (seen(owner=SUBJECT), Deletion.SIGNED, AdoptCustomer("cus_5")),
    ],
)
def test_a_claim_under_way_is_finished_or_given_up(
    found: Customer | None, deletion: Deletion, expected: Step
) -> None:
    link = known(customer_id="cus_5", claiming=True, deletion=deletion)
    inspected = {"cus_5": found} if found is not None else {}
    assert resolve_claim(Turn(link=link, inspected=inspected)) == expected
