"""What the user chose, as remembered from the last start: a changed setting reaches users who do not change."""

import structlog
from sqlalchemy import Connection

from counterfoil.core.policy import Policy
from counterfoil.engine.sweep import WALK_AFTER, WALK_ENDED
from counterfoil.store import environment, links
from counterfoil.store.database import Database

_POLICY, _VIEW = "policy", "view"

_log = structlog.get_logger(__name__)


async def take_up(database: Database, policy: Policy, view: str, now: int) -> None:
    """Compare what is chosen now with the last start's, and have looked at what may come out otherwise.

    Args:
        database: where it is remembered.
        policy: a change has every link planned anew.
        view: all that decides what is kept of a body, as a text; a change has the walk read every user anew.
        now: milliseconds.
    """
    chosen = {
        _POLICY: f"{policy.create} {policy.no_email} {policy.adopt} {policy.link_back}",
        _VIEW: view,
    }

    def job(connection: Connection) -> dict[str, bool]:
        known = environment.load(connection)
        changed = {name: known.get(name) not in {None, value} for name, value in chosen.items()}
        if changed[_POLICY]:
            links.reconsider(connection, now)
        if changed[_VIEW]:
            environment.put(connection, {WALK_AFTER: None, WALK_ENDED: None})
        environment.put(connection, chosen)
        return changed

    changed = await database.write(job)
    if any(changed.values()):
        _log.info("settings.changed", policy=changed[_POLICY], view=changed[_VIEW])
