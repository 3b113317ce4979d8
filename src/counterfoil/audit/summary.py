"""What an audit found, in short: counts, and the worst of it."""

from typing import Any

import msgspec

from counterfoil.audit.plan_file import About
from counterfoil.audit.workspace import Workspace
from counterfoil.core.finding import Finding

WORST = 10
MEANING = {
    "duplicate": "several customers claim one user",
    "orphan": "a customer whose user is gone",
    "missing": "a user without a customer",
    "foreign": "Clerk's metadata names a customer that is not the user's",
    "unlinked": "Clerk's metadata does not name the user's customer",
    "mislinked": "our database, or our own mark, says something else",
    "unclaimed": "a customer without a user id, and something ties it to a user",
    "stale": "email, name or the like differ",
}
"""Each kind of finding, in plain words."""


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """Findings of one kind. ``person``: without a repair; ``recent``: may be changes on their way."""

    kind: str
    count: int
    person: int
    recent: int
    subscribed: int


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """All in short. ``strangers``: customers that name no user."""

    about: About
    users: int
    customers: int
    strangers: int
    rows: tuple[Row, ...]
    worst: tuple[Finding, ...]
    unheeded: tuple[str, ...] = ()
    """Users in the mapping file of whom it says nothing that could be done."""

    @property
    def total(self) -> int:
        return sum(row.count for row in self.rows)

    @property
    def clean(self) -> bool:
        """Nothing is wrong, but what may be a change on its way."""
        return all(row.count == row.recent for row in self.rows)

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {"clean": self.clean, "findings": self.total, **msgspec.to_builtins(self)}


def summarise(space: Workspace, about: About) -> Summary:
    """The work file in short."""
    return Summary(
        about=about,
        users=about.counts.get("users", 0),
        customers=about.counts.get("customers", 0),
        strangers=about.counts.get("strangers", 0),
        rows=tuple(
            Row(kind=kind, count=count, person=person, recent=recent, subscribed=subscribed)
            for kind, count, person, recent, subscribed in space.tally()
        ),
        worst=tuple(space.findings(WORST)),
        unheeded=tuple(space.unheeded()),
    )
