"""A failing script, cut down to what it takes; and the one command that plays it again."""

import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from tests.simulation.play import Result, play
from tests.simulation.script import FAULTS, Script, draw

_PLAYS = 150
"""A minute's worth."""
Player = Callable[[Script], Result]


def command(script: Script) -> str:
    """Plays this very script again."""
    whole = draw(script.seed)
    words = [f"python -m tools.soak --seed {script.seed}"]
    if dropped := [name for name in whole.faults if name not in script.faults]:
        words.append("--without " + ",".join(name.replace(" ", "-") for name in dropped))
    if script.events != whole.events:
        kept = [str(number) for number, event in enumerate(whole.events) if event in script.events]
        words.append("--events " + (",".join(kept) or "none"))
    if script.nodes != whole.nodes:
        words.append(f"--nodes {script.nodes}")
    return " ".join(words)


def cut(seed: int, without: Sequence[str] = (), events: Sequence[int] | None = None, nodes: int = 0) -> Script:
    """The script of a seed, with what `command` says left out."""
    script = draw(seed)
    names = {name.replace(" ", "-"): name for name in FAULTS}
    dropped = {names[each] for each in without}
    kept = script.events if events is None else tuple(script.events[number] for number in events)
    faults = tuple(name for name in script.faults if name not in dropped)
    return replace(script, faults=faults, events=kept, nodes=nodes or script.nodes)


def shrink(failed: Script, player: Player = play) -> Result:
    """The smallest script found that fails as well."""
    best = player(failed)
    plays = 0
    found = True
    while found and plays < _PLAYS:
        found = False
        for smaller in _smaller(best.script):
            plays += 1
            result = attempt(smaller, player)
            if result.violations:
                best, found = result, True
                break
            if plays >= _PLAYS:
                break
    return best


def attempt(script: Script, player: Player = play) -> Result:
    """A play in which an error of any kind is a violation too."""
    try:
        return player(script)
    except Exception as error:
        told = "".join(traceback.format_exception(error))
        return Result(script, (f"the play itself failed: {told}",), "", Counter(), (), 0, 0, 0.0)


def _smaller(script: Script) -> Iterator[Script]:
    size = len(script.events)
    step = max(1, size // 2)
    while True:
        for start in range(0, size, step):
            yield script.without(events=range(start, min(start + step, size)))
        if step == 1:
            break
        step = max(1, step // 2)
    for name in script.faults:
        yield script.without(fault=name)
    if script.nodes > 1:
        yield script.without(nodes=script.nodes - 1)
