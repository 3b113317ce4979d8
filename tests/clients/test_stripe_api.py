"""Stripe's client: what each answer means, and what hangs on a customer."""

from collections.abc import Mapping
from typing import Any

import pytest
import stripe

from counterfoil.billing.stripe import is_live
from counterfoil.core.customer import HIDDEN, Subscription
from counterfoil.core.link import Fields
from counterfoil.errors import (
    KeyRefused,
    KeyReused,
    NotFound,
    ObjectLocked,
    Paused,
    RateLimited,
    Rejected,
    ReplayedFailure,
    ServerFailed,
    Unreachable,
    UpstreamError,
)
from counterfoil.sandbox.faults import Fault
from counterfoil.sandbox.sandbox import SandboxSettings
from counterfoil.sandbox.stripe import StripeSettings
from counterfoil.upstream.gate import LIVE
from tests.clients.support import clients
from tests.harness import MINUTE, World, scenario, scenario_in

ADA = Fields(email="ada@example.com", name="Ada")
FAILURES: dict[str, tuple[Fault, type[UpstreamError], int, str]] = {
    "400": (Fault(kind="error_before", status=400, code="parameter_unknown"), Rejected, 400, "parameter_unknown"),
    "401": (Fault(kind="error_before", status=401), KeyRefused, 401, ""),
    "403": (Fault(kind="error_before", status=403), KeyRefused, 403, ""),
    "404": (Fault(kind="error_before", status=404), NotFound, 404, ""),
    "missing": (
        Fault(kind="error_before", status=400, code="resource_missing"),
        NotFound,
        400,
        "resource_missing",
    ),
    "409": (Fault(kind="error_before", status=409), ObjectLocked, 409, ""),
    "limiter": (Fault(kind="rate_limited"), RateLimited, 429, ""),
    "lock": (Fault(kind="locked"), ObjectLocked, 429, "lock_timeout"),
    "500": (Fault(kind="error_before", status=500), ServerFailed, 500, ""),
    "after": (Fault(kind="error_after", status=500), ServerFailed, 500, ""),
    "stored": (Fault(kind="stored_500"), ServerFailed, 500, ""),
    "html": (Fault(kind="error_before", status=502, html=True), ServerFailed, 502, ""),
    "cut before": (Fault(kind="cut_before"), Unreachable, 0, ""),
    "cut after": (Fault(kind="cut_after"), Unreachable, 0, ""),
    "too slow": (Fault(kind="slow", delay=30.0), Unreachable, 0, ""),
}


def customer(world: World, **metadata: str) -> str:
    """A customer that something else made."""
    return world.sandbox.stripe.create_customer(world.time(), email="x@example.com", metadata=metadata)


@pytest.mark.parametrize("name", FAILURES)
@scenario
async def test_each_failure_is_an_error_of_its_own_class(world: World, name: str) -> None:
    fault, kind, status, code = FAILURES[name]
    world.sandbox.plan_fault("stripe", "customers.create", fault)
    with pytest.raises(UpstreamError) as raised:
        await clients(world).stripe.create("user_a", ADA, "key", LIVE)
    error = raised.value
    assert type(error) is kind
    assert (error.upstream, error.status) == ("stripe", status)
    assert code in error.code
    # The SDK keeps no headers of a body that is not JSON.
    assert error.request_id.startswith("req_") == (status > 0 and name != "html")
    for secret in (world.sandbox.settings.stripe.secret_key, "ada@example.com"):
        assert secret not in str(error)
    # The SDK's own retries are off: one call, one try.
    assert len(world.sandbox.calls("stripe")) == 1


@scenario
async def test_a_create_is_answered_and_marked_and_its_replay_is_told(world: World) -> None:
    api = clients(world).stripe
    first = await api.create("user_a", ADA, "cf1-key", LIVE)
    assert not first.replayed
    assert first.request_id.startswith("req_")
    true = world.sandbox.stripe.customers[first.customer_id]
    assert (true.email, true.name) == ("ada@example.com", "Ada")
    assert true.metadata == {"clerkUserId": "user_a", "counterfoil": "cf1-key"}
    again = await api.create("user_a", ADA, "cf1-key", LIVE)
    assert (again.customer_id, again.replayed) == (first.customer_id, True)
    assert len(list(world.sandbox.stripe.live_customers())) == 1


@scenario
async def test_a_key_used_with_other_parameters_is_told(world: World) -> None:
    api = clients(world).stripe
    await api.create("user_a", ADA, "cf1-key", LIVE)
    with pytest.raises(KeyReused):
        await api.create("user_a", Fields(email="other@example.com"), "cf1-key", LIVE)


@scenario
async def test_a_stored_failure_is_told_from_a_fresh_one(world: World) -> None:
    api = clients(world).stripe
    world.sandbox.plan_fault("stripe", "customers.create", "stored_500")
    with pytest.raises(ServerFailed) as fresh:
        await api.create("user_a", ADA, "cf1-key", LIVE)
    assert type(fresh.value) is ServerFailed
    with pytest.raises(ReplayedFailure):
        await api.create("user_a", ADA, "cf1-key", LIVE)


@scenario
async def test_an_address_that_stripe_refuses_is_told(world: World) -> None:
    with pytest.raises(Rejected) as error:
        await clients(world).stripe.create("user_a", Fields(email="a@b.invalid-for-stripe"), "key", LIVE)
    assert error.value.code == "email_invalid"


@scenario_in(SandboxSettings(stripe=StripeSettings(endpoint_limit=2)))
async def test_stripes_own_limiter_is_told_from_a_lock(world: World) -> None:
    api = clients(world).stripe
    for _ in range(2):
        await api.customers(LIVE, 0, None)
    with pytest.raises(RateLimited):
        await api.customers(LIVE, 0, None)


@scenario
async def test_a_rolled_key_is_refused_and_closes_the_gate(world: World) -> None:
    world.sandbox.stripe.roll_key()
    api = clients(world).stripe
    with pytest.raises(KeyRefused) as error:
        await api.customers(LIVE, 0, None)
    assert error.value.status == 401
    with pytest.raises(Paused):
        await api.customers(LIVE, 0, None)


@scenario
async def test_a_restricted_key_may_not_ask_for_the_account_and_is_good_otherwise(world: World) -> None:
    world.sandbox.stripe.restrict("account.retrieve")
    api = clients(world).stripe
    assert await api.account(LIVE) is None
    assert (await api.customers(LIVE, 0, None)).customers == ()


@scenario
async def test_a_wrong_key_is_not_taken_for_a_restricted_one(world: World) -> None:
    world.sandbox.stripe.roll_key()
    with pytest.raises(KeyRefused):
        await clients(world).stripe.account(LIVE)


@scenario
async def test_the_account_and_its_mode_are_told(world: World) -> None:
    api = clients(world).stripe
    assert await api.account(LIVE) == "acct_1Sandbox00000000"
    assert await api.livemode(LIVE) is None
    customer(world)
    assert await api.livemode(LIVE) is False


@scenario
async def test_customers_are_listed_newest_first_page_by_page(world: World) -> None:
    made = []
    for number in range(230):
        made.append(customer(world, clerkUserId=f"user_{number}", counterfoil="cf1-x" if number % 2 else ""))
        await world.run(1.0)
    world.sandbox.stripe.delete_customer(world.time(), made.pop(7))
    api = clients(world).stripe
    found: list[str] = []
    sizes = []
    after = None
    while True:
        page = await api.customers(LIVE, 0, after)
        found += [each.customer_id for each in page.customers]
        sizes.append(len(page.customers))
        after = found[-1]
        if not page.more:
            break
    assert found == made[::-1]
    assert sizes == [100, 100, 29]
    since = world.sandbox.stripe.customers[made[-4]].created * 1000
    page = await api.customers(LIVE, since, None)
    assert [each.customer_id for each in page.customers] == made[:-5:-1]
    assert page.customers[0].owner == "user_229"
    assert page.customers[0].mark == "cf1-x"
    assert page.customers[1].mark is None
    assert page.customers[0].created == world.sandbox.stripe.customers[made[-1]].created * 1000


@scenario
async def test_a_customer_is_inspected(world: World) -> None:
    found = customer(world, clerkUserId="user_a", counterfoil="cf1-x", theirs="yes")
    seen = await clients(world).stripe.inspect(found, LIVE)
    assert (seen.gone, seen.owner, seen.mark, seen.livemode, seen.attached) == (
        False,
        "user_a",
        "cf1-x",
        False,
        None,
    )


@pytest.mark.parametrize("thoroughly", [False, True])
@scenario
async def test_a_deleted_and_an_unknown_customer_are_both_gone(world: World, thoroughly: bool) -> None:
    deleted = customer(world)
    world.sandbox.stripe.delete_customer(world.time(), deleted)
    api = clients(world).stripe
    assert (await api.inspect(deleted, LIVE, thoroughly=thoroughly)).gone
    assert (await api.inspect("cus_neverwas00", LIVE, thoroughly=thoroughly)).gone


@pytest.mark.parametrize("thing", ["nothing", "subscription", "card", "payment"])
@scenario
async def test_a_thorough_look_finds_what_hangs_on_a_customer(world: World, thing: str) -> None:
    found, state = customer(world), world.sandbox.stripe
    match thing:
        case "subscription":
            state.add_subscription(world.time(), found)
        case "card":
            state.attach_payment_method(world.time(), found)
        case "payment":
            state.add_payment_intent(world.time(), found)
    other = customer(world)
    state.add_subscription(world.time(), other)
    state.attach_payment_method(world.time(), other)
    state.add_payment_intent(world.time(), other)
    seen = await clients(world).stripe.inspect(found, LIVE, thoroughly=True)
    assert seen.attached is (thing != "nothing")


@pytest.mark.parametrize("operation", ["payment_methods.list", "payment_intents.list"])
@scenario
async def test_what_the_key_may_not_see_counts_as_attached(world: World, operation: str) -> None:
    world.sandbox.stripe.restrict(operation)
    found = customer(world, clerkUserId="user_a")
    api = clients(world).stripe
    seen = await api.inspect(found, LIVE, thoroughly=True)
    assert (seen.owner, seen.attached) == ("user_a", True)
    # One permission lacks; the key is good, and the gate stays open.
    assert not (await api.inspect(found, LIVE)).gone


@scenario
async def test_subscriptions_that_the_key_may_not_see_count_as_attached(world: World) -> None:
    def expanded(request: Any) -> bool:
        return "expand" in request.query

    refused = Fault(kind="error_before", status=403)
    world.sandbox.plan_fault("stripe", "customers.retrieve", refused, when=expanded)
    found = customer(world, clerkUserId="user_a")
    seen = await clients(world).stripe.inspect(found, LIVE, thoroughly=True)
    assert (seen.owner, seen.attached) == ("user_a", True)


@scenario
async def test_a_key_that_may_not_read_customers_sees_nothing(world: World) -> None:
    world.sandbox.stripe.restrict("customers.retrieve")
    with pytest.raises(KeyRefused):
        await clients(world).stripe.inspect(customer(world), LIVE, thoroughly=True)


@scenario
async def test_an_update_sends_what_differs_and_leaves_the_rest(world: World) -> None:
    found = customer(world, theirs="yes")
    world.sandbox.stripe.edit_customer(world.time(), found, description="a good one", name="Old")
    api = clients(world).stripe
    assert (await api.update(found, Fields(name="New"), LIVE)).startswith("req_")
    true = world.sandbox.stripe.customers[found]
    assert (true.name, true.email, true.description) == ("New", "x@example.com", "a good one")
    await api.claim(found, "user_a", LIVE)
    assert true.metadata == {"theirs": "yes", "clerkUserId": "user_a"}


@scenario
async def test_a_customer_is_removed_once(world: World) -> None:
    found = customer(world)
    api = clients(world).stripe
    assert (await api.remove(found, LIVE)).startswith("req_")
    assert world.sandbox.stripe.customers[found].deleted
    with pytest.raises(NotFound):
        await api.remove(found, LIVE)


@pytest.mark.parametrize("wrong", ["", "cus_", "sub_1", "cus_a/b", "cus_a?x", "cus_ ", "../account", "cus_\n"])
@scenario
async def test_an_id_that_is_none_never_addresses_the_whole_collection(world: World, wrong: str) -> None:
    api = clients(world).stripe
    for call in (
        api.inspect(wrong, LIVE),
        api.update(wrong, ADA, LIVE),
        api.claim(wrong, "user_a", LIVE),
        api.remove(wrong, LIVE),
    ):
        with pytest.raises(NotFound):
            await call
    assert world.sandbox.calls("stripe") == []


@pytest.mark.parametrize("skew", [0, 90_000, -90_000])
@scenario
async def test_stripes_clock_is_measured_by_its_answers(world: World, skew: int) -> None:
    world.clock.skew = -skew
    api = clients(world).stripe
    page = await api.customers(LIVE, 0, None)
    # The date has whole seconds: it is this much ahead at the most, and not a second less.
    true = int(world.time() * 1000)
    assert skew <= api.offset <= skew + 1_000
    assert true - 1_000 <= page.at <= true


@scenario
async def test_a_slow_answer_makes_a_list_no_younger_than_it_is(world: World) -> None:
    world.sandbox.plan_fault("stripe", "customers.list", Fault(kind="slow", delay=9.0))
    begun = int(world.time() * 1000)
    page = await clients(world).stripe.customers(LIVE, 0, None)
    assert page.at <= begun


@scenario
async def test_a_refusals_date_is_measured_too(world: World) -> None:
    world.clock.skew = -30_000
    world.sandbox.plan_fault("stripe", "customers.list", "rate_limited")
    api = clients(world).stripe
    with pytest.raises(RateLimited):
        await api.customers(LIVE, 0, None)
    assert 30_000 <= api.offset <= 31_000


@scenario
async def test_an_answer_without_a_date_is_taken_for_a_minute_old(world: World) -> None:
    class Dateless(stripe.HTTPClient):
        name = "dateless"

        async def request_async(
            self, method: str, url: str, headers: Mapping[str, str], post_data: Any = None
        ) -> tuple[bytes, int, Mapping[str, str]]:
            return b'{"object": "list", "data": [], "has_more": false, "url": "/v1/customers"}', 200, {}

    api = clients(world).stripe
    api._client = stripe.StripeClient("sk_test_x", http_client=Dateless())
    page = await api.customers(LIVE, 0, None)
    assert page.at == world.clock.now() - MINUTE * 1000


@pytest.mark.parametrize(
    ("key", "live"),
    [
        ("sk_live_x", True),
        ("rk_live_x", True),
        ("sk_test_x", False),
        ("rk_test_x", False),
        ("sk_org_x", None),
        ("sk_live", None),
        ("", None),
    ],
)
def test_a_keys_prefix_tells_its_mode(key: str, live: bool | None) -> None:
    assert is_live(key) is live


@scenario
async def test_customers_are_found_by_the_address_as_given_and_in_lower_case_and_each_once(world: World) -> None:
    stripe = world.sandbox.stripe
    lower = stripe.create_customer(world.time(), email="ada@example.com", metadata={"clerkUserId": "user_a"})
    given = stripe.create_customer(world.time(), email="Ada@example.com", metadata={"counterfoil": "cf1-x"})
    stripe.create_customer(world.time(), email="ADA@example.com")
    gone = stripe.create_customer(world.time(), email="ada@example.com")
    stripe.delete_customer(world.time(), gone)
    found = await clients(world).stripe.with_email("Ada@example.com", LIVE)
    assert {(each.customer_id, each.owner, each.mark) for each in found} == {
        (lower, "user_a", None),
        (given, None, "cf1-x"),
    }
    assert [each.customer_id for each in await clients(world).stripe.with_email("ada@example.com", LIVE)] == [
        lower
    ]
    assert len(world.sandbox.calls("stripe", "customers.list")) == 3


@scenario
async def test_a_customer_is_made_with_all_fields_and_its_metadata_cannot_hide_ours(world: World) -> None:
    fields = Fields("a@b.co", "A", "+15550100", "a friend", {"plan": "pro", "clerkUserId": "user_b"})
    made = await clients(world).stripe.create("user_a", fields, "key", LIVE)
    customer = world.sandbox.stripe.customers[made.customer_id]
    assert customer.metadata == {"plan": "pro", "clerkUserId": "user_a", "counterfoil": "key"}
    assert (customer.phone, customer.description) == ("+15550100", "a friend")
    await clients(world).stripe.update(made.customer_id, Fields(metadata={"seat": "2"}), LIVE)
    assert customer.metadata == {"plan": "pro", "seat": "2", "clerkUserId": "user_a", "counterfoil": "key"}
    assert (customer.email, customer.name) == ("a@b.co", "A")


@scenario
async def test_an_archive_is_written_found_and_taken_back_beside_others_keys(world: World) -> None:
    api, made = clients(world).stripe, customer(world, clerkUserId="user_a", shop="theirs")
    await api.archive(made, 1_790_000_000_000, LIVE)
    true = world.sandbox.stripe.customers[made]
    archived = {"clerkUserId": "user_a", "shop": "theirs", "counterfoilArchived": "2026-09-21T14:13:20Z"}
    assert true.metadata == archived
    assert (await api.inspect(made, LIVE)).archived
    assert (await api.customers(LIVE, 0, None)).customers[0].archived
    await api.restore(made, LIVE)
    assert true.metadata == {"clerkUserId": "user_a", "shop": "theirs"}
    assert not (await api.inspect(made, LIVE)).archived


@scenario
async def test_subscriptions_are_told_with_their_end_and_only_when_asked_for(world: World) -> None:
    api, made = clients(world).stripe, customer(world)
    assert (await api.inspect(made, LIVE)).subscriptions is None
    assert (await api.inspect(made, LIVE, subscriptions=True)).subscriptions == ()
    name = world.sandbox.stripe.add_subscription(world.time(), made, status="trialing", period=3_600)
    seen = await api.inspect(made, LIVE, subscriptions=True)
    end = (int(world.time()) + 3_600) * 1000
    expected = Subscription(subscription_id=name, status="trialing", period_end=end)
    assert seen.subscriptions == (expected,)
    assert seen.attached is None
    closing, request_id = await api.cancel(name, LIVE, at_once=False)
    assert (closing.closing, closing.live, request_id[:4]) == (True, True, "req_")
    over, _ = await api.cancel(name, LIVE, at_once=True)
    assert not over.live
    again, _ = await api.cancel(name, LIVE, at_once=True)
    assert not again.live


@scenario
async def test_more_subscriptions_than_a_customer_shows_are_listed(world: World) -> None:
    api, made = clients(world).stripe, customer(world)
    names = {world.sandbox.stripe.add_subscription(world.time(), made) for _ in range(12)}
    seen = await api.inspect(made, LIVE, subscriptions=True)
    assert {each.subscription_id for each in seen.subscriptions or ()} == names


@scenario
async def test_a_key_without_permission_hides_subscriptions_and_closes_no_gate(world: World) -> None:
    api, made = clients(world).stripe, customer(world)
    name = world.sandbox.stripe.add_subscription(world.time(), made)
    refused = Fault(kind="error_before", status=403, code="more_permissions_required")
    world.sandbox.plan_fault(
        "stripe", "customers.retrieve", refused, when=lambda request: "expand" in request.query
    )
    (hidden,) = (await api.inspect(made, LIVE, subscriptions=True)).subscriptions or ()
    assert (hidden.status, hidden.live) == (HIDDEN, True)
    world.sandbox.stripe.restrict("subscriptions.update")
    with pytest.raises(Rejected):
        await api.cancel(name, LIVE, at_once=False)
    assert not (await api.inspect(made, LIVE)).gone
