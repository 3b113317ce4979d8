"""The official clients, and a bare one, against the sandbox on a loopback socket."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import httpx
import pytest
import stripe
from aiohttp import web
from clerk_backend_api import Clerk
from clerk_backend_api.models import ClerkErrors, SDKError
from clerk_backend_api.utils import BackoffStrategy, RetryConfig
from svix.webhooks import Webhook

from counterfoil.sandbox import Courier, Fault, Sandbox, SandboxSettings, SvixSettings, serve

from .support import CLERK_KEY, NOW, STRIPE_KEY


@pytest.fixture
async def base(sandbox: Sandbox) -> AsyncIterator[str]:
    async with serve(sandbox) as base:
        yield base


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
async def billing(base: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[stripe.StripeClient]:
    monkeypatch.setattr(stripe, "enable_telemetry", False)
    client = stripe.AIOHTTPClient(timeout=5)
    yield stripe.StripeClient(
        STRIPE_KEY, base_addresses={"api": base + "/stripe"}, max_network_retries=0, http_client=client
    )
    await client.close_async()  # type: ignore[no-untyped-call]


@pytest.fixture
async def users(base: str) -> AsyncIterator[Clerk]:
    never = RetryConfig("none", BackoffStrategy(1, 1, 1, 1), False)
    # Its own clients would be closed by a finalizer that runs a second event loop.
    with httpx.Client() as unused:
        async with httpx.AsyncClient() as client:
            yield Clerk(
                bearer_auth=CLERK_KEY,
                server_url=base + "/clerk/v1",
                retry_config=never,
                client=unused,
                async_client=client,
            )


async def test_the_stripe_package_makes_reads_changes_lists_and_deletes(
    billing: stripe.StripeClient, sandbox: Sandbox
) -> None:
    customers = billing.v1.customers
    made = await customers.create_async({"email": "a@b.c", "metadata": {"clerkUserId": "user_1"}})
    changed = await customers.update_async(made.id, {"name": "Zoë", "metadata": {"clerkUserId": ""}})
    assert (changed.name, changed.email) == ("Zoë", "a@b.c")
    assert changed.metadata is not None
    assert changed.metadata.to_dict() == {}
    sandbox.stripe.add_subscription(NOW, made.id)
    read = await customers.retrieve_async(made.id, {"expand": ["subscriptions"]})
    assert read.subscriptions is not None
    assert len(read.subscriptions.data) == 1
    page = await customers.list_async({"limit": 100, "created": {"gte": made.created}})
    assert [customer.id for customer in page.data] == [made.id]
    await customers.delete_async(made.id)
    gone = await customers.retrieve_async(made.id)
    assert gone.deleted is True
    assert gone.to_dict() == {"id": made.id, "object": "customer", "deleted": True}


async def test_the_stripe_package_pages_through_everything(billing: stripe.StripeClient, sandbox: Sandbox) -> None:
    made = [sandbox.stripe.create_customer(NOW + number) for number in range(7)]
    page = await billing.v1.customers.list_async({"limit": 3})
    assert [customer.id async for customer in page.auto_paging_iter()] == made[::-1]


async def test_the_stripe_package_sees_a_replay(billing: stripe.StripeClient) -> None:
    answers = [
        await billing.v1.customers.create_async({"email": "a@b.c"}, {"idempotency_key": "k"}) for _ in range(2)
    ]
    assert answers[0].id == answers[1].id
    responses = [answer.last_response for answer in answers]
    replayed = [response and response.headers.get("Idempotent-Replayed") for response in responses]
    assert replayed == [None, "true"]


@pytest.mark.parametrize(
    ("fault", "error", "status"),
    [
        (Fault(kind="error_before", status=503), stripe.APIError, 503),
        (Fault(kind="error_after", status=502, html=True), stripe.APIError, 502),
        (Fault(kind="rate_limited"), stripe.RateLimitError, 429),
        (Fault(kind="locked"), stripe.RateLimitError, 429),
        (Fault(kind="stored_500"), stripe.APIError, 500),
        (Fault(kind="cut_before"), stripe.APIConnectionError, None),
        (Fault(kind="cut_after"), stripe.APIConnectionError, None),
    ],
)
async def test_the_stripe_package_raises_what_a_fault_calls_for(
    billing: stripe.StripeClient, sandbox: Sandbox, fault: Fault, error: type[Any], status: int | None
) -> None:
    sandbox.plan_fault("stripe", "customers.create", fault)
    with pytest.raises(error) as caught:
        await billing.v1.customers.create_async({"email": "a@b.c"})
    assert caught.value.http_status == status


async def test_the_stripe_package_tells_bad_requests_and_bad_keys(
    billing: stripe.StripeClient, sandbox: Sandbox
) -> None:
    with pytest.raises(stripe.InvalidRequestError) as refused:
        await billing.v1.customers.create_async({"email": "a@b.invalid-for-stripe"})
    assert refused.value.code == "email_invalid"
    sandbox.stripe.restrict("account.retrieve")
    with pytest.raises(stripe.PermissionError):
        await billing.v1.accounts.retrieve_current_async()
    sandbox.stripe.roll_key()
    with pytest.raises(stripe.AuthenticationError) as expired:
        await billing.v1.customers.list_async()
    assert expired.value.error is not None
    assert expired.value.error.code == "api_key_expired"


# The package warns of a parameter of its own list call that nobody gave.
@pytest.mark.filterwarnings("ignore:warning. .. DEPRECATED:DeprecationWarning")
async def test_the_clerk_package_reads_users_and_the_instance(users: Clerk, sandbox: Sandbox) -> None:
    user_id = sandbox.clerk.create_user(NOW, email="ada@example.com", phone="+15555550100")
    user = await users.users.get_async(user_id=user_id)
    assert user.email_addresses[0].email_address == "ada@example.com"
    listed = await users.users.list_async(request={"limit": 500, "order_by": "-updated_at"})
    assert [each.id for each in listed] == [user_id]
    counted = await users.users.count_async(request={})
    assert counted.total_count == 1
    instance = await users.instance_settings.get_async()
    assert instance is not None
    assert instance.id == sandbox.clerk.settings.instance_id


async def test_the_clerk_package_makes_changes_and_deletes_users(users: Clerk, sandbox: Sandbox) -> None:
    made = await users.users.create_async(email_address=["b@example.com"], first_name="B")
    merged = await users.users.update_metadata_async(user_id=made.id, public_metadata={"k": {"l": 1}})
    assert merged.public_metadata == {"k": {"l": 1}}
    changed = await users.users.update_async(user_id=made.id, last_name="C")
    assert changed.last_name == "C"
    await users.users.delete_async(user_id=made.id)
    with pytest.raises(ClerkErrors):
        await users.users.get_async(user_id=made.id)
    kinds = [message.event for message in sandbox.svix.messages()]
    assert kinds == ["user.created", "user.updated", "user.updated", "user.deleted"]


async def test_the_clerk_package_sees_when_to_come_back(users: Clerk, sandbox: Sandbox) -> None:
    sandbox.plan_fault("clerk", "instance.get", "rate_limited")
    with pytest.raises(SDKError) as caught:
        await users.instance_settings.get_async()
    assert (caught.value.status_code, caught.value.headers["retry-after"]) == (429, "1")


async def test_a_cut_connection_is_one(base: str, sandbox: Sandbox, session: aiohttp.ClientSession) -> None:
    sandbox.plan_fault("stripe", None, "cut_after")
    with pytest.raises(aiohttp.ClientConnectionError):
        await session.post(base + "/stripe/v1/customers", headers={"Authorization": f"Bearer {STRIPE_KEY}"})
    assert len(sandbox.stripe.customers) == 1


async def test_a_client_that_gives_up_on_a_slow_answer_leaves_the_effect_behind(
    base: str, sandbox: Sandbox, session: aiohttp.ClientSession
) -> None:
    sandbox.plan_fault("stripe", None, Fault(kind="slow", delay=5))
    with pytest.raises(TimeoutError):
        await session.post(
            base + "/stripe/v1/customers",
            headers={"Authorization": f"Bearer {STRIPE_KEY}", "Idempotency-Key": "k"},
            timeout=aiohttp.ClientTimeout(total=0.1),
        )
    assert len(sandbox.stripe.customers) == 1


async def test_the_controls_make_change_and_delete_users(
    base: str, sandbox: Sandbox, session: aiohttp.ClientSession
) -> None:
    wanted = {"count": 2, "users": [{"email": "a@b.c", "first_name": "A"}]}
    async with session.post(base + "/sandbox/users", json=wanted) as answer:
        ids = (await answer.json())["ids"]
    path = f"{base}/sandbox/users/{ids[2]}"
    async with session.post(path, json={"email": "new@b.c", "last_name": "B"}):
        user = sandbox.clerk.users[ids[2]]
        assert (user.email, user.name) == ("new@b.c", "A B")
    async with session.delete(path):
        assert set(sandbox.clerk.users) == set(ids[:2])


async def test_the_controls_judge_count_and_plan_faults(
    base: str, sandbox: Sandbox, session: aiohttp.ClientSession
) -> None:
    sandbox.add_pair(NOW, email="a@b.c")
    fault = {"upstream": "clerk", "kind": "error_before", "status": 503}
    async with session.post(base + "/sandbox/faults", json=fault) as answer:
        assert answer.status == 200
    async with session.get(base + "/clerk/v1/instance") as answer:
        assert answer.status == 503
    async with session.get(base + "/sandbox/verdict") as answer:
        assert (await answer.json())["clean"] is True
    async with session.get(base + "/sandbox/state") as answer:
        state = await answer.json()
        assert (state["users"], state["customers"], state["calls"]["clerk"]) == (1, 1, {"instance.get": 1})
    async with session.get(base + "/sandbox/calls", params={"upstream": "clerk"}) as answer:
        assert [call["fault"] for call in (await answer.json())["calls"]] == ["error_before"]
    async with session.post(base + "/sandbox/faults", json={"colour": "red"}) as answer:
        assert answer.status == 400
    async with session.get(base + "/elsewhere") as answer:
        assert answer.status == 404


async def receive(handler: Any) -> tuple[web.ServerRunner, str]:
    runner = web.ServerRunner(web.Server(handler), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return runner, f"http://127.0.0.1:{runner.addresses[0][1]}/webhooks/clerk"


async def test_the_courier_delivers_signed_events_and_tries_failures_again() -> None:
    sandbox = Sandbox(
        SandboxSettings(svix=SvixSettings(time_scale=0.001, duplicate=0.5, duplicate_after=(0, 0.05)))
    )
    verifier = Webhook(sandbox.svix.settings.secret)
    tries: dict[str, int] = {}

    async def handler(request: web.BaseRequest) -> web.Response:
        verifier.verify(await request.read(), dict(request.headers))
        message_id = request.headers["svix-id"]
        tries[message_id] = tries.get(message_id, 0) + 1
        if tries[message_id] == 1 and request.transport is not None:
            request.transport.abort()
        return web.Response(status=204)

    runner, url = await receive(handler)
    try:
        for number in range(10):
            sandbox.clerk.create_user(time.time(), email=f"{number}@example.com")
        async with Courier(sandbox.svix, url) as courier:
            await courier.drained(10)
    finally:
        await runner.cleanup()
    assert sandbox.svix.delivered == 10
    assert all(count >= 2 for count in tries.values())


async def test_the_courier_heeds_abort_message_and_follows_no_redirect() -> None:
    sandbox = Sandbox(SandboxSettings(svix=SvixSettings(time_scale=0.00001)))
    statuses = [302, 400]

    async def handler(request: web.BaseRequest) -> web.Response:
        status = statuses.pop(0)
        headers = {"location": "/"} if status == 302 else {"webhook-delivery": "abort-message"}
        return web.Response(status=status, headers=headers)

    runner, url = await receive(handler)
    try:
        sandbox.clerk.create_user(time.time(), email="a@example.com")
        async with Courier(sandbox.svix, url) as courier:
            await courier.drained(10)
    finally:
        await runner.cleanup()
    assert statuses == []
    assert [message.lost for message in sandbox.svix.messages()] == [True]
