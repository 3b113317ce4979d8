from __future__ import annotations

import base64
from email.utils import parsedate_to_datetime
from typing import Any

import pytest

from counterfoil.sandbox import Request, Sandbox, SandboxSettings, StripeSettings

from .support import NOW, STRIPE_KEY, error_code, stripe


def make(sandbox: Sandbox, **params: str) -> str:
    answer = stripe(sandbox, "POST", "/v1/customers", params)
    assert answer.status == 200, answer.body
    return str(answer.json()["id"])


def test_a_customer_is_made_read_changed_and_deleted(sandbox: Sandbox) -> None:
    made = stripe(sandbox, "POST", "/v1/customers", {"email": "A@b.c", "metadata[k]": "v"}).json()
    path = f"/v1/customers/{made['id']}"
    assert (made["email"], made["metadata"], made["created"]) == ("A@b.c", {"k": "v"}, int(NOW))
    changed = stripe(sandbox, "POST", path, {"name": "N", "metadata[l]": "w"}).json()
    assert (changed["email"], changed["name"], changed["metadata"]) == ("A@b.c", "N", {"k": "v", "l": "w"})
    stub = {"id": made["id"], "object": "customer", "deleted": True}
    assert stripe(sandbox, "DELETE", path).json() == stub
    after = stripe(sandbox, "GET", path)
    assert (after.status, after.json()) == (200, stub)


def test_an_empty_string_clears_a_field_a_metadata_key_or_all_metadata(sandbox: Sandbox) -> None:
    params = {"email": "a@b.c", "name": "N", "metadata[k]": "v", "metadata[l]": "w"}
    path = "/v1/customers/" + make(sandbox, **params)
    body = stripe(sandbox, "POST", path, {"name": "", "metadata[k]": ""}).json()
    assert (body["name"], body["metadata"]) == (None, {"l": "w"})
    assert stripe(sandbox, "POST", path, {"metadata": ""}).json()["metadata"] == {}


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_an_unknown_customer_is_missing(sandbox: Sandbox, method: str) -> None:
    answer = stripe(sandbox, method, "/v1/customers/cus_none")
    assert (answer.status, error_code(answer)) == (404, "resource_missing")


@pytest.mark.parametrize("method", ["POST", "DELETE"])
def test_a_deleted_customer_cannot_be_changed_or_deleted_again(sandbox: Sandbox, method: str) -> None:
    customer = make(sandbox)
    sandbox.stripe.delete_customer(NOW, customer)
    assert stripe(sandbox, method, f"/v1/customers/{customer}").status == 404


def test_a_deletion_cancels_subscriptions_at_once_and_removes_cards(sandbox: Sandbox) -> None:
    customer = make(sandbox)
    subscription = sandbox.stripe.add_subscription(NOW, customer)
    sandbox.stripe.attach_payment_method(NOW, customer)
    stripe(sandbox, "DELETE", f"/v1/customers/{customer}", now=NOW + 5)
    body = stripe(sandbox, "GET", f"/v1/subscriptions/{subscription}").json()
    assert (body["status"], body["ended_at"]) == ("canceled", int(NOW + 5))
    assert sandbox.stripe.payment_methods == {}


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"phone": "1" * 21}, "string_too_long"),
        ({"name": "n" * 257}, "string_too_long"),
        ({"email": "e" * 510 + "@b.c"}, "string_too_long"),
        ({"email": "a@b.invalid-for-stripe"}, "email_invalid"),
        ({"email": "nowhere"}, "email_invalid"),
        ({"metadata[a[b]]": "v"}, None),
        ({"metadata[" + "k" * 41 + "]": "v"}, None),
        ({"metadata[k]": "v" * 501}, None),
        ({f"metadata[{number}]": "v" for number in range(51)}, None),
        ({"colour": "red"}, "parameter_unknown"),
    ],
)
def test_what_stripe_would_not_take_is_refused(sandbox: Sandbox, params: Any, code: str | None) -> None:
    answer = stripe(sandbox, "POST", "/v1/customers", params)
    assert (answer.status, error_code(answer)) == (400, code)
    assert list(sandbox.stripe.live_customers()) == []


def test_metadata_may_not_grow_over_fifty_keys_by_updates(sandbox: Sandbox) -> None:
    customer = make(sandbox, **{f"metadata[{number}]": "v" for number in range(50)})
    assert stripe(sandbox, "POST", f"/v1/customers/{customer}", {"metadata[more]": "v"}).status == 400


def test_every_answer_has_a_request_id_and_stripes_own_time(sandbox: Sandbox) -> None:
    good = stripe(sandbox, "GET", "/v1/account")
    bad = stripe(sandbox, "GET", "/v1/customers/cus_none")
    assert good.headers["Request-Id"] != bad.headers["Request-Id"]
    for answer in (good, bad):
        assert parsedate_to_datetime(answer.headers["Date"]).timestamp() == NOW


def test_the_date_can_be_that_of_the_answers_departure() -> None:
    settings = SandboxSettings(stripe=StripeSettings(dates_at_answer=True), latency=(7.0, 7.0))
    answer = stripe(Sandbox(settings), "GET", "/v1/account")
    assert parsedate_to_datetime(answer.headers["Date"]).timestamp() == NOW + 7


def test_a_wrong_key_is_401_and_a_rolled_one_says_that_it_expired(sandbox: Sandbox) -> None:
    assert stripe(sandbox, "GET", "/v1/account", secret="sk_test_wrong").status == 401
    new = sandbox.stripe.roll_key()
    old = stripe(sandbox, "GET", "/v1/account")
    assert (old.status, error_code(old)) == (401, "api_key_expired")
    assert stripe(sandbox, "GET", "/v1/account", secret=new).status == 200


def test_the_key_may_come_by_basic_authentication(sandbox: Sandbox) -> None:
    credential = base64.b64encode(f"{STRIPE_KEY}:".encode()).decode()
    request = Request("GET", "/v1/account", headers={"authorization": f"Basic {credential}"})
    answer = sandbox.begin("stripe", request, NOW).answer
    assert answer is not None
    assert answer.status == 200


def test_a_restricted_key_is_refused_where_it_may_not_go(sandbox: Sandbox) -> None:
    sandbox.stripe.restrict("account.retrieve", "customers.create")
    answer = stripe(sandbox, "POST", "/v1/customers")
    assert answer.status == 403
    assert "rak_customer_write" in answer.json()["error"]["message"]
    sandbox.stripe.permit()
    assert stripe(sandbox, "GET", "/v1/account").status == 200


@pytest.mark.parametrize(("key", "livemode"), [("sk_live_x", True), ("rk_live_x", True), ("rk_test_x", False)])
def test_the_mode_follows_the_key(key: str, livemode: bool) -> None:
    sandbox = Sandbox(SandboxSettings(stripe=StripeSettings(secret_key=key)))
    body = stripe(sandbox, "POST", "/v1/customers", secret=key).json()
    assert body["livemode"] is livemode


def test_subscriptions_can_be_expanded_on_a_customer_and_on_a_list(sandbox: Sandbox) -> None:
    customer = make(sandbox)
    going = sandbox.stripe.add_subscription(NOW, customer, status="trialing")
    sandbox.stripe.cancel_subscription(NOW, sandbox.stripe.add_subscription(NOW, customer))
    one = stripe(sandbox, "GET", f"/v1/customers/{customer}", {"expand[]": "subscriptions"}).json()
    many = stripe(sandbox, "GET", "/v1/customers", {"expand[0]": "data.subscriptions"}).json()
    for body in (one, many["data"][0]):
        assert [found["id"] for found in body["subscriptions"]["data"]] == [going]
    assert "subscriptions" not in stripe(sandbox, "GET", f"/v1/customers/{customer}").json()


def test_subscriptions_are_listed_without_ended_ones_unless_asked_for(sandbox: Sandbox) -> None:
    customer = make(sandbox)
    ended, going = (sandbox.stripe.add_subscription(NOW + i, customer) for i in range(2))
    sandbox.stripe.cancel_subscription(NOW, ended)

    def listed(**params: str) -> list[str]:
        query = {"customer": customer, **params}
        return [s["id"] for s in stripe(sandbox, "GET", "/v1/subscriptions", query).json()["data"]]

    assert listed() == [going]
    assert listed(status="all") == [going, ended]
    assert listed(status="canceled") == [ended]


def test_a_subscription_can_end_with_its_period_or_at_once(sandbox: Sandbox) -> None:
    path = "/v1/subscriptions/" + sandbox.stripe.add_subscription(NOW, make(sandbox))
    waits = stripe(sandbox, "POST", path, {"cancel_at_period_end": "true"}).json()
    assert (waits["status"], waits["cancel_at"]) == ("active", int(NOW) + 30 * 86400)
    assert stripe(sandbox, "DELETE", path).json()["status"] == "canceled"
    assert stripe(sandbox, "DELETE", path).status == 404


def test_a_period_that_ends_renews_its_subscription_unless_it_was_to_end(sandbox: Sandbox) -> None:
    customer, day = make(sandbox), 86_400
    goes, stays = (sandbox.stripe.add_subscription(NOW, customer, period=10 * day) for _ in range(2))
    stripe(sandbox, "POST", f"/v1/subscriptions/{goes}", {"cancel_at_period_end": "true"}, now=NOW + 5)
    stripe(sandbox, "POST", f"/v1/subscriptions/{stays}", {"cancel_at_period_end": "true"}, now=NOW + 5)
    sandbox.stripe.close_subscription(NOW + 6, stays, closing=False)
    after = NOW + 25 * day
    gone = stripe(sandbox, "GET", f"/v1/subscriptions/{goes}", now=after).json()
    assert (gone["status"], gone["ended_at"]) == ("canceled", int(NOW) + 10 * day)
    assert gone["canceled_at"] == int(NOW) + 5
    here = stripe(sandbox, "GET", f"/v1/subscriptions/{stays}", now=after).json()
    (item,) = here["items"]["data"]
    assert (here["status"], here["cancel_at_period_end"]) == ("active", False)
    assert item["current_period_start"] == int(NOW) + 20 * day
    assert item["current_period_end"] == int(NOW) + 30 * day
    expanded = stripe(sandbox, "GET", f"/v1/customers/{customer}", {"expand[]": "subscriptions"}, now=after).json()
    assert [each["id"] for each in expanded["subscriptions"]["data"]] == [stays]


def test_a_subscription_that_is_over_takes_no_more_changes(sandbox: Sandbox) -> None:
    path = "/v1/subscriptions/" + sandbox.stripe.add_subscription(NOW, make(sandbox))
    stripe(sandbox, "DELETE", path)
    assert stripe(sandbox, "POST", path, {"cancel_at_period_end": "true"}).status == 400


def test_payment_methods_and_payments_are_listed_by_customer(sandbox: Sandbox) -> None:
    customer, other = make(sandbox), make(sandbox)
    method = sandbox.stripe.attach_payment_method(NOW, customer)
    payment = sandbox.stripe.add_payment_intent(NOW, customer)
    paths = {
        f"/v1/customers/{customer}/payment_methods": [method],
        f"/v1/customers/{other}/payment_methods": [],
        f"/v1/payment_methods?customer={customer}": [method],
        f"/v1/payment_intents?customer={customer}": [payment],
        f"/v1/payment_intents?customer={other}": [],
    }
    for path, wanted in paths.items():
        place, _, query = path.partition("?")
        params = dict([query.split("=")]) if query else None
        assert [found["id"] for found in stripe(sandbox, "GET", place, params).json()["data"]] == wanted


def test_an_empty_id_reads_the_list(sandbox: Sandbox) -> None:
    assert stripe(sandbox, "GET", "/v1/customers/").json()["object"] == "list"
    assert stripe(sandbox, "DELETE", "/v1/customers/").status == 404
