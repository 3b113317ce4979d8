"""How a link stands, for an app that asks."""

import msgspec
import pytest

from counterfoil.core.link import Deletion, Fields, Link, ParkReason
from counterfoil.core.policy import Policy
from counterfoil.core.standing import PENDING, UNKNOWN, Standing, State, standing
from counterfoil.core.step import Without
from counterfoil.core.words import PARKED, WITHOUT

NOW = 1_790_000_000_000
POLICY = Policy(environment="e", since=NOW - 1_000, livemode=False)
SETTLED = Link(
    subject_id="user_a", revision=1, source_version=NOW, fields=Fields(email="a@example.com"), wanted=True
)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"customer_id": "cus_1"}, Standing(State.LINKED, "cus_1")),
        ({"customer_id": "cus_1", "dirty_at": NOW}, Standing(State.LINKED, "cus_1")),
        ({"customer_id": "cus_1", "parked": ParkReason.MISNAMED}, Standing(State.LINKED, "cus_1")),
        (
            {"customer_id": "cus_1", "parked": ParkReason.REASSIGNED},
            Standing(State.PARKED, None, ParkReason.REASSIGNED),
        ),
        ({"customer_id": "cus_1", "parked": ParkReason.REASSIGNED, "dirty_at": NOW}, PENDING),
        ({"customer_id": "cus_1", "claiming": True, "dirty_at": NOW}, PENDING),
        ({"customer_id": "cus_1", "deletion": Deletion.SIGNED}, Standing(State.DELETED)),
        ({"deletion": Deletion.ABSENT, "dirty_at": NOW}, Standing(State.DELETED)),
        ({"dirty_at": NOW}, PENDING),
        ({"parked": ParkReason.REJECTED}, Standing(State.PARKED, None, ParkReason.REJECTED)),
        ({"parked": ParkReason.REJECTED, "dirty_at": NOW}, PENDING),
        ({"fields": Fields()}, Standing(State.NONE, None, Without.NO_EMAIL)),
        ({"wanted": False}, Standing(State.NONE, None, Without.OLDER)),
        ({"wanted": False, "fields": None}, Standing(State.NONE, None, Without.UNREAD)),
        ({}, Standing(State.NONE, None, None)),
    ],
)
def test_a_link_stands_as_its_row_says(changes: dict[str, object], expected: Standing) -> None:
    assert standing(msgspec.structs.replace(SETTLED, **changes), POLICY, NOW) == expected


def test_what_was_never_heard_of_is_unknown() -> None:
    assert standing(None, POLICY, NOW) == UNKNOWN


def test_the_reason_is_known_too_while_a_later_look_is_to_come() -> None:
    link = msgspec.structs.replace(SETTLED, fields=Fields(), generation=1, abandoned_at=NOW, due_at=NOW + 1)
    assert standing(link, POLICY, NOW).reason is Without.NO_EMAIL


def test_there_are_words_for_every_reason() -> None:
    assert set(PARKED) == set(ParkReason)
    assert set(WITHOUT) == set(Without)
