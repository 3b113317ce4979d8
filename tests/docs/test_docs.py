"""What the pages say about the code is so."""

import configparser
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from prometheus_client import CollectorRegistry
from typer.core import TyperGroup

from counterfoil.clerk.body import BodyReader
from counterfoil.clerk.webhook import Decoder, Verifier
from counterfoil.cli.main import app
from counterfoil.cli.output import Exit
from counterfoil.core.alerts import Kind
from counterfoil.core.link import ParkReason
from counterfoil.core.standing import State
from counterfoil.core.step import Without
from counterfoil.core.words import PARKED
from counterfoil.web import app as app_module
from counterfoil.web.api import Api
from counterfoil.web.metrics import Metrics
from counterfoil.web.receiver import Receiver
from tools import settings_page

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_FACT = r"\d(?:\.\d)?"
_FACTS = re.compile(rf"\bfacts ({_FACT}(?: \(\w+\))?(?:(?:,| and)\s+{_FACT}(?: \(\w+\))?)*)")
_FENCED = re.compile(r"^(```.*?^```|(?: {4}.*\n)+)", re.MULTILINE | re.DOTALL)


def text(name: str) -> str:
    return (ROOT / name).read_text()


def commands() -> Iterator[tuple[str, list[str]]]:
    """Every command, with its options."""
    root = typer.main.get_command(app)
    assert isinstance(root, TyperGroup)
    waiting = [("counterfoil", root.commands)]
    while waiting:
        name, found = waiting.pop()
        for word, command in found.items():
            if isinstance(command, TyperGroup):
                waiting.append((f"{name} {word}", command.commands))
                continue
            options = [each for one in command.params for each in (*one.opts, *one.secondary_opts)]
            yield f"{name} {word}", [each for each in options if each.startswith("--") and each != "--help"]


def anchors(page: Path) -> set[str]:
    """The names that a page's headings can be linked by."""
    found = set()
    for heading in re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE):
        plain = re.sub(r"[^\w\- ]", "", heading.lower())
        found.add(plain.replace(" ", "-"))
    return found


def test_the_page_of_settings_is_what_the_tool_makes() -> None:
    assert settings_page.PAGE.read_text() == settings_page.page(), "run python tools/settings_page.py"


@pytest.mark.parametrize(
    ("milliseconds", "shown"), [(1, "1ms"), (10_000, "10s"), (72_000_000, "20h"), (86_400_000, "24h")]
)
def test_durations_are_shown_as_they_are_written(milliseconds: int, shown: str) -> None:
    assert settings_page.duration(milliseconds) == shown


@pytest.mark.parametrize(("name", "options"), list(commands()))
def test_every_command_and_option_is_described(name: str, options: list[str]) -> None:
    page = text("docs/reference/commands.md")
    begins = re.search(rf"^## `{name}(?: [^`]+)?`$", page, re.MULTILINE)
    assert begins is not None, f"no section about {name}"
    section = page[begins.end() :].split("\n## ")[0]
    assert [each for each in options if f"`{each}`" not in section] == []


def test_no_command_is_described_that_is_not_there() -> None:
    described = re.findall(
        r"^## `(counterfoil [a-z ]+?)(?: [A-Z\[].*)?`$", text("docs/reference/commands.md"), re.M
    )
    assert sorted(described) == sorted(name for name, _ in commands())


def test_exit_codes_are_described_as_they_are() -> None:
    described = re.findall(r"^\| (\d+) \| `([A-Z]+)` \|", text("docs/reference/commands.md"), re.MULTILINE)
    assert [(int(code), name) for code, name in described] == [(each.value, each.name) for each in Exit]


def test_every_reason_to_park_is_described() -> None:
    page = text("docs/reference/commands.md")
    assert set(PARKED) == {str(each) for each in ParkReason}
    assert [each for each in ParkReason if f"| `{each}` |" not in page] == []


def test_every_reason_to_have_no_customer_and_every_state_is_described() -> None:
    page = text("docs/reference/http.md")
    assert [each for each in [*Without, *State] if f"`{each}`" not in page and f'"{each}"' not in page] == []


def test_every_alert_is_described_and_no_other() -> None:
    described = re.findall(r"^\| `(\w+)` \|", text("docs/how-to/alerts.md"), re.MULTILINE)
    assert described[0] == "alert", "the heading"
    assert sorted(described[1:]) == sorted(Kind)


def test_every_route_is_described_and_no_other() -> None:
    async def nothing(*_: Any) -> Any:
        """Nobody asks."""

    api = Api([], "", nothing, nothing, nothing)
    desk = app_module.Desk("", list, *[nothing] * 6)
    found = {
        f"{method} {route.path}"
        for route in app_module.local_routes(desk, api)
        for method in (route.methods or set()) - {"HEAD"}
    }
    described = re.findall(r"^\| `((?:GET|POST) [^`]+)`", text("docs/reference/http.md"), re.MULTILINE)
    assert set(described) == {*found, "POST /webhooks/clerk"}


def test_every_metric_is_described_and_no_other() -> None:
    registry = CollectorRegistry()
    Metrics(registry)

    def take(_: object, __: object) -> None:
        """Nothing is delivered here."""

    verifier, decoder = (
        Verifier(["whsec_c2VjcmV0"]),
        Decoder(instance_id="ins_1", reader=BodyReader("stripeCustomerId")),
    )
    Receiver(verifier, decoder, take, registry, now=lambda: 0)
    exported = {
        f"{family.name}_total" if family.type == "counter" else family.name for family in registry.collect()
    }
    described = set(re.findall(r"^\| `(counterfoil_\w+)` \|", text("docs/reference/metrics.md"), re.MULTILINE))
    assert described == exported


def test_every_fact_that_the_code_refers_to_is_there() -> None:
    sections = set(re.findall(r"^##+ (\d+(?:\.\d+)?)[. ]", text("docs/facts.md"), re.MULTILINE))
    referred = {
        (path.name, number)
        for path in (ROOT / "src").rglob("*.py")
        for several in _FACTS.findall(path.read_text())
        for number in re.findall(_FACT, several)
    }
    assert len(referred) > 15
    assert sorted(each for each in referred if each[1] not in sections) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_internal_link_leads_somewhere(page: Path) -> None:
    broken = []
    for target in _LINK.findall(_FENCED.sub("", page.read_text())):
        if target.startswith(("https://", "mailto:")):
            continue
        place, _, anchor = target.partition("#")
        file = (page.parent / place).resolve() if place else page
        if not file.exists() or (anchor and anchor not in anchors(file)):
            broken.append(target)
    assert broken == []


def test_who_may_use_whom_is_the_contract() -> None:
    contract = configparser.ConfigParser()
    contract.read(ROOT / ".importlinter")
    name = contract["importlinter:contract:layers"]["name"]
    assert f"\n{name}\n" in text("ARCHITECTURE.md")


def test_every_test_that_a_guarantee_names_is_there() -> None:
    page = text("docs/guarantees.md")
    file, missing, named = "", [], 0
    for found in re.findall(r"`(tests/[\w/]+\.py|test_\w+)`", page):
        if found.startswith("tests/"):
            file = found
            continue
        named += 1
        if not (ROOT / file).is_file() or not re.search(rf"def {found}\b", text(file)):
            missing.append(f"{file}: {found}")
    assert named > 30
    assert missing == []


def test_every_decision_has_a_number_of_its_own_and_its_three_parts() -> None:
    records = sorted((DOCS / "decisions").glob("*.md"))
    numbers = [record.name[:4] for record in records]
    assert len(set(numbers)) == len(numbers)
    assert all(number.isdecimal() for number in numbers)
    for record in records:
        words = record.read_text()
        assert words.startswith(f"# {record.name[:4]} ")
        assert all(f"**{part}.**" in words for part in ("Context", "Decision", "Consequences"))
