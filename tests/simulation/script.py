"""What a seed means: which faults there are, how many nodes, and who does what when.

A script is plain data, so that one that fails can be cut down: faults and events are left out while it still
fails.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any, Literal

from counterfoil.sandbox.clerk import ClerkSettings
from counterfoil.sandbox.faults import Faults
from counterfoil.sandbox.sandbox import SandboxSettings
from counterfoil.sandbox.stripe import StripeSettings
from counterfoil.sandbox.svix import SvixSettings
from tests.harness import HOUR, MINUTE
from tests.simulation.stage import Manners

Draw = Callable[[Random], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happens. ``at``: seconds from the beginning."""

    at: float
    kind: str
    with_: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Script:
    """All that a seed decides beforehand."""

    seed: int
    nodes: int
    faults: tuple[str, ...]
    events: tuple[Event, ...]

    def without(self, *, fault: str | None = None, events: range = range(0), nodes: int | None = None) -> "Script":
        """A smaller script; ``events`` are indices."""
        kept = tuple(event for number, event in enumerate(self.events) if number not in events)
        faults = tuple(each for each in self.faults if each != fault)
        return replace(self, faults=faults, events=kept, nodes=nodes or self.nodes)


# What can go wrong all the time, and how often a seed has it.
FAULTS = {
    "errors": 0.4,
    "cuts": 0.4,
    "stored": 0.3,
    "late": 0.3,
    "hang": 0.3,
    "limits": 0.3,
    "lag": 0.2,
    "slow delivery": 0.3,
    "duplicates": 0.4,
    "reordering": 0.4,
    "losses": 0.3,
    "interleaving": 0.5,
    "skew": 0.4,
    "cursors": 0.3,
    "mess": 0.2,
}


def sandbox_settings(script: Script, begin: float) -> tuple[SandboxSettings, Faults]:
    """The sandbox of a script, calm; and what it suffers once the faults begin."""
    has = script.faults.__contains__
    random = Random(f"{script.seed} degree")
    degree = random.choice([0.01, 0.03, 0.1])
    late_after = random.choice([(1.0, 120.0), (60.0, 19 * HOUR)])
    faults = Faults(
        error_before=degree * has("errors"),
        error_after=degree * has("errors"),
        cut_before=degree * has("cuts"),
        cut_after=degree * has("cuts"),
        stored_500=degree * has("stored"),
        late_500=degree * has("late"),
        slow=degree * has("hang"),
        slow_effect=degree * has("hang"),
        rate_limited=degree * has("limits"),
        locked=degree * has("limits"),
        # A request that Stripe works on for longer than our time-out and the quiet after it is not documented.
        slow_for=(1.0, 29.0),
        late_after=late_after,
    )
    cursors: Literal["refuse", "continue"] = random.choice(["refuse", "continue"]) if has("cursors") else "refuse"
    settings = SandboxSettings(
        seed=script.seed,
        latency=(0.01, 0.3),
        clerk=ClerkSettings(deleted_cursor=cursors),
        stripe=StripeSettings(deleted_cursor=cursors, dates_at_answer=has("cursors")),
        svix=SvixSettings(
            latency=(0.0, 20.0) if has("slow delivery") else (0.0, 0.5),
            duplicate=0.3 * has("duplicates"),
            reorder=0.3 * has("reordering"),
            reorder_by=(0.0, 120.0),
            drop=0.15 * has("losses"),
        ),
    )
    return settings, faults


def manners(script: Script) -> Manners:
    """How the stage of a script behaves."""
    random = Random(f"{script.seed} manners")
    has = script.faults.__contains__
    skews = tuple(random.randint(-90_000, 90_000) for _ in range(3)) if has("skew") else (0,)
    return Manners(
        nodes=script.nodes,
        interleave=has("interleaving"),
        lag=random.choice([25.0, 120.0]) if has("lag") else 0.0,
        skews=skews,
    )


def leavings(script: Script) -> list[str]:
    """What an old handler has left behind, case by case."""
    random = Random(f"{script.seed} leavings")
    cases = ["twice", "gone", "subscribed", "plain", "stale"]
    return random.choices(cases, k=random.randint(1, 4)) if "mess" in script.faults else []


def last_plan(script: Script) -> dict[str, Any] | None:
    """How the last plan is applied, in peace, where there was somebody who audits; ``None``: nobody."""
    random = Random(f"{script.seed} last plan")
    kinds = {event.kind for event in script.events}
    audits = "mess" in script.faults or kinds & {"audit and apply", "old handler"}
    return {"deletes": random.choice([0, 50]), "beside": random.random() < 0.5} if audits else None


def is_burst(script: Script) -> bool:
    """Whether three users or more come within two seconds."""
    times = [event.at for event in script.events if event.kind == "sign up"]
    return any(late - early <= 2.0 for early, late in zip(times, times[2:], strict=False))


def several(script: Script) -> bool:
    """Whether several processes ever work on the database at once."""
    plans = [last_plan(script) or {}, *(event.with_ for event in script.events)]
    return script.nodes > 1 or any(plan.get("beside", False) for plan in plans)


def draw(seed: int) -> Script:
    """The script of a seed."""
    random = Random(f"{seed} script")
    faults = tuple(name for name, share in FAULTS.items() if random.random() < share)
    nodes = random.choice([1, 1, 2, 3])
    events = sorted(_events(random), key=lambda event: event.at)
    return Script(seed, nodes, faults, tuple(events))


def _events(random: Random) -> Iterator[Event]:
    length = random.choice([2 * MINUTE, 10 * MINUTE, 40 * MINUTE])
    people = random.randint(2, 7)
    burst = random.random() < 0.3
    for _ in range(people):
        at = random.uniform(0, 2.0 if burst else length * 0.7)
        yield Event(at, "sign up", _sign_up(random))
        if random.random() < 0.2:
            # The app knows of a sign-up before the webhook does.
            yield Event(at + random.choice([0.0, 0.3, 5.0]), "ensure", {**_ensure(random), "whom": "newest"})
    for _ in range(random.randint(people, 3 * people)):
        kind = _pick(random, PEOPLE)
        yield Event(random.uniform(0, length), kind, PEOPLE[kind][1](random))
    # A few kinds of trouble in each seed, so that they have something to do with each other.
    for kind in random.sample(sorted(TROUBLE), random.randint(1, 6)):
        for _ in range(random.randint(1, 3)):
            at = random.uniform(0, length)
            yield Event(at, kind, TROUBLE[kind](random))
            if kind == "restore":
                yield Event(random.uniform(0, at), "backup")
    if random.random() < 0.15:
        after = random.uniform(20, 89) * 24 * HOUR
        yield Event(length, "years of replay", {"after": after, "share": random.random()})


def _pick(random: Random, kinds: dict[str, tuple[int, Draw]]) -> str:
    names = list(kinds)
    return random.choices(names, [kinds[name][0] for name in names])[0]


def _sign_up(random: Random) -> dict[str, Any]:
    return {
        "email": random.random() < 0.85,
        "refused": random.random() < 0.08,
        "named": random.choice([None, None, None, None, "public", "private"]),
        "old": random.random() < 0.1,
    }


def _who(random: Random) -> dict[str, Any]:
    return {"who": random.randrange(100)}


def _email(random: Random) -> dict[str, Any]:
    draw = random.random()
    return {**_who(random), "to": "none" if draw < 0.1 else "refused" if draw < 0.2 else "new"}


def _ensure(random: Random) -> dict[str, Any]:
    whom = random.choice(["somebody"] * 6 + ["newest", "gone", "gone", "nobody"])
    return {**_who(random), "whom": whom, "node": random.randrange(3), "wait": random.choice([0, 2, 10])}


PEOPLE: dict[str, tuple[int, Draw]] = {
    "ensure": (3, _ensure),
    "change email": (4, _email),
    "change name": (4, _who),
    "sign in": (2, _who),
    "leave": (4, _who),
    "app writes": (2, lambda random: {**_who(random), "field": random.choice(["public", "private", "unsafe"])}),
}


# Requests are fewer than looks at the database.
_FAR = {"": 25, "write": 15, "written": 15, "send": 4, "answered": 4}


def _crash(random: Random) -> dict[str, Any]:
    where = random.choice(["", "write", "written", "send", "answered"])
    away = random.choice([0.1, 5.0, 60.0, 600.0])
    left = random.randint(1, _FAR[where])
    return {"node": random.randrange(3), "where": where, "left": left, "seconds": away}


def _stall(random: Random) -> dict[str, Any]:
    where = random.choice(["", "write", "written", "send", "answered"])
    long = random.choice([30.0, 100.0, 130.0, 400.0, 3 * HOUR])
    left = random.randint(1, _FAR[where])
    return {"node": random.randrange(3), "where": where, "left": left, "seconds": long}


def _database(random: Random) -> dict[str, Any]:
    kind = random.choice(["unwritten", "unknown"])
    where = "write" if kind == "unwritten" else "written"
    return {"node": random.randrange(3), "kind": kind, "where": where, "times": random.randint(1, 4)}


def _outage(random: Random) -> dict[str, Any]:
    long = random.choice([30.0, 10 * MINUTE] * 6 + [3 * HOUR] * 3 + [22 * HOUR])
    fault = random.choice(["error_before", "cut_before", "cut_after", "error_after"])
    return {"upstream": random.choice(["clerk", "stripe"]), "seconds": long, "fault": fault}


def _restore(random: Random) -> dict[str, Any]:
    back = random.choice([1.0, 60.0, 3 * HOUR, 30 * HOUR])
    return {"seconds": back, "empty": random.random() < 0.2}


def _audit_and_apply(random: Random) -> dict[str, Any]:
    crashes = [
        (random.choice(["", "write", "written", "send", "answered", "read"]), random.randint(1, 25), away)
        for away in random.choices([0.5, 20.0, 600.0], k=random.choice([0, 1, 2, 4]))
    ]
    pause = random.choice([0.0, 30.0, 10 * MINUTE])
    deletes = random.choice([0, 1, 50])
    return {"deletes": deletes, "beside": random.random() < 0.5, "pause": pause, "crashes": crashes}


def _old_handler(random: Random) -> dict[str, Any]:
    return {**_who(random), "what": random.choice(["plain", "plain", "subscribed"])}


TROUBLE: dict[str, Draw] = {
    "audit and apply": _audit_and_apply,
    "old handler": _old_handler,
    "crash": _crash,
    "kill": lambda random: {"node": random.randrange(3), "seconds": random.choice([0.1, 20.0, 300.0, 2 * HOUR])},
    "stall": _stall,
    "stop": lambda random: {"node": random.randrange(3), "seconds": random.choice([0.1, 20.0])},
    "database": _database,
    "outage": _outage,
    "key": lambda random: {"seconds": random.choice([20.0, 600.0]), "how": random.choice(["roll", "restrict"])},
    "backup": lambda _: {},
    "restore": _restore,
    "stranger": lambda random: {"which": random.choice(["clerk", "stripe"])},
    "replay": lambda random: {"share": random.choice([0.2, 1.0])},
    "forged": lambda random: {**_who(random), "kind": random.choice(["other", "none", "ahead", "twin"])},
    "example": lambda _: {},
    "person edits": lambda random: {**_who(random), "what": random.choice(["email", "name", "other"])},
    "person moves": lambda random: {**_who(random), "to": random.choice(["nobody", "somebody"])},
    "person deletes": _who,
    "person attaches": lambda random: {**_who(random), "what": random.choice(["card", "subscription"])},
}
