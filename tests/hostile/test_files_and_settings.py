"""Plans, notes, settings and the lock's text: whatever is in them, out comes a good value or our own error."""

import json
import traceback
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from counterfoil import settings as product_settings
from counterfoil.audit import plan_file
from counterfoil.core.finding import Finding, Kind, Repair
from counterfoil.core.link import Fields
from counterfoil.core.subject import is_user_id
from counterfoil.errors import ConfigurationError, CounterfoilError
from counterfoil.settings import Settings, database_schema, database_url, load, names
from counterfoil.store.engine import connect
from counterfoil.store.ownership import Holder, Ownership, holder
from tests.hostile.support import DEEP, HUGE, LONE, encode, shaped, text, values

ABOUT: dict[str, Any] = {
    "counterfoil_plan": {
        "clerk_instance": "ins_1",
        "stripe_account": "acct_1",
        "livemode": False,
        "metadata_key": "clerkUserId",
        "link_back": "public stripeCustomerId",
        "at": 1_790_000_000_000,
        "format": 1,
        "counts": {"missing": 1},
    }
}
FINDING: dict[str, Any] = {
    "kind": "stale",
    "why": "the email differs",
    "subject_id": "user_ada",
    "customer_id": "cus_1",
    "repair": "update",
    "retire": ["cus_2"],
    "named": "cus_1",
    "fields": {"email": "ada@example.com", "name": "Ada", "metadata": {"plan": "pro"}},
    "version": 1_790_000_000_000,
    "subscribed": 1,
    "recent": True,
    "evidence": {"by": "email", "customers": [{"created": 1, "email": "a@example.com"}]},
}
lines = st.one_of(shaped(FINDING), values.map(encode), st.binary(max_size=80), st.sampled_from(DEEP))


def read(path: Path) -> list[Finding] | None:
    """A plan's findings; ``None``: it was refused, in a sentence that holds nothing of it."""
    try:
        about, found = plan_file.read(path)
        assert about.format == 1
        return list(found)
    except ConfigurationError as error:
        said = str(error)
    assert str(path) in said
    assert len(said) < len(str(path)) + 120
    return None


@given(st.one_of(shaped(ABOUT), values.map(encode), st.binary(max_size=80), st.sampled_from(DEEP)))
def test_a_plans_head_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, head: bytes) -> None:
    path = tmp_path_factory.mktemp("plan") / "plan.jsonl"
    path.write_bytes(head + b"\n" + encode(FINDING))
    read(path)


@given(st.lists(lines, max_size=3))
def test_a_plans_lines_are_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, given_lines: list[bytes]
) -> None:
    path = tmp_path_factory.mktemp("plan") / "plan.jsonl"
    path.write_bytes(b"\n".join([encode(ABOUT), *given_lines]))
    for finding in read(path) or ():
        assert finding.subject_id is None or is_user_id(finding.subject_id)
        assert "\0" not in repr(finding)
        json.dumps(finding.key).encode()


@given(st.lists(st.one_of(shaped({"key": "a", "became": "done", "why": "", "deleted": 1}), lines), max_size=4))
def test_notes_beside_a_plan_are_read_as_far_as_they_are_notes(
    tmp_path_factory: pytest.TempPathFactory, given_lines: list[bytes]
) -> None:
    plan = tmp_path_factory.mktemp("plan") / "plan.jsonl"
    plan.write_bytes(encode(ABOUT))
    plan.with_name(f"{plan.name}.{plan_file.digest(plan)}.done").write_bytes(b"\n".join(given_lines))
    with plan_file.Notes(plan) as notes:
        notes.keep([plan_file.Note(key="b", became="done")])
    with plan_file.Notes(plan) as notes:
        assert notes.of("b") is not None


def test_what_a_plan_may_hold_is_read_as_it_was_written(tmp_path: Path) -> None:
    hostile = [
        name for name in LONE if not any(0xD800 <= ord(each) < 0xE000 for each in name) and "\0" not in name
    ]
    found = [
        Finding(
            kind=Kind.STALE,
            why=name,
            subject_id="user_a",
            repair=Repair.UPDATE,
            fields=Fields(name=name, email="\\u0000"),
            version=2**63 - 1,
        )
        for name in [*hostile, "a\nb", '"}\n{"', "\u2028"]
    ]
    about = plan_file.About(**{**ABOUT["counterfoil_plan"], "counts": {}})
    plan_file.write(tmp_path / "plan.jsonl", about, found)
    assert read(tmp_path / "plan.jsonl") == found


@given(st.one_of(shaped({"pid": 1, "address": "http://x", "token": "t"}), lines))
def test_the_locks_text_is_read_or_tells_nothing(tmp_path_factory: pytest.TempPathFactory, held: bytes) -> None:
    folder = tmp_path_factory.mktemp("lock")
    url = f"sqlite:///{folder / 'x.db'}"
    with Ownership(url):
        (folder / "x.db.lock").write_bytes(held)
        assert isinstance(holder(url), Holder)


# --- settings --------------------------------------------------------------------------------------------

NEEDED = {
    "CLERK_SECRET_KEY": "sk_test_canaryClerk",
    "CLERK_WEBHOOK_SIGNING_SECRET": "whsec_canarySigning",
    "STRIPE_SECRET_KEY": "sk_test_canaryStripe",
}
EVERY = sorted(name for each in names().values() for name in each)
any_value = st.one_of(
    text,
    st.sampled_from([*HUGE, "-1", "0", "1e999", "nan", "inf", "9" * 400, "٣", "0x10", "1_0"]).map(str),
    st.sampled_from(
        ["a:b", "10s", "999999999d", "true", "/", "//", "/" + "a" * 300, "https://u:p@x", "a,b", "\udcff"]
    ),
)


def loaded(environ: dict[str, str], folder: Path) -> Settings | None:
    """The settings; ``None``: they were refused, and not one value was repeated."""
    try:
        return load(environ, folder)
    except CounterfoilError as error:
        shown = "".join(traceback.format_exception(error))
    assert "canary" not in shown
    return None


@given(st.dictionaries(st.sampled_from([*EVERY, *(f"{name}_FILE" for name in EVERY), "COUNTERFOIL_X"]), any_value))
def test_whatever_the_environment_holds_is_taken_or_refused(
    tmp_path_factory: pytest.TempPathFactory, environ: dict[str, str]
) -> None:
    folder = tmp_path_factory.getbasetemp()
    made = loaded({**NEEDED, **environ}, folder)
    if made is not None:
        assert 0 <= made.port <= 65_535
        made.signing_secrets(), made.api_tokens()
        assert "canary" not in repr(made)
        assert "canary" not in str(made.model_dump())


@given(st.binary(max_size=200) | st.sampled_from(DEEP) | text.map(lambda each: each.encode(errors="replace")))
def test_whatever_dotenv_and_toml_hold_is_taken_or_refused(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    for name in (product_settings.DOTENV, product_settings.TOML):
        folder = tmp_path_factory.mktemp("settings")
        (folder / name).write_bytes(content)
        loaded(NEEDED, folder)
        (folder / name).write_bytes(b"COUNTERFOIL_PORT=" + content if name == ".env" else b"port = " + content)
        loaded(NEEDED, folder)


@given(
    st.sampled_from(sorted(names())),
    st.sampled_from(["[1]", "{a = 1}", "2026-01-01", "true", "1e400", "[[[]]]", "nan"]),
)
def test_a_toml_value_of_another_kind_is_taken_or_refused(
    tmp_path_factory: pytest.TempPathFactory, name: str, value: str
) -> None:
    folder = tmp_path_factory.mktemp("settings")
    (folder / "counterfoil.toml").write_text(f"{name} = {value}\n")
    loaded(NEEDED, folder)


@pytest.mark.parametrize("name", [product_settings.DOTENV, product_settings.TOML])
def test_a_folder_in_a_settings_files_place_is_taken_or_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    loaded(NEEDED, tmp_path)


@given(
    st.text(max_size=40) | st.sampled_from(LONE) | st.text(max_size=30).map(lambda each: f"postgresql://{each}")
)
def test_whatever_the_database_url_is_it_connects_to_nothing_and_repeats_nothing(
    tmp_path_factory: pytest.TempPathFactory, url: str
) -> None:
    environ = {"DATABASE_URL": "postgresql://me:canary@" + url} if "\0" not in url else {"DATABASE_URL": url}
    shown = ""
    try:
        connect(database_url(environ, tmp_path_factory.getbasetemp()), database_schema(environ)).dispose()
    except CounterfoilError as error:
        shown = "".join(traceback.format_exception(error))
    assert "canary" not in shown
