"""``counterfoil db``: the database's schema and health."""

import asyncio
from typing import Annotated

import typer

from counterfoil.cli.output import JsonOption, explained, print_json, screen
from counterfoil.errors import DatabaseOutdated
from counterfoil.settings import database_schema, database_url
from counterfoil.store.database import InlineDatabase
from counterfoil.store.ownership import Ownership, sqlite_path
from counterfoil.store.soundness import SOUND, damaged, soundness
from counterfoil.store.upgrade import upgrade as run_migrations
from counterfoil.store.upgrade import versions

app = typer.Typer(help="Bring the database's schema up to date, or check it.", no_args_is_help=True)

DatabaseOption = Annotated[
    str | None,
    typer.Option("--database", help="The database's URL; without it, DATABASE_URL as serve finds it."),
]


@app.command()
def upgrade(database: DatabaseOption = None) -> None:
    """Run the migrations that are missing (serve does so too, when it starts)."""
    with explained():
        url = database or database_url()
        with Ownership(url):
            before, after = asyncio.run(_upgrade(url))
    screen.print(f"schema {after}: up to date" if before == after else f"schema {before or 'none'} -> {after}")


@app.command()
def check(database: DatabaseOption = None, as_json: JsonOption = False) -> None:
    """Check the schema's version, and that the file is sound. Nothing is changed."""
    with explained():
        url = database or database_url()
        path = sqlite_path(url)
        if path is not None and not path.exists():
            raise DatabaseOutdated(
                f"{path} does not exist: `counterfoil serve` or `counterfoil db upgrade` makes it"
            )
        now, needed, sound = asyncio.run(_check(url))
        if as_json:
            print_json({"schema": now, "needed": needed, "sound": sound})
        else:
            file = f" · file {sound}" if path is not None else ""
            screen.print(f"schema {now or 'none'} (this release needs {needed}){file}")
        if now != needed:
            raise DatabaseOutdated("the schema is not this release's: run `counterfoil db upgrade`")
        if sound != SOUND:
            raise damaged()


async def _upgrade(url: str) -> tuple[str | None, str]:
    database = InlineDatabase(url, database_schema())
    try:
        before, needed = await database.read(versions)
        await database.write(run_migrations)
        return before, needed
    finally:
        await database.close()


async def _check(url: str) -> tuple[str | None, str, str]:
    database = InlineDatabase(url, database_schema())
    try:
        now, needed = await database.read(versions)
        return now, needed, await database.read(soundness)
    finally:
        await database.close()
