"""What a batch of deliveries does to the database."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

from sqlalchemy import Connection

from counterfoil.core.fold import fold_news
from counterfoil.core.link import Link
from counterfoil.core.news import News, UserEvent
from counterfoil.store import journal, links
from counterfoil.store.engine import Job
from counterfoil.store.journal import Entry
from counterfoil.store.pipeline import Pipeline

Item = tuple[News | None, Entry | None]
"""News, where there is any, and its line in the journal, where that is still to be written."""


@dataclass(frozen=True, slots=True)
class Deliveries:
    """A batch, in the order in which it was taken."""

    items: Sequence[Item]
    since: int
    """The first start, milliseconds."""
    now: int
    """Milliseconds."""
    then: Job[Any] | None = None
    """What else belongs into their transaction."""

    def write(self, connection: Connection) -> None:
        """All of it, inside a transaction."""
        links.fold_batch(connection, [news for news, _ in self.items if news is not None], self.since, self.now)
        journal.append(connection, [entry for _, entry in self.items if entry is not None])
        if self.then is not None:
            self.then(connection)

    async def send_newcomers(self, pipeline: Pipeline) -> Self | None:
        """PostgreSQL: write what concerns newcomers, in one round trip.

        Nothing is read first, for a user who has signed up is nearly always a new one.

        Returns:
            What is still to be written; ``None``: nothing.

        Raises:
            DatabaseUnavailable: nothing was kept, or nobody knows.
        """
        made: dict[str, Link] = {}
        entries: list[Entry] = []
        tried: list[Item] = []
        left: list[Item] = []
        for item in self.items:
            news, entry = item
            if entry is None or not isinstance(news, UserEvent) or not news.created or news.subject_id in made:
                left.append(item)
            elif (link := fold_news(None, news, self.since, self.now)) is not None:
                made[link.subject_id] = link
                entries.append(entry)
                tried.append((news, None))
        if made:
            added, _ = await pipeline.transact((links.adding(made), journal.appending(entries)))
            if added < len(made):
                # Some were there. All lines are written; of those who were new the news is folded twice.
                left = tried + left
        return replace(self, items=left) if left or self.then is not None else None
