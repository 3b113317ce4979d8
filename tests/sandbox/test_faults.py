from __future__ import annotations

from typing import Any

import pytest

from counterfoil.sandbox import Fault, Faults, Outage, Request, Sandbox, SandboxSettings

from .support import NOW, clerk, clerk_reply, error_code, stripe, stripe_reply


def with_faults(seed: int = 0, **rates: Any) -> Sandbox:
    sandbox = Sandbox(SandboxSettings(seed=seed, faults=Faults(**rates)))
    sandbox.lift_limits()
    return sandbox


def test_without_faults_nothing_goes_wrong(sandbox: Sandbox) -> None:
    replies = [stripe_reply(sandbox, "POST", "/v1/customers") for _ in range(50)]
    assert all(reply.delay == 0.0 and reply.answer and reply.answer.status == 200 for reply in replies)


def test_the_same_seed_brings_the_same_faults() -> None:
    runs = []
    for seed in (1, 1, 2):
        sandbox = with_faults(seed, cut_after=0.1, error_before=0.1, stored_500=0.1, slow=0.1, rate_limited=0.1)
        for number in range(200):
            stripe_reply(sandbox, "POST", "/v1/customers", key=str(number))
        runs.append([call.fault for call in sandbox.calls("stripe")])
    assert runs[0] == runs[1] != runs[2]
    assert {None, "cut_after", "error_before", "stored_500", "slow", "rate_limited"} == set(runs[0])


def test_random_faults_can_end_at_a_time() -> None:
    sandbox = with_faults(cut_before=1.0, until=NOW + 10)
    assert stripe_reply(sandbox, "GET", "/v1/account", now=NOW + 9).answer is None
    assert stripe(sandbox, "GET", "/v1/account", now=NOW + 10).status == 200


def test_random_faults_can_spare_an_upstream() -> None:
    sandbox = with_faults(error_before=1.0, upstreams=("stripe",))
    assert clerk(sandbox, "GET", "/v1/instance").status == 200
    assert stripe(sandbox, "GET", "/v1/account").status >= 500


def test_a_planned_fault_befalls_the_next_matching_calls_and_no_others(sandbox: Sandbox) -> None:
    planned = sandbox.plan_fault("stripe", "customers.create", Fault(kind="error_before", status=503), times=2)
    assert stripe(sandbox, "GET", "/v1/customers").status == 200
    assert [stripe(sandbox, "POST", "/v1/customers").status for _ in range(3)] == [503, 503, 200]
    assert planned.left == 0


def test_a_planned_fault_can_look_at_the_request(sandbox: Sandbox) -> None:
    def names_ada(request: Request) -> bool:
        return b"ada" in request.body

    sandbox.plan_fault("stripe", None, "error_before", when=names_ada)
    assert stripe(sandbox, "POST", "/v1/customers", {"email": "bob@b.c"}).status == 200
    assert stripe(sandbox, "POST", "/v1/customers", {"email": "ada@b.c"}).status == 500


def test_an_error_before_the_effect_changes_nothing(sandbox: Sandbox) -> None:
    user_id = sandbox.clerk.create_user(NOW)
    sandbox.plan_fault("clerk", "users.merge_metadata", "error_before")
    body = {"public_metadata": {"k": "v"}}
    assert clerk(sandbox, "PATCH", f"/v1/users/{user_id}/metadata", body=body).status == 500
    assert sandbox.clerk.users[user_id].public_metadata == {}


@pytest.mark.parametrize("kind", ["error_after", "cut_after"])
def test_an_answer_can_be_lost_after_the_effect(sandbox: Sandbox, kind: Any) -> None:
    user_id = sandbox.clerk.create_user(NOW)
    sandbox.plan_fault("clerk", None, kind)
    body = {"public_metadata": {"k": "v"}}
    reply = clerk_reply(sandbox, "PATCH", f"/v1/users/{user_id}/metadata", body=body)
    assert reply.answer is None or reply.answer.status == 500
    assert sandbox.clerk.users[user_id].public_metadata == {"k": "v"}
    (call,) = sandbox.calls("clerk")
    assert (call.fault, call.effect_at, call.subject) == (kind, NOW, user_id)


def test_a_late_500_of_an_update_has_no_effect(sandbox: Sandbox) -> None:
    customer = sandbox.stripe.create_customer(NOW, name="Old")
    sandbox.plan_fault("stripe", "customers.update", "late_500")
    assert stripe(sandbox, "POST", f"/v1/customers/{customer}", {"name": "New"}).status == 500
    assert sandbox.stripe.customers[customer].name == "Old"


def test_a_slow_effect_of_anything_but_a_creation_is_just_slow(sandbox: Sandbox) -> None:
    customer = sandbox.stripe.create_customer(NOW, name="Old")
    sandbox.plan_fault("stripe", "customers.update", Fault(kind="slow_effect", delay=3))
    reply = stripe_reply(sandbox, "POST", f"/v1/customers/{customer}", {"name": "New"})
    assert (reply.delay, sandbox.stripe.customers[customer].name) == (3, "New")


def test_a_random_429_looks_like_the_upstreams_own(sandbox: Sandbox) -> None:
    sandbox.plan_fault("stripe", None, "rate_limited")
    sandbox.plan_fault("clerk", None, "rate_limited")
    assert "Stripe-Rate-Limited-Reason" in stripe(sandbox, "GET", "/v1/account").headers
    assert "Retry-After" in clerk(sandbox, "GET", "/v1/instance").headers


def test_a_busy_object_answers_in_the_upstreams_own_way(sandbox: Sandbox) -> None:
    sandbox.plan_fault("stripe", None, "locked")
    sandbox.plan_fault("clerk", None, "locked")
    ours, theirs = stripe(sandbox, "GET", "/v1/account"), clerk(sandbox, "GET", "/v1/instance")
    assert (ours.status, error_code(ours)) == (429, "lock_timeout")
    assert (theirs.status, error_code(theirs)) == (409, "resource_locked")


def test_an_outage_lasts_from_its_start_until_before_its_end() -> None:
    cut = Outage(upstream="stripe", start=NOW, end=NOW + 60, fault=Fault(kind="cut_before"))
    sandbox = with_faults(outages=(cut,))
    sandbox.add_outage("clerk", NOW, NOW + 60)
    assert stripe(sandbox, "GET", "/v1/account", now=NOW - 1).status == 200
    assert stripe_reply(sandbox, "GET", "/v1/account", now=NOW).answer is None
    assert clerk(sandbox, "GET", "/v1/instance", now=NOW + 59).status == 503
    assert stripe(sandbox, "GET", "/v1/account", now=NOW + 60).status == 200


def test_calm_ends_every_fault() -> None:
    sandbox = with_faults(cut_before=1.0)
    sandbox.add_outage("clerk", NOW, NOW + 60)
    sandbox.plan_fault("stripe", None, "cut_before", times=99)
    sandbox.calm()
    assert stripe(sandbox, "GET", "/v1/account").status == 200
    assert clerk(sandbox, "GET", "/v1/instance").status == 200


def test_every_call_is_counted_though_only_the_newest_are_kept() -> None:
    sandbox = Sandbox()
    sandbox.lift_limits()
    for number in range(5):
        stripe(sandbox, "POST", "/v1/customers", {"name": "N"}, key="k", now=NOW + number)
    calls = sandbox.calls("stripe", "customers.create", since=NOW + 3)
    assert [(call.begun_at, call.replayed, call.idempotency_key) for call in calls] == [
        (NOW + 3, True, "k"),
        (NOW + 4, True, "k"),
    ]
    assert sandbox.stripe.log.count("customers.create") == 5
    assert {call.subject for call in calls} == {next(iter(sandbox.stripe.customers))}
    assert sandbox.stripe.log.count("customers.create", since=NOW + 4) == 1


def test_every_answer_can_take_a_while() -> None:
    sandbox = Sandbox(SandboxSettings(latency=(0.05, 0.1)))
    assert 0.05 <= stripe_reply(sandbox, "GET", "/v1/account").delay <= 0.1
