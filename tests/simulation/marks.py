"""Coverage marks: every fault, and every way back from one, that a run must have met."""

from collections import Counter

from counterfoil.core.finding import Kind
from tests.simulation.script import FAULTS, PEOPLE, TROUBLE

_CLERK = ("error_before", "error_after", "cut_before", "cut_after", "slow", "rate_limited", "locked")
_STRIPE = (*_CLERK, "stored_500", "late_500", "slow_effect")
_WHERE = ("write", "written", "send", "answered")
_STEPS = (
    "decision OpenIntent",
    "decision AdoptCustomer",
    "decision ReserveCustomer",
    "decision StartLook",
    "decision AbandonIntent",
    "decision DropCustomer",
    "decision DropSighting",
    "decision CountLook",
    "call ReadUser",
    "call ReadUser: no",
    "call InspectCustomer",
    "call InspectCustomer: gone",
    "call LookForCustomer",
    "call CreateCustomer",
    "call CreateCustomer: replayed",
    "call CreateCustomer: ReplayedFailure",
    "call CreateCustomer: ObjectLocked",
    "call CreateCustomer: ServerFailed",
    "call CreateCustomer: Unreachable",
    "call CreateCustomer: RateLimited",
    "call CreateCustomer: KeyRefused",
    "call CreateCustomer: Rejected",
    "call ClaimCustomer",
    "call UpdateCustomer",
    "call UpdateCustomer: NotFound",
    "call UpdateCustomer: Rejected",
    "call RemoveCustomer",
    "call WriteLinkBack",
    "call WriteLinkBack: NotFound",
    "result Settled",
    "result WaitUntil",
    "result Park reassigned",
    "result Park duplicate",
    "result Park foreign",
)
_APP = (
    *(f"an ensure was answered {status}" for status in (200, 202, 404, 409, 410, 503)),
    "an ensure was answered 409: no_email",
    "an app hung up",
    "an app's node died",
)
_AUDITOR = (
    *(f"finding: {kind}" for kind in Kind),
    *(f"an apply had {what}" for what in ("done", "skipped", "refused", "person", "before", "deleted")),
    "a plan was applied by a node",
    "a plan was applied by workers of its own",
    "a command was killed",
    "a command could not go on",
    "the last audit was clean",
)
_NEWS = (
    "a burst of sign-ups",
    "a delivery came twice",
    "deliveries came in another order",
    "news never came",
    "an outage of hours",
    "a process went on after a stall of more than its lease",
    "a process came back",
)
WANTED = frozenset(
    [
        *(f"clerk {kind}" for kind in _CLERK),
        *(f"stripe {kind}" for kind in _STRIPE),
        *(f"fault: {name}" for name in FAULTS),
        *(f"event: {name}" for name in (*PEOPLE, *TROUBLE, "sign up", "years of replay")),
        *(f"crash at {where}" for where in _WHERE),
        *(f"stall at {where}" for where in _WHERE),
        "unwritten at write",
        "unknown at written",
        "1 nodes",
        "2 nodes",
        "3 nodes",
        "a call hung",
        "a lease ran out",
        "a read lagged",
        "a replay after weeks",
        "a graceful stop",
        "a restored database",
        "an emptied database",
        "a sign-up that nobody told of",
        "the wrong environment was refused",
        "a delivery was answered 204",
        "a delivery was answered 503",
        "a delivery was answered None",
        *_STEPS,
        *_APP,
        *_AUDITOR,
        *_NEWS,
    ]
)


RARE = frozenset(
    {
        "a read lagged",
        "decision DropSighting",
        "decision StartLook",
        "result Park duplicate",
        "result Park foreign",
        "call WriteLinkBack: NotFound",
        "an outage of hours",
        "an app hung up",
        "an app's node died",
        "an ensure was answered 503",
        "an apply had before",
        "an apply had person",
        "an apply had refused",
        "an apply had skipped",
        "an apply had deleted",
        "finding: mislinked",
        "finding: missing",
        "finding: unclaimed",
    }
)
"""Met by a few seeds in a hundred, or in a thousand."""
MANY, A_THOUSAND = 100, 1_000


def missing(marks: Counter[str], seeds: int) -> list[str]:
    """What a run of so many seeds never met, though it should have; a shorter one need not meet anything."""
    if seeds < MANY:
        return []
    wanted = WANTED if seeds >= A_THOUSAND else WANTED - RARE
    return sorted(name for name in wanted if not marks[name])
