"""What the tests of drift and claims share: a user, customers, and what an audit says about them."""

from typing import Any

from counterfoil.core.drift import findings
from counterfoil.core.finding import Candidate, Finding, SeenCustomer, State
from counterfoil.core.link import Fields
from counterfoil.core.news import UserBody
from counterfoil.core.policy import HOUR, Adopt, Policy

from .support import ADA, DAY, NOW, POLICY, SINCE, SUBJECT, body, replace

LONG_AGO = SINCE - 10 * DAY
RECENT = NOW - HOUR
BY_EMAIL = replace(POLICY, adopt=Adopt.VERIFIED_EMAIL)
NEVER = replace(POLICY, adopt=Adopt.NEVER)


def user(version: int = LONG_AGO, fields: Fields = ADA, link_back: str | None = "cus_1", **more: Any) -> UserBody:
    """A user whose metadata names ``cus_1``."""
    return body(version, fields, link_back=link_back, **more)


def customer(customer_id: str = "cus_1", **more: Any) -> SeenCustomer:
    """A customer in step with that user, days old."""
    values: dict[str, Any] = {"created": LONG_AGO, "owner": SUBJECT, "fields": ADA, **more}
    return SeenCustomer(customer_id=customer_id, **values)


def stranger(customer_id: str = "cus_9", **more: Any) -> SeenCustomer:
    """A customer that nobody claims."""
    return customer(customer_id, **{"owner": None, **more})


def candidate(
    seen: SeenCustomer | None = None, *, named_by: tuple[str, ...] = (), shared_with: tuple[str, ...] = (SUBJECT,)
) -> Candidate:
    return Candidate(customer=seen if seen is not None else stranger(), named_by=named_by, shared_with=shared_with)


def state(**more: Any) -> State:
    """A user and one customer, in step; with ``customers=()`` a user who has none."""
    values: dict[str, Any] = {"subject_id": SUBJECT, "user": user(), "customers": (customer(),), **more}
    return State(**values)


def found(policy: Policy = POLICY, recent: int = RECENT, **more: Any) -> list[Finding]:
    """What an audit finds about `state`."""
    return findings(state(**more), policy, recent)


def only(policy: Policy = POLICY, recent: int = RECENT, **more: Any) -> Finding:
    """As `found`, where it is one."""
    (finding,) = found(policy, recent, **more)
    return finding


def told(finding: Finding) -> tuple[str, str | None, str | None, str | None]:
    """A finding in short: kind, repair, whose, which."""
    repair = None if finding.repair is None else str(finding.repair)
    return str(finding.kind), repair, finding.subject_id, finding.customer_id
