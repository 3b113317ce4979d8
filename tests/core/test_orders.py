"""What a plan's approval has a link do: each customer is looked at again first, and what no longer fits lapses."""

from typing import Any

import pytest

from counterfoil.core.customer import HIDDEN, Customer, Subscription
from counterfoil.core.link import Deletion, Link, Order, ParkReason, Ruling, Sighting
from counterfoil.core.orders import plan_orders
from counterfoil.core.plan import plan
from counterfoil.core.step import (
    AdoptCustomer,
    DropSighting,
    InspectCustomer,
    LapseOrder,
    Park,
    ReadUser,
    RemoveCustomer,
    ReserveCustomer,
    RetireCustomer,
    Step,
    Turn,
)

from .support import NOW, POLICY, SUBJECT, WORLD, known, linked, replace, sighting

GONE: dict[str, Any] = {"deletion": Deletion.ABSENT, "deleted_at": NOW, "fields": None}


def ordered(order: Order, customer_id: str = "cus_9") -> Sighting:
    return replace(sighting(customer_id), order=order)


def seen(customer_id: str = "cus_9", **more: Any) -> Customer:
    """A customer of the subject's with nothing attached, looked at thoroughly."""
    values: dict[str, Any] = {"owner": SUBJECT, "attached": False, "subscriptions": (), **more}
    return Customer(customer_id=customer_id, **values)


def step(link: Link, order: Order | tuple[Sighting, ...], *inspected: Customer) -> Step | None:
    met = order if isinstance(order, tuple) else (ordered(order),)
    turn = Turn(link=link, sightings=met, inspected={each.customer_id: each for each in inspected})
    return plan_orders(turn, POLICY, NOW)


def test_without_an_order_there_is_nothing_to_do() -> None:
    assert step(linked(), ()) is None
    assert step(linked(), (sighting(),)) is None


@pytest.mark.parametrize(
    ("link", "customer", "done"),
    [
        (known(), None, InspectCustomer("cus_9")),
        (known(), seen(), AdoptCustomer("cus_9")),
        (known(), seen(archived=True), AdoptCustomer("cus_9", archived=True)),
        (linked(), seen(), AdoptCustomer("cus_9")),
        (known(), seen(owner=None), ReserveCustomer("cus_9")),
        (linked(), seen(owner=None), DropSighting("cus_9")),
        (known(), seen(owner="user_2"), DropSighting("cus_9")),
        (known(), seen(gone=True), DropSighting("cus_9")),
        (known(), seen(livemode=True), DropSighting("cus_9")),
        (known(fields=None), None, ReadUser()),
        (known(**GONE), None, DropSighting("cus_9")),
        (linked(customer_id="cus_9"), None, InspectCustomer("cus_9")),
        (linked(customer_id="cus_9"), seen(), DropSighting("cus_9")),
        (linked(customer_id="cus_9"), seen(owner=None), ReserveCustomer("cus_9")),
        (linked(customer_id="cus_9"), seen(owner="user_2"), DropSighting("cus_9")),
    ],
)
def test_an_adoption(link: Link, customer: Customer | None, done: Step) -> None:
    assert step(link, Order.ADOPT, *filter(None, [customer])) == done


@pytest.mark.parametrize(
    ("link", "customer", "done"),
    [
        (known(), None, InspectCustomer("cus_9")),
        (known(), seen(), AdoptCustomer("cus_9")),
        (known(), seen(owner=None), DropSighting("cus_9")),
        (known(), seen(owner="user_2"), DropSighting("cus_9")),
        (linked(), seen(), AdoptCustomer("cus_9")),
        (linked(), seen(owner=None), DropSighting("cus_9")),
        (linked(customer_id="cus_9"), seen(), DropSighting("cus_9")),
        (linked(customer_id="cus_9"), seen(owner=None), DropSighting("cus_9")),
        (known(fields=None), None, ReadUser()),
        (known(**GONE), None, DropSighting("cus_9")),
    ],
)
def test_the_one_of_several_that_stays_is_taken_only_while_it_names_the_user(
    link: Link, customer: Customer | None, done: Step
) -> None:
    assert step(link, Order.KEEP, *filter(None, [customer])) == done


@pytest.mark.parametrize("stays", [Order.ADOPT, Order.KEEP])
def test_the_one_that_stays_is_taken_before_any_other_goes(stays: Order) -> None:
    both = (ordered(Order.DELETE, "cus_8"), sighting("cus_7"), ordered(stays))
    assert step(linked(), both) == InspectCustomer("cus_9")
    assert step(linked(), both, seen(), seen("cus_8")) == AdoptCustomer("cus_9")


OWN = seen("cus_1", attached=None, subscriptions=None)
THOROUGHLY = InspectCustomer("cus_9", thoroughly=True, subscriptions=True)


@pytest.mark.parametrize("order", [Order.ARCHIVE, Order.DELETE])
def test_of_a_live_user_no_customer_goes_before_the_links_own_is_known_to_be_there(order: Order) -> None:
    assert step(linked(), order) == InspectCustomer("cus_1")
    assert step(linked(), order, OWN) == THOROUGHLY
    for own in (seen("cus_1", gone=True), seen("cus_1", owner="user_2"), seen("cus_1", owner=None)):
        assert step(linked(), order, own, seen()) == LapseOrder("cus_9")
    assert step(known(), order, seen()) == LapseOrder("cus_9")
    assert step(linked(customer_id="cus_9"), order, seen()) == LapseOrder("cus_9")


@pytest.mark.parametrize("order", [Order.ARCHIVE, Order.DELETE])
@pytest.mark.parametrize(
    "link", [linked(), known(**GONE), linked(customer_id="cus_9", **GONE)], ids=["live", "gone", "gone, and held"]
)
def test_a_customer_goes_only_after_a_thorough_look(link: Link, order: Order) -> None:
    for partly in (seen(attached=None), seen(subscriptions=None)):
        assert step(link, order, OWN, partly) == THOROUGHLY
    assert step(link, order, OWN, seen(gone=True, attached=None, subscriptions=None)) == DropSighting("cus_9")
    for owner in ("user_2", None):
        assert step(link, order, OWN, seen(owner=owner)) == DropSighting("cus_9")
    assert step(link, order, OWN, seen(livemode=True)) == Park(ParkReason.WRONG_MODE, "cus_9")


@pytest.mark.parametrize("order", [Order.ARCHIVE, Order.DELETE])
def test_what_a_person_has_called_off_does_not_go(order: Order) -> None:
    called_off = known(**GONE, ruling=Ruling.UNDO)
    assert step(called_off, order) == step(called_off, order, seen()) == LapseOrder("cus_9")
    for ruling in (Ruling.NONE, Ruling.PLANNED, Ruling.RELEASE):
        assert step(known(**GONE, ruling=ruling), order) == THOROUGHLY


@pytest.mark.parametrize("status", ["active", "past_due", HIDDEN])
@pytest.mark.parametrize("order", [Order.ARCHIVE, Order.DELETE])
def test_one_with_a_live_subscription_never_goes(order: Order, status: str) -> None:
    billed = seen(subscriptions=(Subscription(subscription_id="sub_1", status=status),))
    assert step(linked(), order, OWN, billed) == LapseOrder("cus_9")
    assert step(known(**GONE), order, billed) == Park(ParkReason.SUBSCRIBED, "cus_9")


def test_what_goes_is_deleted_where_that_was_approved_and_nothing_is_attached_and_archived_otherwise() -> None:
    over = (Subscription(subscription_id="sub_1", status="canceled"),)
    for link in (linked(), known(**GONE)):
        assert step(link, Order.DELETE, OWN, seen(subscriptions=over)) == RemoveCustomer("cus_9")
        assert step(link, Order.DELETE, OWN, seen(attached=True)) == RetireCustomer("cus_9", NOW)
        for attached in (True, False):
            assert step(link, Order.ARCHIVE, OWN, seen(attached=attached)) == RetireCustomer("cus_9", NOW)


def test_the_deletion_breaker_holds_nothing_of_it() -> None:
    held = replace(WORLD, deletions_held=True)
    for order, done in ((Order.DELETE, RemoveCustomer("cus_9")), (Order.ARCHIVE, RetireCustomer("cus_9", NOW))):
        turn = Turn(link=known(**GONE), sightings=(ordered(order),), inspected={"cus_9": seen()})
        assert plan(turn, POLICY, held, NOW) == done
