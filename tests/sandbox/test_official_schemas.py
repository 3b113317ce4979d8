"""The stand-ins' bodies, held against the vendors' published schemas (kept outside this project)."""

from __future__ import annotations

import gzip
from typing import Any

import jsonschema
import msgspec
import pytest
import yaml

from counterfoil.sandbox import Sandbox

from .support import NOW, clerk, spec_file, stripe

CLERK = "clerk-bapi-2026-05-12.trimmed.json"
WEBHOOKS = "clerk-webhooks-2025-04-15.trimmed.json"
FIXTURES = "stripe-fixtures3-2026-07-29.json.gz"
EXCERPT = "stripe-customers-2026-09-30.endive.excerpt.yml"


def as_json_schema(node: Any) -> Any:
    """OpenAPI 3.0 says `nullable`, JSON Schema says "or null"."""
    if isinstance(node, list):
        return [as_json_schema(item) for item in node]
    if not isinstance(node, dict):
        return node
    made = {key: as_json_schema(value) for key, value in node.items() if key not in {"nullable", "example"}}
    return {"anyOf": [made, {"type": "null"}]} if node.get("nullable") is True else made


def check(spec: str, name: str, body: Any) -> None:
    document = as_json_schema(msgspec.json.decode(spec_file(spec).read_bytes()))
    schema = {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
    jsonschema.Draft202012Validator(schema).validate(body)


def fixture(name: str) -> dict[str, Any]:
    content = gzip.decompress(spec_file(FIXTURES).read_bytes())
    found: dict[str, Any] = msgspec.json.decode(content)["resources"][name]
    return found


def full_user(sandbox: Sandbox) -> str:
    user_id = sandbox.clerk.create_user(
        NOW,
        email="ada@example.com",
        verified=False,
        phone="+15555550100",
        first_name="Ada",
        username="ada",
        external_id="ext",
        public_metadata={"k": {"l": [1, None]}},
    )
    sandbox.clerk.add_email(NOW, user_id, "second@example.com")
    sandbox.clerk.touch(NOW, user_id)
    sandbox.clerk.verify_email(NOW, user_id)
    sandbox.clerk.change_phone(NOW, user_id, "+15555550199")
    return user_id


def test_users_read_as_clerk_publishes_them(sandbox: Sandbox) -> None:
    user_id = full_user(sandbox)
    clerk(sandbox, "POST", "/v1/users", body={"email_address": ["b@example.com"]})
    check(CLERK, "User", clerk(sandbox, "GET", f"/v1/users/{user_id}").json())
    for user in clerk(sandbox, "GET", "/v1/users").json():
        check(CLERK, "User", user)


@pytest.mark.parametrize(
    ("name", "path"),
    [("Instance", "/v1/instance"), ("TotalCount", "/v1/users/count"), ("ClerkErrors", "/v1/users/user_none")],
)
def test_other_clerk_answers_read_as_published(sandbox: Sandbox, name: str, path: str) -> None:
    check(CLERK, name, clerk(sandbox, "GET", path).json())


def test_a_clerk_deletion_answers_as_published(sandbox: Sandbox) -> None:
    check(CLERK, "DeletedObject", clerk(sandbox, "DELETE", f"/v1/users/{full_user(sandbox)}").json())


def test_events_read_as_clerk_publishes_them(sandbox: Sandbox) -> None:
    user_id = full_user(sandbox)
    sandbox.clerk.delete_user(NOW, user_id)
    sandbox.clerk.send_example(NOW)
    events = [msgspec.json.decode(message.body) for message in sandbox.svix.messages()]
    assert {event["type"] for event in events} == {"user.created", "user.updated", "user.deleted"}
    for event in events:
        check(WEBHOOKS, "WebhookEventPayload", event)
        check(WEBHOOKS, "DeletedObject" if event["type"] == "user.deleted" else "User", event["data"])


def test_a_customer_has_the_fields_of_stripes_sample(sandbox: Sandbox) -> None:
    body = stripe(sandbox, "POST", "/v1/customers", {"email": "a@b.c"}).json()
    assert body.keys() == fixture("customer").keys()
    assert stripe(sandbox, "DELETE", f"/v1/customers/{body['id']}").json().keys() == (
        fixture("deleted_customer").keys()
    )


def test_only_what_stripe_lets_be_null_is_null(sandbox: Sandbox) -> None:
    excerpt = yaml.safe_load(spec_file(EXCERPT).read_text(encoding="utf-8"))["customer object"]
    body = stripe(sandbox, "POST", "/v1/customers").json()
    assert body.keys() >= set(excerpt["required"])
    # The sample has this one null too, though the excerpt does not list it.
    assert {key for key, value in body.items() if value is None} <= {*excerpt["nullable"], "test_clock"}


def test_customers_take_the_parameters_that_stripe_publishes(sandbox: Sandbox) -> None:
    excerpt = yaml.safe_load(spec_file(EXCERPT).read_text(encoding="utf-8"))["POST /v1/customers"]
    for name in excerpt.keys() - {"absent", "cash_balance", "invoice_settings"}:
        limit = excerpt[name].get("maxLength") if isinstance(excerpt[name], dict) else None
        value = "a@b.c".rjust(limit or 5, "1") if name == "email" else "1" * (limit or 1)
        param = f"{name}[k]" if name == "metadata" else name
        assert stripe(sandbox, "POST", "/v1/customers", {param: value}).status == 200, name
        if limit is not None:
            assert stripe(sandbox, "POST", "/v1/customers", {param: value + "1"}).status == 400, name


def test_what_hangs_on_customers_has_no_field_that_stripes_samples_lack(sandbox: Sandbox) -> None:
    customer = sandbox.stripe.create_customer(NOW)
    subscription = sandbox.stripe.add_subscription(NOW, customer)
    sandbox.stripe.attach_payment_method(NOW, customer)
    sandbox.stripe.add_payment_intent(NOW, customer)
    stripe(sandbox, "POST", f"/v1/subscriptions/{subscription}", {"cancel_at_period_end": "true"})
    bodies = {
        "subscription": stripe(sandbox, "GET", f"/v1/subscriptions/{subscription}").json(),
        "payment_method": stripe(sandbox, "GET", f"/v1/customers/{customer}/payment_methods").json()["data"][0],
        "payment_intent": stripe(sandbox, "GET", "/v1/payment_intents").json()["data"][0],
        "account": stripe(sandbox, "GET", "/v1/account").json(),
    }
    bodies["subscription_item"] = bodies["subscription"]["items"]["data"][0]
    for name, body in bodies.items():
        sample = fixture(name)
        assert body.keys() <= {*sample, "trial_end", "start_date"}, name
        assert body["object"] == sample["object"]
