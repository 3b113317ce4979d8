"""Batches of deliveries: nothing is read of newcomers first, and all ends as if each were folded in turn."""

import random

import pytest
from sqlalchemy import Connection, text

from counterfoil.core.link import Link
from counterfoil.core.news import News, UserDeleted
from counterfoil.store import journal, links
from counterfoil.store.database import InlineDatabase
from counterfoil.store.deliveries import Deliveries, Item
from counterfoil.store.journal import Entry
from tests.databases import Home
from tests.store.support import NOW, SINCE, changed, event
from tests.store.test_database import KINDS


def heard(subject_id: str | None, body: bytes | None = None) -> Entry:
    """A line about a delivery."""
    return Entry(at=NOW, kind="news", what="heard", subject_id=subject_id, detail={"delivery": "msg_1"}, body=body)


def any_items(chance: random.Random) -> list[Item]:
    """A batch about a few users: sign-ups, changes, deletions, and what cannot be read."""
    items: list[Item] = []
    for _ in range(chance.randrange(1, 9)):
        name, version, kind = f"user_{chance.randrange(12)}", NOW + chance.randrange(4), chance.randrange(10)
        news: News | None
        if kind == 0:
            items.append((None, heard(None, b"{unreadable \xff")))
            continue
        if kind == 1:
            news = UserDeleted(subject_id=name, sent_at=NOW, trusted=chance.random() < 0.8)
        else:
            told = event(name, version, email=f"{version}@example.com")
            news = changed(told, created=kind > 4, trusted=kind != 9)
        items.append((news, heard(name)))
    return items


def in_turn(connection: Connection, items: list[Item]) -> None:
    for news, _ in items:
        if news is not None:
            links.fold_batch(connection, [news], SINCE, NOW)
    journal.append(connection, [entry for _, entry in items if entry is not None])


def all_links(connection: Connection) -> list[Link]:
    # The order in which news comes moves only the revision (see core/fold).
    return [changed(link, revision=0) for link in links.after(connection, "", 1_000)]


def all_lines(connection: Connection) -> list[tuple[object, ...]]:
    rows = connection.execute(text("SELECT at, subject_id, kind, what, detail, body FROM journal"))
    return sorted((tuple(row) for row in rows), key=repr)


@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize("seed", range(8))
async def test_any_batches_end_as_if_their_news_came_one_by_one(home: Home, kind: str, seed: int) -> None:
    chance = random.Random(seed)
    database, reference = KINDS[kind](home.migrated()), InlineDatabase(home.migrated())
    for _ in range(12):
        items = any_items(chance)
        await database.take(Deliveries(items, SINCE, NOW))
        await reference.write(lambda connection, items=items: in_turn(connection, items))  # type: ignore[misc]
    found = await database.read(all_links)
    assert found == await reference.read(all_links)
    assert len(found) > 6
    assert await database.read(all_lines) == await reference.read(all_lines)
    await database.close()
    await reference.close()


async def test_what_else_belongs_to_a_batch_is_in_its_transaction(home: Home) -> None:
    url = home.migrated()
    for number, kind in enumerate(sorted(KINDS)):
        database = KINDS[kind](url)
        seen: list[bool] = []

        def then(connection: Connection, name: str = f"user_{number}", seen: list[bool] = seen) -> None:
            seen.append(links.get(connection, name) is not None)

        items: list[Item] = [(event(f"user_{number}"), heard(f"user_{number}"))]
        await database.take(Deliveries(items, SINCE, NOW, then))
        await database.take(Deliveries([], SINCE, NOW, then))
        assert seen == [True, True]
        await database.close()
