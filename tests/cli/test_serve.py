"""``counterfoil serve`` as a process, and the commands that a person uses beside it."""

import asyncio
import json
import re
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio

from counterfoil.sandbox.sandbox import Sandbox
from tests.acceptance.node import free_port
from tests.acceptance.standing import LINK, Standing, standing_in
from tests.cli.support import COMMAND, bare, beside, keys, pinned, process, until

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def standing(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Standing]:
    """One world for the tests that leave serve running."""
    async with standing_in(tmp_path_factory.mktemp("standing")) as made:
        yield made


async def get(url: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        return answer.status, await answer.text()


async def test_users_settle_and_status_says_so(standing: Standing) -> None:
    users = [standing.sign_up(name) for name in ("alan", "barbara", "claire")]
    for user in users:
        await standing.settled(user)
    for user in users:
        (customer,) = (
            each for each in standing.sandbox.stripe.live_customers() if each.metadata.get("clerkUserId") == user
        )
        assert standing.sandbox.clerk.users[user].public_metadata["stripeCustomerId"] == customer.id
    found = await standing.run("status")
    assert found.code == 0, found
    assert re.search(r"node +serving", found.out)
    assert "Clerk ins_2sandbox" in found.out
    told = await standing.run("status", "--json")
    assert told.code == 0
    assert told.json["serving"] is True
    assert told.json["linked"] >= 3
    assert told.json["environment"]["stripe_account"] == "acct_1Sandbox00000000"


async def test_show_tells_a_users_story_in_plain_words(standing: Standing) -> None:
    user = standing.sign_up("dorothy")
    await standing.settled(user)
    found = await standing.run("show", user)
    assert found.code == 0, found
    told = found.out[found.out.index("dorothy@example.com") :]
    assert "Clerk said: created" in told
    # A sweep or a walk that falls into this moment may tell of the user before the delivery does.
    heard = [told.find(line) for line in ("Clerk said: created", "the sweep found", "the daily walk found")]
    steps = [
        "decided to create a customer, and wrote that down first",
        "asked Stripe to create the customer",
        "into the user's metadata",
        "settled",
    ]
    places = [min(place for place in heard if place >= 0), *(told.index(step) for step in steps)]
    assert places == sorted(places)
    whole = await standing.run("show", user, "--json")
    assert whole.json["link"]["subject_id"] == user
    assert whole.json["link"]["customer_id"].startswith("cus_")
    assert "user.created" in {entry["what"] for entry in whole.json["story"]}
    assert "dorothy@" not in json.dumps(whole.json["story"])


async def test_show_of_an_unknown_user_is_a_failure(standing: Standing) -> None:
    found = await standing.run("show", "user_neverheardof")
    assert (found.code, found.out) == (1, "")
    assert "nothing is known of user_neverheardof" in found.err
    assert (await standing.run("show", "user_neverheardof", "--json")).code == 1


async def test_an_id_that_is_none_is_refused_without_repeating_it(standing: Standing) -> None:
    for name in ("show", "retry"):
        found = await standing.run(name, "cus_<script>")
        assert found.code == 1
        assert "not a Clerk user id" in found.err
        assert "script" not in found.err


async def test_retry_has_the_running_serve_look_at_one_link(standing: Standing) -> None:
    user = standing.sign_up_refused("edsger")
    await standing.parked(user)
    shown = await standing.run("show", user)
    assert "parked: rejected" in shown.out
    status = await standing.run("status")
    assert re.search(r"parked +\d+ rejected", status.out)
    asked = await standing.run("retry", user)
    assert (asked.code, asked.out) == (0, "1 link is looked at again\n")
    await standing.settled(user)


async def test_retry_all_takes_only_those_parked_for_the_reason(standing: Standing) -> None:
    user = standing.sign_up_refused("frances")
    await standing.parked(user)
    none = await standing.run("retry", "--all", "--reason", "duplicate", "--json")
    assert (none.code, none.json) == (0, {"retried": 0})
    asked = await standing.run("retry", "--all", "--reason", "rejected", "--json")
    assert asked.code == 0
    assert asked.json["retried"] >= 1
    await standing.settled(user)


async def test_retry_of_an_unknown_user_counts_nothing(standing: Standing) -> None:
    found = await standing.run("retry", "user_neverheardof", "--json")
    assert (found.code, found.json) == (0, {"retried": 0})


async def test_retry_wants_one_user_or_all(standing: Standing) -> None:
    for arguments in ([], ["user_a", "--all"], ["user_a", "--reason", "foreign"], ["--all", "--reason", "odd"]):
        assert (await standing.run("retry", *arguments)).code == 2, arguments


async def test_a_second_serve_on_the_same_database_is_refused(standing: Standing) -> None:
    environ = keys(standing.sandbox, standing.base, COUNTERFOIL_PORT=str(free_port()))
    found = await process(standing.serve.folder, "serve", **environ)
    assert found.code == 5, found
    assert "another process owns" in found.err
    assert (await get(f"{standing.serve.url}/readyz"))[0] == 200


async def test_a_port_that_is_taken_is_said_at_once(standing: Standing, tmp_path: Path) -> None:
    environ = keys(standing.sandbox, standing.base, COUNTERFOIL_PORT=str(standing.serve.port))
    found = await process(tmp_path, "serve", **environ)
    assert found.code == 3, found
    assert f"cannot listen on 127.0.0.1:{standing.serve.port}" in found.err


async def test_health_readiness_and_metrics_are_served(standing: Standing) -> None:
    assert await get(f"{standing.serve.url}/healthz") == (200, "ok\n")
    status, body = await get(f"{standing.serve.url}/readyz")
    assert status == 200
    assert json.loads(body)["ready"] is True
    assert json.loads(body)["obstacles"] == []
    status, body = await get(f"{standing.serve.url}/metrics")
    assert status == 200
    assert body.startswith("# HELP counterfoil_oldest_unsettled_seconds")
    for name in ("counterfoil_unsettled_links", "counterfoil_breaker_open", "counterfoil_calls_total"):
        assert re.search(rf"^{name}\b", body, re.MULTILINE), name


async def test_the_local_api_wants_the_token(standing: Standing) -> None:
    token = json.loads((standing.serve.folder / "counterfoil.db.lock").read_text())["token"]
    url = f"{standing.serve.url}/v1/retry"
    async with aiohttp.ClientSession() as session:
        for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": token}):
            async with session.post(url, data=b'{"everything": true}', headers=headers) as answer:
                assert answer.status == 401
        right = {"authorization": f"Bearer {token}"}
        for body in (b"", b"[]", b'{"subjects": ["cus_1"]}', b'{"all": true}', b"{" + b" " * 70_000):
            async with session.post(url, data=body, headers=right) as answer:
                assert answer.status == 400, body[:40]
        async with session.post(url, data=b'{"subjects": ["user_x"]}', headers=right) as answer:
            assert (answer.status, await answer.json()) == (200, {"retried": 0})
        async with session.get(url, headers=right) as answer:
            assert answer.status == 405


async def test_a_serve_without_settings_names_each_of_them(tmp_path: Path) -> None:
    found = await beside(tmp_path, "serve")
    assert found.code == 3
    for name in ("CLERK_SECRET_KEY", "CLERK_WEBHOOK_SIGNING_SECRET", "STRIPE_SECRET_KEY"):
        assert f"{name} is not set" in found.err
    assert list(tmp_path.iterdir()) == []


async def test_a_serve_with_another_environments_keys_ends_and_names_both(
    standing: Standing, tmp_path: Path
) -> None:
    await pinned(tmp_path, clerk_instance="ins_first", stripe_account="acct_first")
    environ = keys(standing.sandbox, standing.base, COUNTERFOIL_PORT=str(free_port()))
    found = await process(tmp_path, "serve", **environ)
    assert found.code == 4, found
    for name in ("ins_first", "acct_first", "ins_2sandbox", "acct_1Sandbox", "Nothing was written"):
        assert name in found.err


async def test_a_first_start_without_an_answer_is_an_upstreams_fault(tmp_path: Path, sandbox: Sandbox) -> None:
    found = await process(tmp_path, "serve", **keys(sandbox, COUNTERFOIL_PORT=str(free_port())))
    assert found.code == 6, found
    assert "clerk" in found.err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_finishes_what_is_in_flight(tmp_path: Path, number: signal.Signals) -> None:
    async with standing_in(tmp_path, latency=0.4) as standing:
        user = standing.sign_up("grace")

        async def creating() -> bool:
            return bool(standing.sandbox.calls("stripe", "customers.create"))

        await until(creating)
        began = time.monotonic()
        assert await standing.serve.end(number) == 0, standing.serve.log.read_text()
        assert time.monotonic() - began < 25.0
        assert await standing.asks(LINK, user)
    assert standing.sandbox.clerk.users[user].public_metadata["stripeCustomerId"].startswith("cus_")
    log = [json.loads(line) for line in standing.serve.log.read_text().splitlines()]
    assert "stopping" in [each["event"] for each in log]
    assert not [each for each in log if each["level"] in {"error", "warning"}]


async def test_an_observing_serve_writes_nothing_outside_and_retry_works_without_a_serve(tmp_path: Path) -> None:
    async with standing_in(tmp_path, "--observe") as standing:
        user = standing.sign_up("hedy")
        await standing.parked(user)
        made = [*standing.sandbox.calls("clerk"), *standing.sandbox.calls("stripe")]
        assert [call for call in made if call.method != "GET"] == []
        status = await standing.run("status")
        assert "1 observed: only observed" in status.out
        assert await standing.serve.end(signal.SIGTERM) == 0
        status = await standing.run("status", "--json")
        assert status.json["serving"] is False
        assert status.json["backlog"]["parked"] == {"observed": 1}
        assert re.search(r"node +not running", (await standing.run("status")).out)
        asked = await standing.run("retry", "--all", "--reason", "observed")
        assert (asked.code, asked.out) == (0, "1 link is looked at again\n")
        assert (await standing.run("retry", user, "--json")).json == {"retried": 1}
        await standing.serve.start()
        await standing.settled(user)
        assert await standing.serve.end(signal.SIGTERM) == 0


async def test_status_show_and_retry_want_a_database_that_is_there(tmp_path: Path) -> None:
    for arguments in (("status",), ("show", "user_a"), ("retry", "user_a")):
        found = await beside(tmp_path, *arguments)
        assert found.code == 5, arguments
        assert "counterfoil serve" in found.err


async def test_the_sandbox_says_how_to_point_serve_at_it_and_ends_on_sigterm(tmp_path: Path) -> None:
    port = free_port()
    made = await asyncio.create_subprocess_exec(
        *(*COMMAND, "sandbox", "--port", str(port), "--webhook", f"http://127.0.0.1:{free_port()}/x"),
        cwd=tmp_path,
        env=bare(),
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert made.stdout is not None
        said = ""
        async with asyncio.timeout(20):
            while "The verdict" not in said:
                said += (await made.stdout.readline()).decode()
        exports = dict(re.findall(r"export ([A-Z_]+)=(\S+)", said))
        assert exports["CLERK_API_URL"] == f"http://127.0.0.1:{port}/clerk"
        assert exports["STRIPE_API_BASE"] == f"http://127.0.0.1:{port}/stripe"
        found = await beside(tmp_path, "check", "--json", **exports)
        assert found.code == 0, found
        status, body = await get(f"http://127.0.0.1:{port}/sandbox/verdict")
        assert status == 200
        assert json.loads(body)
        made.send_signal(signal.SIGTERM)
        async with asyncio.timeout(10):
            assert await made.wait() == 0
    finally:
        if made.returncode is None:
            made.kill()
            await made.wait()
