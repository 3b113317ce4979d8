"""What a tombstone keeps of a user, and who is wanted when it is lifted."""

from typing import Any

import pytest

from counterfoil.core.link import Deletion, Doubt
from counterfoil.core.policy import ABSENT_TWICE

from .support import DAY, NOW, SINCE, absent, deleted, kept, known, read

OLD = SINCE - DAY


def lifted(**columns: Any) -> bool:
    """Whether an old user whose signed deletion a person had asked about is wanted again."""
    values: dict[str, Any] = {"must_confirm": Doubt.READ, "doubted_at": NOW, "fields": None, "wanted": False}
    link = known(deletion=Deletion.SIGNED, deleted_at=NOW - DAY, **{**values, **columns})
    back = kept(link, read(NOW, at=link.revision, created_at=OLD))
    assert back.deletion is Deletion.NONE
    return back.wanted


def test_an_old_user_who_never_had_a_customer_is_not_wanted_when_its_deletion_is_lifted() -> None:
    assert not lifted()


@pytest.mark.parametrize("columns", [{"customer_id": "cus_1"}, {"generation": 1}])
def test_an_old_user_who_had_a_customer_is_wanted_when_its_deletion_is_lifted(columns: dict[str, Any]) -> None:
    assert lifted(**columns)


def test_an_old_user_who_lives_is_not_wanted_for_having_a_customer() -> None:
    link = known(customer_id="cus_1", wanted=False)
    assert not kept(link, read(NOW, created_at=OLD)).wanted


def test_an_old_user_who_was_absent_is_not_wanted_for_having_had_a_customer() -> None:
    link = known(customer_id="cus_1", wanted=False, deletion=Deletion.ABSENT, deleted_at=NOW - DAY, fields=None)
    assert not kept(link, read(NOW, created_at=OLD)).wanted


def test_of_what_own_functions_said_a_tombstone_keeps_nothing() -> None:
    gone = kept(known(eligible=False, mapping_error="KeyError: 'plan'"), deleted())
    assert (gone.eligible, gone.mapping_error) == (True, None)


@pytest.mark.parametrize("before", [True, False])
def test_an_absence_leaves_what_somebody_asked_for(before: bool) -> None:
    link = known(wanted=before, asked=before, customer_id="cus_1", must_confirm=Doubt.READ, absent_at=NOW)
    gone = kept(link, absent(link), now=NOW + ABSENT_TWICE)
    assert (gone.deletion, gone.wanted, gone.asked) == (Deletion.ABSENT, before, before)


@pytest.mark.parametrize("before", [True, False])
def test_a_signed_deletion_ends_what_somebody_asked_for(before: bool) -> None:
    gone = kept(known(wanted=before, asked=before), deleted())
    assert (gone.deletion, gone.wanted, gone.asked) == (Deletion.SIGNED, False, False)
