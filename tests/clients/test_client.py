"""`counterfoil.client`, over real HTTP."""

import subprocess
import sys

import aiohttp
import pytest
from aiohttp import web

from counterfoil.client import ensure_customer
from counterfoil.errors import (
    BadSubject,
    ConfigurationError,
    CounterfoilError,
    CustomerParked,
    EnsureFailed,
    NoCustomer,
    NotYet,
    UserDeleted,
    UserUnknown,
)
from tests.acceptance.node import free_port
from tests.asking import TOKEN, server


async def asked(status: int, body: object) -> CounterfoilError:
    """What is raised for an answer."""
    async with server(status, body) as url:
        with pytest.raises(CounterfoilError) as error:
            await ensure_customer("user_a", url=url, token=TOKEN)
    return error.value


async def test_it_asks_as_the_api_wants_and_returns_the_id() -> None:
    seen: list[web.Request] = []
    async with server(200, {"customer_id": "cus_1"}, seen) as url:
        assert await ensure_customer("user_a", url=url + "/", token=TOKEN, timeout=4) == "cus_1"
    (request,) = seen
    assert (request.method, request.path) == ("POST", "/v1/ensure/user_a")
    assert request.headers["authorization"] == f"Bearer {TOKEN}"
    assert request.headers["prefer"] == "wait=4"


async def test_a_session_of_the_apps_own_is_used_and_left_open() -> None:
    async with server(200, {"customer_id": "cus_1"}) as url, aiohttp.ClientSession() as session:
        for _ in range(2):
            assert await ensure_customer("user_a", url=url, token=TOKEN, session=session) == "cus_1"
        assert not session.closed


async def test_url_and_token_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[web.Request] = []
    async with server(200, {"customer_id": "cus_1"}, seen) as url:
        monkeypatch.setenv("COUNTERFOIL_URL", url)
        monkeypatch.setenv("COUNTERFOIL_API_TOKEN", f"{TOKEN}, an-older-token")
        assert await ensure_customer("user_a") == "cus_1"
    assert seen[0].headers["authorization"] == f"Bearer {TOKEN}"


@pytest.mark.parametrize("missing", ["COUNTERFOIL_URL", "COUNTERFOIL_API_TOKEN"])
async def test_what_is_not_set_is_named(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    for name in ("COUNTERFOIL_URL", "COUNTERFOIL_API_TOKEN"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv(missing)
    with pytest.raises(ConfigurationError, match=missing):
        await ensure_customer("user_a")


async def test_an_id_that_is_none_is_not_sent() -> None:
    seen: list[web.Request] = []
    async with server(200, {"customer_id": "cus_1"}, seen) as url:
        with pytest.raises(BadSubject):
            await ensure_customer("user_a/../../retry", url=url, token=TOKEN)
    assert seen == []


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (404, {"state": "unknown", "error": "Clerk has no such user"}, UserUnknown),
        (410, {"state": "deleted", "error": "the user is deleted"}, UserDeleted),
        (401, {"error": "the token is missing or wrong"}, ConfigurationError),
        (403, {"error": "this API is shut: set COUNTERFOIL_API_TOKEN"}, ConfigurationError),
        (503, {"error": "too many"}, EnsureFailed),
        (200, {"customer": "cus_1"}, EnsureFailed),
        (200, "<html>", EnsureFailed),
        (200, [], EnsureFailed),
        (302, {}, EnsureFailed),
    ],
)
async def test_every_answer_has_its_error(status: int, body: object, kind: type[Exception]) -> None:
    assert type(await asked(status, body)) is kind


async def test_another_servers_404_is_not_taken_for_an_unknown_user() -> None:
    assert type(await asked(404, "Not Found")) is EnsureFailed


async def test_the_reasons_and_the_place_to_look_are_told() -> None:
    parked = await asked(409, {"state": "parked", "reason": "duplicate", "error": "two live customers"})
    assert isinstance(parked, CustomerParked)
    assert (parked.reason, str(parked)) == ("duplicate", "two live customers")
    without = await asked(409, {"state": "none", "reason": "no_email", "error": "no email"})
    assert isinstance(without, NoCustomer)
    assert without.reason == "no_email"
    later = await asked(202, {"state": "pending", "location": "/v1/links/user_a"})
    assert isinstance(later, NotYet)
    assert later.location == "/v1/links/user_a"


async def test_a_server_that_is_not_there_is_an_error_of_ours() -> None:
    with pytest.raises(EnsureFailed, match="does not answer"):
        await ensure_customer("user_a", url=f"http://127.0.0.1:{free_port()}", token=TOKEN)


def test_it_imports_nothing_of_the_product_but_what_it_needs() -> None:
    code = "import sys, counterfoil.client; print(*(each for each in sys.modules))"
    found = set(
        subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout.split()
    )
    ours = {each for each in found if each.startswith("counterfoil")}
    small = {"", ".client", ".core", ".core.subject", ".errors"}
    assert ours == {f"counterfoil{each}" for each in small}
    assert not found & {"stripe", "sqlalchemy", "pydantic", "starlette", "msgspec", "uvicorn"}
