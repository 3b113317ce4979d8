"""Some hundreds of seeds; those that failed once; and that the simulation itself can be believed."""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.databases import PostgresqlHome
from tests.postgresql import Server
from tests.simulation.marks import missing
from tests.simulation.planted import PLANTED, planted
from tests.simulation.play import play
from tests.simulation.script import draw
from tests.simulation.shrink import attempt, command, cut, shrink
from tools.prove import seeds_until_found

SHARES = 2
SEEDS = 100
"""In each share; both cores have one."""
_REGRESSIONS = Path(__file__).with_name("regressions.txt")
REGRESSIONS = [int(line.split()[0]) for line in _REGRESSIONS.read_text().splitlines() if line[0] != "#"]
QUICKLY_FOUND = ("no_commit_of_the_intent", "fold_without_the_version_guard", "answer_before_commit")


def check(seed: int) -> Counter[str]:
    """Play a seed; one that fails is cut down, and told with the command that plays it again."""
    result = attempt(draw(seed))
    if result.violations:
        least = shrink(draw(seed), attempt)
        told = "\n".join(least.violations)
        pytest.fail(f"seed {seed}:\n{told}\nagain: {command(least.script)}", pytrace=False)
    return result.marks


@pytest.mark.timeout(900)
@pytest.mark.parametrize("share", range(SHARES))
def test_the_promises_hold_whatever_befalls(share: int) -> None:
    marks: Counter[str] = Counter()
    for seed in range(share * SEEDS, (share + 1) * SEEDS):
        marks += check(seed)
    assert missing(marks, SEEDS) == []


@pytest.mark.parametrize("seed", REGRESSIONS)
def test_a_seed_that_failed_once_fails_no_more(seed: int) -> None:
    check(seed)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", range(7_000, 7_004))
def test_the_promises_hold_on_postgresql(seed: int, postgresql: Server) -> None:
    check_on(postgresql, seed)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_promises_hold_on_postgresql_too_whatever_befalls(postgresql: Server) -> None:
    for seed in range(7_100, 7_200):
        check_on(postgresql, seed)


def check_on(postgresql: Server, seed: int) -> None:
    """Play a seed on a real server: it is checked, but not promised to be the same play each time."""
    home = PostgresqlHome(postgresql)
    try:
        result = play(draw(seed), home)
    finally:
        home.close()
    assert result.violations == (), f"seed {seed}"


_TELL = """
from tests.simulation.play import play
from tests.simulation.script import draw
print(play(draw({})).digest)
"""


@pytest.mark.parametrize("seed", [3, 8])
def test_the_same_seed_is_the_same_play_in_this_process_and_in_others(seed: int) -> None:
    first, second = play(draw(seed)), play(draw(seed))
    assert first.lines == second.lines
    assert first.digest == second.digest
    for hashes in ("1", "2"):
        environ = {**os.environ, "PYTHONHASHSEED": hashes}
        call = [sys.executable, "-c", _TELL.format(seed)]
        told = subprocess.run(call, env=environ, capture_output=True, text=True, check=True, timeout=100)
        assert told.stdout.strip() == first.digest


def test_different_seeds_are_different_plays() -> None:
    assert play(draw(1)).digest != play(draw(2)).digest


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", QUICKLY_FOUND)
def test_a_planted_bug_is_found(name: str) -> None:
    assert name in PLANTED
    assert seeds_until_found(name, 20) is not None


@pytest.mark.timeout(300)
def test_a_failing_play_is_cut_down_and_its_command_plays_it_again() -> None:
    with planted("answer_before_commit"):
        seed, _ = seeds_until_found("answer_before_commit", 20) or (0, "")
        least = shrink(draw(seed), attempt)
        assert least.violations
        assert len(least.script.events) <= 2
        words = command(least.script).split()
        without = words[words.index("--without") + 1].split(",") if "--without" in words else []
        kept = words[words.index("--events") + 1]
        events = [] if kept == "none" else [int(each) for each in kept.split(",")]
        again = play(cut(seed, without, events, least.script.nodes))
        assert again.digest == least.digest
