"""Trying mutants: one process imports everything, and each mutant gets a fork of it."""

import gc
import inspect
import json
import os
import resource
import signal
import sys
import tempfile
import time
import types
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import coverage
import pytest
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tools.mutants_kept import ROOT, TARGETS, Verdicts, digest, file_of, files
from tools.mutation import SOURCE, Mutant, made_of, targets, users

SEEN = ROOT / ".mutants-seen.json"
"""By file of tests, what each test costs and which lines it runs."""
_EXAMPLES = 50
"""Examples of one property."""
_BUDGET = 20.0
"""Seconds that the tests of one mutant may take: whoever would be noticed later counts as a survivor."""
_BATCH = 50
_MEMORY = 4 << 30
_CPU = 30
_PATIENCE = 120
"""Seconds, of CPU and of the clock, that a test may take more than usual: then it hangs, which is noticed too."""


def passes(trial: "Trial") -> bool:
    """Whether the tests passed as they are; pytest can be started once in a process."""
    child = os.fork()
    if child == 0:
        arguments = ["-q", "--capture=sys", "-p", "no:randomly", "-p", "no:cacheprovider", "--timeout=0"]
        # A folder of our own: the usual one is tidied by whoever starts pytest next.
        with tempfile.TemporaryDirectory() as folder:
            arguments += ["-o", "tmp_path_retention_policy=none", f"--basetemp={folder}/tests", *trial.tests]
            code = int(pytest.main(arguments, plugins=[trial]))
        os._exit(code)
    return os.waitpid(child, 0)[1] == 0


class Trial:
    """A plugin of pytest: instead of running the tests it tries the mutants against them."""

    def __init__(self, owed: list[Mutant], tests: tuple[str, ...], verdicts: Verdicts, jobs: int) -> None:
        self.owed, self.tests, self.verdicts, self.jobs = owed, tests, verdicts, jobs
        self.files = files(tests)  # as they are now: who edits them meanwhile has them tried by the next run
        self.failed = False
        self.cost: dict[str, float] = {}
        self.runs: dict[str, dict[int, list[str]]] = defaultdict(lambda: defaultdict(list))
        self.noticing: dict[str, Counter[str]] = defaultdict(Counter)
        self.console = Console(file=sys.__stderr__)

    def pytest_collection(self) -> None:
        """A failing property need not be made small, nor kept: other mutants must not meet it."""
        from hypothesis import Phase, settings  # imported only now: pytest has to see to its own plugins first

        settings.register_profile(
            "mutants", settings.get_profile("patient"), phases=[Phase.explicit, Phase.generate], database=None
        )
        settings.load_profile("mutants")

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Few examples of each property: a mutant that only the thousandth notices counts as a survivor."""
        from hypothesis import settings

        for item in items:
            test: Any = getattr(item, "obj", None)
            chosen = getattr(test, "_hypothesis_internal_use_settings", None)
            if chosen is not None:
                few = min(chosen.max_examples, _EXAMPLES)
                test._hypothesis_internal_use_settings = settings(chosen, max_examples=few)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note a failure."""
        self.failed = self.failed or report.failed

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Try all mutants that are owed."""
        if session.testsfailed:
            return False
        self._look(session.items)
        self._warm(session.items)
        if self.failed:
            session.testsfailed = 1
            return True
        gc.collect()
        gc.freeze()
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=self.console, disable=not self.console.is_terminal) as progress:
            task = progress.add_task("mutants", total=len(self.owed))
            batch: list[tuple[Mutant, str]] = []
            for mutant, by in self._tried(session):
                self.noticing[mutant.text][by] += 1
                batch.append((mutant, by))
                progress.update(task, advance=1, description=mutant.module)
                if len(batch) == _BATCH:
                    self._keep(session, batch)
                    batch = []
            self._keep(session, batch)
        return True

    def _warm(self, items: list[pytest.Item]) -> None:
        """Have all that lasts for the session made here, once: a test of each file, for each kind of database."""
        kinds = {(file_of(item.nodeid), "[postgresql" in item.nodeid): item for item in items}
        first = list(kinds.values())
        first[0].session._setupstate.teardown_exact(first[0])
        for item, following in zip(first, [*first[1:], first[0]], strict=True):
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)

    def _keep(self, session: pytest.Session, batch: list[tuple[Mutant, str]]) -> None:
        """Keep verdicts, once the tests that noticed something have passed in a fork where nothing is changed."""
        noticed = {by for _, by in batch}
        items = [item for item in session.items if item.nodeid in noticed]
        if items:
            child = os.fork()
            if child == 0:
                self._try(None, items, os.open(os.devnull, os.O_WRONLY))
            if os.waitpid(child, 0)[1] != 0:
                raise RuntimeError("tests that noticed mutants fail without one, too: something else has changed")
        self.verdicts.keep(batch, self.files)

    def _look(self, items: list[pytest.Item]) -> None:
        """What each test costs, and which lines it runs: of files that were looked at, that is kept."""
        now, code = self.files, digest("".join((SOURCE / each).read_text() for each in TARGETS))
        kept = json.loads(SEEN.read_text()) if SEEN.exists() else {}
        seen = {name: each for name, each in kept.items() if (each["code"], each["text"]) == (code, now.get(name))}
        fresh = [item for item in items if file_of(item.nodeid) not in seen]
        for name, each in self._watched(fresh).items():
            seen[name] = each | {"code": code, "text": now[name]}
        for each in seen.values():
            self.cost |= each["cost"]
            for module, lines in each["runs"].items():
                for line, names in lines.items():
                    self.runs[module][int(line)] += names
        SEEN.write_text(json.dumps(kept | seen))
        self.console.print(f"{len(self.cost)} tests, {sum(self.cost.values()):.0f} s; {len(self.owed)} mutants")

    def _watched(self, items: list[pytest.Item]) -> dict[str, dict[str, Any]]:
        """Run tests as they are; by file, their costs and their lines."""
        found: dict[str, dict[str, Any]] = {}
        if not items:
            return found
        watch = coverage.Coverage(
            data_file=None, include=[str(SOURCE / each) for each in TARGETS], config_file=False
        )
        watch.start()
        for item, following in zip(items, [*items[1:], items[0]], strict=True):
            watch.switch_context(item.nodeid)
            began = time.perf_counter()  # not the CPU's time alone: a database's server works, too
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            file = found.setdefault(file_of(item.nodeid), {"cost": {}, "runs": {}})
            file["cost"][item.nodeid] = time.perf_counter() - began
        watch.stop()
        data = watch.get_data()
        for path in data.measured_files():
            module = str(Path(path).relative_to(SOURCE))
            for line, names in data.contexts_by_lineno(path).items():
                for name in filter(None, names):
                    # In text, as what is kept has it.
                    found[file_of(name)]["runs"].setdefault(module, {}).setdefault(str(line), []).append(name)
        return found

    def _tried(self, session: pytest.Session) -> Iterator[tuple[Mutant, str]]:
        """Each mutant, and the test that noticed it or nothing."""
        items = {item.nodeid: item for item in session.items}
        running: dict[int, tuple[Mutant, list[str], int]] = {}
        waiting = iter(self.owed)
        mutant = next(waiting, None)
        while mutant is not None or running:
            if mutant is not None and len(running) < self.jobs:
                names = self._tests_of(mutant)
                if names:
                    reading, writing = os.pipe()
                    child = os.fork()
                    if child == 0:
                        self._try(mutant, [items[name] for name in names], writing)
                    os.close(writing)
                    running[child] = (mutant, names, reading)
                else:
                    yield mutant, ""
                mutant = next(waiting, None)
                continue
            child, status = os.wait()
            if child not in running:
                continue  # not a mutant: a server that a test has started
            done, names, reading = running.pop(child)
            begun = os.read(reading, 1 << 16).split()
            os.close(reading)
            if status and not begun:
                raise RuntimeError(f"cannot be put in place: {done.name}")
            yield done, names[int(begun[-1])] if status else ""

    def _tests_of(self, mutant: Mutant) -> list[str]:
        """The tests that run the mutant's lines and were not tried before, the likely and cheap ones first."""
        names = set(self._running(mutant))
        known = self.verdicts.of(mutant)
        if known is not None and isinstance(known["tried"], dict):
            now = self.files
            names = {name for name in names if known["tried"].get(file_of(name)) != now[file_of(name)]}
        noticing = self.noticing[mutant.text]
        spent, chosen = 0.0, list[str]()
        for name in sorted(names, key=lambda name: (self.cost[name] + 0.001) / (1 + noticing[name])):
            spent += self.cost[name]
            if chosen and spent > _BUDGET:
                break
            chosen.append(name)
        return chosen

    def _running(self, mutant: Mutant) -> Iterator[str]:
        """The tests that run the mutant's lines; of a constant, the lines and the tests that name it."""
        reached = {mutant.module: set(mutant.lines)}
        if mutant.constant:
            names = made_of(mutant.module, mutant.function)
            reached = {module: users(module, names) for module in TARGETS}
            texts = {name: (ROOT / name).read_text() for name in self.files}
            naming = {name for name, text in texts.items() if any(each in text for each in names)}
            yield from (name for name in self.cost if file_of(name) in naming)
        for module, lines in reached.items():
            for line in lines:
                yield from self.runs[module].get(line, ())

    def _try(self, mutant: Mutant | None, items: list[pytest.Item], told: int) -> None:
        """In a fork: its exit code is 1 when a test fails, and it has told the number of each that it began."""
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
        try:
            if mutant is not None and not _fits(mutant):
                os.write(told, b"0")  # its module could not even be imported: every test notices
                os._exit(1)
            state = items[0].session._setupstate
            state.teardown_exact(items[0])
            for number, item in enumerate(items):
                os.write(told, f"{number} ".encode())
                cost = self.cost[item.nodeid]
                signal.setitimer(signal.ITIMER_PROF, _CPU + 8 * cost)
                signal.alarm(_PATIENCE + int(20 * cost))
                following = items[number + 1] if number + 1 < len(items) else item
                item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
                if self.failed:
                    os._exit(1)
            os._exit(0)
        except BaseException:
            os._exit(1)


def _fits(mutant: Mutant) -> bool:
    try:
        put_in_place(mutant)
    except Exception:
        if not mutant.constant:
            raise
        return False
    return True


def put_in_place(mutant: Mutant) -> None:
    """Change the code of the module that is imported already, for all who have taken something from it."""
    name = "counterfoil." + mutant.module.removesuffix(".py").replace("/", ".")
    module, tree = sys.modules[name], mutant.build()
    if not mutant.constant:
        code = compile(tree, str(SOURCE / mutant.module), "exec")
        _function(module, mutant.function).__code__ = _code(code, mutant.function.split("."))
        return
    # What is made of the constant is made anew, and put wherever it was imported by its name.
    changed = made_of(mutant.module, mutant.function)
    tree.body = [node for node in tree.body if targets(node) & changed]
    fresh = dict(vars(module))
    exec(compile(tree, str(SOURCE / mutant.module), "exec"), fresh)
    for each in changed:
        before = vars(module)[each]
        for other in list(sys.modules.values()):
            if other.__name__.startswith(("counterfoil", "tests")) and vars(other).get(each) is before:
                setattr(other, each, fresh[each])


def _function(module: types.ModuleType, path: str) -> types.FunctionType:
    found: object = module
    for part in path.split("."):
        found = inspect.getattr_static(found, part)
    if isinstance(found, property):
        found = found.fget
    elif isinstance(found, staticmethod | classmethod):
        found = found.__func__
    found = inspect.unwrap(found)  # type: ignore[arg-type]
    assert isinstance(found, types.FunctionType)
    return found


def _code(code: types.CodeType, path: list[str]) -> types.CodeType:
    for part in path:
        code = next(each for each in code.co_consts if isinstance(each, types.CodeType) and each.co_name == part)
    return code
