"""The commands audit, apply and backfill, as they are run."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from signal import SIGTERM

import pytest

from counterfoil.audit import plan_file
from counterfoil.audit.apply import Report
from counterfoil.audit.mapping import read_mapping
from counterfoil.audit.plan_file import Note, Notes
from counterfoil.cli.apply import show
from counterfoil.sandbox.http import serve as serve_sandbox
from counterfoil.sandbox.mess import Planter
from counterfoil.sandbox.sandbox import Sandbox
from counterfoil.store.ownership import Ownership
from tests.acceptance.node import Serve
from tests.audit.support import SWIFT
from tests.cli.support import command, keys, pinned, process
from tests.databases import Home

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


async def test_with_keys_of_elsewhere_a_running_serve_is_asked_for_nothing(
    tmp_path: Path, sandbox: Sandbox
) -> None:
    url = f"sqlite:///{tmp_path / 'counterfoil.db'}"
    await pinned(tmp_path, clerk_instance="ins_2elsewhere")
    async with messy(sandbox) as environ:
        await process(tmp_path, "audit", "--out", "plan.jsonl", **environ, DATABASE_URL="sqlite:///new.db")
        plan = tmp_path / "plan.jsonl"
        plan.write_text(plan.read_text().replace(sandbox.settings.clerk.instance_id, "ins_2elsewhere"))
        with Ownership(url) as ownership:
            ownership.publish("http://127.0.0.1:9", "token")
            ended = await process(tmp_path, "apply", "plan.jsonl", "--yes", **environ, DATABASE_URL=url)
    assert ended.code == 4, ended
    assert "this database belongs to Clerk instance ins_2elsewhere" in ended.err
    assert not [call for call in sandbox.calls("stripe") if call.path.startswith("/v1/customers/cus_")]


@pytest.mark.slow  # an orphan takes a minute: its user is asked for twice
@pytest.mark.timeout(400)
async def test_beside_a_running_serve_a_plan_is_carried_out(tmp_path: Path, sandbox: Sandbox, home: Home) -> None:
    """On SQLite the serve does it, which owns the file; on PostgreSQL workers of the apply's own do."""
    Planter(sandbox, 4, NOW).plant(60)
    database = {"DATABASE_URL": home.empty()}
    async with serve_sandbox(sandbox) as base:
        serve = Serve(tmp_path, sandbox.settings, base, **database, **SWIFT)
        await serve.start()
        await serve.ready()
        environ = {**keys(sandbox, base), **database, **SWIFT}
        audited = await process(tmp_path, "audit", "--out", "plan.jsonl", "--json", **environ)
        applied = await process(tmp_path, "apply", "plan.jsonl", "--yes", "--json", **environ)
        again = await process(tmp_path, "audit", "--json", **environ)
        await serve.end(SIGTERM)
    assert audited.code == 2, audited
    assert applied.code == 0, applied
    assert (applied.json["refused"], applied.json["skipped"], applied.json["deleted"]) == ([], [], 0)
    assert all(row["count"] == row["person"] + row["recent"] for row in again.json["rows"]), again.json["rows"]
    assert not any(call.method == "DELETE" for call in sandbox.calls("stripe"))


async def test_a_backfill_makes_what_is_missing_and_links_it(tmp_path: Path, sandbox: Sandbox, home: Home) -> None:
    async with messy(sandbox) as two_keys:
        environ = {**two_keys, "DATABASE_URL": home.empty()}
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


async def test_a_backfill_finds_anew_what_an_earlier_run_refused(
    tmp_path: Path, sandbox: Sandbox, home: Home
) -> None:
    async with messy(sandbox) as two_keys:
        environ = {**two_keys, "DATABASE_URL": home.empty()}
        await process(tmp_path, "backfill", "--dry-run", **environ)
        plan = tmp_path / "backfill.jsonl"
        _, found = plan_file.read(plan)
        with Notes(plan) as notes:
            notes.keep(Note(key=each.key, became="refused") for each in found)
        done = await process(tmp_path, "backfill", "--yes", "--json", **environ)
    assert done.code == 0, done
    assert done.json["before"] == 0
    assert done.json["done"] > 0
    assert not plan.exists()


async def test_a_backfill_goes_on_with_no_plan_that_it_has_not_made(tmp_path: Path, sandbox: Sandbox) -> None:
    async with messy(sandbox) as environ:
        await process(tmp_path, "audit", "--out", "plan.jsonl", **environ)
        ended = await process(tmp_path, "backfill", "--out", "plan.jsonl", "--yes", **environ)
    assert ended.code != 0
    assert "plan.jsonl is not a backfill's plan" in ended.err.replace("\n", " "), ended
    assert (tmp_path / "plan.jsonl").exists()
    assert {call.method for side in ("clerk", "stripe") for call in sandbox.calls(side)} == {"GET"}


async def test_a_backfill_with_a_mapping_file_goes_on_with_no_plan_from_before(
    tmp_path: Path, sandbox: Sandbox
) -> None:
    user = sandbox.clerk.create_user(NOW - 5 * 86_400, silent=True, email="ada@example.com")
    (tmp_path / "users.csv").write_text(f"{user},cus_elsewhere\n")
    async with messy(sandbox) as environ:
        await process(tmp_path, "backfill", "--dry-run", **environ)
        plan = tmp_path / "backfill.jsonl"
        assert user in plan.read_text()
        await process(tmp_path, "backfill", "--dry-run", "--map", "users.csv", **environ)
    assert user not in plan.read_text()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("user_2abc,cus_1\nuser_2abc,cus_2\n", "line 2: user_2abc stands in line 1 already"),
        ("user,customer\nuser_2abc,cus_1\n\nuser_2def,cus_1\n", "line 4: cus_1 stands in line 2 already"),
        ("ada,cus_1\n", "line 1: 'ada' is no user's id"),
        ("user,customer\nuser_2abc,sub_1\n", "line 2: 'sub_1' is no customer's id"),
        ("user_2abc\n", "line 1: 'user_2abc' has 1 columns"),
        ("user_2abc;cus_1\n", "line 1: 'user_2abc;cus_1' has 1 columns, not two separated by a comma"),
        ("user_2abc,cus_1,Ada\n", "line 1: 'user_2abc,cus_1,Ada' has 3 columns"),
        (b"user_2abc,cus_\xff\n", "cannot be read as CSV (UnicodeDecodeError)"),
        (None, "cannot be read as CSV (FileNotFoundError)"),
    ],
)
@pytest.mark.parametrize("name", ["audit", "backfill"])
def test_a_bad_mapping_file_is_told_by_its_line_before_anything_is_read(
    tmp_path: Path, sandbox: Sandbox, name: str, text: str | bytes | None, said: str
) -> None:
    mapping = tmp_path / "users.csv"
    if text is not None:
        mapping.write_bytes(text if isinstance(text, bytes) else text.encode())
    ended = command(tmp_path, name, "--map", str(mapping), **keys(sandbox))
    assert ended.code != 0
    assert said in ended.err.replace("\n", ""), ended.err
    assert sandbox.calls("clerk") == []


@pytest.mark.parametrize(
    ("refused", "said"),
    [([], "2 done; 3 customers deleted"), (["orphan:1"], "2 done, 1 refused; at most 3 customers deleted")],
)
def test_of_a_line_that_was_refused_nobody_says_that_its_customer_was_deleted(
    capsys: pytest.CaptureFixture[str], refused: list[str], said: str
) -> None:
    show(Report(done=2, deleted=3, refused=[Note(key=key, became="refused", deleted=1) for key in refused]))
    captured = capsys.readouterr()
    assert said in captured.out + captured.err


def test_a_mapping_file_may_have_a_head_blank_lines_and_users_without_a_customer(tmp_path: Path) -> None:
    mapping = tmp_path / "users.csv"
    mapping.write_bytes(b"\xef\xbb\xbfUser, Customer\r\n\r\n user_2abc , cus_1\r\nuser_2def,\r\nuser_2ghi,\r\n")
    assert read_mapping(mapping) == [("user_2abc", "cus_1"), ("user_2def", ""), ("user_2ghi", "")]


async def test_what_a_mapping_file_says_in_vain_is_told(tmp_path: Path, sandbox: Sandbox) -> None:
    user, _ = sandbox.add_pair(NOW, email="ada@example.com")
    kept, own = sandbox.add_pair(NOW, email="bob@example.com")
    taken = sandbox.stripe.create_customer(NOW, email="somebody@example.com")
    adopts = sandbox.clerk.create_user(NOW, silent=True, email="eve@example.com")
    mapping = tmp_path / "users.csv"
    mapping.write_text(f"user_2nobody,\n{user},{taken}\n{kept},{own}\n{adopts},cus_OfNobody000000\n")
    async with messy(sandbox, cases=0) as environ:
        told = await process(tmp_path, "audit", "--map", str(mapping), **environ)
        as_json = await process(tmp_path, "audit", "--map", str(mapping), "--json", **environ)
    assert as_json.json["unheeded"] == sorted([user, "user_2nobody"])
    assert "2 users of the mapping file are not there, or another customer names them already" in told.out
    assert (told.code, "the mapping file names a customer that is not there" in told.out) == (2, True)
