"""What is kept in step: COUNTERFOIL_MIRROR and COUNTERFOIL_MAPPING."""

from typing import Any

import pytest

from counterfoil.core.link import ParkReason
from counterfoil.errors import ConfigurationError
from counterfoil.sandbox.clerk_user import User
from counterfoil.sandbox.verdict import Rules, email_and_name
from tests.harness import World, scenario

OWN = "tests.scenarios.own_functions"
BILLING: dict[str, Any] = {"COUNTERFOIL_MAPPING": f"{OWN}:billing"}


def with_phone(user: User) -> dict[str, str]:
    """The default fields, and a phone number that Stripe takes."""
    phone = user.phone
    return email_and_name(user) | ({"phone": phone} if phone is not None and len(phone) <= 20 else {})


def billed(user: User) -> dict[str, str]:
    """As the mapping has it."""
    name, plan = user.first_name or "", user.public_metadata.get("plan")
    fields = {"name": name, "description": f"{name} of {user.public_metadata['company']}"}
    fields |= {"metadata[user]": user.id[:12]} | ({"metadata[plan]": plan} if plan else {})
    return fields | {"email": user.private_metadata["billing_email"]}


@scenario
async def test_the_primary_phone_number_is_kept_in_step_where_it_is_asked_for(world: World) -> None:
    await world.start(COUNTERFOIL_MIRROR="email,name,phone")
    clerk = world.sandbox.clerk
    user = clerk.create_user(world.time(), email="ada@example.com", phone="+15550100")
    await world.settle()
    assert world.customer_of(user).phone == "+15550100"
    clerk.change_phone(world.time(), user, "+15550199")
    await world.settle()
    assert world.customer_of(user).phone == "+15550199"
    clerk.change_phone(world.time(), user, "+1" + "5" * 19)
    await world.settle()
    assert world.customer_of(user).phone == "+15550199", "too long for Stripe: left out"
    clerk.change_phone(world.time(), user, None)
    await world.settle()
    assert world.customer_of(user).phone == "+15550199", "what Clerk does not have is never blanked"
    world.assert_in_step(Rules(expected=with_phone))


@scenario
async def test_a_phone_number_is_nobodys_business_by_default(world: World) -> None:
    await world.start()
    user = world.sandbox.clerk.create_user(world.time(), email="ada@example.com", phone="+15550100")
    await world.settle()
    assert world.customer_of(user).phone is None


@scenario
async def test_a_field_that_is_mirrored_from_now_on_reaches_all_at_the_start(world: World) -> None:
    await world.start()
    user = world.sandbox.clerk.create_user(world.time(), email="ada@example.com", phone="+15550100")
    await world.settle()
    await world.restart(COUNTERFOIL_MIRROR="email,name,phone")
    await world.run(60)
    await world.settle()
    world.assert_in_step(Rules(expected=with_phone))
    assert world.customer_of(user).phone == "+15550100"


@scenario
async def test_a_mapping_gives_fields_and_metadata_and_sends_only_what_differs(world: World) -> None:
    await world.start(**BILLING)
    clerk = world.sandbox.clerk
    user = clerk.create_user(
        world.time(),
        email="ada@example.com",
        first_name="Ada",
        public_metadata={"plan": "pro", "company": "Acme"},
        private_metadata={"billing_email": "bills@acme.com"},
    )
    await world.settle()
    customer = world.customer_of(user)
    mark = customer.metadata["counterfoil"]
    assert customer.metadata == {"clerkUserId": user, "counterfoil": mark, "plan": "pro", "user": user[:12]}
    world.assert_in_step(Rules(expected=billed))
    world.sandbox.stripe.edit_customer(world.time(), customer.id, metadata={"user": "edited", "crm": "77"})
    clerk.set_public_metadata(world.time(), user, {"plan": "team"})
    await world.settle()
    assert customer.metadata["plan"] == "team"
    assert (customer.metadata["user"], customer.metadata["crm"]) == ("edited", "77"), "only what changed is sent"
    clerk.set_public_metadata(world.time(), user, {"plan": None})
    await world.settle()
    assert customer.metadata["plan"] == "team", "a key that the mapping no longer gives is left alone"


@scenario
async def test_a_mapped_address_that_is_not_the_verified_one_adopts_nobody(world: World) -> None:
    victim = world.sandbox.stripe.create_customer(world.time(), email="rich@example.com")
    await world.start(**BILLING, COUNTERFOIL_ADOPT="verified_email")
    user = world.sandbox.clerk.create_user(
        world.time(),
        email="eve@example.com",
        first_name="Eve",
        private_metadata={"billing_email": "rich@example.com"},
    )
    await world.settle()
    assert world.sandbox.stripe.customers[victim].metadata == {}
    assert world.customer_of(user).id != victim


@scenario
async def test_a_mapping_that_raises_parks_its_user_alone_and_mending_it_unparks(world: World) -> None:
    await world.start(COUNTERFOIL_MAPPING=f"{OWN}:needs_a_company")
    poor = world.sign_up()
    other = world.sign_up("bob@example.com", company="Acme")
    await world.settle()
    assert world.sandbox.svix.pending() == 0, "the deliveries were taken"
    link = await world.link(poor)
    assert link is not None
    assert (link.parked, link.mapping_error) == (ParkReason.MAPPING, "KeyError: 'company'")
    assert world.customers_of(poor) == []
    assert world.customer_of(other).name == "Acme"
    assert not any("company" in line for line in await world.story(poor)), "the journal quotes nothing"
    node = await world.restart(**BILLING)
    await node.supervisor.retry([poor])
    await world.settle()
    assert world.customer_of(poor).description == "Ada of nowhere"
    link = await world.link(poor)
    assert link is not None
    assert (link.parked, link.mapping_error) == (None, None)


@scenario
async def test_a_later_body_that_the_mapping_can_read_unparks(world: World) -> None:
    await world.start(COUNTERFOIL_MAPPING=f"{OWN}:needs_a_company")
    user = world.sign_up()
    await world.settle()
    world.sandbox.clerk.set_public_metadata(world.time(), user, {"company": "Acme"})
    await world.settle()
    customer = world.customer_of(user)
    assert customer.name == "Acme"
    world.sandbox.clerk.set_public_metadata(world.time(), user, {"company": None})
    await world.settle()
    link = await world.link(user)
    assert link is not None
    assert link.parked is ParkReason.MAPPING
    assert customer.name == "Acme", "while the mapping fails the customer is left as it is"


@scenario
async def test_a_mapping_that_takes_our_key_is_refused(world: World) -> None:
    await world.start(COUNTERFOIL_MAPPING=f"{OWN}:takes_our_key")
    user = world.sign_up()
    await world.settle()
    link = await world.link(user)
    assert link is not None
    assert link.parked is ParkReason.MAPPING
    assert world.writes() == []


@scenario
async def test_a_user_who_goes_takes_the_customer_along_though_the_mapping_fails(world: World) -> None:
    await world.start(COUNTERFOIL_MAPPING=f"{OWN}:needs_a_company")
    user = world.sign_up(company="Acme")
    await world.settle()
    world.sandbox.clerk.set_public_metadata(world.time(), user, {"company": None})
    await world.settle()
    world.sandbox.clerk.delete_user(world.time(), user)
    await world.settle()
    world.assert_in_step()
    link = await world.link(user)
    assert link is not None
    assert link.mapping_error is None


@pytest.mark.parametrize("setting", ["COUNTERFOIL_MAPPING", "COUNTERFOIL_ELIGIBLE"])
@scenario
async def test_a_function_that_is_not_there_ends_the_start_and_says_which_setting(
    world: World, setting: str
) -> None:
    with pytest.raises(ConfigurationError, match=f"{setting}: .* has no function nobody"):
        await world.assemble(observe=False, **{setting: f"{OWN}:nobody"})
