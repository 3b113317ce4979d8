"""Findings: what names one, and what a person is told of a customer."""

import pytest

from counterfoil.core.finding import Candidate, Finding, Kind, Repair, SeenCustomer, State, told
from counterfoil.core.link import Fields


@pytest.mark.parametrize("kind", Kind)
def test_a_finding_is_named_by_kind_user_and_customer_and_an_unclaimed_customer_by_itself(kind: Kind) -> None:
    whole = Finding(kind=kind, why="", subject_id="user_1", customer_id="cus_1")
    of_user = Finding(kind=kind, why="", subject_id="user_1")
    if kind is Kind.UNCLAIMED:
        # Whichever of several users it was met with, it is one finding.
        assert whole.key == Finding(kind=kind, why="", customer_id="cus_1").key == "unclaimed:cus_1"
    else:
        assert (whole.key, of_user.key) == (f"{kind}:user_1:cus_1", f"{kind}:user_1")
    assert Finding(kind=kind, why="else", subject_id="user_1", customer_id="cus_1", recent=True).key == whole.key


def test_the_key_is_in_plain_words() -> None:
    assert Finding(kind=Kind.STALE, why="", subject_id="user_1", customer_id="cus_1").key == "stale:user_1:cus_1"


@pytest.mark.parametrize(
    ("seen", "said"),
    [
        (SeenCustomer(customer_id="cus_1", created=5), {"created": 5, "subscriptions": 0}),
        (SeenCustomer(customer_id="cus_1", created=5, live=2), {"created": 5, "subscriptions": 2}),
        (SeenCustomer(customer_id="cus_1", created=5, live=None), {"created": 5, "subscriptions": None}),
        (
            SeenCustomer(
                customer_id="cus_1", created=5, paid=False, fields=Fields(email="a@example.com", name="A")
            ),
            {"created": 5, "subscriptions": 0, "paid": False, "email": "a@example.com"},
        ),
        (
            SeenCustomer(customer_id="cus_1", created=5, paid=True, fields=Fields(name="A")),
            {"created": 5, "subscriptions": 0, "paid": True},
        ),
    ],
)
def test_a_person_is_told_what_decides(seen: SeenCustomer, said: dict[str, object]) -> None:
    assert told(seen) == said


def test_what_plans_and_reports_say_keeps_its_words() -> None:
    """A plan that was written by one release is applied by another."""
    kinds = ["duplicate", "orphan", "missing", "foreign", "unlinked", "stale", "unclaimed", "mislinked"]
    assert [str(each) for each in Kind] == kinds
    assert [str(each) for each in Repair] == ["create", "adopt", "update", "link", "retire", "reconcile"]


def test_nothing_is_claimed_where_nothing_is_known() -> None:
    seen = SeenCustomer(customer_id="cus_1", created=5)
    assert (seen.owner, seen.mark, seen.archived, seen.fields, seen.live, seen.paid) == (
        None, None, False, Fields(), 0, None,
    )  # fmt: skip
    claim = Candidate(customer=seen)
    assert (claim.named_by, claim.shared_with, claim.given_to) == ((), (), None)
    bare = State(subject_id="user_1")
    assert (bare.user, bare.customers, bare.named, bare.candidates) == (None, (), None, ())
    assert not bare.unread
    assert (bare.rivals, bare.elsewhere, bare.mapped, bare.link) == ({}, (), None, None)
    finding = Finding(kind=Kind.STALE, why="")
    assert (finding.repair, finding.retire, finding.named, finding.fields) == (None, (), None, None)
    assert (finding.version, finding.subscribed, finding.recent, finding.evidence) == (0, 0, False, {})
