"""Secrets and personal data are planted, everything goes wrong, and all that was written is searched for them."""

import asyncio
import base64
import json
import signal
import sqlite3
import time
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from counterfoil.sandbox.faults import Fault
from tests.acceptance.node import free_port
from tests.acceptance.standing import Standing, standing_in
from tests.cli.support import keys, process, until
from tests.hostile.support import signed

TOKEN = "canary-token-of-the-app-1234"
PATH = "/hooks/canary-alert-path"
PERSON = {
    "email": "canarymail@example.com",
    "later email": "canarylater@example.com",
    "first name": "Canaryfirst",
    "later name": "Canarysecond",
    "phone": "+15550199887",
}


def _secrets(standing: Standing) -> dict[str, str]:
    settings = standing.sandbox.settings
    bare = settings.svix.secret.removeprefix("whsec_")
    lock = json.loads((standing.serve.folder / "counterfoil.db.lock").read_text())
    return {
        "Clerk's key": settings.clerk.secret_key,
        "Stripe's key": settings.stripe.secret_key,
        "the signing secret": bare,
        "the signing secret, decoded": base64.b64decode(bare).decode(),
        "the app's token": TOKEN,
        "the command line's token": lock["token"],
        "the alerts' address": PATH,
    }


def _leaks(canaries: Mapping[str, str], written: Mapping[str, bytes]) -> list[str]:
    """Which canary is where."""
    return [
        f"{name} in {place}"
        for place, content in written.items()
        for name, canary in canaries.items()
        if canary.encode() in content or canary.casefold().encode() in content.lower()
    ]


def _files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("counterfoil.db*") if path.suffix != ".lock"}


def _journal(folder: Path) -> bytes:
    with closing(sqlite3.connect(folder / "counterfoil.db")) as connection:
        rows = connection.execute("SELECT * FROM journal").fetchall()
        rows += connection.execute("SELECT * FROM environment").fetchall()
    return repr(rows).encode()


class _Receiver:
    """Alerts come here, and are refused."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []

    async def start(self) -> tuple[web.AppRunner, str]:
        async def take(request: web.Request) -> web.Response:
            self.bodies.append(await request.read())
            return web.Response(status=500)

        application = web.Application()
        application.router.add_post(PATH, take)
        runner = web.AppRunner(application)
        await runner.setup()
        port = free_port()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        return runner, f"http://127.0.0.1:{port}{PATH}"


async def _abuse(standing: Standing) -> dict[str, bytes]:
    """Requests of all bad kinds that hold canaries; returns the answers."""
    serve, secret = standing.serve, standing.sandbox.settings.svix.secret
    body = json.dumps({"type": "user.created", "data": {"id": PERSON["email"], "x": PERSON["phone"]}}).encode()
    now = int(time.time())

    def good(sent: int, text: bytes = body) -> dict[str, str]:
        return {name.decode(): value.decode() for name, value in signed(secret, text, sent)}

    hook, bearer = f"{serve.url}/webhooks/clerk", {"authorization": f"Bearer {TOKEN}"}
    requests: list[tuple[str, str, dict[str, str], bytes]] = [
        ("POST", hook, good(now - 900), body),
        ("POST", hook, good(now) | {"svix-signature": "v1," + TOKEN}, body),
        ("POST", hook, good(now) | {"svix-id": PERSON["email"]}, body),
        ("POST", hook, {}, body),
        ("GET", hook, bearer, body),
        ("POST", f"{serve.url}/v1/ensure/{PERSON['email']}", bearer, body),
        ("POST", f"{serve.url}/v1/ensure/user_a", {"authorization": f"Bearer x{TOKEN}"}, body),
        ("POST", f"{serve.url}/v1/retry", bearer, body),
        ("GET", f"{serve.url}/v1/links/user_{PERSON['first name']}@", bearer, b""),
        ("GET", f"{serve.url}/{PERSON['email']}?{TOKEN}", bearer, b""),
        ("PUT", f"{serve.url}/metrics", bearer, body),
    ]
    found = {}
    async with aiohttp.ClientSession() as session:
        for method, url, headers, sent in requests:
            async with session.request(method, url, headers=headers, data=sent) as answer:
                assert answer.status < 500, url
                found[f"the answer to {method} {url}"] = repr(answer.headers).encode() + await answer.read()
        for path in ("/metrics", "/readyz", "/healthz"):
            async with session.get(serve.url + path) as answer:
                found[path] = await answer.read()
    return found


async def _everything_goes_wrong(standing: Standing) -> str:
    """A life in which each upstream fails in each way, with an answer that quotes the person; returns the user."""
    sandbox, serve = standing.sandbox, standing.serve
    sandbox.plan_fault("stripe", "customers.create", "error_after")
    sandbox.plan_fault("stripe", "customers.create", "cut_after")
    sandbox.plan_fault("clerk", "users.metadata", "error_before")
    user = sandbox.clerk.create_user(
        time.time(), email=PERSON["email"], first_name=PERSON["first name"], phone=PERSON["phone"]
    )
    await standing.settled(user)
    refused = Fault(kind="error_before", status=400)
    sandbox.plan_fault("stripe", "customers.update", refused)
    sandbox.clerk.change_email(time.time(), user, PERSON["later email"])
    await standing.parked(user)

    async def told() -> bool:
        return b"alerts.not_sent" in serve.log.read_bytes()

    await until(told)
    with closing(sqlite3.connect(serve.folder / "counterfoil.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        sandbox.clerk.change_name(time.time(), user, PERSON["later name"], None)

        async def refused_by_us() -> bool:
            return b"intake.commit_failed" in serve.log.read_bytes()

        await until(refused_by_us)
        other.execute("ROLLBACK")
    await standing.settled(user)
    return user


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_nothing_written_holds_a_secret_or_anything_personal(tmp_path: Path) -> None:
    receiver = _Receiver()
    runner, address = await receiver.start()
    more: dict[str, Any] = {
        "COUNTERFOIL_LOG_LEVEL": "debug",
        "COUNTERFOIL_MIRROR": "email,name,phone",
        "COUNTERFOIL_API_TOKEN": TOKEN,
        "COUNTERFOIL_ALERT_URL": address,
    }
    try:
        async with standing_in(tmp_path, **more) as standing:
            canaries = _secrets(standing)
            user = await _everything_goes_wrong(standing)
            written = await _abuse(standing)
            environ = keys(standing.sandbox, standing.base, **more, COUNTERFOIL_PORT=str(free_port()))
            commands = [
                (("serve",), environ),
                (("serve",), environ | {"DATABASE_URL": "postgresql://me:canary-token-of-the-app-1234@[::1"}),
                (("check",), environ | {"STRIPE_SECRET_KEY": "sk_test_wrong", "COUNTERFOIL_QUIET": TOKEN}),
                (("status",), {}),
                (("retry", PERSON["email"]), {}),
                (("audit", "--out", "nowhere/plan.jsonl"), environ),
                (("apply", "serve.log"), environ),
                (("ensure", user), environ | {"COUNTERFOIL_URL": "http://127.0.0.1:9"}),
                (("db", "check"), {}),
            ]
            ended = await asyncio.gather(*(process(tmp_path, *each, **given) for each, given in commands))
            for (arguments, _), each in zip(commands, ended, strict=True):
                written[" ".join(arguments)] = f"{each.out}\n{each.err}".encode()
            story = await standing.run("show", user, "--json")
            written["the story"] = json.dumps(story.json["story"]).encode()
            assert receiver.bodies
            assert await standing.serve.end(signal.SIGTERM) == 0
            written["the log"] = standing.serve.log.read_bytes()
            written["the journal"] = _journal(tmp_path)
            written |= {f"alert {number}": body for number, body in enumerate(receiver.bodies)}
    finally:
        await runner.cleanup()
    assert b"intake.commit_failed" in written["the log"]
    assert _leaks(canaries | PERSON, written) == []
    assert _leaks(canaries, _files(tmp_path)) == []


async def test_once_a_deleted_user_has_settled_no_file_holds_anything_of_the_person(tmp_path: Path) -> None:
    async with standing_in(tmp_path, COUNTERFOIL_MIRROR="email,name,phone") as standing:
        for number in range(40):
            standing.sign_up(f"neighbour{number}")
        user = standing.sandbox.clerk.create_user(
            time.time(), email=PERSON["email"], first_name=PERSON["first name"], phone=PERSON["phone"]
        )
        await standing.settled(user)
        standing.sandbox.clerk.change_email(time.time(), user, PERSON["later email"])
        standing.sandbox.clerk.change_name(time.time(), user, PERSON["later name"], None)
        customer = "SELECT COUNT(*) FROM link_rows WHERE dirty_at IS NOT NULL"

        async def settled() -> bool:
            return not standing.sandbox.svix.pending() and not await standing.asks(customer)

        await until(settled)
        assert _leaks(PERSON, _files(tmp_path)), "what is searched for would be found"
        standing.sandbox.clerk.delete_user(time.time(), user)
        await until(settled)

        assert await standing.serve.end(signal.SIGTERM) == 0
        assert _leaks(PERSON, _files(tmp_path)) == []
