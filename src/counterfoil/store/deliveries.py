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

    def newcomers(self) -> tuple[dict[str, Link], list[Entry], list[Item]]:
        """The links of users who have signed up, if nothing is known of them; their entries; the other items."""
        made: dict[str, Link] = {}
        entries: list[Entry] = []
        others: list[Item] = []
        for item in self.items:
            news, entry = item
            link = None
            if isinstance(news, UserEvent) and news.created and news.subject_id not in made:
                link = fold_news(None, news, self.since, self.now)
            if link is None or entry is None:
                others.append(item)
            else:
                made[link.subject_id] = link
                entries.append(entry)
        return made, entries, others

    async def add_newcomers(self, pipeline: Pipeline) -> Self | None:
        """PostgreSQL: have those links made that are not there yet, in one round trip.

        Nothing is read first, for a user who has signed up is nearly always a new one.

        Returns:
            What is still to be written; ``None``: nothing.

        Raises:
            DatabaseUnavailable: nothing was kept, or nobody knows.
        """
        made, entries, others = self.newcomers()
        if made:
            added, _ = await pipeline.transact((links.adding(made), journal.appending(entries)))
            late = made.keys() - set(added)
            if late:
                # Their lines are written. Of several pieces of news about one the first was tried.
                others = self._of(late) + others
        return replace(self, items=others) if others or self.then is not None else None

    def _of(self, subject_ids: set[str]) -> list[Item]:
        """The first news about each, without its entry."""
        left = set(subject_ids)
        found: list[Item] = []
        for news, _ in self.items:
            if isinstance(news, UserEvent) and news.created and news.subject_id in left:
                left.remove(news.subject_id)
                found.append((news, None))
        return found
