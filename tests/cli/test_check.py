"""``counterfoil check``, against a sandbox on a socket."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from counterfoil.sandbox.clerk import ClerkSettings
from counterfoil.sandbox.http import serve as serve_sandbox
from counterfoil.sandbox.sandbox import Sandbox, SandboxSettings
from counterfoil.sandbox.stripe import StripeSettings
from tests.asking import server
from tests.cli.support import Ended, beside, command, keys, pinned

LIVE = SandboxSettings(stripe=StripeSettings(secret_key="sk_live_stripeSandbox"))


def marks(ended: Ended) -> dict[str, str]:
    """Each line's mark, by its name; the disk's depends on the machine."""
    found: list[dict[str, Any]] = ended.json
    return {each["name"]: each["mark"] for each in found if each["name"] != "disk"}


async def checked(folder: Path, sandbox: Sandbox, **more: str) -> Ended:
    async with serve_sandbox(sandbox) as base:
        return await beside(folder, "check", "--json", **keys(sandbox, base, **more))


async def test_all_is_well(tmp_path: Path, sandbox: Sandbox) -> None:
    await pinned(tmp_path)
    found = await checked(tmp_path, sandbox)
    assert found.code == 0, found
    assert marks(found) == dict.fromkeys(
        ("signing secret", "keys", "Clerk", "Stripe", "clock", "environment", "pinned", "database", "deletion"),
        "ok",
    )
    texts = " ".join(each["text"] for each in found.json)
    assert "ins_2sandbox" in texts
    assert "acct_1Sandbox" in texts
    for secret in (sandbox.settings.clerk.secret_key, sandbox.settings.stripe.secret_key):
        assert secret not in found.out


async def test_a_person_reads_one_line_for_each_thing(tmp_path: Path, sandbox: Sandbox) -> None:
    async with serve_sandbox(sandbox) as base:
        found = await beside(tmp_path, "check", **keys(sandbox, base))
    assert found.code == 0
    lines = found.out.splitlines()
    assert any("ok" in line and "Stripe" in line and "customers can be listed" in line for line in lines)
    assert any("database" in line and "not there yet" in line for line in lines)
    assert not (tmp_path / "counterfoil.db").exists()


@pytest.mark.parametrize(("name", "side"), [("CLERK_SECRET_KEY", "Clerk"), ("STRIPE_SECRET_KEY", "Stripe")])
async def test_a_wrong_key_is_named(tmp_path: Path, sandbox: Sandbox, name: str, side: str) -> None:
    found = await checked(tmp_path, sandbox, **{name: "sk_test_wrongwrongwrong"})
    assert found.code == 1
    assert marks(found)[side] == "failed"
    assert marks(found)["Stripe" if side == "Clerk" else "Clerk"] == "ok"
    assert "is wrong or was rolled" in found.out
    assert "wrongwrongwrong" not in found.out + found.err


async def test_a_key_without_a_permission_is_told_from_a_wrong_one(tmp_path: Path, sandbox: Sandbox) -> None:
    sandbox.stripe.restrict("customers.list")
    found = await checked(tmp_path, sandbox)
    assert found.code == 1
    assert marks(found)["Stripe"] == "failed"
    assert "Customers: write is needed" in found.out


async def test_a_key_that_may_not_read_the_account_is_a_warning(tmp_path: Path, sandbox: Sandbox) -> None:
    sandbox.stripe.restrict("account.retrieve")
    found = await checked(tmp_path, sandbox)
    assert found.code == 0, found
    assert marks(found)["account"] == "warning"


async def test_a_live_key_beside_a_test_key_is_a_warning(tmp_path: Path) -> None:
    found = await checked(tmp_path, Sandbox(LIVE))
    assert found.code == 0, found
    assert marks(found)["keys"] == "warning"
    assert "Clerk's key is test, Stripe's is live" in found.out


async def test_a_clerk_key_of_another_kind_is_refused(tmp_path: Path, sandbox: Sandbox) -> None:
    found = await checked(tmp_path, sandbox, CLERK_SECRET_KEY="pk_test_publishable")
    assert found.code == 1
    assert marks(found)["keys"] == "failed"


async def test_a_signing_secret_that_is_none_is_refused(tmp_path: Path, sandbox: Sandbox) -> None:
    found = await checked(tmp_path, sandbox, CLERK_WEBHOOK_SIGNING_SECRET="whsec_???")
    assert found.code == 1
    assert marks(found)["signing secret"] == "failed"
    assert "???" not in found.out


async def test_another_environment_than_the_pinned_one_is_named_on_both_sides(
    tmp_path: Path, sandbox: Sandbox
) -> None:
    await pinned(tmp_path, clerk_instance="ins_first", stripe_account="acct_first")
    found = await checked(tmp_path, sandbox)
    assert found.code == 1
    assert marks(found)["pinned"] == "failed"
    for name in ("ins_first", "acct_first", "ins_2sandbox", "acct_1Sandbox"):
        assert name in found.out


async def test_another_metadata_key_than_the_pinned_one_is_named(tmp_path: Path, sandbox: Sandbox) -> None:
    await pinned(tmp_path)
    found = await checked(tmp_path, sandbox, COUNTERFOIL_METADATA_KEY="uid")
    assert found.code == 1
    assert marks(found)["pinned"] == "failed"


async def test_a_clock_that_is_off_is_found(tmp_path: Path, sandbox: Sandbox) -> None:
    async with serve_sandbox(sandbox, clock=lambda: time.time() + 90) as base:
        warned = await beside(tmp_path, "check", "--json", **keys(sandbox, base))
    async with serve_sandbox(sandbox, clock=lambda: time.time() + 900) as base:
        failed = await beside(tmp_path, "check", "--json", **keys(sandbox, base))
    assert (warned.code, marks(warned)["clock"]) == (0, "warning")
    assert (failed.code, marks(failed)["clock"]) == (1, "failed")


def test_sides_that_do_not_answer_are_both_named(tmp_path: Path, sandbox: Sandbox) -> None:
    found = command(tmp_path, "check", "--json", **keys(sandbox))
    assert found.code == 1
    assert (marks(found)["Clerk"], marks(found)["Stripe"]) == ("failed", "failed")
    assert "Check the address and the network" in found.out


def test_missing_settings_are_named_each(tmp_path: Path) -> None:
    found = command(tmp_path, "check")
    assert found.code == 3
    for name in ("CLERK_SECRET_KEY", "CLERK_WEBHOOK_SIGNING_SECRET", "STRIPE_SECRET_KEY"):
        assert f"{name} is not set" in found.err


def test_a_folder_that_is_not_there_is_named(tmp_path: Path, sandbox: Sandbox) -> None:
    url = f"sqlite:///{tmp_path / 'nowhere' / 'x.db'}"
    found = command(tmp_path, "check", "--json", **keys(sandbox, DATABASE_URL=url))
    disk = next(each for each in found.json if each["name"] == "disk")
    assert disk["mark"] == "failed"
    assert "does not exist" in disk["text"]


async def test_settings_come_from_dotenv_and_toml(tmp_path: Path) -> None:
    sandbox = Sandbox(replace(SandboxSettings(), clerk=ClerkSettings(instance_id="ins_ofTheFile")))
    async with serve_sandbox(sandbox) as base:
        given = keys(sandbox, base)
        toml = {"clerk_api_url": given.pop("CLERK_API_URL"), "stripe_api_base": given.pop("STRIPE_API_BASE")}
        (tmp_path / "counterfoil.toml").write_text("".join(f'{key} = "{toml[key]}"\n' for key in toml))
        (tmp_path / ".env").write_text("".join(f"{name}={value}\n" for name, value in given.items()))
        found = await beside(tmp_path, "check", "--json")
    assert found.code == 0, found
    assert "ins_ofTheFile" in found.out


async def test_alerts_are_named_by_their_host_alone(tmp_path: Path, sandbox: Sandbox) -> None:
    found = await checked(tmp_path, sandbox, COUNTERFOIL_ALERT_URL="https://alerts.example.com/secret-hook")
    assert (found.code, marks(found)["alerts"]) == (0, "ok")
    assert "alerts.example.com" in found.out
    assert "secret-hook" not in found.out
    plain = await checked(tmp_path, sandbox, COUNTERFOIL_ALERT_URL="http://alerts.example.com/secret-hook")
    assert (plain.code, marks(plain)["alerts"]) == (0, "warning")


async def test_a_test_alert_is_sent_when_asked_for(tmp_path: Path, sandbox: Sandbox) -> None:
    seen: list[web.Request] = []
    async with server(200, "ok", seen) as receiver, serve_sandbox(sandbox) as base:
        given = keys(sandbox, base, COUNTERFOIL_ALERT_URL=f"{receiver}/secret-hook")
        quiet = await beside(tmp_path, "check", "--json", **given)
        assert (quiet.code, seen) == (0, [])
        found = await beside(tmp_path, "check", "--alert", "--json", **given)
    assert (found.code, marks(found)["alerts"]) == (0, "ok")
    assert [(each.method, each.path) for each in seen] == [("POST", "/secret-hook")]
    assert "secret-hook" not in found.out


async def test_a_receiver_that_takes_no_alert_is_a_failure(tmp_path: Path, sandbox: Sandbox) -> None:
    async with server(404, "no_team") as receiver, serve_sandbox(sandbox) as base:
        given = keys(sandbox, base, COUNTERFOIL_ALERT_URL=f"{receiver}/secret-hook")
        found = await beside(tmp_path, "check", "--alert", "--json", **given)
        none = await beside(tmp_path, "check", "--alert", "--json", **keys(sandbox, base))
    assert (found.code, marks(found)["alerts"]) == (1, "failed")
    assert "it answered 404" in found.out
    assert "secret-hook" not in found.out
    assert (none.code, marks(none)["alerts"]) == (1, "failed")
    assert "COUNTERFOIL_ALERT_URL is not set" in none.out
