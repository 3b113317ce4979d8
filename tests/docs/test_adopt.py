"""The walk through an existing account: its commands are run, and what they print is what the page shows."""

import re
from pathlib import Path

import pytest

from counterfoil.sandbox.http import serve as serve_sandbox
from counterfoil.sandbox.mess import Planter
from counterfoil.sandbox.sandbox import Sandbox, SandboxSettings
from tests.audit.support import SWIFT
from tests.cli.support import keys, process

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "adopt-an-existing-account.md"
MESS, SEED = 300, 7
NOW = 1_795_000_000.0
SKIPPED = ("serve", "sandbox", "check")
"""Commands of the page that go on until they are stopped, or speak of this machine."""


def shown() -> list[tuple[list[str], str]]:
    """The page's commands, and what it says they print."""
    found: list[tuple[list[str], str]] = []
    for block in re.findall(r"(?:^ {4}.*\n|^\n(?= {4}))+", PAGE.read_text(), re.MULTILINE):
        lines = [line.removeprefix("    ").removeprefix("    ") for line in block.splitlines()]
        for line in lines:
            if line.startswith("$ counterfoil "):
                found.append((line.removeprefix("$ counterfoil ").split(), ""))
            elif line.startswith("user"):
                break
            elif found and not line.startswith("$"):
                found[-1] = (found[-1][0], f"{found[-1][1]}{line}\n")
    return [each for each in found if each[0][0] not in SKIPPED]


def squeezed(text: str) -> list[str]:
    return [" ".join(line.split()) for line in text.splitlines() if line.strip()]


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_every_command_of_the_walk_prints_what_the_page_shows(tmp_path: Path) -> None:
    sandbox = Sandbox(SandboxSettings(seed=SEED))
    sandbox.lift_limits()
    Planter(sandbox, SEED, NOW).plant(MESS)
    commands = shown()
    assert [arguments[0] for arguments, _ in commands] == ["audit", "apply", "apply", "audit"]
    async with serve_sandbox(sandbox) as base:
        for arguments, said in commands:
            ended = await process(tmp_path, *arguments, **keys(sandbox, base), **SWIFT, COLUMNS="200")
            assert ended.code in {0, 2}, ended
            printed = squeezed(ended.out)
            # The page leaves out what is in the middle of a long list.
            missing = [line for line in squeezed(said) if line != "..." and line not in printed]
            assert missing == [], ended.out
    assert (tmp_path / "report.html").exists()
