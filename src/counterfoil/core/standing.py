"""How a link stands, for an app that asks for its customer."""

from enum import StrEnum

import msgspec

from counterfoil.core.link import Deletion, Link, ParkReason
from counterfoil.core.plan import why_without
from counterfoil.core.policy import Policy
from counterfoil.core.step import Without


class State(StrEnum):
    """What can be said of a user's customer."""

    LINKED = "linked"  # there is one
    PENDING = "pending"  # being worked on, or waiting for another try
    PARKED = "parked"  # a person must decide
    NONE = "none"  # settled without one
    DELETED = "deleted"  # the user is gone
    UNKNOWN = "unknown"  # no such user, or never heard of


class Standing(msgspec.Struct, frozen=True):
    """``reason`` says why, where the state is `PARKED` or `NONE`."""

    state: State
    customer_id: str | None = None
    reason: ParkReason | Without | None = None


UNKNOWN = Standing(State.UNKNOWN)
PENDING = Standing(State.PENDING)


def standing(link: Link | None, policy: Policy, now: int) -> Standing:
    """How a link stands.

    A link that was parked with its customer in hand still answers with it, for that customer is the user's;
    but not one that now carries another user's id. Nor one that is only reserved: somebody else may have it yet.
    """
    if link is None:
        return UNKNOWN
    if link.deletion is not Deletion.NONE:
        return Standing(State.DELETED)
    if link.customer_id is not None and not link.claiming and link.parked is not ParkReason.REASSIGNED:
        return Standing(State.LINKED, link.customer_id)
    if link.dirty_at is not None:
        return PENDING
    if link.parked is not None:
        return Standing(State.PARKED, None, link.parked)
    return Standing(State.NONE, None, why_without(link, policy, now))
