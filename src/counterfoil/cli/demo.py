"""``counterfoil demo``: a storm of sign-ups, changes and deletions, with faults, and a verdict on both sides."""

import asyncio
import secrets
import socket
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer
from rich.live import Live
from rich.table import Table

from counterfoil.cli.output import Exit, JsonOption, configure_logging, explained, print_json, screen
from counterfoil.cli.sandbox import environment
from counterfoil.cli.serve import run, serving, told_to_stop
from counterfoil.errors import ConfigurationError
from counterfoil.sandbox.clerk import ClerkSettings
from counterfoil.sandbox.courier import Courier
from counterfoil.sandbox.faults import Faults
from counterfoil.sandbox.http import serve as serve_sandbox
from counterfoil.sandbox.sandbox import Sandbox, SandboxSettings
from counterfoil.sandbox.storm import Player, Storm
from counterfoil.sandbox.stripe import StripeSettings
from counterfoil.sandbox.svix import SvixSettings
from counterfoil.sandbox.verdict import Verdict
from counterfoil.settings import load
from counterfoil.store import figures
from counterfoil.store.database import InlineDatabase
from counterfoil.store.figures import Backlog
from counterfoil.store.ownership import Ownership, sqlite_path
from counterfoil.store.upgrade import remove
from counterfoil.wiring import Node, real_world

PATIENCE = 180.0
"""Seconds after the storm for everything to settle."""


@dataclass(slots=True)
class Play:
    """The demo while it runs."""

    sandbox: Sandbox
    began: float
    signed_up: int = 0
    done: int = 0
    calls_before: int = 0
    phase: str = "storm"
    backlog: Backlog = field(default_factory=lambda: Backlog(unsettled=0, oldest=None, parked={}))


def demo(
    users: Annotated[int, typer.Option(min=1, max=5_000, help="How many people sign up.")] = 500,
    seed: Annotated[int, typer.Option(help="What happens by chance happens by this seed.")] = 1,
    leave: Annotated[
        bool, typer.Option("--exit", help="End by itself: 0 if every count is right, 1 if not.")
    ] = False,
    database: Annotated[
        str | None,
        typer.Option(help="PostgreSQL to run on, in a schema of its own that is dropped afterwards."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Watch it work, with no keys at all: a sandbox, a node, a storm with faults, and a verdict.

    Nothing leaves this machine; the database is a temporary one.
    """
    with explained():
        configure_logging("error")
        verdict, play = run(_demo(users, seed, database, leave=leave, quiet=as_json))
    if as_json:
        print_json({**verdict.as_json(), "calls_per_event": _calls_per_event(play)})
    raise typer.Exit(Exit.OK if verdict.clean else Exit.FAILED)


_KEY = "sk_live_sandbox"  # live, so that the sandbox has the limits of live mode


def storm_settings(seed: int) -> SandboxSettings:
    """The demo's world: live limits, and about one call in seven goes wrong."""
    return SandboxSettings(
        seed=seed,
        latency=(0.02, 0.12),
        clerk=ClerkSettings(secret_key=_KEY, environment_type="production"),
        stripe=StripeSettings(secret_key=_KEY),
        # Svix's retries after 5 s, 5 min, 30 min ... come after 0.25 s, 15 s, 90 s ...
        svix=SvixSettings(time_scale=0.05, duplicate=0.2, reorder=0.2, reorder_by=(0.0, 3.0)),
        faults=Faults(
            error_before=0.03,
            cut_before=0.02,
            error_after=0.02,
            cut_after=0.03,
            stored_500=0.01,
            late_500=0.01,
            slow=0.02,
            slow_for=(0.5, 3.0),
            late_after=(0.2, 1.0),
            locked=0.01,
        ),
    )


async def _demo(users: int, seed: int, database: str | None, *, leave: bool, quiet: bool) -> tuple[Verdict, Play]:
    settings = storm_settings(seed)
    play = Play(Sandbox(settings), time.monotonic())
    async with _node(play.sandbox, settings, database) as node:
        play.calls_before = _calls(play)
        with Live(_table(play), console=screen, refresh_per_second=4, transient=False, screen=False) as live:
            if quiet:
                live.stop()
            watcher = asyncio.create_task(_watch(play, node, live))
            await _storm(play, users, seed)
            play.phase = "faults stop, the rest settles"
            play.sandbox.calm()
            await _settled(play, node)
            play.phase = "settled"
            watcher.cancel()
            live.update(_table(play), refresh=not quiet)
        verdict = play.sandbox.verdict(time.time())
        if not quiet:
            screen.print("\n" if not screen.is_terminal else "")
            _print_verdict(verdict, play)
            if not leave:
                screen.print("\n[dim]Ctrl-C ends the demo. `counterfoil demo --exit` ends by itself.[/]")
                await told_to_stop().wait()
    return verdict, play


@asynccontextmanager
async def _node(sandbox: Sandbox, world: SandboxSettings, database: str | None) -> AsyncIterator[Node]:
    """The sandbox on a socket, a node that serves, and Svix between them."""
    with tempfile.TemporaryDirectory(prefix="counterfoil-demo-") as folder:
        async with serve_sandbox(sandbox) as base, _own_database(database, Path(folder)) as own:
            settings = load(
                {
                    **environment(world, base),
                    **own,
                    "COUNTERFOIL_PORT": str(_free_port()),
                    # Late effects come within a second here, so looking may begin sooner than on Stripe.
                    "COUNTERFOIL_QUIET": "3s",
                },
                Path(folder),
            )
            webhook = f"http://{settings.host}:{settings.port}{settings.webhook_path}"
            with Ownership(settings.database_url):
                async with (
                    real_world(settings) as outside,
                    serving(settings, outside) as node,
                    Courier(sandbox.svix, webhook),
                ):
                    yield node


@asynccontextmanager
async def _own_database(database: str | None, folder: Path) -> AsyncIterator[dict[str, str]]:
    """The settings of a database that nobody else has anything in, and that is gone afterwards."""
    if database is None:
        yield {"DATABASE_URL": f"sqlite:///{folder / 'counterfoil.db'}"}
        return
    if sqlite_path(database) is not None:
        raise ConfigurationError("--database: the demo makes a SQLite file of its own; name a PostgreSQL database")
    schema = f"counterfoil_demo_{secrets.token_hex(4)}"
    try:
        yield {"DATABASE_URL": database, "COUNTERFOIL_SCHEMA": schema}
    finally:
        made = InlineDatabase(database, schema)
        await made.write(remove)
        await made.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def _storm(play: Play, users: int, seed: int) -> None:
    # At 20 creates a second, as Stripe's limits leave us, the backlog stays short.
    storm = Storm(seed=seed, sign_ups=users, seconds=max(2.0, users / 18), deletions=min(80, users // 5))
    player = Player(play.sandbox.clerk)
    start = time.monotonic()
    for at, action in storm:
        wait = start + at - time.monotonic()
        if wait > 0:
            await asyncio.sleep(wait)
        player.play(time.time(), action)
        play.done += 1
        play.signed_up = len(player.ids)


async def _settled(play: Play, node: Node) -> None:
    end = time.monotonic() + PATIENCE
    calm = 0
    while time.monotonic() < end and calm < 4:
        await asyncio.sleep(0.25)
        play.backlog = await node.context.database.read(figures.backlog)
        calm = calm + 1 if play.backlog.unsettled == 0 and play.sandbox.svix.pending() == 0 else 0


async def _watch(play: Play, node: Node, live: Live) -> None:
    while True:
        play.backlog = await node.context.database.read(figures.backlog)
        live.update(_table(play))
        await asyncio.sleep(0.25)


def _calls(play: Play) -> int:
    return len(play.sandbox.calls("clerk")) + len(play.sandbox.calls("stripe"))


def _calls_per_event(play: Play) -> float:
    return round((_calls(play) - play.calls_before) / max(1, play.done), 2)


def _table(play: Play) -> Table:
    table = Table(title="counterfoil demo", title_justify="left", min_width=64)
    table.add_column("", style="dim", min_width=22)
    table.add_column("Clerk", justify="right", min_width=10)
    table.add_column("Stripe", justify="right", min_width=10)
    sandbox = play.sandbox
    clerk, stripe = sandbox.calls("clerk"), sandbox.calls("stripe")
    customers = sum(1 for _ in sandbox.stripe.live_customers())
    table.add_row("users / customers", str(len(sandbox.clerk.users)), str(customers))
    table.add_row("calls", str(len(clerk)), str(len(stripe)))
    failed = [str(sum(call.fault is not None for call in calls)) for calls in (clerk, stripe)]
    table.add_row("of them with a fault", *failed)
    refused = [str(sum(call.status == 429 for call in calls)) for calls in (clerk, stripe)]
    table.add_row("answered 429", *refused)
    svix = sandbox.svix
    oldest = 0.0 if play.backlog.oldest is None else max(0.0, time.time() - play.backlog.oldest / 1000)
    table.add_section()
    table.add_row("sign-ups / events", str(play.signed_up), str(play.done))
    table.add_row("deliveries / retries", str(svix.published), str(svix.attempts - svix.published))
    table.add_row("unsettled / oldest", str(play.backlog.unsettled), f"{oldest:.1f} s")
    table.caption = f"{play.phase} · {time.monotonic() - play.began:.0f} s"
    table.caption_justify = "left"
    return table


def _print_verdict(verdict: Verdict, play: Play) -> None:
    counts = verdict.summary()
    table = Table(
        title="Verdict, from both sides' true state", title_justify="left", show_header=False, min_width=64
    )
    table.add_column("", min_width=40)
    table.add_column("", justify="right", min_width=10)
    table.add_row("users in Clerk", str(counts["users"]))
    table.add_row("of them with an email address", str(counts["eligible"]))
    table.add_row("live customers in Stripe", str(counts["customers"]))
    table.add_section()
    for name, label in (
        ("missing", "missing (user without customer)"),
        ("duplicates", "duplicates (user with several)"),
        ("orphans", "orphans (customer of nobody)"),
        ("wrong_links", "wrong links (metadata names another)"),
        ("wrong_fields", "wrong fields (email or name differ)"),
    ):
        style = "green" if counts[name] == 0 else "bold red"
        table.add_row(label, f"[{style}]{counts[name]}[/]")
    table.add_section()
    table.add_row("calls per event", f"{_calls_per_event(play):.2f}")
    screen.print(table)
    text = "[bold green]Exactly one customer for every user.[/]" if verdict.clean else "[bold red]Not right.[/]"
    screen.print(text)
