"""Clerk's client: what each answer means."""

from typing import Any

import msgspec
import pytest

from counterfoil.core.link import Fields
from counterfoil.core.policy import LinkBack
from counterfoil.errors import (
    KeyRefused,
    NotFound,
    ObjectLocked,
    Paused,
    RateLimited,
    Rejected,
    ServerFailed,
    Unreachable,
    UpstreamError,
)
from counterfoil.sandbox.clerk import ClerkSettings
from counterfoil.sandbox.faults import Fault
from counterfoil.sandbox.sandbox import SandboxSettings
from counterfoil.upstream.gate import LIVE
from tests.clients.support import answering, clients
from tests.harness import World, scenario, scenario_in

BEFORE: dict[str, tuple[Fault, type[UpstreamError], int, str]] = {
    "401": (
        Fault(kind="error_before", status=401, code="clerk_key_invalid"),
        KeyRefused,
        401,
        "clerk_key_invalid",
    ),
    "403": (Fault(kind="error_before", status=403, code="not_allowed"), KeyRefused, 403, "not_allowed"),
    "404": (
        Fault(kind="error_before", status=404, code="resource_not_found"),
        NotFound,
        404,
        "resource_not_found",
    ),
    "409": (Fault(kind="locked"), ObjectLocked, 409, "resource_locked"),
    "422": (
        Fault(kind="error_before", status=422, code="form_param_unknown"),
        Rejected,
        422,
        "form_param_unknown",
    ),
    "429": (Fault(kind="rate_limited"), RateLimited, 429, "too_many_requests"),
    "500": (Fault(kind="error_before", status=500), ServerFailed, 500, "internal_clerk_error"),
    "503": (Fault(kind="error_before", status=503), ServerFailed, 503, "internal_clerk_error"),
    "302": (Fault(kind="error_before", status=302), ServerFailed, 302, "internal_clerk_error"),
    "408": (Fault(kind="error_before", status=408), Unreachable, 408, "internal_clerk_error"),
    "html": (Fault(kind="error_before", status=502, html=True), ServerFailed, 502, ""),
    "cut before": (Fault(kind="cut_before"), Unreachable, 0, ""),
    "cut after": (Fault(kind="cut_after"), Unreachable, 0, ""),
    "too slow": (Fault(kind="slow", delay=30.0), Unreachable, 0, ""),
}


@pytest.mark.parametrize("name", BEFORE)
@scenario
async def test_each_failure_is_an_error_of_its_own_class(world: World, name: str) -> None:
    fault, kind, status, code = BEFORE[name]
    user = world.sign_up()
    world.sandbox.plan_fault("clerk", "users.get", fault)
    with pytest.raises(UpstreamError) as raised:
        await clients(world).clerk.user(user, LIVE)
    error = raised.value
    assert type(error) is kind
    assert (error.upstream, error.status, error.code) == ("clerk", status, code)
    if status and name != "html":
        assert error.request_id == "trace_sandbox"
    assert world.sandbox.settings.clerk.secret_key not in str(error)


@scenario
async def test_the_limiters_own_wait_is_told(world: World) -> None:
    world.sandbox.plan_fault("clerk", None, "rate_limited")
    with pytest.raises(RateLimited) as error:
        await clients(world).clerk.count(LIVE)
    assert error.value.retry_after == 1.0


@pytest.mark.parametrize(
    ("text", "seconds"), [("7", 7.0), ("999999", 3600.0), ("soon", None), ("-3", None), ("1.5", None), ("", None)]
)
@scenario
async def test_a_wait_is_believed_within_reason(world: World, text: str, seconds: float | None) -> None:
    with pytest.raises(RateLimited) as error:
        await answering(world, 429, b"{}", **{"retry-after": text}).clerk.count(LIVE)
    assert error.value.retry_after == seconds


@scenario_in(SandboxSettings(clerk=ClerkSettings(instance_limit=3)))
async def test_clerks_own_limiter_is_told_from_a_lock(world: World) -> None:
    clerk = clients(world).clerk
    for _ in range(3):
        await clerk.count(LIVE)
    with pytest.raises(RateLimited) as error:
        await clerk.count(LIVE)
    assert error.value.retry_after is not None
    assert error.value.retry_after >= 1.0


@scenario
async def test_a_wrong_key_is_refused_and_closes_the_gate(world: World) -> None:
    clerk = clients(world, CLERK_SECRET_KEY="sk_test_wrong").clerk
    with pytest.raises(KeyRefused):
        await clerk.instance(LIVE)
    with pytest.raises(Paused):
        await clerk.instance(LIVE)


@pytest.mark.parametrize("body", [b"", b"{", b"null", b"[]", b"\xff", b'{"id": 1}'])
@scenario
async def test_an_answer_that_is_not_understood_is_no_answer(world: World, body: bytes) -> None:
    with pytest.raises(Unreachable):
        await answering(world, 200, body).clerk.instance(LIVE)


@pytest.mark.parametrize("body", [b"", b"{", b"null", b'{"errors": {}}', b'{"errors": []}', b"<html>"])
@scenario
async def test_an_error_without_a_readable_body_is_told_by_its_status(world: World, body: bytes) -> None:
    with pytest.raises(Rejected) as error:
        await answering(world, 400, body).clerk.instance(LIVE)
    assert (error.value.status, error.value.code) == (400, "")


@scenario
async def test_the_instance_is_the_keys(world: World) -> None:
    instance = await clients(world).clerk.instance(LIVE)
    assert (instance.id, instance.environment_type) == ("ins_2sandbox0000000000000000000", "development")


@scenario
async def test_a_user_is_read_and_one_who_is_not_there_is_not_found(world: World) -> None:
    user = world.sign_up()
    read = await clients(world).clerk.user(user, LIVE)
    assert (read.subject_id, read.fields) == (user, Fields(email="ada@example.com", name="Ada"))
    assert read.version == world.user(user).updated_at
    with pytest.raises(NotFound):
        await clients(world).clerk.user("user_nobody", LIVE)


@scenario
async def test_an_id_cannot_leave_its_place_in_the_path(world: World) -> None:
    with pytest.raises(NotFound):
        await clients(world).clerk.user("../instance?x=1#", LIVE)
    (call,) = world.sandbox.calls("clerk")
    assert call.path == "/v1/users/..%2Finstance%3Fx%3D1%23"


@scenario
async def test_users_are_listed_page_by_page_without_gap_or_double(world: World) -> None:
    made = [world.sign_up(f"person{number}@example.com") for number in range(23)]
    clerk = clients(world).clerk
    found: list[str] = []
    query: dict[str, Any] = {"limit": 5, "order_by": "+created_at"}
    while (page := await clerk.users(LIVE, **query)).last is not None:
        found += [user.subject_id for user in page.users]
        assert page.more == (len(page.users) == 5)
        query["starting_after"] = page.last
    assert found == made
    assert await clerk.count(LIVE) == 23


@scenario
async def test_users_that_cannot_be_read_are_left_out_of_a_page(world: World) -> None:
    def user(identifier: Any, **more: Any) -> dict[str, Any]:
        return {"id": identifier, "created_at": 1, "updated_at": 2, **more}

    page = [
        user("user_a"),
        user(7),
        user("org_b"),
        {"id": "user_c"},
        user("user_d", updated_at=2**70),
        user("user_e", first_name="\0"),
        user("user_f", email_addresses="odd"),
        "user_g",
        user("user_h", something={"new": [1]}),
    ]
    clerk = answering(world, 200, msgspec.json.encode(page)).clerk
    listed = await clerk.users(LIVE, limit=len(page))
    assert [each.subject_id for each in listed.users] == ["user_a", "user_h"]
    assert (listed.more, listed.last) == (True, "user_h"), "a page is as long as it was listed, read or not"


DEEP = b"[" * 4_000 + b"]" * 4_000  # what fits into 8 KB of metadata


@scenario
async def test_metadata_nested_too_deeply_hides_nobody_else(world: World) -> None:
    def user(identifier: str, value: bytes = b'"}] \\"[{"') -> bytes:
        given = b'{"id": "%s", "created_at": 1, "updated_at": 2, "unsafe_metadata": {"a": %s}}'
        return given % (identifier.encode(), value)

    page = (
        b" [" + b" ,\n".join([user("user_a"), user("user_b", DEEP), user("user_c"), user("user_d", DEEP)]) + b"]"
    )
    listed = await answering(world, 200, page).clerk.users(LIVE)
    assert [each.subject_id for each in listed.users] == ["user_a", "user_c"]
    assert (listed.more, listed.last) == (False, "user_d")
    with pytest.raises(Rejected):
        await answering(world, 200, user("user_b", DEEP)).clerk.user("user_b", LIVE)


@scenario
async def test_a_single_user_who_cannot_be_read_is_a_refusal(world: World) -> None:
    with pytest.raises(Rejected):
        await answering(world, 200, b'{"id": "user_a"}').clerk.user("user_a", LIVE)


@scenario
async def test_a_link_back_leaves_all_other_metadata_alone(world: World) -> None:
    user = world.sign_up(theirs={"deep": [1, 2]}, stripeCustomerId="cus_old")
    world.sandbox.clerk.set_private_metadata(world.time(), user, {"secret": 1})
    world.sandbox.clerk.set_unsafe_metadata(world.time(), user, {"from": "browser"})
    answer = await clients(world).clerk.write_link_back(user, "cus_new", LinkBack.PUBLIC, LIVE)
    assert answer.link_back == "cus_new"
    assert answer.version == world.user(user).updated_at
    true = world.user(user)
    assert true.public_metadata == {"theirs": {"deep": [1, 2]}, "stripeCustomerId": "cus_new"}
    assert true.private_metadata == {"secret": 1}
    assert true.unsafe_metadata == {"from": "browser"}


@scenario
async def test_a_link_back_to_a_user_who_is_gone_is_not_found(world: World) -> None:
    user = world.sign_up()
    world.sandbox.clerk.delete_user(world.time(), user)
    with pytest.raises(NotFound):
        await clients(world).clerk.write_link_back(user, "cus_1", LinkBack.PUBLIC, LIVE)


@scenario
async def test_a_private_link_back_goes_into_private_metadata_alone(world: World) -> None:
    user = world.sign_up(stripeCustomerId="cus_old")
    world.sandbox.clerk.set_private_metadata(world.time(), user, {"secret": 1})
    answer = await clients(world).clerk.write_link_back(user, "cus_new", LinkBack.PRIVATE, LIVE)
    assert (answer.link_back, answer.private_name) == ("cus_old", "cus_new")
    assert world.user(user).public_metadata == {"stripeCustomerId": "cus_old"}
    assert world.user(user).private_metadata == {"secret": 1, "stripeCustomerId": "cus_new"}
