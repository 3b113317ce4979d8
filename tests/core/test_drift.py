"""How both sides differ about one subject: every kind of finding but those about a user without a customer."""

from typing import Any

import pytest

from counterfoil.core.drift import in_step, keeper_of, needs_payments
from counterfoil.core.finding import Finding, Kind, Repair, SeenCustomer
from counterfoil.core.link import Deletion, Ended, Fields, Link, ParkReason, Ruling
from counterfoil.core.policy import LinkBack, OnDeletion

from .states import LONG_AGO, RECENT, customer, found, only, state, stranger, told, user
from .support import ADA, DAY, NOW, POLICY, SUBJECT, linked, replace

OFF = replace(POLICY, link_back=LinkBack.OFF)
PRIVATE = replace(POLICY, link_back=LinkBack.PRIVATE)


def test_who_is_in_step_is_not_found() -> None:
    assert found() == []
    assert found(link=linked()) == []
    # In Stripe's favour: what Clerk does not have is never blanked.
    more = replace(ADA, phone="+15550100", description="A friend", metadata={"plan": "pro"})
    assert found(customers=(customer(fields=more, live=1),)) == []


@pytest.mark.parametrize(
    ("of_user", "of_customer", "policy", "agree"),
    [
        ({}, {}, POLICY, True),
        ({"mapping_error": "ValueError: no"}, {}, POLICY, True),
        ({"fields": replace(ADA, name="Ada King")}, {}, POLICY, False),
        ({}, {"archived": True}, POLICY, False),
        ({"link_back": None}, {}, POLICY, False),
        ({"link_back": "cus_other"}, {}, POLICY, False),
        ({}, {}, PRIVATE, False),
        ({"link_back": None, "private_name": customer().customer_id}, {}, PRIVATE, True),
        # Nothing is found then either, and it takes a closer look.
        ({}, {}, OFF, False),
    ],
)
def test_who_is_in_step_is_told_at_a_glance(
    of_user: dict[str, Any], of_customer: dict[str, Any], policy: Any, agree: bool
) -> None:
    theirs, own = user(**of_user), customer(**of_customer)
    assert in_step(theirs, own, policy) is agree
    if agree:
        assert found(user=theirs, customers=(own,), policy=policy) == []


# What may be a change on its way.


@pytest.mark.parametrize(
    ("more", "young"),
    [
        ({}, False),
        ({"user": user(RECENT - 1, link_back=None)}, False),
        ({"user": user(RECENT, link_back=None)}, True),
        ({"customers": (customer(created=RECENT - 1),)}, False),
        ({"customers": (customer(created=RECENT),)}, True),
        ({"link": linked(dirty_at=NOW)}, True),
        ({"link": linked(dirty_at=None)}, False),
        ({"link": linked(dirty_at=NOW, parked=ParkReason.MISNAMED)}, False),
    ],
)
def test_what_is_minutes_old_or_worked_on_is_marked(more: dict[str, Any], young: bool) -> None:
    finding = only(**{"user": user(link_back=None), **more})
    assert (finding.kind, finding.recent) == (Kind.UNLINKED, young)


def test_a_finding_tells_the_version_that_was_read() -> None:
    assert only(user=user(LONG_AGO + 7, link_back=None)).version == LONG_AGO + 7
    assert only(user=None).version == 0


# Of a user who is gone.


def orphans(*customers: SeenCustomer, policy: Any = POLICY, **more: Any) -> list[Finding]:
    return found(policy, user=None, customers=customers, **more)


def test_each_customer_of_a_user_who_is_gone_is_an_orphan() -> None:
    first, second = orphans(customer(), customer("cus_2"))
    assert told(first) == ("orphan", "retire", SUBJECT, "cus_1")
    assert told(second) == ("orphan", "retire", SUBJECT, "cus_2")
    assert (first.retire, second.retire) == (("cus_1",), ("cus_2",))
    assert first.why == "its user is gone"
    assert (first.subscribed, first.evidence) == (
        0, {"created": LONG_AGO, "subscriptions": 0, "email": "ada@example.com"},
    )  # fmt: skip
    assert orphans(customer(archived=True)) == []
    assert [each.customer_id for each in orphans(customer(archived=True), customer("cus_2"))] == ["cus_2"]


@pytest.mark.parametrize(
    ("other", "more", "why"),
    [
        ({"live": 2}, {}, "its user is gone, and a customer of that user still has a live subscription"),
        ({"live": None}, {}, "its user is gone; the key may not read subscriptions"),
        (
            {},
            {"rivals": {"cus_1": (), "cus_2": ("user_2",)}},
            "its user is gone, and Clerk's metadata of another user names it",
        ),
    ],
)
def test_one_orphan_that_a_person_must_see_holds_all_of_its_user(
    other: dict[str, Any], more: dict[str, Any], why: str
) -> None:
    first, second = orphans(customer(), customer("cus_2", **other), **more)
    for each in (first, second):
        assert (each.repair, each.retire, each.why) == (None, (), why)
    assert (first.subscribed, second.subscribed) == (0, other.get("live") or 0)


WEEK = 7 * DAY
IN_GRACE: dict[str, Any] = {"deletion": Deletion.SIGNED, "fields": None, "deleted_at": RECENT - WEEK + 1}


@pytest.mark.parametrize(
    ("grace", "link", "waits"),
    [
        (WEEK, linked(**IN_GRACE), True),
        (WEEK, linked(**{**IN_GRACE, "deleted_at": RECENT - WEEK}), False),
        (0, linked(**IN_GRACE), False),
        (WEEK, linked(), False),
        (WEEK, None, False),
        (WEEK, linked(**IN_GRACE, ruling=Ruling.RELEASE), True),
        (WEEK, linked(**IN_GRACE, wanted=False), True),
        # A removal that a plan has begun: of a user whom we serve the usual rules deal with what it left.
        (WEEK, linked(**IN_GRACE, ruling=Ruling.PLANNED), True),
        (WEEK, linked(**IN_GRACE, ruling=Ruling.PLANNED, wanted=False), False),
        # Without a grace period it is found at once, also where the deletion is as young as this audit.
        (0, linked(**{**IN_GRACE, "deleted_at": NOW + DAY}), False),
    ],
)
def test_a_removal_that_waits_for_its_grace_period_is_no_drift(grace: int, link: Link | None, waits: bool) -> None:
    found = orphans(customer(), link=link, policy=replace(POLICY, deletion_grace=grace))
    assert bool(found) == (not waits)


def test_rivals_of_nothing_hold_nothing() -> None:
    (finding,) = orphans(customer(), rivals={"cus_1": ()})
    assert finding.repair is Repair.RETIRE


def test_a_user_who_cannot_be_read_is_there_and_for_a_person() -> None:
    finding = only(user=None, unread=True, customers=(customer(live=2), customer("cus_2", live=None)))
    assert told(finding) == ("mislinked", None, SUBJECT, None)
    assert finding.why == "what Clerk says of this user cannot be read, so that nothing was compared"
    assert (finding.retire, finding.subscribed) == ((), 2)
    assert [each["customer"] for each in finding.evidence["customers"]] == ["cus_1", "cus_2"]
    assert only(user=None, unread=True, customers=()).evidence == {"customers": []}


def test_the_unreadable_comes_before_the_subscribed() -> None:
    first, _ = orphans(customer(live=None), customer("cus_2", live=1))
    assert first.why == "its user is gone; the key may not read subscriptions"


@pytest.mark.parametrize(
    ("link", "kept"),
    [
        (None, False),
        (linked(), False),
        (linked(ended=Ended.KEPT), True),
        (linked(ended=Ended.CLOSING), False),
        (linked(ruling=Ruling.UNDO), True),
        (linked(ruling=Ruling.PLANNED), False),
    ],
)
def test_what_is_kept_on_purpose_is_no_orphan(link: Link | None, kept: bool) -> None:
    assert (orphans(customer(), link=link) == []) is kept


@pytest.mark.parametrize("wish", OnDeletion)
def test_where_customers_are_kept_none_is_an_orphan(wish: OnDeletion) -> None:
    policy = replace(POLICY, on_deletion=wish)
    assert (orphans(customer(), policy=policy) == []) is (wish is OnDeletion.KEEP)


# Several customers of one user.


@pytest.mark.parametrize(
    ("customers", "named", "keeper"),
    [
        ((), None, "all of them are archived"),
        ((customer("cus_1", live=None),), None, "cus_1"),
        ((customer("cus_1"), customer("cus_2", live=None)), None, "the key may not read subscriptions"),
        ((customer("cus_1", live=1), customer("cus_2", live=1)), None, "more than one has a live subscription"),
        ((customer("cus_1", paid=True), customer("cus_2", live=3, created=NOW)), "cus_1", "cus_2"),
        ((customer("cus_1", paid=True), customer("cus_2")), None, "the key may not read payments"),
        # Payments, then Clerk's word, then age; among equals of one second, the id.
        ((customer("cus_1", paid=False), customer("cus_2", paid=True, created=NOW)), "cus_1", "cus_2"),
        ((customer("cus_1", paid=True), customer("cus_2", paid=True, created=NOW)), "cus_2", "cus_2"),
        ((customer("cus_1", paid=False), customer("cus_2", paid=False, created=NOW)), "cus_2", "cus_2"),
        ((customer("cus_1", paid=False, created=NOW), customer("cus_2", paid=False)), None, "cus_2"),
        ((customer("cus_2", paid=False), customer("cus_1", paid=False)), None, "cus_1"),
        ((customer("cus_2", paid=False), customer("cus_1", paid=False)), "cus_7", "cus_1"),
        (
            (
                customer("cus_1", paid=False),
                customer("cus_2", paid=True, created=NOW),
                customer("cus_3", paid=True),
            ),
            "cus_1",
            "cus_3",
        ),
    ],
)
def test_who_stays_is_told_by_subscriptions_payments_clerk_and_age(
    customers: tuple[SeenCustomer, ...], named: str | None, keeper: str
) -> None:
    chosen = keeper_of(customers, named)
    assert (chosen if isinstance(chosen, str) else chosen.customer_id) == keeper


@pytest.mark.parametrize(
    ("customers", "needed"),
    [
        ((), False),
        ((customer(),), False),
        ((customer(), customer("cus_2")), True),
        ((customer(), customer("cus_2", archived=True)), False),
        ((customer(), customer("cus_2", live=1)), False),
        ((customer(live=None), customer("cus_2")), False),
        ((customer(), customer("cus_2"), customer("cus_3", live=4, archived=True)), True),
    ],
)
def test_payments_are_looked_at_only_where_they_alone_can_tell(
    customers: tuple[SeenCustomer, ...], needed: bool
) -> None:
    assert needs_payments(state(customers=customers)) is needed
    assert needs_payments(state(customers=customers, user=None)) is False


def duplicate(*customers: SeenCustomer, **more: Any) -> Finding:
    finding, *_ = found(customers=customers, **more)
    assert finding.kind is Kind.DUPLICATE
    return finding


def test_of_several_one_stays_and_the_others_go() -> None:
    three = (
        customer("cus_2", paid=False),
        customer("cus_1", paid=False, created=NOW),
        customer("cus_3", paid=False),
    )
    finding = duplicate(*three, user=user(link_back="cus_2"))
    assert told(finding) == ("duplicate", "retire", SUBJECT, "cus_2")
    assert (finding.retire, finding.named, finding.subscribed) == (("cus_1", "cus_3"), None, 0)
    assert [each["customer"] for each in finding.evidence["customers"]] == ["cus_2", "cus_1", "cus_3"]
    assert finding.evidence["customers"][1] == {
        "customer": "cus_1", "created": NOW, "subscriptions": 0, "paid": False, "email": "ada@example.com",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("customers", "named", "reason"),
    [
        ((customer("cus_1"), customer("cus_2", live=1)), None, "cus_2 stays: it has a live subscription"),
        ((customer("cus_1"), customer("cus_2", archived=True)), "cus_1", "cus_1 stays: the others are archived"),
        (
            (customer("cus_1", paid=True), customer("cus_2", paid=False)),
            "cus_2",
            "cus_1 stays: it has payments",
        ),
        (
            (customer("cus_1", paid=True), customer("cus_2", paid=True)),
            "cus_2",
            "cus_2 stays: Clerk's metadata names it",
        ),
        ((customer("cus_1", paid=True), customer("cus_2", paid=True)), None, "cus_1 stays: it is the oldest"),
        ((customer("cus_1", paid=False), customer("cus_2", paid=False)), None, "cus_1 stays: it is the oldest"),
        (
            (customer("cus_1", paid=False), customer("cus_2", paid=False)),
            "cus_1",
            "cus_1 stays: Clerk's metadata names it",
        ),
    ],
)
def test_the_reason_for_the_one_that_stays_is_told(
    customers: tuple[SeenCustomer, ...], named: str | None, reason: str
) -> None:
    finding = duplicate(*customers, user=user(link_back=named))
    assert finding.why == f"2 customers claim this user; {reason}"


@pytest.mark.parametrize(
    ("customers", "more", "why"),
    [
        ((customer(live=1), customer("cus_2", live=2)), {}, "more than one has a live subscription"),
        ((customer(archived=True), customer("cus_2", archived=True)), {}, "all of them are archived"),
        ((customer(), customer("cus_2")), {}, "the key may not read payments"),
        (
            (customer(), customer("cus_2", archived=True, live=1)),
            {},
            "an archived one may have a live subscription",
        ),
        (
            (customer(), customer("cus_2", archived=True, live=None)),
            {},
            "an archived one may have a live subscription",
        ),
        (
            (customer(live=1), customer("cus_2")),
            {"rivals": {"cus_2": ("user_2",)}},
            "Clerk's metadata of another user names one of them",
        ),
    ],
)
def test_where_no_rule_can_say_who_stays_a_person_must(
    customers: tuple[SeenCustomer, ...], more: dict[str, Any], why: str
) -> None:
    finding = only(customers=customers, **more)
    assert told(finding) == ("duplicate", None, SUBJECT, None)
    assert finding.why == f"2 customers claim this user; {why}"
    assert (finding.retire, finding.subscribed) == ((), sum(each.live or 0 for each in customers))
    assert len(finding.evidence["customers"]) == 2


def test_that_another_names_the_one_that_stays_is_no_reason_to_wait() -> None:
    finding = only(customers=(customer(live=1), customer("cus_2")), rivals={"cus_1": ("user_2",), "cus_2": ()})
    assert (finding.repair, finding.customer_id) == (Repair.RETIRE, "cus_1")


def test_where_clerk_names_one_that_goes_the_name_goes_with_it() -> None:
    finding = only(customers=(customer(), customer("cus_2", live=1)))
    assert (finding.customer_id, finding.retire, finding.named, finding.subscribed) == (
        "cus_2",
        ("cus_1",),
        "cus_1",
        1,
    )
    for policy in (OFF, PRIVATE):
        first = found(policy, customers=(customer(), customer("cus_2", live=1)))[0]
        assert first.named is None


def test_fields_and_name_of_the_one_that_stays_are_looked_at_too() -> None:
    old = customer("cus_2", live=1, fields=Fields(email="old@example.com", name="Ada"))
    kinds = [told(each) for each in found(customers=(customer(), old), user=user(link_back=None))]
    assert kinds == [
        ("duplicate", "retire", SUBJECT, "cus_2"),
        ("stale", "update", SUBJECT, "cus_2"),
        ("unlinked", "link", SUBJECT, "cus_2"),
    ]


def test_clerks_other_metadata_is_evidence_for_who_stays() -> None:
    pair = (customer("cus_1", paid=False), customer("cus_2", paid=False))
    finding = duplicate(*pair, user=user(link_back=None, private_name="cus_2"))
    assert finding.customer_id == "cus_2"


# Fields.


@pytest.mark.parametrize(
    ("carried", "why", "evidence"),
    [
        (
            Fields(email="old@example.com", name="Ada"),
            "email differs",
            {"email": {"clerk": "ada@example.com", "stripe": "old@example.com"}},
        ),
        (Fields(email="ada@example.com"), "name differs", {"name": {"clerk": "Ada", "stripe": None}}),
        (
            Fields(name="Old"),
            "email and name differ",
            {
                "email": {"clerk": "ada@example.com", "stripe": None},
                "name": {"clerk": "Ada", "stripe": "Old"},
            },
        ),
    ],
)
def test_fields_that_differ_are_told_side_by_side(carried: Fields, why: str, evidence: dict[str, Any]) -> None:
    finding = only(customers=(customer(fields=carried, live=2),))
    assert told(finding) == ("stale", "update", SUBJECT, "cus_1")
    assert (finding.why, finding.evidence, finding.fields, finding.subscribed) == (why, evidence, carried, 2)


def test_an_address_that_stripe_refused_and_a_function_that_failed_make_nothing_stale() -> None:
    other = (customer(fields=Fields(email="old@example.com", name="Ada")),)
    assert found(customers=other, link=linked(refused_email=ADA.email)) == []
    assert found(customers=other, user=user(mapping_error="KeyError: 'plan'")) == []
    assert only(customers=other, link=linked(refused_email="else@example.com")).kind is Kind.STALE


# What Clerk's metadata names.


@pytest.mark.parametrize(
    ("named", "there", "kind", "repair", "why"),
    [
        (None, None, "unlinked", "link", "Clerk's metadata names no customer"),
        (
            "premium",
            None,
            "foreign",
            None,
            "Clerk's metadata holds something else than a customer's id under our key",
        ),
        (
            "cus_9",
            None,
            "foreign",
            "link",
            "Clerk's metadata names a customer that is not there: deleted, or of another mode or account",
        ),
        ("cus_9", stranger(owner="user_2"), "foreign", "link", "Clerk's metadata names another user's customer"),
        (
            "cus_9",
            stranger(),
            "unlinked",
            "link",
            "Clerk's metadata names another customer than the one that names the user",
        ),
        (
            "cus_9",
            stranger(owner=SUBJECT, live=1),
            "unlinked",
            "link",
            "Clerk's metadata names another customer than the one that names the user",
        ),
        (
            "cus_9",
            stranger(live=2),
            "unlinked",
            None,
            "Clerk's metadata names a customer that nobody claims and that has a live subscription",
        ),
        (
            "cus_9",
            stranger(live=None),
            "unlinked",
            None,
            "Clerk's metadata names a customer that nobody claims and that has a live subscription",
        ),
    ],
)
def test_what_clerk_names_instead_of_the_customer(
    named: str | None, there: SeenCustomer | None, kind: str, repair: str | None, why: str
) -> None:
    finding = only(user=user(link_back=named), named=there, customers=(customer(live=1),))
    assert (told(finding), finding.why, finding.named) == ((kind, repair, SUBJECT, "cus_1"), why, named)
    strange = there.live or 0 if there is not None and there.owner is None else 0
    assert finding.subscribed == 1 + strange
    assert finding.evidence == ({"metadata": named, "customer": "cus_1"} if named is not None else {})


def test_the_metadata_that_counts_is_that_which_we_write() -> None:
    elsewhere = user(link_back="cus_1", private_name=None)
    assert found(user=elsewhere) == []
    assert told(only(PRIVATE, user=elsewhere)) == ("unlinked", "link", SUBJECT, "cus_1")
    assert found(PRIVATE, user=user(link_back=None, private_name="cus_1")) == []
    assert found(OFF, user=user(link_back=None)) == []
    assert found(OFF, user=user(link_back="premium")) == []


# Our own database, and our own mark.


def test_a_customer_that_is_archived_and_whose_user_is_there_is_looked_at_again() -> None:
    finding = only(customers=(customer(archived=True, live=3),))
    assert told(finding) == ("mislinked", "reconcile", SUBJECT, "cus_1")
    assert (finding.why, finding.subscribed) == ("the customer is archived, and its user is there", 3)
    assert finding.evidence["subscriptions"] == 3


def test_a_deletion_that_was_signed_and_is_not_true_is_for_a_person() -> None:
    link = linked(deletion=Deletion.SIGNED, deleted_at=NOW)
    finding = only(link=link, customers=(customer(), customer("cus_2")))
    assert told(finding) == ("mislinked", None, SUBJECT, None)
    assert finding.why == (
        "the database has this user's deletion, signed by Clerk, and the user is there: counterfoil retry"
    )
    assert found(link=linked(deletion=Deletion.ABSENT, deleted_at=NOW)) == []


def test_a_database_that_holds_another_customer_takes_the_one_that_names_the_user() -> None:
    finding = only(link=linked(customer_id="cus_7"), customers=(customer(live=1),))
    assert told(finding) == ("mislinked", "adopt", SUBJECT, "cus_1")
    assert finding.why == "the database holds cus_7, and cus_1 names the user"
    assert (finding.evidence, finding.subscribed) == ({"database": "cus_7"}, 1)
    assert found(link=linked(customer_id=None)) == []


def test_all_that_is_wrong_with_one_customer_is_told_each_under_a_key_of_its_own() -> None:
    wrong = customer(archived=True, fields=Fields(name="Old", email="ada@example.com"))
    told = found(customers=(wrong,), user=user(link_back=None), link=linked(customer_id="cus_7"))
    assert [str(each.kind) for each in told] == ["mislinked", "stale", "unlinked"]
    assert len({each.key for each in told}) == len(told)


@pytest.mark.parametrize(
    ("kind", "more", "fields"),
    [
        (Kind.STALE, {}, replace(ADA, name="Somebody Else")),
        (Kind.UNLINKED, {"user": user(link_back=None)}, ADA),
        (Kind.MISLINKED, {"link": linked(customer_id="cus_7")}, ADA),
        (Kind.MISLINKED, {"customers": (customer(archived=True, live=None),)}, ADA),
    ],
)
def test_subscriptions_that_the_key_may_not_read_are_not_counted(
    kind: Kind, more: dict[str, Any], fields: Fields
) -> None:
    finding = only(**{"customers": (customer(live=None, fields=fields),), **more})
    assert (finding.kind, finding.subscribed) == (kind, 0)
