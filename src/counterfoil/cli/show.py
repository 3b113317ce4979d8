"""``counterfoil show``: one user's link, and its whole story."""

import asyncio
import time
from typing import Annotated, Any

import msgspec
import typer
from rich.table import Table

from counterfoil.cli.db import DatabaseOption
from counterfoil.cli.opened import reading
from counterfoil.cli.output import Exit, JsonOption, errors, explained, plain, print_json, screen
from counterfoil.cli.words import moment, sentence
from counterfoil.core.link import Deletion, Doubt, Link, Ruling
from counterfoil.core.subject import user_id
from counterfoil.core.words import PARKED, ago
from counterfoil.settings import database_url
from counterfoil.store import journal, links
from counterfoil.store.journal import Entry


def show(
    subject: Annotated[str, typer.Argument(metavar="USER", help="The user's id: user_...")],
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show a user's link, and its whole story in plain words."""
    with explained():
        link, story = asyncio.run(_read(database or database_url(), user_id(subject)))
    if link is None and not story:
        errors.print(f"nothing is known of {subject}: no delivery named it, and no sweep or scan met it")
        raise typer.Exit(Exit.FAILED)
    if as_json:
        print_json({"link": link, "story": story})
        return
    if link is not None:
        screen.print(_table(link, time.time_ns() // 1_000_000))
        screen.print()
    for entry in story:
        took = f" [dim]{entry.ms} ms[/]" if entry.ms is not None else ""
        request = f" [dim]{entry.request_id}[/]" if entry.request_id else ""
        text = plain(sentence(entry.kind, entry.what, entry.detail))
        screen.print(f"[dim]{moment(entry.at)}[/]  {text}{took}{request}", soft_wrap=True)


async def _read(url: str, subject_id: str) -> tuple[Link | None, list[Entry]]:
    async with reading(url) as database:
        link = await database.read(lambda connection: links.get(connection, subject_id))
        return link, await database.read(lambda connection: journal.story(connection, subject_id))


def _table(link: Link, now: int) -> Table:
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(style="dim")
    table.add_column()

    def row(name: str, value: Any) -> None:
        if value is not None:
            table.add_row(name, plain(str(value)))

    row("user", link.subject_id)
    row("state", state(link, now))
    row("customer", link.customer_id or "none")
    row("removal", _removal(link))
    fields = msgspec.structs.asdict(link.fields) if link.fields is not None else {}
    row("in Clerk", ", ".join(f"{name} {value}" for name, value in fields.items() if value) or None)
    row("link-back", link.link_back)
    row("own function", link.mapping_error)
    row("last error", link.last_error)
    if link.refused_email is not None:
        row("flagged", "Stripe refused the user's address; the customer goes without it")
    return table


_RULED = {
    Ruling.UNDO: "called off by a person",
    Ruling.RELEASE: "released by a person",
    Ruling.PLANNED: "as an applied plan says",
}


def _removal(link: Link) -> str | None:
    """What was decided about a deleted user's customer."""
    said = _RULED.get(link.ruling)
    ended = f"the customer is {link.ended}" if link.ended is not None else None
    return ", ".join(filter(None, [said, ended])) or None


def state(link: Link, now: int) -> str:
    """How a link stands, in plain words."""
    if link.parked is not None:
        return f"parked: {link.parked} ({PARKED[link.parked]})"
    parts = []
    if link.deletion is not Deletion.NONE and link.deleted_at is not None:
        parts.append(f"deleted in Clerk {ago(now - link.deleted_at)} ago")
    if link.dirty_at is None:
        waits = link.deletion is not Deletion.NONE and link.customer_id is not None
        if waits and link.due_at is not None and link.due_at > now:
            parts.append(f"the removal waits until {moment(link.due_at)}")
        else:
            parts.append("settled")
    else:
        parts.append(f"unsettled for {ago(now - link.dirty_at)}")
        if link.due_at is not None and link.due_at > now:
            parts.append(f"next try in {ago(link.due_at - now)}")
    if link.must_confirm is not Doubt.NONE:
        parts.append("to be confirmed with Clerk")
    if link.intent_key is not None:
        parts.append("a create is under way")
    return ", ".join(parts)
