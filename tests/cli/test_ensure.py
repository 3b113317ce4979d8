"""``counterfoil ensure`` and the client, beside a real serve."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from counterfoil.client import ensure_customer
from counterfoil.errors import ConfigurationError, UserUnknown
from counterfoil.sandbox.faults import Fault
from tests.acceptance.standing import Standing, standing_in
from tests.asking import TOKEN
from tests.cli.support import beside

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def standing(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Standing]:
    async with standing_in(tmp_path_factory.mktemp("ensure"), COUNTERFOIL_API_TOKEN=TOKEN) as made:
        yield made


def silent(standing: Standing, name: str) -> str:
    """Somebody whose webhook never comes."""
    email = f"{name}@example.com"
    return standing.sandbox.clerk.create_user(time.time(), email=email, silent=True)


def customers(standing: Standing, user: str) -> list[str]:
    live = standing.sandbox.stripe.live_customers()
    return [each.id for each in live if each.metadata.get("clerkUserId") == user]


async def test_it_prints_the_customer_that_it_had_made(standing: Standing) -> None:
    user = silent(standing, "ada")
    found = await standing.run("ensure", user)
    assert (found.code, [found.out.strip()]) == (0, customers(standing, user)), found
    told = await standing.run("ensure", user, "--json", "--timeout", "0")
    assert (told.code, told.json) == (0, {"customer_id": found.out.strip()})


async def test_what_takes_longer_ends_with_a_code_of_its_own(standing: Standing) -> None:
    user = silent(standing, "grace")
    standing.sandbox.plan_fault("stripe", "customers.create", Fault(kind="slow", delay=3.0))
    found = await standing.run("ensure", user, "--timeout", "1")
    assert (found.code, found.out) == (7, "")
    assert "not done yet" in found.err
    await standing.settled(user)
    assert len(customers(standing, user)) == 1


async def test_a_user_who_is_none_is_a_failure(standing: Standing) -> None:
    found = await standing.run("ensure", "user_neverheardof")
    assert (found.code, found.out) == (1, "")
    assert "no such user" in found.err


async def test_a_parked_link_is_a_failure_and_says_what_to_do(standing: Standing) -> None:
    user = standing.sign_up_refused("edsger")
    await standing.parked(user)
    found = await standing.run("ensure", user)
    assert found.code == 1
    assert "refused" in found.err


async def test_without_a_serve_it_says_so(tmp_path: Path) -> None:
    found = await beside(tmp_path, "ensure", "user_a")
    assert found.code == 5
    assert "start `counterfoil serve`" in found.err


async def test_an_app_asks_over_http(standing: Standing) -> None:
    users = [silent(standing, f"person{number}") for number in range(5)]
    url = standing.serve.url
    told = await asyncio.gather(*(ensure_customer(user, url=url, token=TOKEN) for user in users for _ in range(4)))
    assert len(set(told)) == 5
    assert [told[4 * number] for number in range(5)] == [customers(standing, user)[0] for user in users]
    with pytest.raises(UserUnknown):
        await ensure_customer("user_neverheardof", url=url, token=TOKEN)
    with pytest.raises(ConfigurationError, match="refuses the token"):
        await ensure_customer(users[0], url=url, token=TOKEN + "x")
