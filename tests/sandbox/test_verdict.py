from __future__ import annotations

from counterfoil.sandbox import Rules, Sandbox

from .support import NOW


def test_nothing_at_all_is_clean(sandbox: Sandbox) -> None:
    assert sandbox.verdict().clean


def test_a_linked_pair_is_clean_and_came_without_events(sandbox: Sandbox) -> None:
    sandbox.add_pair(NOW, email="a@b.c", first_name="A", last_name="B")
    verdict = sandbox.verdict()
    assert verdict.clean
    assert (verdict.users, verdict.eligible, verdict.owned) == (1, 1, 1)
    assert sandbox.svix.published == 0


def test_a_user_with_an_email_and_no_customer_is_missing_one(sandbox: Sandbox) -> None:
    user_id = sandbox.clerk.create_user(NOW, email="a@b.c")
    sandbox.clerk.create_user(NOW)
    assert sandbox.verdict().missing == (user_id,)
    assert len(sandbox.verdict(rules=Rules(eligible=lambda user: True)).missing) == 2


def test_two_customers_of_one_user_are_duplicates(sandbox: Sandbox) -> None:
    user_id, first = sandbox.add_pair(NOW, email="a@b.c")
    second = sandbox.stripe.create_customer(NOW, metadata={"clerkUserId": user_id})
    assert sandbox.verdict().duplicates == {user_id: (first, second)}
    sandbox.stripe.delete_customer(NOW, second)
    assert sandbox.verdict().clean


def test_the_customer_of_a_deleted_user_is_an_orphan_unless_archived(sandbox: Sandbox) -> None:
    user_id, customer = sandbox.add_pair(NOW, email="a@b.c")
    sandbox.clerk.delete_user(NOW, user_id)
    assert sandbox.verdict().orphans == (customer,)
    sandbox.stripe.edit_customer(NOW, customer, metadata={"archivedAt": "1"})
    verdict = sandbox.verdict(rules=Rules(archived_key="archivedAt"))
    assert verdict.clean
    assert verdict.archived == (customer,)


def test_an_archive_is_wrong_while_its_user_is_there_or_something_still_bills(sandbox: Sandbox) -> None:
    user_id, customer = sandbox.add_pair(NOW, email="a@b.c")
    rules = Rules(archived_key="archivedAt")
    sandbox.stripe.edit_customer(NOW, customer, metadata={"archivedAt": "1"})
    assert sandbox.verdict(rules=rules).wrong_archives == (customer,)
    sandbox.clerk.delete_user(NOW, user_id)
    subscription = sandbox.stripe.add_subscription(NOW, customer)
    assert sandbox.verdict(rules=rules).wrong_archives == (customer,)
    sandbox.stripe.cancel_subscription(NOW, subscription)
    assert sandbox.verdict(rules=rules).archived == (customer,)


def test_a_customer_of_a_deleted_user_may_be_kept_or_held_while_it_is_subscribed(sandbox: Sandbox) -> None:
    user_id, customer = sandbox.add_pair(NOW, email="a@b.c")
    sandbox.clerk.delete_user(NOW, user_id)
    kept = sandbox.verdict(rules=Rules(keep=True))
    assert (kept.clean, kept.kept) == (True, (customer,))
    hold = Rules(hold_subscribed=True)
    assert sandbox.verdict(rules=hold).orphans == (customer,)
    sandbox.stripe.add_subscription(NOW, customer)
    assert sandbox.verdict(rules=hold).kept == (customer,)


def test_somebody_elses_customer_is_none_of_our_business(sandbox: Sandbox) -> None:
    sandbox.stripe.create_customer(NOW, email="a@b.c", metadata={"shop": "other"})
    verdict = sandbox.verdict()
    assert verdict.clean
    assert (verdict.customers, verdict.owned) == (1, 0)


def test_a_link_back_to_anything_else_is_wrong(sandbox: Sandbox) -> None:
    user_id, customer = sandbox.add_pair(NOW, email="a@b.c")
    sandbox.clerk.set_public_metadata(NOW, user_id, {"stripeCustomerId": "cus_other"})
    assert sandbox.verdict().wrong_links == (user_id,)
    assert sandbox.verdict(rules=Rules(link_back=None)).clean
    sandbox.clerk.set_private_metadata(NOW, user_id, {"stripeCustomerId": customer})
    assert sandbox.verdict(rules=Rules(link_back="private")).clean


def test_fields_that_differ_are_named(sandbox: Sandbox) -> None:
    user_id, _ = sandbox.add_pair(NOW, email="a@b.c", first_name="A", last_name="B")
    sandbox.clerk.change_name(NOW, user_id, "A", None)
    sandbox.clerk.change_email(NOW, user_id, "new@b.c")
    wrong = sandbox.verdict().wrong_fields
    assert [(w.field, w.wanted, w.found) for w in wrong] == [
        ("email", "new@b.c", "a@b.c"),
        ("name", "A", "A B"),
    ]


def test_what_clerk_lacks_or_stripe_refuses_is_not_compared(sandbox: Sandbox) -> None:
    first, _ = sandbox.add_pair(NOW, email="a@b.c", first_name="A")
    second, _ = sandbox.add_pair(NOW, email="b@b.c")
    sandbox.clerk.change_name(NOW, first, None, None)
    sandbox.clerk.change_email(NOW, second, "x@y.invalid-for-stripe")
    assert sandbox.verdict().clean


def test_a_long_name_is_expected_cut(sandbox: Sandbox) -> None:
    user_id, customer = sandbox.add_pair(NOW, email="a@b.c")
    sandbox.clerk.change_name(NOW, user_id, "n" * 300, None)
    sandbox.stripe.edit_customer(NOW, customer, name="n" * 256)
    assert sandbox.verdict().clean


def test_a_user_who_is_barred_must_have_no_customer(sandbox: Sandbox) -> None:
    user_id, _ = sandbox.add_pair(NOW, email="a@b.c")
    sandbox.clerk.create_user(NOW, email="b@b.c", first_name="B")
    rules = Rules(eligible=lambda user: False, barred=lambda user: user.email == "a@b.c")
    verdict = sandbox.verdict(rules=rules)
    assert not verdict.clean
    assert verdict.unwanted == (user_id,)
    assert verdict.as_json()["unwanted"] == [user_id]


def test_other_fields_are_compared_as_the_rules_say(sandbox: Sandbox) -> None:
    user_id, customer = sandbox.add_pair(NOW, email="a@b.c", phone="+15555550100")
    sandbox.stripe.edit_customer(NOW, customer, email="billing@b.c", metadata={"plan": "pro"})
    rules = Rules(expected=lambda user: {"phone": user.phone or "", "metadata[plan]": "free"})
    wrong = sandbox.verdict(rules=rules).wrong_fields
    assert [(w.user, w.field, w.wanted, w.found) for w in wrong] == [
        (user_id, "phone", "+15555550100", None),
        (user_id, "metadata[plan]", "free", "pro"),
    ]
