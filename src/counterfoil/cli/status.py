"""``counterfoil status``: how all links stand."""

import asyncio
import time
from typing import Any

import msgspec
from rich.table import Table

from counterfoil.cli.db import DatabaseOption
from counterfoil.cli.opened import reading
from counterfoil.cli.output import JsonOption, explained, print_json, screen
from counterfoil.core.words import PARKED, ago
from counterfoil.engine.deletions import HELD_AT
from counterfoil.settings import database_url
from counterfoil.store import environment, figures
from counterfoil.store.figures import Figures
from counterfoil.store.ownership import Holder, holder, sqlite_path


def status(database: DatabaseOption = None, as_json: JsonOption = False) -> None:
    """Show how many links are settled, waiting and parked, and for how long the oldest has waited."""
    with explained():
        url = database or database_url()
        counted, known = asyncio.run(_read(url))
        # On PostgreSQL any number of nodes may serve, from anywhere: nobody holds it.
        serving = None if sqlite_path(url) is None else _serves(holder(url))
    now = time.time_ns() // 1_000_000
    if as_json:
        oldest = counted.backlog.oldest
        age = None if oldest is None else (now - oldest) / 1000
        body = msgspec.to_builtins(counted)
        print_json({**body, "oldest_unsettled_seconds": age, "serving": serving, "environment": known})
        return
    screen.print(_table(counted, known, now, serving))


def _serves(running: Holder | None) -> bool:
    return running is not None and bool(running.address)


async def _read(url: str) -> tuple[Figures, dict[str, str]]:
    async with reading(url) as database:
        return await database.read(figures.figures), await database.read(environment.load)


def _table(counted: Figures, known: dict[str, str], now: int, serving: bool | None) -> Table:
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(style="dim")
    table.add_column()

    def row(name: str, value: Any, style: str = "") -> None:
        table.add_row(name, f"[{style}]{value}[/]" if style else str(value))

    backlog = counted.backlog
    if serving is not None:
        row("node", "serving" if serving else "not running", "green" if serving else "yellow")
    if "clerk_instance" in known:
        mode = "live" if known["livemode"] == "True" else "test"
        row("environment", f"Clerk {known['clerk_instance']} · Stripe {known['stripe_account']} ({mode} mode)")
    row("links", f"{counted.links}, {counted.linked} with a customer, {counted.deleted} of deleted users")
    if backlog.unsettled and backlog.oldest is not None:
        waited = ago(now - backlog.oldest)
        row("unsettled", f"{backlog.unsettled}, the oldest for {waited}", "yellow")
    else:
        row("unsettled", "none", "green")
    for reason, count in backlog.parked.items():
        row("parked", f"{count} {reason}: {PARKED.get(reason, '')}", "red")
    if HELD_AT in known:
        row(
            "deletions",
            f"held for {ago(now - int(known[HELD_AT]))}: look, then `counterfoil release deletions`",
            "red",
        )
    if counted.removals.links:
        due = counted.removals.next_due
        when = f", the next look in {ago(due - now)}" if due is not None and due > now else ""
        row("removals", f"{counted.removals.links} wait{when}", "yellow")
    if counted.flagged:
        row("flagged", f"{counted.flagged} customers without the user's address: Stripe refused it", "yellow")
    if counted.unreadable:
        row("unreadable", f"{counted.unreadable} signed deliveries are kept in the journal", "red")
    row("Stripe seen to", _moment(known.get("stripe_seen_to"), now))
    row("last sweep", _moment(known.get("swept_to"), now))
    row("last walk", _moment(known.get("walk_ended"), now))
    return table


def _moment(text: str | None, now: int) -> str:
    return "never" if text is None else f"{ago(now - int(text))} ago"
