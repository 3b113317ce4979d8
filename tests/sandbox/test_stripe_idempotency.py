from __future__ import annotations

import pytest

from counterfoil.sandbox import Fault, Sandbox, SandboxSettings, StripeSettings

from .support import NOW, error_code, stripe, stripe_reply

PARAMS = {"email": "a@b.c", "metadata[clerkUserId]": "user_1"}


def count(sandbox: Sandbox) -> int:
    return sum(1 for _ in sandbox.stripe.live_customers())


def test_the_same_key_replays_the_first_answer(sandbox: Sandbox) -> None:
    first = stripe(sandbox, "POST", "/v1/customers", PARAMS, key="k")
    again = stripe(sandbox, "POST", "/v1/customers", dict(reversed(PARAMS.items())), key="k", now=NOW + 9)
    assert again.body == first.body
    assert again.headers["Idempotent-Replayed"] == "true"
    assert again.headers["Original-Request"] == first.headers["Request-Id"]
    assert "Idempotent-Replayed" not in first.headers
    assert count(sandbox) == 1


def test_a_replay_still_names_a_customer_that_was_deleted_since(sandbox: Sandbox) -> None:
    first = stripe(sandbox, "POST", "/v1/customers", PARAMS, key="k").json()
    sandbox.stripe.delete_customer(NOW, first["id"])
    again = stripe(sandbox, "POST", "/v1/customers", PARAMS, key="k")
    assert (again.status, again.json()) == (200, first)
    assert count(sandbox) == 0


def test_other_parameters_under_the_same_key_are_refused(sandbox: Sandbox) -> None:
    stripe(sandbox, "POST", "/v1/customers", PARAMS, key="k")
    answer = stripe(sandbox, "POST", "/v1/customers", {**PARAMS, "name": "N"}, key="k")
    assert (answer.status, answer.json()["error"]["type"]) == (400, "idempotency_error")
    assert error_code(answer) is None


def test_another_path_under_the_same_key_is_refused(sandbox: Sandbox) -> None:
    made = stripe(sandbox, "POST", "/v1/customers", PARAMS, key="k").json()
    answer = stripe(sandbox, "POST", f"/v1/customers/{made['id']}", PARAMS, key="k")
    assert answer.json()["error"]["type"] == "idempotency_error"


def test_a_key_in_flight_conflicts_until_the_first_answer_is_out(sandbox: Sandbox) -> None:
    sandbox.plan_fault("stripe", "customers.create", Fault(kind="slow", delay=30))
    slow = stripe_reply(sandbox, "POST", "/v1/customers", PARAMS, key="k")
    assert slow.delay == 30
    meanwhile = stripe(sandbox, "POST", "/v1/customers", PARAMS, key="k", now=NOW + 29)
    assert (meanwhile.status, error_code(meanwhile)) == (409, "idempotency_key_in_use")
    later = stripe(sandbox, "POST", "/v1/customers", PARAMS, key="k", now=NOW + 30)
    assert later.headers["Idempotent-Replayed"] == "true"
    assert count(sandbox) == 1


def test_a_key_is_forgotten_after_a_day_and_then_creates_anew(sandbox: Sandbox) -> None:
    day = 24 * 3600
    first = stripe(sandbox, "POST", "/v1/customers", PARAMS, key="k").json()
    still = stripe(sandbox, "POST", "/v1/customers", PARAMS, key="k", now=NOW + day - 1).json()
    anew = stripe(sandbox, "POST", "/v1/customers", PARAMS, key="k", now=NOW + day).json()
    assert first["id"] == still["id"] != anew["id"]


def test_a_key_has_no_effect_on_get_and_delete(sandbox: Sandbox) -> None:
    made = stripe(sandbox, "POST", "/v1/customers", PARAMS).json()
    path = f"/v1/customers/{made['id']}"
    assert stripe(sandbox, "DELETE", path, key="k").status == 200
    assert stripe(sandbox, "DELETE", path, key="k").status == 404
    assert stripe(sandbox, "GET", path, key="k").json()["deleted"] is True


def test_a_stored_500_comes_back_for_a_day_though_nothing_was_made(sandbox: Sandbox) -> None:
    sandbox.plan_fault("stripe", "customers.create", "stored_500")
    first = stripe(sandbox, "POST", "/v1/customers", PARAMS, key="k")
    again = stripe(sandbox, "POST", "/v1/customers", PARAMS, key="k", now=NOW + 3600)
    assert (first.status, again.status) == (500, 500)
    assert again.headers["Idempotent-Replayed"] == "true"
    assert count(sandbox) == 0


def test_a_late_500_makes_the_customer_all_the_same_in_its_own_time(sandbox: Sandbox) -> None:
    sandbox.plan_fault("stripe", "customers.create", Fault(kind="late_500", late=600))
    assert stripe(sandbox, "POST", "/v1/customers", PARAMS, key="k").status == 500
    assert stripe(sandbox, "GET", "/v1/customers", now=NOW + 599).json()["data"] == []
    assert sandbox.verdict(NOW + 599).late == 1
    (late,) = stripe(sandbox, "GET", "/v1/customers", now=NOW + 600).json()["data"]
    assert late["created"] == int(NOW + 600)
    assert stripe(sandbox, "POST", "/v1/customers", PARAMS, key="k", now=NOW + 601).status == 500


def test_a_slow_effect_happens_though_nobody_waits_for_its_answer(sandbox: Sandbox) -> None:
    sandbox.plan_fault("stripe", "customers.create", Fault(kind="slow_effect", delay=60))
    stripe_reply(sandbox, "POST", "/v1/customers", PARAMS, key="k")
    assert stripe(sandbox, "POST", "/v1/customers", PARAMS, key="k", now=NOW + 30).status == 409
    assert stripe(sandbox, "GET", "/v1/customers", now=NOW + 59).json()["data"] == []
    again = stripe(sandbox, "POST", "/v1/customers", PARAMS, key="k", now=NOW + 60)
    assert again.headers["Idempotent-Replayed"] == "true"
    (made,) = stripe(sandbox, "GET", "/v1/customers", now=NOW + 60).json()["data"]
    assert made["id"] == again.json()["id"]


@pytest.mark.parametrize("reason", ["limit", "key", "permission", "parameters", "email"])
def test_what_is_refused_before_execution_is_not_stored(reason: str) -> None:
    sandbox = Sandbox(SandboxSettings(stripe=StripeSettings(global_limit=1)))
    params = dict(PARAMS)
    secret = sandbox.stripe.secret_key
    match reason:
        case "limit":
            stripe(sandbox, "GET", "/v1/account")
        case "key":
            secret = "sk_test_wrong"
        case "permission":
            sandbox.stripe.restrict("customers.create")
        case "parameters":
            params["phone"] = "1" * 21
        case "email":
            params["email"] = "a@b.invalid-for-stripe"
    refused = stripe(sandbox, "POST", "/v1/customers", params, key="k", secret=secret)
    assert refused.status in {400, 401, 403, 429}
    sandbox.stripe.permit()
    again = stripe(sandbox, "POST", "/v1/customers", PARAMS, key="k", now=NOW + 1)
    assert again.status == 200
    assert "Idempotent-Replayed" not in again.headers


def test_a_refused_email_can_be_set_to_be_stored() -> None:
    sandbox = Sandbox(SandboxSettings(stripe=StripeSettings(store_email_invalid=True)))
    params = {"email": "a@b.invalid-for-stripe"}
    first, again = (stripe(sandbox, "POST", "/v1/customers", params, key="k") for _ in range(2))
    assert (first.status, again.status) == (400, 400)
    assert again.headers["Idempotent-Replayed"] == "true"


def test_a_404_of_an_update_is_stored_because_execution_had_begun(sandbox: Sandbox) -> None:
    first, again = (stripe(sandbox, "POST", "/v1/customers/cus_none", key="k") for _ in range(2))
    assert (first.status, again.headers["Idempotent-Replayed"]) == (404, "true")


def test_an_error_at_the_edge_hides_a_success_that_the_key_brings_back(sandbox: Sandbox) -> None:
    sandbox.plan_fault("stripe", "customers.create", Fault(kind="error_after", status=502, html=True))
    first = stripe(sandbox, "POST", "/v1/customers", PARAMS, key="k")
    assert (first.status, first.headers["Content-Type"]) == (502, "text/html")
    again = stripe(sandbox, "POST", "/v1/customers", PARAMS, key="k")
    assert (again.status, again.headers["Idempotent-Replayed"]) == (200, "true")
    assert count(sandbox) == 1


def test_a_cut_before_the_effect_leaves_no_trace_of_the_key(sandbox: Sandbox) -> None:
    sandbox.plan_fault("stripe", "customers.create", "cut_before")
    assert stripe_reply(sandbox, "POST", "/v1/customers", PARAMS, key="k").answer is None
    assert count(sandbox) == 0
    again = stripe(sandbox, "POST", "/v1/customers", PARAMS, key="k")
    assert "Idempotent-Replayed" not in again.headers


def test_keys_may_have_255_characters(sandbox: Sandbox) -> None:
    assert stripe(sandbox, "POST", "/v1/customers", PARAMS, key="k" * 255).status == 200
    assert stripe(sandbox, "POST", "/v1/customers", PARAMS, key="k" * 256).status == 400
