"""Play seeds of the simulation, any number on all cores; or play one again, cut down as it was told.

python -m tools.soak --seeds 20000
python -m tools.soak --seed 1031 --without lag,skew --events 0,4,7 --trace
"""

import argparse
import json
import multiprocessing
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tests.simulation.marks import missing
from tests.simulation.play import Result
from tests.simulation.script import draw
from tests.simulation.shrink import attempt, command, cut, shrink

_SHOWN = 5
"""Failing seeds that are cut down and shown."""


def main() -> int:
    """The exit code: 0 when every promise held and every mark was met."""
    options = _options()
    if options.seed is not None:
        return _again(options)
    begun = time.monotonic()
    marks: Counter[str] = Counter()
    failed: list[int] = []
    sums = Counter[str]()
    played = 0
    try:
        for seed, result in _plays(options.first, options.seeds, options.jobs):
            played += 1
            marks += result.marks
            sums += Counter(calls=result.calls, points=result.points, hours=round(result.hours))
            if result.violations:
                failed.append(seed)
                print(f"seed {seed} failed: {result.violations[0].splitlines()[-1][:200]}", flush=True)
    except KeyboardInterrupt:
        print(f"stopped: --first {options.first + played} goes on")
    seconds = time.monotonic() - begun
    print(f"{played} seeds in {seconds:.0f} s: {len(failed)} failed; {_said(sums)}", flush=True)
    if options.marks:
        Path(options.marks).write_text(json.dumps(dict(sorted(marks.items())), indent=1) + "\n")
    for seed in failed[:_SHOWN]:
        _show(shrink(draw(seed), attempt))
    if failed:
        print("failing seeds:", " ".join(map(str, failed)))
    never = missing(marks, played)
    for name in never:
        print(f"never met: {name}")
    return 1 if failed or never else 0


def _plays(first: int, seeds: int, jobs: int) -> Iterator[tuple[int, Result]]:
    wanted = range(first, first + seeds)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with (
        Progress(*columns, disable=not sys.stderr.isatty()) as progress,
        multiprocessing.Pool(jobs, _ignore_interrupts) as pool,
    ):
        task = progress.add_task("seeds", total=seeds)
        for seed, result in zip(wanted, pool.imap(_play, wanted, chunksize=5), strict=True):
            progress.advance(task)
            yield seed, result


def _ignore_interrupts() -> None:
    """Who is at the keyboard speaks to the process that counts."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _play(seed: int) -> Result:
    result = attempt(draw(seed))
    # The trace of a play that went well is of no use to anybody.
    return result if result.violations else replace(result, lines=())


def _again(options: argparse.Namespace) -> int:
    events = None
    if options.events is not None:
        events = [] if options.events == "none" else [int(each) for each in options.events.split(",")]
    script = cut(options.seed, options.without.split(",") if options.without else (), events, options.nodes)
    result = attempt(script)
    if options.trace:
        print("\n".join(result.lines))
    if result.violations and options.shrink:
        result = shrink(script, attempt)
    _show(result)
    return 1 if result.violations else 0


def _show(result: Result) -> None:
    script = result.script
    print(f"\nseed {script.seed}: {script.nodes} nodes, faults: {', '.join(script.faults) or 'none'}")
    for event in script.events:
        print(f"  {event.at:9.3f} {event.kind} {event.with_ or ''}")
    for violation in result.violations:
        print(f"  VIOLATION {violation}")
    size = f"{result.calls} calls, {result.points} points, {result.hours:.0f} virtual hours"
    print(f"  trace {result.digest}, {size}")
    print(f"  again: {command(script)}")


def _said(sums: Counter[str]) -> str:
    years = sums["hours"] / 24 / 365
    return f"{sums['calls']} calls, {sums['points']} points, {years:.1f} virtual years"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=1_000, help="how many")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--marks", default="", help="write what was met, and how often, to this file")
    parser.add_argument("--seed", type=int, help="play this one again")
    parser.add_argument("--without", default="", help="faults that are left out")
    parser.add_argument("--events", help="the numbers of the events that are kept")
    parser.add_argument("--nodes", type=int, default=0, help="how many nodes instead")
    parser.add_argument("--trace", action="store_true", help="print the trace")
    parser.add_argument("--shrink", action="store_true", help="cut it down first")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
