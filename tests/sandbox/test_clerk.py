from __future__ import annotations

from typing import Any

import msgspec
import pytest

from counterfoil.sandbox import ClerkSettings, Sandbox, SandboxSettings

from .support import NOW, clerk, error_code


def events(sandbox: Sandbox) -> list[dict[str, Any]]:
    return [msgspec.json.decode(message.body) for message in sandbox.svix.messages()]


def test_a_missing_key_and_a_wrong_key_are_told_apart(sandbox: Sandbox) -> None:
    missing = clerk(sandbox, "GET", "/v1/users", headers={"authorization": ""})
    wrong = clerk(sandbox, "GET", "/v1/users", headers={"authorization": "Bearer sk_test_other"})
    assert (missing.status, error_code(missing)) == (401, "authentication_invalid")
    assert (wrong.status, error_code(wrong)) == (401, "clerk_key_invalid")


@pytest.mark.parametrize(
    ("headers", "query", "status"),
    [
        ({"clerk-api-version": "2026-05-12"}, {}, 200),
        ({}, {"__clerk_api_version": "2025-11-10"}, 200),
        ({"clerk-api-version": "1999-01-01"}, {}, 400),
        ({"clerk-api-version": "2026-05-12"}, {"__clerk_api_version": "2026-05-12"}, 400),
    ],
)
def test_the_version_is_given_once_and_must_be_known(
    sandbox: Sandbox, headers: dict[str, str], query: dict[str, str], status: int
) -> None:
    answer = clerk(sandbox, "GET", "/v1/users", headers=headers, query=query)
    assert answer.status == status


def test_the_instance_names_itself(sandbox: Sandbox) -> None:
    body = clerk(sandbox, "GET", "/v1/instance").json()
    assert body["id"] == sandbox.clerk.settings.instance_id
    assert body["environment_type"] == "development"


def test_a_user_who_is_not_there_answers_404(sandbox: Sandbox) -> None:
    answer = clerk(sandbox, "GET", "/v1/users/user_none")
    assert (answer.status, error_code(answer)) == (404, "resource_not_found")


def test_a_sign_up_can_be_read_and_is_announced_in_milliseconds(sandbox: Sandbox) -> None:
    user_id = sandbox.clerk.create_user(NOW, email="ada@example.com", first_name="Ada", last_name="L")
    body = clerk(sandbox, "GET", f"/v1/users/{user_id}").json()
    assert body["created_at"] == body["updated_at"] == int(NOW * 1000)
    assert body["email_addresses"][0]["verification"]["object"] == "verification_otp"
    (event,) = events(sandbox)
    assert (event["type"], event["data"]["id"]) == ("user.created", user_id)
    assert event["timestamp"] == body["updated_at"] + 18
    assert event["instance_id"] == sandbox.clerk.settings.instance_id
    assert "object" not in event["data"]["email_addresses"][0]["verification"]


def test_a_silent_change_is_announced_to_nobody(sandbox: Sandbox) -> None:
    user_id = sandbox.clerk.create_user(NOW, silent=True)
    sandbox.clerk.touch(NOW, user_id, silent=True)
    sandbox.clerk.delete_user(NOW, user_id, silent=True)
    assert events(sandbox) == []


def test_a_metadata_patch_merges_deeply_and_null_removes(sandbox: Sandbox) -> None:
    user_id = sandbox.clerk.create_user(NOW, public_metadata={"a": {"x": 1, "y": 2}, "b": 3})
    patch = {"public_metadata": {"a": {"x": None, "z": 4}, "b": None, "c": 5}}
    answer = clerk(sandbox, "PATCH", f"/v1/users/{user_id}/metadata", body=patch)
    assert answer.json()["public_metadata"] == {"a": {"y": 2, "z": 4}, "c": 5}


def test_a_metadata_put_replaces_the_field_that_is_sent(sandbox: Sandbox) -> None:
    user_id = sandbox.clerk.create_user(NOW, public_metadata={"a": 1}, private_metadata={"p": 1})
    answer = clerk(sandbox, "PUT", f"/v1/users/{user_id}/metadata", body={"public_metadata": {"b": 2}})
    assert answer.json()["public_metadata"] == {"b": 2}
    assert answer.json()["private_metadata"] == {"p": 1}


def test_a_metadata_write_is_echoed_as_an_update_with_a_newer_version(sandbox: Sandbox) -> None:
    user_id = sandbox.clerk.create_user(NOW)
    body = {"public_metadata": {"k": "v"}}
    answers = [clerk(sandbox, "PATCH", f"/v1/users/{user_id}/metadata", body=body) for _ in range(3)]
    versions = [answer.json()["updated_at"] for answer in answers]
    assert versions == sorted(set(versions))
    assert [event["data"]["updated_at"] for event in events(sandbox)[1:]] == versions


def test_metadata_over_8_kilobytes_is_refused(sandbox: Sandbox) -> None:
    user_id = sandbox.clerk.create_user(NOW)
    body = {"public_metadata": {"k": "v" * 9000}}
    answer = clerk(sandbox, "PATCH", f"/v1/users/{user_id}/metadata", body=body)
    assert (answer.status, error_code(answer)) == (422, "form_param_exceeds_allowed_size")


def test_todays_user_patch_rejects_metadata_and_yesterdays_replaces_it(sandbox: Sandbox) -> None:
    user_id = sandbox.clerk.create_user(NOW, public_metadata={"kept": 1})
    body = {"public_metadata": {"new": 2}}
    assert clerk(sandbox, "PATCH", f"/v1/users/{user_id}", body=body).status == 422
    old = {"clerk-api-version": "2025-11-10"}
    answer = clerk(sandbox, "PATCH", f"/v1/users/{user_id}", body=body, headers=old)
    assert answer.json()["public_metadata"] == {"new": 2}


def test_a_user_made_through_the_api_is_announced_and_its_address_is_taken(sandbox: Sandbox) -> None:
    body = {"email_address": ["a@example.com", "b@example.com"], "first_name": "A"}
    made = clerk(sandbox, "POST", "/v1/users", body=body).json()
    primary = made["primary_email_address_id"]
    named = {entry["id"]: entry["email_address"] for entry in made["email_addresses"]}
    assert named[primary] == "a@example.com"
    again = clerk(sandbox, "POST", "/v1/users", body={"email_address": ["A@example.com"]})
    assert (again.status, error_code(again)) == (422, "form_identifier_exists")


def test_a_deletion_leaves_nothing_but_the_id(sandbox: Sandbox) -> None:
    user_id = sandbox.clerk.create_user(NOW, email="a@example.com", external_id="ext")
    answer = clerk(sandbox, "DELETE", f"/v1/users/{user_id}")
    gone = {"object": "user", "id": user_id, "deleted": True, "external_id": "ext"}
    assert answer.json() == gone
    assert events(sandbox)[-1]["data"] == gone
    assert clerk(sandbox, "GET", f"/v1/users/{user_id}").status == 404
    assert sandbox.clerk.create_user(NOW, email="a@example.com") != user_id


def test_the_primary_address_need_not_be_the_first(sandbox: Sandbox) -> None:
    user_id = sandbox.clerk.create_user(NOW, email="primary@example.com")
    sandbox.clerk.add_email(NOW, user_id, "second@example.com")
    body = clerk(sandbox, "GET", f"/v1/users/{user_id}").json()
    assert body["email_addresses"][0]["email_address"] == "second@example.com"
    assert sandbox.clerk.users[user_id].email == "primary@example.com"


def test_an_address_can_be_changed_and_taken_away(sandbox: Sandbox) -> None:
    user_id = sandbox.clerk.create_user(NOW, email="a@example.com")
    sandbox.clerk.change_email(NOW + 1, user_id, "b@example.com")
    assert sandbox.clerk.users[user_id].email == "b@example.com"
    sandbox.clerk.change_email(NOW + 2, user_id, None)
    body = clerk(sandbox, "GET", f"/v1/users/{user_id}").json()
    assert (body["email_addresses"], body["primary_email_address_id"]) == ([], None)


def test_the_dashboards_example_tells_of_a_user_who_does_not_exist(sandbox: Sandbox) -> None:
    sandbox.clerk.send_example(NOW)
    sandbox.clerk.send_example(NOW, instance_id=None, seconds=False)
    new, old = events(sandbox)
    assert new["timestamp"] < 10**11 < old["timestamp"]
    assert "instance_id" not in old
    assert clerk(sandbox, "GET", f"/v1/users/{new['data']['id']}").status == 404


def test_an_instance_takes_so_many_requests_in_ten_seconds() -> None:
    sandbox = Sandbox(SandboxSettings(clerk=ClerkSettings(instance_limit=3)))
    statuses = [clerk(sandbox, "GET", "/v1/users", now=NOW + i).status for i in range(4)]
    assert statuses == [200, 200, 200, 429]
    refused = clerk(sandbox, "GET", "/v1/users", now=NOW + 4)
    assert (error_code(refused), refused.headers["Retry-After"]) == ("too_many_requests", "6")
    assert clerk(sandbox, "GET", "/v1/users", now=NOW + 10).status == 200


@pytest.mark.parametrize(("environment", "limit"), [("production", 1000), ("development", 100)])
def test_the_instance_limit_follows_the_environment(environment: Any, limit: int) -> None:
    sandbox = Sandbox(SandboxSettings(clerk=ClerkSettings(environment_type=environment)))
    assert sandbox.clerk.instance_window.limit == limit


def test_one_user_takes_ten_writes_in_ten_seconds_over_all_its_write_endpoints() -> None:
    sandbox = Sandbox()
    first, other = (sandbox.clerk.create_user(NOW) for _ in range(2))
    calls = [("PATCH", "/metadata"), ("PUT", "/metadata"), ("PATCH", "")]
    for number in range(10):
        method, tail = calls[number % 3]
        assert clerk(sandbox, method, f"/v1/users/{first}{tail}", body={}).status == 200
    assert clerk(sandbox, "PATCH", f"/v1/users/{first}/metadata", body={}).status == 429
    assert clerk(sandbox, "PATCH", f"/v1/users/{other}/metadata", body={}).status == 200
    assert clerk(sandbox, "GET", f"/v1/users/{first}").status == 200
    assert clerk(sandbox, "PATCH", f"/v1/users/{first}/metadata", body={}, now=NOW + 10).status == 200


def test_an_address_is_verified_later_and_the_event_says_so(sandbox: Sandbox) -> None:
    user_id = sandbox.clerk.create_user(NOW, email="ada@example.com", verified=False)
    sandbox.clerk.verify_email(NOW + 1, user_id)
    statuses = [event["data"]["email_addresses"][0]["verification"]["status"] for event in events(sandbox)]
    assert statuses == ["unverified", "verified"]
    assert sandbox.clerk.users[user_id].verified


def test_an_address_that_nobody_verified_is_not_though_the_api_gives_it_no_verification(sandbox: Sandbox) -> None:
    user_id = sandbox.clerk.create_user(NOW, email="ada@example.com")
    user = sandbox.clerk.users[user_id]
    user.emails[0].strategy = None
    body = clerk(sandbox, "GET", f"/v1/users/{user_id}").json()
    assert body["email_addresses"][0]["verification"] is None
    assert not user.verified


def test_the_primary_phone_number_changes_and_goes(sandbox: Sandbox) -> None:
    user_id = sandbox.clerk.create_user(NOW, phone="+15555550100")
    sandbox.clerk.change_phone(NOW + 1, user_id, "+15555550199")
    body = clerk(sandbox, "GET", f"/v1/users/{user_id}").json()
    assert [each["phone_number"] for each in body["phone_numbers"]] == ["+15555550199"]
    assert body["primary_phone_number_id"] == body["phone_numbers"][0]["id"]
    sandbox.clerk.change_phone(NOW + 2, user_id, None)
    body = clerk(sandbox, "GET", f"/v1/users/{user_id}").json()
    assert (body["phone_numbers"], body["primary_phone_number_id"]) == ([], None)
