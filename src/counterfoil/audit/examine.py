"""A whole audit: read both sides into a work file, compare, look again."""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from counterfoil.audit.compare import Comparison, LinkPage
from counterfoil.audit.plan_file import About
from counterfoil.audit.progress import Progress
from counterfoil.audit.scan import Scan
from counterfoil.audit.workspace import Workspace
from counterfoil.billing.listing import CustomerLister
from counterfoil.clerk.api import ClerkApi
from counterfoil.core.claims import named_anywhere
from counterfoil.core.policy import HOUR, Policy

_LONGEST = 6 * HOUR
"""An audit that was killed is gone on with for so long: what was read earlier says too little about now."""


@dataclass(frozen=True, slots=True)
class Sides:
    """What an audit reads, and by which rules."""

    clerk: ClerkApi
    lister: CustomerLister
    policy: Policy
    about: About
    view: str
    """All settings that decide what is kept of a user."""
    links: LinkPage | None = None


async def examine(sides: Sides, space: Workspace, mapping: Sequence[tuple[str, str]], progress: Progress) -> About:
    """Fill ``space`` with findings.

    Args:
        sides: what is read.
        space: the work file; one that an audit of the same was killed over is gone on with.
        mapping: pairs of user and customer that a person gives.
        progress: is told how far it has come.

    Returns:
        What the findings are about, with the time at which the reading began.

    Raises:
        UpstreamError: a side cannot be read; what was read is kept.
    """
    about, policy = sides.about, sides.policy
    subject = {
        "environment": f"{about.clerk_instance} {about.stripe_account} {about.livemode}",
        "view": f"{about.metadata_key} {about.link_back} {sides.view}",
    }
    space.begin(subject, lambda user: named_anywhere(user, policy), about.at, _LONGEST)
    space.keep_mapping(mapping)
    await Scan(space, sides.clerk, sides.lister, progress).run()
    await Comparison(space, sides.clerk, sides.lister, policy, progress, sides.links).run()
    users, customers = space.counts()
    counts = {kind: count for kind, count, *_ in space.tally()}
    head = {"users": users, "customers": customers, "strangers": space.strangers(), **counts}
    return msgspec.structs.replace(about, at=int(space.meta()["began"]), counts=head)
