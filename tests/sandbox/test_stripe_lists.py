from __future__ import annotations

from typing import Any

import pytest

from counterfoil.sandbox import Sandbox, SandboxSettings, StripeSettings

from .support import NOW, error_code, stripe


def ids(sandbox: Sandbox, params: Any = None, now: float = NOW) -> list[str]:
    answer = stripe(sandbox, "GET", "/v1/customers", params, now=now)
    assert answer.status == 200, answer.body
    return [customer["id"] for customer in answer.json()["data"]]


def found(sandbox: Sandbox, query: str, now: float) -> list[str]:
    answer = stripe(sandbox, "GET", "/v1/customers/search", {"query": query}, now=now)
    assert answer.status == 200, answer.body
    return [customer["id"] for customer in answer.json()["data"]]


def made(sandbox: Sandbox, count: int) -> list[str]:
    return [sandbox.stripe.create_customer(NOW + number, email="a@b.c") for number in range(count)]


def test_a_list_is_ten_newest_first_and_says_whether_there_is_more(sandbox: Sandbox) -> None:
    customers = made(sandbox, 11)
    page = stripe(sandbox, "GET", "/v1/customers").json()
    assert [customer["id"] for customer in page["data"]] == customers[:0:-1]
    assert page["has_more"] is True
    last = stripe(sandbox, "GET", "/v1/customers", {"starting_after": customers[1]}).json()
    assert ([customer["id"] for customer in last["data"]], last["has_more"]) == ([customers[0]], False)


@pytest.mark.parametrize("limit", ["0", "101", "many"])
def test_a_page_holds_one_to_a_hundred(sandbox: Sandbox, limit: str) -> None:
    assert stripe(sandbox, "GET", "/v1/customers", {"limit": limit}).status == 400


def test_deleted_customers_are_left_out(sandbox: Sandbox) -> None:
    first, second = made(sandbox, 2)
    sandbox.stripe.delete_customer(NOW, second)
    assert ids(sandbox) == ids(sandbox, {"email": "a@b.c"}) == [first]


@pytest.mark.parametrize(
    ("params", "wanted"),
    [
        ({"created[gte]": int(NOW) + 3}, [4, 3]),
        ({"created[gt]": int(NOW) + 3}, [4]),
        ({"created[lte]": int(NOW) + 1}, [1, 0]),
        ({"created[lt]": int(NOW) + 1}, [0]),
        ({"created": int(NOW) + 2}, [2]),
        ({"created[gte]": int(NOW) + 1, "created[lt]": int(NOW) + 3}, [2, 1]),
    ],
)
def test_a_list_can_be_bounded_by_creation(sandbox: Sandbox, params: Any, wanted: list[int]) -> None:
    customers = made(sandbox, 5)
    assert ids(sandbox, params) == [customers[number] for number in wanted]
    assert ids(sandbox, {"email": "a@b.c", **params}) == [customers[number] for number in wanted]


def test_the_email_filter_is_exact_and_heeds_case(sandbox: Sandbox) -> None:
    lower = sandbox.stripe.create_customer(NOW, email="ada@b.c")
    upper = sandbox.stripe.create_customer(NOW, email="Ada@b.c")
    sandbox.stripe.edit_customer(NOW, lower, email="new@b.c")
    assert ids(sandbox, {"email": "Ada@b.c"}) == [upper]
    assert ids(sandbox, {"email": "ada@b.c"}) == []
    assert ids(sandbox, {"email": "new@b.c"}) == [lower]


def test_a_cursor_of_an_unknown_or_deleted_customer_is_refused_unless_set_otherwise() -> None:
    for how in ("refuse", "continue"):
        sandbox = Sandbox(SandboxSettings(stripe=StripeSettings(deleted_cursor=how)))
        first, second = made(sandbox, 2)
        sandbox.stripe.delete_customer(NOW, second)
        unknown = stripe(sandbox, "GET", "/v1/customers", {"starting_after": "cus_none"})
        assert (unknown.status, error_code(unknown)) == (400, "resource_missing")
        deleted = stripe(sandbox, "GET", "/v1/customers", {"starting_after": second})
        if how == "refuse":
            assert deleted.status == 400
        else:
            assert [customer["id"] for customer in deleted.json()["data"]] == [first]


def test_customers_on_a_test_clock_are_absent_unless_it_is_asked_for(sandbox: Sandbox) -> None:
    usual = sandbox.stripe.create_customer(NOW)
    clocked = sandbox.stripe.create_customer(NOW, test_clock="clock_1")
    assert ids(sandbox) == [usual]
    assert ids(sandbox, {"test_clock": "clock_1"}) == [clocked]


def test_search_sees_every_change_only_after_its_lag(sandbox: Sandbox) -> None:
    lag = sandbox.stripe.settings.search_lag
    query = "metadata['clerkUserId']:'user_1'"
    customer = sandbox.stripe.create_customer(NOW, email="A@b.c", metadata={"clerkUserId": "user_1"})
    assert found(sandbox, query, NOW + lag - 1) == []
    assert found(sandbox, query, NOW + lag) == [customer]
    assert found(sandbox, f"email:'a@B.C' AND {query}", NOW + lag) == [customer]
    sandbox.stripe.edit_customer(NOW + lag, customer, metadata={"clerkUserId": "user_2"})
    assert found(sandbox, query, NOW + lag + 1) == [customer]
    assert found(sandbox, query, NOW + 2 * lag) == []
    sandbox.stripe.delete_customer(NOW + 2 * lag, customer)
    assert found(sandbox, "email:'a@b.c'", NOW + 2 * lag) == []


def test_search_reads_escaped_quotes_and_refuses_what_it_cannot_read(sandbox: Sandbox) -> None:
    customer = sandbox.stripe.create_customer(NOW, name="O'Neill")
    assert found(sandbox, r"name:'O\'Neill'", NOW + 60) == [customer]
    bad = stripe(sandbox, "GET", "/v1/customers/search", {"query": "colour:red"})
    assert bad.status == 400


def test_search_pages_by_an_opaque_cursor(sandbox: Sandbox) -> None:
    customers = made(sandbox, 3)
    params = {"query": "email:'a@b.c'", "limit": "2"}
    page = stripe(sandbox, "GET", "/v1/customers/search", params, now=NOW + 60).json()
    assert (len(page["data"]), page["has_more"]) == (2, True)
    rest = {**params, "page": page["next_page"]}
    last = stripe(sandbox, "GET", "/v1/customers/search", rest, now=NOW + 60).json()
    assert ([customer["id"] for customer in last["data"]], last["next_page"]) == ([customers[0]], None)


def test_search_can_be_unavailable() -> None:
    sandbox = Sandbox(SandboxSettings(stripe=StripeSettings(search_available=False)))
    answer = stripe(sandbox, "GET", "/v1/customers/search", {"query": "email:'a@b.c'"})
    assert answer.status == 400
