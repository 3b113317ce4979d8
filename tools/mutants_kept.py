"""What is known of each mutant, kept between runs, and the report."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from tools.mutation import SOURCE, Mutant, mutants

ROOT = SOURCE.parent.parent
EXPLAINED = ROOT / "tests" / "mutants.txt"
KEPT = ROOT / ".mutants.json"
LEAST = 90.0
"""Per cent of the mutants of `core` that tests must notice. Of the rest, none may survive without a reason."""
_CORE = ("tests/core",)
_LEASES = (
    "tests/store/test_links.py",
    "tests/store/test_postgresql.py",
    "tests/store/test_peers.py",
    "tests/engine",
    "tests/scenarios/test_leases.py",
)
TARGETS: dict[str, tuple[str, ...]] = {
    **{f"core/{path.name}": _CORE for path in sorted((SOURCE / "core").glob("*.py"))},
    "store/links.py": _LEASES,
    "store/sightings.py": _LEASES,
    "engine/turn.py": _LEASES,
    "engine/worker.py": _LEASES,
}
"""Each module, and the tests that hold it."""


@dataclass
class Verdicts:
    """What is known of each mutant, kept between runs."""

    anew: bool = False
    known: dict[str, dict[str, str | dict[str, str]]] = field(default_factory=dict)
    """By name: ``text``, a digest of the code it is of; ``by``, the test that noticed it; ``tried``, the digests
    of the files whose tests did not."""
    reasons: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.reasons = explained(EXPLAINED.read_text()) if EXPLAINED.exists() else {}
        if not self.anew:
            self.load()

    def load(self) -> None:
        """Read what is kept."""
        self.known = json.loads(KEPT.read_text()) if KEPT.exists() else {}

    def is_owed(self, mutant: Mutant, tests: Iterable[str]) -> bool:
        """Whether there is a test that it has not been tried against."""
        if mutant.name in self.reasons and not self.anew:
            return False
        known = self.of(mutant)
        return known is None or (not known["by"] and known["tried"] != files(tests))

    def of(self, mutant: Mutant) -> dict[str, str | dict[str, str]] | None:
        """The verdict, if it is of the code as it is."""
        known = self.known.get(mutant.name)
        if known is None or known["text"] != digest(mutant.text):
            return None
        by = str(known["by"])
        return None if by and not (ROOT / file_of(by)).exists() else known

    def keep(self, batch: Iterable[tuple[Mutant, str]], tried: dict[str, str]) -> None:
        """Note verdicts, each with the test that noticed or nothing; ``tried``: the tests, as they were."""
        for mutant, by in batch:
            self.known[mutant.name] = {"text": digest(mutant.text), "by": by, "tried": {} if by else tried}
        KEPT.with_suffix(".new").write_text(json.dumps(self.known, indent=0))
        KEPT.with_suffix(".new").replace(KEPT)

    def report(self, chosen: list[str]) -> int:
        """Print the scores and who survived; the exit code."""
        noticed, all_, alive, names = Counter[str](), Counter[str](), [], set()
        for module in chosen:
            for mutant in mutants(module):
                known = self.of(mutant)
                names.add(mutant.name)
                part = module if not module.startswith("core/") else "core"
                for each in {module, part}:
                    all_[each] += 1
                    noticed[each] += known is not None and bool(known["by"])
                if known is not None and known["by"] and mutant.name in self.reasons:
                    print(f"explained, but noticed by {known['by']}: {mutant.name}")
                elif not (known is not None and known["by"]) and mutant.name not in self.reasons:
                    alive.append(mutant.name)
        for name in sorted(alive):
            print(f"survived: {name}")
        lost = [name for name in self.reasons if name.partition(" ")[0] in chosen and name not in names]
        for name in lost:
            print(f"explained, but no such mutant: {name}")
        for part in sorted(all_):
            score = 100 * noticed[part] / all_[part]
            print(f"{part:24} {noticed[part]:5} of {all_[part]:5}  {score:5.1f} %")
        core = 100 * noticed["core"] / all_["core"] if all_["core"] else 100.0
        strict = [name for name in alive if not name.startswith("core/")]
        return 1 if core < LEAST or strict or lost else 0


def explained(text: str) -> dict[str, str]:
    """The reasons in the file: by each name, the indented lines that follow it, or follow the names below it."""
    reasons: dict[str, str] = {}
    names: list[str] = []
    told = True
    for line in text.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        if line.startswith(" "):
            told = True
            for name in names:
                reasons[name] = f"{reasons[name]} {line.strip()}".strip()
        else:
            names = [line] if told else [*names, line]
            reasons[line], told = "", False
    return reasons


def digest(text: str) -> str:
    """A short name of a text."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def file_of(test: str) -> str:
    """The file that a test is in."""
    return test.partition("::")[0]


def files(tests: Iterable[str]) -> dict[str, str]:
    """The digest of each file of tests."""
    found = sorted(
        each
        for name in tests
        for each in ([ROOT / name] if name.endswith(".py") else (ROOT / name).glob("test_*.py"))
    )
    return {str(each.relative_to(ROOT)): digest(each.read_text()) for each in found}
