"""What a person is told, and what not again."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from counterfoil.core.alerts import (
    AGAIN,
    BREAKER_AFTER,
    SAMPLE,
    Notice,
    Parked,
    Situation,
    Told,
    Upstream,
    compare,
)
from counterfoil.core.policy import MINUTE

NOW = 1_790_000_000_000
AFTER = 15 * MINUTE
CALM = Situation()


class Reader:
    """Somebody to whom everything is told, and who forgets nothing."""

    def __init__(self) -> None:
        self.told: dict[str, Told] = {}
        self.now = NOW

    def look(self, wait: int = 0, **found: Any) -> list[Notice]:
        self.now += wait
        difference = compare(Situation(**found), self.told, AFTER, self.now)
        self.told |= difference.quietly
        for notice in difference.notices:
            if notice.told is None:
                del self.told[notice.key]
            else:
                self.told[notice.key] = notice.told
        return list(difference.notices)

    def says(self, wait: int = 0, **found: Any) -> list[tuple[str, str]]:
        return [(notice.alert, notice.state) for notice in self.look(wait, **found)]


def users(*numbers: int) -> Parked:
    return Parked(len(numbers), tuple(f"user_{number}" for number in sorted(numbers)[:SAMPLE]))


SITUATIONS: list[dict[str, Any]] = [
    {"parked": {"rejected": users(1, 2)}},
    {"upstreams": {"stripe": Upstream(BREAKER_AFTER, "503")}},
    {"deletions_held": True},
    {"unsettled": 2, "oldest": NOW - AFTER - 1},
]
CALMED: dict[str, Any] = {"upstreams": {"stripe": Upstream(None, "", proven=True)}}


@pytest.mark.parametrize("found", SITUATIONS)
def test_each_is_told_once_and_once_more_when_it_clears(found: dict[str, Any]) -> None:
    reader = Reader()
    (raised,) = reader.look(**found)
    assert raised.state == "raised"
    assert [reader.look(MINUTE, **found) for _ in range(100)] == [[]] * 100
    (cleared,) = reader.look(MINUTE, **CALMED)
    assert (cleared.state, cleared.alert, cleared.reason) == ("cleared", raised.alert, raised.reason)
    assert reader.look(MINUTE, **CALMED) == []
    assert reader.told == {}


def test_where_all_is_well_nothing_is_said() -> None:
    assert Reader().look(**CALMED, unsettled=5, oldest=NOW - AFTER) == []


def test_one_parked_link_is_named_and_said_what_to_do_about() -> None:
    (notice,) = Reader().look(parked={"duplicate": users(7)})
    assert (notice.subject_id, notice.reason) == ("user_7", "duplicate")
    assert notice.text.startswith("1 link is parked as duplicate: two live customers claim this user")
    assert notice.text.endswith("user_7")


def test_many_parked_links_are_one_message_that_names_the_first() -> None:
    (notice,) = Reader().look(parked={"rejected": Parked(10_000, tuple(f"user_{n}" for n in range(SAMPLE)))})
    assert notice.subject_id is None
    assert notice.text.startswith("10000 links are parked as rejected: ")
    assert notice.text.endswith("user_0, user_1, user_2, ...")


def test_each_reason_has_a_message_of_its_own() -> None:
    reader = Reader()
    assert len(reader.look(parked={"rejected": users(1), "foreign": users(2)})) == 2
    (cleared,) = reader.look(parked={"foreign": users(2)})
    assert (cleared.state, cleared.reason) == ("cleared", "rejected")


def test_new_ones_of_a_reason_are_told_together_and_not_at_once() -> None:
    reader = Reader()
    reader.look(parked={"rejected": users(1)})
    for number in range(2, 30):
        assert reader.look(AGAIN // 30, parked={"rejected": users(*range(1, number + 1))}) == []
    (notice,) = reader.look(AGAIN, parked={"rejected": users(*range(1, 30))})
    assert notice.text.startswith("29 links are parked as rejected, 28 of them new: ")
    assert reader.look(AGAIN, parked={"rejected": users(*range(1, 30))}) == []


def test_one_that_comes_as_another_goes_is_new() -> None:
    reader = Reader()
    reader.look(parked={"rejected": users(1, 2)})
    (notice,) = reader.look(AGAIN, parked={"rejected": users(2, 3)})
    assert ", 1 of them new" in notice.text


def test_some_that_go_are_not_told_of_and_their_return_is() -> None:
    reader = Reader()
    reader.look(parked={"rejected": users(1, 2, 3)})
    assert reader.look(AGAIN, parked={"rejected": users(1)}) == []
    (notice,) = reader.look(AGAIN, parked={"rejected": users(1, 2)})
    assert notice.state == "raised"


def test_beyond_what_is_known_by_name_the_number_tells() -> None:
    reader = Reader()
    reader.look(parked={"rejected": users(*range(500))})
    assert reader.look(AGAIN, parked={"rejected": users(*range(1, 501))}) == []
    (notice,) = reader.look(AGAIN, parked={"rejected": users(*range(510))})
    assert "10 of them new" in notice.text


def test_one_that_comes_with_others_gone_is_told_though_it_has_to_wait() -> None:
    reader = Reader()
    reader.look(parked={"rejected": users(1, 2, 3)})
    assert reader.look(MINUTE, parked={"rejected": users(1, 4)}) == []
    (notice,) = reader.look(AGAIN, parked={"rejected": users(1, 4)})
    assert notice.text.startswith("2 links are parked as rejected, 1 of them new: ")


def test_as_many_as_are_known_by_name_are_told_apart_by_name() -> None:
    reader = Reader()
    reader.look(parked={"rejected": users(*range(SAMPLE))})
    (notice,) = reader.look(AGAIN, parked={"rejected": users(*range(1, SAMPLE + 1))})
    assert ", 1 of them new" in notice.text


def test_nothing_is_to_be_remembered_where_nothing_has_changed() -> None:
    found = Situation(parked={"rejected": users(1, 2)})
    told = {"parked:rejected": Told(NOW, 2, users(1, 2).subject_ids)}
    assert dict(compare(found, told, AFTER, NOW + AGAIN).quietly) == {}


def test_all_are_named_where_they_are_few() -> None:
    (notice,) = Reader().look(parked={"rejected": users(1, 2, 3)})
    assert notice.text.endswith(". user_1, user_2, user_3")


def test_who_answers_again_is_told_with_how_long_it_was() -> None:
    reader = Reader()
    reader.look(upstreams={"stripe": Upstream(BREAKER_AFTER, "503")})
    (notice,) = reader.look(90 * MINUTE, **CALMED)
    assert notice.text == "Stripe answers again, after 90 min."


@pytest.mark.parametrize(("unsettled", "some"), [(1, "1 link is"), (2, "2 links are")])
def test_what_has_waited_too_long_is_told_with_how_long(unsettled: int, some: str) -> None:
    (notice,) = Reader().look(unsettled=unsettled, oldest=NOW - 40 * MINUTE)
    assert notice.text == f"{some} unsettled, the oldest for 40 min: run counterfoil status."


def test_whoever_only_watches_is_not_told_that_nothing_is_done() -> None:
    assert Reader().look(parked={"observed": users(1, 2)}) == []


def test_a_short_pause_of_calls_is_not_told() -> None:
    reader = Reader()
    assert reader.look(upstreams={"clerk": Upstream(BREAKER_AFTER - 1, "503")}) == []
    (notice,) = reader.look(upstreams={"clerk": Upstream(BREAKER_AFTER, "401 invalid_key")})
    assert (notice.reason, "401 invalid_key" in notice.text) == ("clerk", True)


def test_after_a_restart_a_closed_breaker_proves_nothing_until_an_answer_came() -> None:
    reader = Reader()
    reader.look(upstreams={"stripe": Upstream(BREAKER_AFTER, "503")})
    assert reader.look(MINUTE, upstreams={"stripe": Upstream(None)}) == []
    assert reader.look(MINUTE, upstreams={"stripe": Upstream(BREAKER_AFTER, "503")}) == []
    assert reader.says(MINUTE, upstreams={"stripe": Upstream(None, proven=True)}) == [("breaker", "cleared")]


situations = st.builds(
    Situation,
    parked=st.dictionaries(
        st.sampled_from(["rejected", "duplicate", "observed"]),
        st.sets(st.integers(0, 9), min_size=1).map(lambda found: users(*found)),
    ),
    upstreams=st.fixed_dictionaries(
        {"stripe": st.builds(Upstream, st.none() | st.integers(0, 2 * BREAKER_AFTER), proven=st.booleans())}
    ),
    deletions_held=st.booleans(),
    unsettled=st.integers(0, 3),
    oldest=st.none() | st.integers(NOW - 2 * AFTER, NOW),
)


@given(st.lists(st.tuples(situations, st.integers(0, AGAIN))))
def test_whatever_happens_a_second_look_says_nothing_new_and_calm_takes_all_back(
    story: list[tuple[Situation, int]],
) -> None:
    reader = Reader()
    for situation, wait in story:
        found = {name: getattr(situation, name) for name in situation.__struct_fields__}
        reader.look(wait, **found)
        assert reader.look(**found) == []
    taken_back = reader.look(**CALMED)
    assert {notice.state for notice in taken_back} <= {"cleared"}
    assert reader.told == {}


def test_no_message_holds_more_than_ids_reasons_and_numbers() -> None:
    for found in SITUATIONS:
        for notice in Reader().look(**found):
            assert "@" not in msgspec.json.encode(notice).decode()
