from __future__ import annotations

from counterfoil.sandbox import Fault, Sandbox, SandboxSettings, StripeSettings

from .support import NOW, error_code, stripe, stripe_reply


def settings(**values: int | None) -> SandboxSettings:
    return SandboxSettings(stripe=StripeSettings(**values))  # type: ignore[arg-type]


def test_each_endpoint_has_its_own_limit_and_says_so() -> None:
    sandbox = Sandbox(settings(global_limit=None, endpoint_limit=2))
    statuses = [stripe(sandbox, "POST", "/v1/customers").status for _ in range(3)]
    assert statuses == [200, 200, 429]
    refused = stripe(sandbox, "POST", "/v1/customers")
    assert refused.headers["Stripe-Rate-Limited-Reason"] == "endpoint-rate"
    assert (error_code(refused), "Retry-After" in refused.headers) == ("rate_limit", False)
    assert stripe(sandbox, "GET", "/v1/customers").status == 200
    assert stripe(sandbox, "POST", "/v1/customers", now=NOW + 1).status == 200


def test_the_whole_account_has_a_limit_too() -> None:
    sandbox = Sandbox(settings(global_limit=2, endpoint_limit=None))
    answers = [stripe(sandbox, "GET", path) for path in ("/v1/account", "/v1/customers", "/v1/subscriptions")]
    assert [answer.status for answer in answers] == [200, 200, 429]
    assert answers[2].headers["Stripe-Rate-Limited-Reason"] == "global-rate"


def test_the_limits_are_stripes_own_unless_set() -> None:
    test, live = (
        Sandbox(SandboxSettings(stripe=StripeSettings(secret_key=key))) for key in ("sk_test_a", "sk_live_a")
    )
    assert (test.stripe.global_window.limit, live.stripe.global_window.limit) == (25, 100)
    assert live.stripe.endpoint_window("customers.create").limit == 25
    assert live.stripe.endpoint_window("customers.search").limit == 20


def test_two_writes_that_overlap_on_one_customer_collide_on_its_lock(sandbox: Sandbox) -> None:
    path, other = ("/v1/customers/" + stripe(sandbox, "POST", "/v1/customers").json()["id"] for _ in range(2))
    sandbox.plan_fault("stripe", "customers.update", Fault(kind="slow", delay=2))
    stripe_reply(sandbox, "POST", path, {"name": "A"})
    locked = stripe(sandbox, "DELETE", path, now=NOW + 1)
    assert (locked.status, error_code(locked)) == (429, "lock_timeout")
    assert "Stripe-Rate-Limited-Reason" not in locked.headers
    assert stripe(sandbox, "GET", path, now=NOW + 1).status == 200
    assert stripe(sandbox, "POST", other, {"name": "B"}, now=NOW + 1).status == 200
    assert stripe(sandbox, "DELETE", path, now=NOW + 2).status == 200


def test_a_lock_time_out_is_not_stored_under_the_key(sandbox: Sandbox) -> None:
    path = "/v1/customers/" + stripe(sandbox, "POST", "/v1/customers").json()["id"]
    sandbox.plan_fault("stripe", "customers.update", Fault(kind="slow", delay=2))
    stripe_reply(sandbox, "POST", path, {"name": "A"})
    assert stripe(sandbox, "POST", path, {"name": "B"}, key="k", now=NOW + 1).status == 429
    assert stripe(sandbox, "POST", path, {"name": "B"}, key="k", now=NOW + 2).json()["name"] == "B"


def test_a_wrong_key_uses_up_no_quota() -> None:
    sandbox = Sandbox(settings(global_limit=1))
    stripe(sandbox, "GET", "/v1/account", secret="sk_test_wrong")
    assert stripe(sandbox, "GET", "/v1/account").status == 200
