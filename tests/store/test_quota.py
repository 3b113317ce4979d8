"""One quota for all nodes: what each of them is granted, by the database's clock."""

import pytest
from sqlalchemy import Connection

from counterfoil.core.link import Lane
from counterfoil.store import quota
from counterfoil.store.engine import connect, transact
from counterfoil.upstream.shared_quota import HORIZON, LONGEST_PUSH, Ask, Grant

ONLY_POSTGRESQL = True

T0 = 1_800_000_000_000_000


def ask(slots: int, *, rate: float = 80.0, lane: Lane = Lane.LIVE, waiting: int | None = None) -> Ask:
    return Ask("stripe", 1.0 / rate, lane, slots, waiting or slots)


def at(connection: Connection, seconds: float, wanted: Ask) -> Grant:
    return quota.reserve(connection, wanted, T0 + round(seconds * 1e6))


def test_slots_follow_each_other_whoever_asks(connection: Connection) -> None:
    first, second = at(connection, 0.0, ask(8)), at(connection, 0.0, ask(8))
    assert first.slots == second.slots == 8
    assert second.first - first.first == pytest.approx(0.1)


@pytest.mark.parametrize("rate", [0.5, 80.0])
def test_over_a_minute_all_nodes_together_get_the_rate_and_no_more(connection: Connection, rate: float) -> None:
    wanted = ask(max(1, round(rate / 10)), rate=rate)
    slots = sum(at(connection, tick / 50, wanted).slots for tick in range(3_000) for _ in range(3))
    ahead = wanted.slack + wanted.horizon
    assert rate * 60 - 1 <= slots <= rate * (60 + ahead) + 2


def test_nothing_is_reserved_further_ahead_than_the_horizon(connection: Connection) -> None:
    grants = [at(connection, 0.0, ask(8)) for _ in range(10)]
    last = max(each.first + (each.slots - 1) / 80 for each in grants if each.slots)
    assert last <= HORIZON
    assert grants[-1].slots == 0
    later = at(connection, grants[-1].wait, ask(8))
    assert later.slots == 8, "after the wait there is a whole batch"


def test_what_a_dead_node_reserved_has_lapsed_after_the_horizon(connection: Connection) -> None:
    while at(connection, 0.0, ask(8)).slots:
        pass
    again = at(connection, HORIZON + 0.2, ask(8))
    assert again.slots == 8
    assert again.first <= 0.0


def test_bulk_work_is_put_off_while_another_nodes_live_work_waits(connection: Connection) -> None:
    bulk = ask(8, lane=Lane.BULK)
    assert at(connection, 0.0, bulk).slots > 0
    live = at(connection, 0.0, ask(8, waiting=30))
    assert live.slots == 8, "bulk work is never so far ahead that live work finds nothing"
    refused = at(connection, 0.05, bulk)
    assert refused.slots == 0
    assert at(connection, 0.05, ask(8)).slots == 8, "of the live lane others are served"
    assert at(connection, 0.05 + refused.wait + 0.3, bulk).slots > 0


def test_live_work_that_got_all_it_wanted_puts_nobody_off(connection: Connection) -> None:
    at(connection, 0.0, ask(3))
    assert at(connection, 0.05, ask(3, lane=Lane.BULK)).slots == 3


def test_a_push_closes_the_bucket_for_all_and_never_opens_it_sooner(connection: Connection) -> None:
    at(connection, 0.0, ask(1))
    quota.push(connection, "stripe", 5.0, T0)
    quota.push(connection, "stripe", 1.0, T0)
    refused = at(connection, 1.0, ask(1))
    assert refused.slots == 0
    assert refused.wait == pytest.approx(4.0 - HORIZON)
    granted = at(connection, 4.8, ask(1))
    assert granted.slots == 1
    assert granted.first == pytest.approx(0.2)


def test_a_clock_that_is_put_back_stops_nobody(connection: Connection) -> None:
    at(connection, 3 * LONGEST_PUSH, ask(8, waiting=30))
    assert at(connection, 0.0, ask(8)).slots == 8
    at(connection, 3 * LONGEST_PUSH, ask(8, waiting=30))
    assert at(connection, 0.0, ask(8, lane=Lane.BULK)).slots == 8


def test_each_bucket_has_a_row_of_its_own(connection: Connection) -> None:
    while at(connection, 0.0, ask(8)).slots:
        pass
    other = Ask("clerk", 1 / 80, Lane.LIVE, 8, 8)
    assert quota.reserve(connection, other, T0).slots == 8


def test_without_a_time_the_databases_own_is_used(migrated_url: str) -> None:
    engine = connect(migrated_url)
    grant = transact(engine, lambda connection: quota.reserve(connection, ask(4)))
    assert grant.slots == 4
    assert -0.2 < grant.first <= 0.0
    assert transact(engine, lambda connection: quota.reserve(connection, ask(4))).slots == 4
    transact(engine, lambda connection: quota.push(connection, "stripe", 60.0))
    assert transact(engine, lambda connection: quota.reserve(connection, ask(4))).slots == 0
    engine.dispose()
