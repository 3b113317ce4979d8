"""Two bodies of one version that differ: the same one wins on every node, and a read has the last word."""

from typing import Any

import pytest

from counterfoil.core.link import Address, Doubt, Fields
from counterfoil.core.policy import HOUR

from .support import BOB, NOW, body, essence, event, fold, kept, known, read

PLAIN = Fields(email="ada@example.com", name="Ada")


def fields(**more: Any) -> dict[str, Any]:
    return {"fields": Fields(email="ada@example.com", name="Ada", **more)}


@pytest.mark.parametrize(
    ("lesser", "greater"),
    [
        ({"fields": Fields(name="Ada"), "address": Address.CARRIED}, {"fields": PLAIN}),
        ({"fields": PLAIN}, {"fields": Fields(email="bob@example.com", name="Ada")}),
        ({"fields": Fields(email="ada@example.com")}, {"fields": PLAIN}),
        ({"fields": PLAIN}, {"fields": Fields(email="ada@example.com", name="Bob")}),
        ({}, {"link_back": "cus_1"}),
        ({"link_back": "cus_1"}, {"link_back": "cus_2"}),
        ({}, {"private_name": "cus_1"}),
        ({"private_name": "cus_1"}, {"private_name": "cus_2"}),
        (fields(), fields(phone="+1")),
        (fields(phone="+1"), fields(phone="+2")),
        (fields(), fields(description="a")),
        (fields(description="a"), fields(description="b")),
        (fields(), fields(metadata={"plan": "a"})),
        (fields(metadata={"plan": "a"}), fields(metadata={"plan": "b"})),
        ({"address": Address.UNVERIFIED}, {"address": Address.VERIFIED}),
        ({"eligible": False}, {"eligible": True}),
        ({}, {"mapping_error": "KeyError: 'plan'"}),
        ({"mapping_error": "KeyError: 'a'"}, {"mapping_error": "KeyError: 'b'"}),
    ],
)
def test_the_greater_of_two_bodies_wins_whichever_came_first(
    lesser: dict[str, Any], greater: dict[str, Any]
) -> None:
    first, second = event(**lesser), event(**greater)
    assert essence(fold(None, first, second)) == essence(fold(None, second, first))
    link = kept(None, second, first)
    assert link.must_confirm is Doubt.CONFLICT
    assert link.doubted_at == NOW
    assert essence(link) == essence(kept(None, second, first, first))
    plain = kept(None, second)
    assert (link.fields, link.link_back, link.private_name) == (plain.fields, plain.link_back, plain.private_name)
    assert (link.address, link.eligible, link.mapping_error) == (
        plain.address,
        plain.eligible,
        plain.mapping_error,
    )


def test_the_order_of_metadata_keys_is_no_difference() -> None:
    one, other = fields(metadata={"a": "1", "b": "2"}), fields(metadata={"b": "2", "a": "1"})
    assert kept(None, event(**one), event(**other)).must_confirm is Doubt.NONE


def test_a_body_without_fields_is_less_than_any() -> None:
    """A row that knows a version but no fields: an older release, or a tombstone that was lifted."""
    link = known(fields=None, source_version=NOW - HOUR, address=Address.NONE)
    after = kept(link, event(NOW - HOUR))
    assert (after.fields, after.must_confirm) == (PLAIN, Doubt.CONFLICT)


def test_a_conflict_is_not_made_less_by_a_body_that_agrees() -> None:
    link = kept(None, event(), event(fields=BOB), event(fields=BOB))
    assert link.must_confirm is Doubt.CONFLICT
    settled = kept(link, read(fields=PLAIN, at=link.revision))
    assert (settled.must_confirm, settled.fields) == (Doubt.NONE, PLAIN)
    assert body(fields=PLAIN).fields == settled.fields
