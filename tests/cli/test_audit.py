"""The commands audit, apply and backfill, as they are run."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from signal import SIGTERM

from counterfoil.sandbox.http import serve as serve_sandbox
from counterfoil.sandbox.mess import Planter
from counterfoil.sandbox.sandbox import Sandbox
from tests.acceptance.node import Serve
from tests.audit.support import SWIFT
from tests.cli.support import command, keys, process

NOW = 1_795_000_000.0
SECRET = "CLERK_WEBHOOK_SIGNING_SECRET"


@asynccontextmanager
async def messy(sandbox: Sandbox, cases: int = 40, seed: int = 3) -> AsyncIterator[dict[str, str]]:
    """A sandbox with a mess in it, and the settings that point at it: two keys, no signing secret."""
    if cases:
        Planter(sandbox, seed, NOW).plant(cases)
    async with serve_sandbox(sandbox) as base:
        yield {**{name: value for name, value in keys(sandbox, base).items() if name != SECRET}, **SWIFT}


async def test_an_audit_needs_two_keys_and_leaves_nothing_behind(tmp_path: Path, sandbox: Sandbox) -> None:
    async with messy(sandbox) as environ:
        ended = await process(tmp_path, "audit", "--json", **environ)
    assert ended.code == 2, ended
    assert ended.json["clean"] is False
    assert ended.json["findings"] == sum(row["count"] for row in ended.json["rows"]) > 0
    assert list(tmp_path.iterdir()) == []
    assert {call.method for side in ("clerk", "stripe") for call in sandbox.calls(side)} == {"GET"}
    assert [call.path for call in sandbox.calls("stripe") if call.path.startswith("/v1/customers/cus_")] == []


async def test_an_empty_pair_is_clean_and_a_silent_one_is_a_failure(tmp_path: Path, sandbox: Sandbox) -> None:
    async with messy(sandbox, cases=0) as environ:
        clean = await process(tmp_path, "audit", **environ)
        refused = await process(tmp_path, "audit", **{**environ, "STRIPE_SECRET_KEY": "sk_test_wrong"})
    assert clean.code == 0, clean
    assert "All is in step" in clean.out
    assert refused.code == 1, refused
    assert command(tmp_path, "audit").code == 1


async def test_a_dry_run_changes_nothing_and_a_plan_of_elsewhere_is_refused(
    tmp_path: Path, sandbox: Sandbox
) -> None:
    async with messy(sandbox) as environ:
        await process(tmp_path, "audit", "--out", "plan.jsonl", **environ)
        dry = await process(tmp_path, "apply", "plan.jsonl", "--dry-run", **environ)
        plan = tmp_path / "plan.jsonl"
        plan.write_text(plan.read_text().replace("ins_2sandbox", "ins_2elsewhere"))
        other = await process(tmp_path, "apply", "plan.jsonl", "--yes", **environ)
    assert dry.code == 0, dry
    assert other.code == 4, other
    assert {call.method for side in ("clerk", "stripe") for call in sandbox.calls(side)} == {"GET"}


async def test_a_running_serve_carries_the_plan_out(tmp_path: Path, sandbox: Sandbox) -> None:
    Planter(sandbox, 4, NOW).plant(60)
    async with serve_sandbox(sandbox) as base:
        serve = Serve(tmp_path, sandbox.settings, base, **SWIFT)
        await serve.start()
        await serve.ready()
        environ = {**keys(sandbox, base), **SWIFT}
        audited = await process(tmp_path, "audit", "--out", "plan.jsonl", "--json", **environ)
        applied = await process(tmp_path, "apply", "plan.jsonl", "--yes", "--json", **environ)
        again = await process(tmp_path, "audit", "--json", **environ)
        await serve.end(SIGTERM)
    assert audited.code == 2, audited
    assert applied.code == 0, applied
    assert (applied.json["refused"], applied.json["skipped"], applied.json["deleted"]) == ([], [], 0)
    assert all(row["count"] == row["person"] + row["recent"] for row in again.json["rows"]), again.json["rows"]
    assert not any(call.method == "DELETE" for call in sandbox.calls("stripe"))


async def test_a_backfill_makes_what_is_missing_and_links_it(tmp_path: Path, sandbox: Sandbox) -> None:
    async with messy(sandbox) as environ:
        before = await process(tmp_path, "audit", "--json", **environ)
        done = await process(tmp_path, "backfill", "--yes", "--json", **environ)
        after = await process(tmp_path, "audit", "--json", **environ)
    assert done.code == 0, done
    left = {row["kind"]: row["count"] - row["person"] - row["recent"] for row in after.json["rows"]}
    assert left.get("missing", 0) == left.get("unlinked", 0) == 0
    had = {row["kind"]: row["count"] for row in before.json["rows"]}
    assert left["duplicate"] == had["duplicate"] - next(
        row["person"] for row in before.json["rows"] if row["kind"] == "duplicate"
    )


def test_a_mapping_file_is_checked_before_anything_is_read(tmp_path: Path, sandbox: Sandbox) -> None:
    mapping = tmp_path / "users.csv"
    for text in (
        "user_2abc,cus_1\nuser_2abc,cus_2\n",
        "user_2abc,cus_1\nuser_2def,cus_1\n",
        "ada,cus_1\n",
        "user_2abc\n",
    ):
        mapping.write_text(text)
        ended = command(tmp_path, "audit", "--map", str(mapping), **keys(sandbox))
        assert ended.code == 1, text
        assert "users.csv" in ended.err.replace("\n", "")
    assert sandbox.calls("clerk") == []
