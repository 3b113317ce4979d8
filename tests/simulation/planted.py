"""Bugs, planted one at a time: a simulation that does not find them proves nothing.

Each replaces one piece of behaviour by a worse copy of it while its block lasts.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any
from unittest.mock import patch

import msgspec
from sqlalchemy import text

from counterfoil.core import fold
from counterfoil.core.link import Deletion
from counterfoil.engine import carry_out, catch_up, intake, worker
from counterfoil.errors import IntakeFull
from counterfoil.store import links
from counterfoil.store.rows import COLUMNS, WORKER_COLUMNS

_replace = msgspec.structs.replace


def no_commit_of_the_intent() -> Any:
    """The intent is only remembered by the process."""

    def forgetful(connection: Any, link: Any) -> Any:
        kept = links.save(connection, _replace(link, intent_key=None, intent_params=None, intent_at=None))
        return None if kept is None else _replace(link, revision=kept.revision, lease=kept.lease)

    return patch.object(links, "open_intent", forgetful)


def a_new_key_on_retry() -> Any:
    """Every try is sent under a key of its own."""
    real = carry_out.carry_out
    tries = 0

    async def fresh(context: Any, now: Any, step: Any, task: Any) -> Any:
        nonlocal tries
        if type(step).__name__ == "CreateCustomer" and now.link.attempts:
            tries += 1
            step = _replace(step, key=f"{step.key}-{tries}")
        return await real(context, now, step, task)

    return patch.object(worker, "carry_out", fresh)


def fold_without_the_version_guard() -> Any:
    """The last event wins, however old it is."""
    real = fold._fold_event

    def last_wins(link: Any, event: Any, since: int, now: int) -> Any:
        return real(_replace(link, source_version=min(link.source_version, event.body.version)), event, since, now)

    return patch.object(fold, "_fold_event", last_wins)


def settle_without_the_lease_check() -> Any:
    """Whoever ends a turn writes its end, whoever holds the link by now."""
    release, save = (text(str(each).replace(" AND lease = :lease", "")) for each in (links._RELEASE, links._SAVE))
    return patch.multiple(links, _RELEASE=release, _SAVE=save)


def answer_before_commit() -> Any:
    """A delivery is answered while its news is still in memory."""
    real = intake.Intake.take

    def eager(self: Any, item: Any, tell: Callable[[bool], None]) -> None:
        with suppress(IntakeFull):
            real(self, item, lambda _: None)
        tell(True)

    return patch.object(intake.Intake, "take", eager)


def no_catch_up_before_the_first_create() -> Any:
    """Work begins at once."""

    async def at_once(self: Any) -> None:
        self.complete = True

    return patch.object(catch_up.CatchUp, "first", at_once)


def the_worker_writes_intakes_columns() -> Any:
    """A turn writes back the whole row as it saw it."""
    mine = tuple(name for name in COLUMNS[1:] if name not in {"due_at", "dirty_at", "lane", "lease", "held"})
    whole = text(
        f"UPDATE link_rows SET {', '.join(f'{name} = :{name}' for name in mine)}"
        f" WHERE subject_id = :subject_id AND lease = :lease RETURNING {', '.join(COLUMNS)}"
    )
    assert set(WORKER_COLUMNS) < set(mine)
    return patch.object(links, "_SAVE", whole)


def tombstones_are_ignored() -> Any:
    """An event about a deleted user makes it live again."""
    real = fold._fold_event

    def risen(link: Any, event: Any, since: int, now: int) -> Any:
        return real(_replace(link, deletion=Deletion.NONE, deleted_at=None), event, since, now)

    return patch.object(fold, "_fold_event", risen)


PLANTED: dict[str, Callable[[], Any]] = {
    each.__name__: each
    for each in (
        no_commit_of_the_intent,
        a_new_key_on_retry,
        fold_without_the_version_guard,
        settle_without_the_lease_check,
        answer_before_commit,
        no_catch_up_before_the_first_create,
        the_worker_writes_intakes_columns,
        tombstones_are_ignored,
    )
}


@contextmanager
def planted(name: str) -> Iterator[None]:
    """The product with this bug in it."""
    with PLANTED[name]():
        yield
