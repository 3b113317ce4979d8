from __future__ import annotations

from typing import Any

import pytest

from counterfoil.sandbox import ClerkSettings, Sandbox, SandboxSettings

from .support import NOW, clerk


def ids(sandbox: Sandbox, **query: Any) -> list[str]:
    answer = clerk(sandbox, "GET", "/v1/users", query=query)
    assert answer.status == 200, answer.body
    return [user["id"] for user in answer.json()]


def made(sandbox: Sandbox, count: int) -> list[str]:
    return [sandbox.clerk.create_user(NOW + number // 2, email=f"{number}@example.com") for number in range(count)]


def test_a_list_is_a_bare_array_of_ten_newest_first(sandbox: Sandbox) -> None:
    users = made(sandbox, 12)
    assert ids(sandbox) == users[:1:-1]


@pytest.mark.parametrize("query", [{"limit": 0}, {"limit": 501}, {"offset": -1}, {"order_by": "colour"}])
def test_limits_offsets_and_orders_out_of_range_are_refused(sandbox: Sandbox, query: Any) -> None:
    assert clerk(sandbox, "GET", "/v1/users", query=query).status == 422


def test_order_by_takes_a_sign_either_way(sandbox: Sandbox) -> None:
    users = made(sandbox, 3)
    assert ids(sandbox, order_by="created_at") == ids(sandbox, order_by="+created_at") == users
    assert ids(sandbox, order_by="-created_at") == users[::-1]


def test_the_order_by_update_follows_every_change(sandbox: Sandbox) -> None:
    first, second, third = made(sandbox, 3)
    sandbox.clerk.touch(NOW + 50, first)
    sandbox.clerk.touch(NOW + 60, second)
    sandbox.clerk.touch(NOW + 70, first)
    assert ids(sandbox, order_by="-updated_at") == [first, second, third]
    assert ids(sandbox, order_by="updated_at", offset=1, limit=1) == [second]


@pytest.mark.parametrize("order", ["created_at", "-created_at"])
def test_a_cursor_walks_all_users_once_though_some_come_and_go_meanwhile(sandbox: Sandbox, order: str) -> None:
    users = made(sandbox, 9)
    seen = ids(sandbox, order_by=order, limit=4)
    sandbox.clerk.delete_user(NOW + 99, seen[0])
    sandbox.clerk.create_user(NOW - 1)
    while page := ids(sandbox, order_by=order, limit=4, starting_after=seen[-1]):
        seen += page
    assert set(seen) >= set(users)
    assert len(seen) == len(set(seen))


@pytest.mark.parametrize("extra", [{"order_by": "-updated_at"}, {"offset": 5}])
def test_a_cursor_needs_the_creation_order_and_no_offset(sandbox: Sandbox, extra: Any) -> None:
    (user,) = made(sandbox, 1)
    answer = clerk(sandbox, "GET", "/v1/users", query={"starting_after": user, **extra})
    assert answer.status == 422


def test_a_cursor_of_a_deleted_user_is_refused_or_goes_on_as_set() -> None:
    strict, lenient = (
        Sandbox(SandboxSettings(clerk=ClerkSettings(deleted_cursor=how))) for how in ("refuse", "continue")
    )
    for sandbox in (strict, lenient):
        users = made(sandbox, 3)
        sandbox.clerk.delete_user(NOW, users[1])
        answer = clerk(sandbox, "GET", "/v1/users", query={"starting_after": users[1]})
        if sandbox is strict:
            assert answer.status == 422
        else:
            assert [user["id"] for user in answer.json()] == [users[0]]


def test_users_can_be_asked_for_by_id_but_only_ten_come_without_a_limit(sandbox: Sandbox) -> None:
    users = made(sandbox, 12)
    assert len(ids(sandbox, user_id=users)) == 10
    assert set(ids(sandbox, user_id=[*users, "user_none"], limit=100)) == set(users)
    assert ids(sandbox, user_id=["+" + users[3]]) == [users[3]]
    assert set(ids(sandbox, user_id=["-" + users[3]], limit=100)) == set(users) - {users[3]}


def test_more_than_a_hundred_ids_are_refused(sandbox: Sandbox) -> None:
    query = {"user_id": [f"user_{number}" for number in range(101)]}
    assert clerk(sandbox, "GET", "/v1/users", query=query).status == 422


def test_users_can_be_found_by_address_in_any_case(sandbox: Sandbox) -> None:
    users = made(sandbox, 3)
    sandbox.clerk.change_email(NOW, users[0], "new@Example.com")
    assert ids(sandbox, email_address=["NEW@example.com", "0@example.com"]) == [users[0]]


def test_the_count_takes_the_same_filters(sandbox: Sandbox) -> None:
    made(sandbox, 5)
    whole = clerk(sandbox, "GET", "/v1/users/count").json()
    part = clerk(sandbox, "GET", "/v1/users/count", query={"email_address": "1@example.com"}).json()
    assert (whole["total_count"], part["total_count"]) == (5, 1)


def test_a_filter_that_is_not_built_is_never_silently_ignored(sandbox: Sandbox) -> None:
    assert clerk(sandbox, "GET", "/v1/users", query={"query": "x"}).status == 501
