"""A user without a customer: one is adopted by evidence, or made, or a person must see to it."""

from typing import Any

import msgspec
import pytest

from counterfoil.core.claims import as_link, named_anywhere, named_in
from counterfoil.core.finding import Finding, Kind, SeenCustomer
from counterfoil.core.link import Address, Fields, Link
from counterfoil.core.policy import Adopt, Create, LinkBack, NoEmail, Policy

from .states import BY_EMAIL, NEVER, candidate, customer, found, only, stranger, told, user
from .support import ADA, POLICY, SUBJECT, linked, replace

RIVAL = "user_2"


def without(policy: Policy = POLICY, link_back: str | None = None, **more: Any) -> list[Finding]:
    """What is found about a user whom no customer names."""
    chosen = more.pop("user", None) or user(link_back=link_back)
    return found(policy, user=chosen, customers=(), **more)


def the_one(policy: Policy = POLICY, link_back: str | None = None, **more: Any) -> Finding:
    (finding,) = without(policy, link_back, **more)
    return finding


# Where Clerk names a customer.


@pytest.mark.parametrize(
    ("place", "here", "anywhere"),
    [(LinkBack.PUBLIC, "cus_1", "cus_1"), (LinkBack.PRIVATE, "cus_2", "cus_2"), (LinkBack.OFF, None, "cus_1")],
)
def test_the_place_where_we_write_counts_first_and_the_other_is_evidence(
    place: LinkBack, here: str | None, anywhere: str
) -> None:
    policy = replace(POLICY, link_back=place)
    both = user(link_back="cus_1", private_name="cus_2")
    assert (named_in(both, policy), named_anywhere(both, policy)) == (here, anywhere)
    private = user(link_back=None, private_name="cus_2")
    assert named_anywhere(private, policy) == "cus_2"
    assert named_anywhere(user(link_back=None), policy) is None


def test_a_wanted_user_is_as_a_link_would_have_it() -> None:
    told_by = user(version=7, link_back="cus_1", private_name="cus_2", address=Address.VERIFIED, eligible=False)
    made = as_link(told_by)
    assert made == Link(
        subject_id=SUBJECT, source_version=7, fields=ADA, link_back="cus_1", private_name="cus_2",
        address=Address.VERIFIED, eligible=False, wanted=True,
    )  # fmt: skip
    known = as_link(told_by, linked(asked=True, refused_email="ada@example.com", customer_id="cus_7"))
    assert known == replace(made, asked=True, refused_email="ada@example.com")
    assert as_link(told_by, linked()).asked is False


# Missing.


def test_a_user_whom_nothing_ties_to_a_customer_gets_one() -> None:
    finding = the_one()
    assert told(finding) == ("missing", "create", SUBJECT, None)
    assert (finding.why, finding.evidence) == ("no customer names this user", {})


def test_what_the_database_holds_is_told_with_it() -> None:
    assert the_one(link=linked(customer_id="cus_7")).evidence == {"database": "cus_7"}
    assert the_one(link=linked(customer_id=None)).evidence == {}


@pytest.mark.parametrize(
    ("policy", "more", "owed"),
    [
        (POLICY, {"user": user(fields=Fields(name="Ada"), link_back=None)}, False),
        (
            replace(POLICY, no_email=NoEmail.CREATE),
            {"user": user(fields=Fields(name="Ada"), link_back=None)},
            True,
        ),
        (POLICY, {"user": user(link_back=None, eligible=False)}, False),
        (replace(POLICY, create=Create.ON_DEMAND), {}, False),
        (replace(POLICY, create=Create.ON_DEMAND), {"link": linked(asked=True, customer_id=None)}, True),
        (replace(POLICY, create=Create.ON_DEMAND), {"link": linked(customer_id=None)}, False),
        (
            replace(POLICY, create=Create.ON_VERIFIED_EMAIL),
            {"user": user(link_back=None, address=Address.UNVERIFIED)},
            False,
        ),
    ],
)
def test_only_who_is_to_have_a_customer_lacks_one(policy: Policy, more: dict[str, Any], owed: bool) -> None:
    assert [str(each.kind) for each in without(policy, **more)] == (["missing"] if owed else [])


def test_a_function_of_the_users_own_that_failed_is_for_a_person() -> None:
    finding = the_one(user=user(link_back=None, mapping_error="KeyError: 'plan'"))
    assert told(finding) == ("missing", None, SUBJECT, None)
    assert finding.why == "no customer names this user; KeyError: 'plan'"


@pytest.mark.parametrize(
    ("policy", "address", "held"),
    [
        (BY_EMAIL, Address.CARRIED, True),
        (BY_EMAIL, Address.VERIFIED, False),
        (POLICY, Address.CARRIED, False),
        (NEVER, Address.CARRIED, False),
    ],
)
def test_where_addresses_count_that_of_another_users_customer_holds_a_new_one(
    policy: Policy, address: Address, held: bool
) -> None:
    finding = the_one(policy, user=user(link_back=None, address=address), elsewhere=("cus_5", "cus_6"))
    assert told(finding) == ("missing", None if held else "create", SUBJECT, None)
    more = "; cus_5, cus_6 has the user's address, and names another user" if held else ""
    assert finding.why == f"no customer names this user{more}"


@pytest.mark.parametrize(("owner", "whose"), [(None, "nobody"), (RIVAL, "another user")])
def test_a_customer_that_the_link_holds_and_people_have_moved_is_for_a_person(
    owner: str | None, whose: str
) -> None:
    moved = the_one(link=linked(customer_id="cus_7"), held=customer("cus_7", owner=owner))
    assert told(moved) == ("missing", None, SUBJECT, None)
    assert moved.why == f"no customer names this user; the database holds cus_7, which is there and names {whose}"
    assert moved.evidence == {"database": "cus_7"}


# The mapping file.


def test_the_mapping_file_gives_a_customer_that_nobody_claims() -> None:
    mine = candidate(stranger(live=1, paid=True), named_by=(SUBJECT,))
    finding = the_one(mapped="cus_9", candidates=(candidate(stranger("cus_8")), mine))
    assert told(finding) == ("unclaimed", "adopt", SUBJECT, "cus_9")
    assert (finding.why, finding.subscribed) == ("the mapping file gives it to the user", 1)
    assert finding.evidence == {
        "by": "map", "created": mine.customer.created, "subscriptions": 1, "paid": True, "email": ADA.email,
    }  # fmt: skip
    assert the_one(NEVER, mapped="cus_9", candidates=(mine,)).repair is not None
    assert the_one(mapped="cus_9", candidates=(candidate(stranger(live=None)),)).subscribed == 0


def test_the_mapping_file_takes_nothing_that_is_another_users() -> None:
    missing = the_one(mapped="cus_9", candidates=(candidate(stranger("cus_8")),))
    assert told(missing) == ("unclaimed", None, SUBJECT, "cus_9")
    assert missing.why == "the mapping file names a customer that is not there, or that another user has"
    assert missing.evidence == {"by": "map"}
    named = the_one(mapped="cus_9", candidates=(candidate(named_by=(SUBJECT, "user_3", RIVAL)),))
    assert told(named) == ("unclaimed", None, SUBJECT, "cus_9")
    assert named.why == "the mapping file gives it to one user, and Clerk's metadata of another names it"
    assert named.evidence == {"by": "map", "users": [RIVAL, "user_3"]}


def test_the_mapping_file_goes_above_metadata_and_address_and_may_say_none() -> None:
    both = (candidate(stranger("cus_1")), candidate(stranger("cus_9")))
    assert (
        the_one(BY_EMAIL, "cus_1", mapped="cus_9", named=stranger("cus_1"), candidates=both).customer_id == "cus_9"
    )
    none = the_one(BY_EMAIL, "cus_1", mapped="", named=stranger("cus_1"), candidates=both)
    assert told(none) == ("missing", "create", SUBJECT, None)


def test_what_the_mapping_file_gives_to_one_user_is_no_other_users_by_its_address() -> None:
    given = msgspec.structs.replace(candidate(stranger("cus_8")), given_to=RIVAL)
    assert told(the_one(BY_EMAIL, candidates=(given,))) == ("missing", "create", SUBJECT, None)
    assert told(the_one(BY_EMAIL, candidates=(given, candidate()))) == ("unclaimed", "adopt", SUBJECT, "cus_9")


def test_what_the_mapping_file_gives_to_one_user_and_clerk_names_for_another_is_for_a_person() -> None:
    given = msgspec.structs.replace(candidate(named_by=(SUBJECT,)), given_to=RIVAL)
    finding = the_one(link_back="cus_9", named=stranger(live=3), candidates=(given,))
    assert told(finding) == ("unclaimed", None, None, "cus_9")
    assert finding.why == "the mapping file gives it to one user, and Clerk's metadata of another names it"
    assert finding.evidence == {
        "by": "map", "users": sorted([SUBJECT, RIVAL]), "created": given.customer.created, "subscriptions": 3,
        "email": ADA.email,
    }  # fmt: skip
    assert finding.subscribed == 3
    assert the_one(link_back="cus_9", named=stranger(live=None), candidates=(given,)).subscribed == 0


# Clerk's metadata.


def test_what_clerk_names_and_nobody_else_claims_is_adopted() -> None:
    finding = the_one(
        link_back="cus_9", named=stranger(live=2), candidates=(candidate(stranger(live=2), named_by=(SUBJECT,)),)
    )
    assert told(finding) == ("unclaimed", "adopt", SUBJECT, "cus_9")
    assert (finding.why, finding.subscribed) == ("Clerk's metadata names it, and nobody else claims it", 2)
    assert (finding.evidence["by"], finding.evidence["users"]) == ("clerk", [SUBJECT])
    assert finding.evidence["subscriptions"] == 2
    alone = the_one(link_back="cus_9", named=stranger(live=None))
    assert (alone.repair, alone.subscribed, alone.evidence["users"]) == ("adopt", 0, [])


def test_what_several_users_name_is_for_a_person_and_is_nobodys() -> None:
    claim = candidate(named_by=(SUBJECT, RIVAL))
    other = candidate(stranger("cus_8"), named_by=(SUBJECT,))
    finding = the_one(link_back="cus_9", named=stranger(), candidates=(other, claim))
    assert told(finding) == ("unclaimed", None, None, "cus_9")
    assert finding.why == "the metadata of several users names it"
    assert finding.evidence["users"] == [SUBJECT, RIVAL]


@pytest.mark.parametrize(
    ("named", "there", "why"),
    [
        ("premium", None, "Clerk's metadata holds something else than a customer's id under our key"),
        (
            "cus_9",
            stranger(owner=RIVAL, live=3),
            "Clerk's metadata names another user's customer, and the user has none",
        ),
        ("cus_9", stranger(archived=True), "Clerk's metadata names an archived customer"),
    ],
)
def test_what_clerk_names_and_may_not_be_taken_is_for_a_person(
    named: str, there: SeenCustomer | None, why: str
) -> None:
    finding = the_one(link_back=named, named=there)
    assert told(finding) == ("foreign", None, SUBJECT, None)
    assert (finding.why, finding.named, finding.evidence) == (why, named, {"metadata": named})
    assert finding.subscribed == (3 if there is not None and there.owner == RIVAL else 0)


def test_subscriptions_that_the_key_may_not_read_are_not_counted() -> None:
    assert the_one(link_back="cus_9", named=customer("cus_9", owner=RIVAL, live=None)).subscribed == 0


def test_a_dead_name_is_replaced_by_a_new_customers_unless_something_else_ties_the_user() -> None:
    finding = the_one(link_back="cus_9")
    assert told(finding) == ("foreign", "create", SUBJECT, None)
    assert finding.why == (
        "Clerk's metadata names a customer that is not there: deleted, or of another mode or account"
    )
    assert finding.named == "cus_9"
    for held in (
        the_one(link_back="cus_9", candidates=(candidate(stranger("cus_8")),)),
        the_one(user=user(link_back="cus_9", mapping_error="KeyError: 'plan'")),
        the_one(user=user(link_back="cus_9", eligible=False)),
    ):
        assert (told(held), held.why) == (("foreign", None, SUBJECT, None), finding.why)


def test_where_nothing_is_adopted_names_and_addresses_say_nothing() -> None:
    for finding in (
        the_one(NEVER, "cus_9", named=stranger()),
        the_one(NEVER, candidates=(candidate(),)),
        the_one(NEVER, "premium"),
    ):
        assert told(finding) == ("missing", "create", SUBJECT, None)


# What the database holds otherwise.


def test_what_the_database_holds_for_another_user_is_adopted_by_no_rule() -> None:
    held = msgspec.structs.replace(candidate(), held_by=RIVAL)
    by_email = the_one(BY_EMAIL, candidates=(held,))
    assert told(by_email) == ("unclaimed", None, SUBJECT, "cus_9")
    why = "it has the verified address of exactly one user, and is nobody's"
    assert by_email.why == f"{why}; the database holds it for {RIVAL}"
    named = msgspec.structs.replace(candidate(named_by=(SUBJECT,)), held_by=RIVAL)
    by_name = the_one(link_back="cus_9", named=stranger(), candidates=(named,))
    assert told(by_name) == ("unclaimed", None, SUBJECT, "cus_9")
    assert (
        by_name.why == f"Clerk's metadata names it, and nobody else claims it; the database holds it for {RIVAL}"
    )


def test_a_user_of_whom_the_database_holds_another_that_is_there_gets_none_by_a_rule() -> None:
    moved: dict[str, Any] = {"link": linked(customer_id="cus_7"), "held": customer("cus_7", owner=RIVAL)}
    finding = the_one(BY_EMAIL, candidates=(candidate(),), **moved)
    assert told(finding) == ("unclaimed", None, SUBJECT, "cus_9")
    assert finding.why.endswith("; the database holds cus_7 for the user, which is there and names somebody else")


def test_what_the_database_holds_of_others_keeps_no_customer_from_its_user() -> None:
    other = msgspec.structs.replace(candidate(stranger("cus_8"), named_by=(RIVAL,)), held_by=RIVAL)
    own: dict[str, Any] = {"link": linked(customer_id="cus_9"), "held": stranger()}
    for finding in (
        the_one(BY_EMAIL, candidates=(other, candidate())),
        the_one(BY_EMAIL, candidates=(candidate(),), **own),
    ):
        assert told(finding) == ("unclaimed", "adopt", SUBJECT, "cus_9")
        assert finding.why == "it has the verified address of exactly one user, and is nobody's"


def test_of_what_is_for_a_person_anyway_the_first_reason_is_told() -> None:
    held = msgspec.structs.replace(candidate(shared_with=(SUBJECT, RIVAL)), held_by=RIVAL)
    finding = the_one(BY_EMAIL, candidates=(held,))
    assert finding.repair is None
    assert finding.why == "several users have its address: taking it could hand one the other's billing"


# The address.


def test_a_verified_address_of_one_user_and_one_customer_is_enough_where_it_was_chosen() -> None:
    finding = the_one(BY_EMAIL, candidates=(candidate(stranger(live=1)),))
    assert told(finding) == ("unclaimed", "adopt", SUBJECT, "cus_9")
    assert finding.why == "it has the verified address of exactly one user, and is nobody's"
    assert (finding.evidence["by"], finding.evidence["users"]) == ("email", [SUBJECT])
    assert (finding.evidence["subscriptions"], finding.subscribed) == (1, 1)
    asked = the_one(POLICY, candidates=(candidate(stranger(live=None)),))
    assert told(asked) == ("unclaimed", None, SUBJECT, "cus_9")
    assert asked.why == (
        "it has the verified address of exactly one user, and is nobody's; "
        "COUNTERFOIL_ADOPT=verified_email, or a line in a mapping file, adopts it"
    )
    assert asked.subscribed == 0


_SHARED = "several users have its address: taking it could hand one the other's billing"
_SEVERAL = "several customers have the user's address"
_ELSEWHERE = "another user's customer has the same address"
_MARKED = "it was made by Counterfoil for somebody"
_UNVERIFIED = "the user's address is not verified: anybody could have signed up with it"


@pytest.mark.parametrize(
    ("claim", "more", "why", "whose"),
    [
        (candidate(shared_with=(SUBJECT, RIVAL)), {"elsewhere": ("cus_5",)}, _SHARED, None),
        (candidate(), {"elsewhere": ("cus_5",)}, _ELSEWHERE, SUBJECT),
        (candidate(stranger(mark="cf1-0")), {}, _MARKED, SUBJECT),
        (candidate(), {"user": user(link_back=None, address=Address.VERIFIED)}, _UNVERIFIED, SUBJECT),
        (candidate(), {"user": user(link_back=None, address=Address.UNVERIFIED)}, _UNVERIFIED, SUBJECT),
    ],
)
def test_an_address_that_is_shared_marked_or_unverified_takes_nothing(
    claim: Any, more: dict[str, Any], why: str, whose: str | None
) -> None:
    finding = the_one(BY_EMAIL, candidates=(claim,), **more)
    assert (told(finding), finding.why) == (("unclaimed", None, whose, "cus_9"), why)


def test_of_several_customers_with_the_address_none_is_taken() -> None:
    two = (candidate(stranger("cus_8")), candidate())
    for finding, customer_id in zip(without(BY_EMAIL, candidates=two), ("cus_8", "cus_9"), strict=True):
        assert told(finding) == ("unclaimed", None, SUBJECT, customer_id)
        assert finding.why == _SEVERAL
    # One that another user's metadata names is that user's: it neither counts nor is told.
    theirs = candidate(stranger("cus_8"), named_by=(RIVAL,))
    assert told(the_one(BY_EMAIL, candidates=(theirs, candidate()))) == ("unclaimed", "adopt", SUBJECT, "cus_9")
    assert told(the_one(BY_EMAIL, candidates=(theirs,))) == ("missing", "create", SUBJECT, None)


def test_who_is_to_have_no_customer_is_tied_to_none_by_an_address() -> None:
    assert without(BY_EMAIL, user=user(link_back=None, eligible=False), candidates=(candidate(),)) == []
    assert BY_EMAIL.adopt is Adopt.VERIFIED_EMAIL
    assert (
        only(BY_EMAIL, user=user(link_back=None), customers=(), candidates=(candidate(),)).kind is Kind.UNCLAIMED
    )
