"""Claims, leases and guards: what each statement on links may write, and when."""

import sqlite3

import pytest
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from counterfoil.core.link import Address, Deletion, Doubt, Ended, Fields, Lane, Link, Order, ParkReason
from counterfoil.core.news import Asked, CustomerSeen, News, UserAbsent, UserDeleted, UserRead
from counterfoil.store import links, sightings
from counterfoil.store.driver import is_here
from counterfoil.store.rows import to_link
from tests.store.support import LEASE_END, NOW, SINCE, changed, claimed, due, event, got, put


def full() -> Link:
    """A link with every column set."""
    return Link(
        subject_id="user_full",
        source_version=5,
        fields=Fields(email="a@example.com", name="Ada [L] 'x' \u2603"),
        link_back="cus_1",
        private_name="cus_2",
        address=Address.VERIFIED,
        eligible=False,
        mapping_error="KeyError: 'plan'",
        wanted=True,
        asked=True,
        sighted=True,
        deleted_at=6,
        deletion=Deletion.ABSENT,
        revision=7,
        customer_id="cus_1",
        claiming=True,
        applied=Fields(name="Ada", metadata={"plan": "pro"}),
        written_back="cus_1",
        intent_key="cf1-x",
        intent_params=Fields(),
        intent_at=8,
        look_after=9,
        generation=2,
        abandoned_at=10,
        looks=1,
        refused_email="b@example.com",
        parked=ParkReason.MISNAMED,
        attempts=3,
        last_error="it failed",
        due_at=11,
        dirty_at=12,
        lane=Lane.BULK,
        lease=13,
        held=1,
    )


def test_a_row_comes_back_as_it_was_written(connection: Connection) -> None:
    put(connection, full(), Link(subject_id="user_blank"))
    assert got(connection, "user_full") == full()
    assert got(connection, "user_blank") == Link(subject_id="user_blank")
    assert links.get(connection, "user_none") is None


def test_live_links_are_claimed_first_then_those_due_longest(connection: Connection) -> None:
    put(
        connection,
        due("user_bulk_old", lane=Lane.BULK, due_at=NOW - 900),
        due("user_live_new", due_at=NOW - 1),
        due("user_live_old", due_at=NOW - 500),
        due("user_live_mid", due_at=NOW - 200),
        due("user_ahead", due_at=NOW + 1),
        Link(subject_id="user_settled", revision=1),
    )
    first = links.claim(connection, NOW, LEASE_END, 2)
    assert [each.subject_id for each in first] == ["user_live_old", "user_live_mid"]
    rest = links.claim(connection, NOW, LEASE_END, 9)
    assert [each.subject_id for each in rest] == ["user_live_new", "user_bulk_old"]
    assert links.claim(connection, NOW, LEASE_END, 9) == []


def test_a_claim_takes_no_more_than_asked_for_of_both_lanes_and_those_due_longest_first(
    connection: Connection,
) -> None:
    shuffled = [number * 37 % 101 for number in range(1, 101)]
    put(connection, *[due(f"user_{late:03}", due_at=NOW - late, lease=late % 7) for late in shuffled])
    put(connection, *[due(f"user_bulk_{late}", lane=Lane.BULK, due_at=NOW - 1_000) for late in range(5)])
    first = links.claim(connection, NOW, LEASE_END, 40)
    rest = links.claim(connection, NOW, LEASE_END, 62)
    ids = [[each.subject_id for each in claimed] for claimed in (first, rest[:60])]
    if is_here(connection):  # there the claimed come in no order
        ids = [sorted(each, reverse=True) for each in ids]
    assert ids[0] == [f"user_{late:03}" for late in range(100, 60, -1)]
    assert ids[1] == [f"user_{late:03}" for late in range(60, 0, -1)]
    assert [each.lane for each in rest[60:]] == [Lane.BULK] * 2


def test_a_claim_takes_a_lease(connection: Connection) -> None:
    mine = claimed(connection, due("user_a", applied=Fields(name="Ada"), lease=4))
    assert (mine.lease, mine.held, mine.due_at) == (5, 1, LEASE_END)
    assert mine.applied == Fields(name="Ada")
    assert mine.dirty_at == NOW


def test_a_lease_that_ran_out_is_taken_over_with_nothing_taken_for_known(connection: Connection) -> None:
    mine = claimed(connection, due("user_a", applied=Fields(name="Ada")))
    assert links.claim(connection, LEASE_END - 1, LEASE_END + 1, 9) == []
    (theirs,) = links.claim(connection, LEASE_END, LEASE_END + 120_000, 9)
    assert (theirs.held, theirs.lease, theirs.applied) == (2, mine.lease + 1, None)


def test_save_writes_the_workers_columns_and_no_others(connection: Connection) -> None:
    mine = claimed(connection, due("user_a", fields=Fields(email="new@example.com")))
    mixed = changed(
        mine, customer_id="cus_1", fields=Fields(email="stale@example.com"), revision=99, due_at=1, dirty_at=1
    )
    saved = links.save(connection, mixed)
    assert saved == changed(mine, customer_id="cus_1")
    assert got(connection, "user_a") == saved


@pytest.mark.parametrize("statement", ["save", "open_intent", "release"])
def test_nothing_is_written_under_a_lease_that_is_gone(connection: Connection, statement: str) -> None:
    mine = claimed(connection, due("user_a"))
    links.claim(connection, LEASE_END, LEASE_END + 1, 9)
    before = got(connection, "user_a")
    mixed = changed(mine, customer_id="cus_1", attempts=4)
    if statement == "release":
        assert links.release(connection, mixed, NOW, None, clean=True) is None
    else:
        assert getattr(links, statement)(connection, mixed) is None
    assert got(connection, "user_a") == before


def test_a_clean_release_settles_the_link(connection: Connection) -> None:
    mine = claimed(connection, due("user_a", lane=Lane.BULK))
    released = links.release(connection, changed(mine, customer_id="cus_1"), NOW, None, clean=True)
    assert released is not None
    assert (released.dirty_at, released.due_at, released.held, released.lane) == (None, None, 0, Lane.LIVE)
    assert released.customer_id == "cus_1"
    assert released.lease == mine.lease


def test_a_release_that_waits_stays_unsettled_in_its_lane(connection: Connection) -> None:
    mine = claimed(connection, due("user_a", lane=Lane.BULK))
    released = links.release(connection, mine, NOW, NOW + 500, clean=False)
    assert released is not None
    assert (released.dirty_at, released.due_at, released.held, released.lane) == (NOW, NOW + 500, 0, Lane.BULK)


def test_a_release_may_be_settled_and_come_back_later(connection: Connection) -> None:
    mine = claimed(connection, due("user_a"))
    released = links.release(connection, mine, NOW, NOW + 500, clean=True)
    assert released is not None
    assert (released.dirty_at, released.due_at) == (None, NOW + 500)


def test_news_during_a_turn_makes_the_link_due_at_once_and_keeps_it_unsettled(connection: Connection) -> None:
    mine = claimed(connection, due("user_a", source_version=1, fields=Fields()))
    links.fold_batch(connection, [event("user_a", NOW + 1)], SINCE, NOW + 2)
    held = got(connection, "user_a")
    assert held.revision == mine.revision + 1
    assert held.due_at == LEASE_END  # it is the holder's lease, and not brought forward
    released = links.release(connection, mine, NOW + 9, NOW + 9_000, clean=True)
    assert released is not None
    assert (released.due_at, released.dirty_at, released.held) == (NOW + 9, NOW, 0)
    assert released.fields == Fields(email="ada@example.com")


def test_news_during_a_turn_of_the_bulk_lane_keeps_the_link_there(connection: Connection) -> None:
    mine = claimed(connection, due("user_a", lane=Lane.BULK))
    ask = Asked(subject_id="user_a", want=True, bulk=True)
    links.fold_batch(connection, [ask], SINCE, NOW + 2)
    released = links.release(connection, mine, NOW + 9, None, clean=True)
    assert released is not None
    assert (released.lane, released.dirty_at) == (Lane.BULK, NOW)


def test_no_intent_is_opened_after_a_tombstone(connection: Connection) -> None:
    mine = claimed(connection, due("user_a", fields=Fields(email="a@example.com")))
    gone = UserDeleted(subject_id="user_a", sent_at=NOW, trusted=True)
    links.fold_batch(connection, [gone], SINCE, NOW)
    meant = changed(mine, intent_key="cf1-x", intent_params=Fields(), intent_at=NOW)
    assert links.open_intent(connection, meant) is None
    assert got(connection, "user_a").intent_key is None
    assert links.save(connection, mine) is not None


def test_an_intent_is_opened_under_the_lease(connection: Connection) -> None:
    mine = claimed(connection, due("user_a"))
    opened = links.open_intent(connection, changed(mine, intent_key="cf1-x", intent_params=Fields(name="A")))
    assert opened is not None
    assert (opened.intent_key, opened.intent_params) == ("cf1-x", Fields(name="A"))


def test_a_customer_is_never_two_users(connection: Connection) -> None:
    put(connection, Link(subject_id="user_b", revision=1, customer_id="cus_1"))
    assert links.owner_of(connection, "cus_1") == "user_b"
    assert links.owner_of(connection, "cus_2") is None
    mine = claimed(connection, due("user_a"))
    with pytest.raises((DBAPIError, sqlite3.IntegrityError), match="customer_id"):
        links.save(connection, changed(mine, customer_id="cus_1"))


def test_who_disowns_a_held_link_leaves_its_lease_alone(connection: Connection) -> None:
    mine = claimed(connection, due("user_a", applied=Fields(name="Ada"), written_back="cus_old"))
    links.disown(connection, "user_a", NOW + 5)
    left = got(connection, "user_a")
    assert (left.applied, left.revision, left.due_at) == (None, mine.revision + 1, LEASE_END)
    assert left.written_back == "cus_old"
    assert left.lease == mine.lease


def test_who_disowns_a_settled_link_has_it_looked_at_now(connection: Connection) -> None:
    put(connection, Link(subject_id="user_a", revision=3, applied=Fields(name="Ada")))
    links.disown(connection, "user_a", NOW, "cus_new")
    left = got(connection, "user_a")
    assert (left.applied, left.revision, left.due_at, left.dirty_at) == (None, 4, NOW, NOW)
    assert left.written_back == "cus_new"


def test_reclaim_shortens_dead_leases_and_lengthens_none(connection: Connection) -> None:
    put(
        connection,
        due("user_held", held=1, due_at=LEASE_END),
        due("user_ending", held=1, due_at=NOW + 5),
        due("user_waiting", due_at=NOW + 90_000),
    )
    assert links.reclaim(connection, NOW + 25_000) == 1
    ends = {name: got(connection, name).due_at for name in ("user_held", "user_ending", "user_waiting")}
    assert ends == {"user_held": NOW + 25_000, "user_ending": NOW + 5, "user_waiting": NOW + 90_000}


def test_hasten_brings_those_that_wait_for_another_try_and_nobody_else(connection: Connection) -> None:
    later = NOW + 90_000
    put(
        connection,
        due("user_waits", due_at=later),
        due("user_due", due_at=NOW - 7),
        due("user_held", due_at=LEASE_END, held=1),
        due("user_to_be_read", due_at=later, must_confirm=Doubt.READ),
        due("user_to_be_read_again", due_at=later, must_confirm=Doubt.READ, absent_at=NOW),
        Link(subject_id="user_looks_later", revision=1, due_at=later),
        Link(subject_id="user_parked", revision=1, dirty_at=NOW, parked=ParkReason.FOREIGN),
    )
    assert links.hasten(connection, NOW) == 2
    assert got(connection, "user_waits").due_at == NOW
    assert got(connection, "user_to_be_read").due_at == NOW
    assert got(connection, "user_due").due_at == NOW - 7
    assert got(connection, "user_held").due_at == LEASE_END
    assert got(connection, "user_to_be_read_again").due_at == later
    assert got(connection, "user_looks_later").due_at == later
    assert got(connection, "user_parked").due_at is None


def test_links_are_read_by_their_ids_and_page_by_page(connection: Connection) -> None:
    made = [Link(subject_id=f"user_{letter}", revision=1) for letter in "abcde"]
    put(connection, *made)
    assert links.many(connection, ["user_d", "user_b", "user_none"]) == {"user_b": made[1], "user_d": made[3]}
    assert links.many(connection, []) == {}
    assert links.after(connection, "", 2) == made[:2]
    assert links.after(connection, "user_b", 2) == made[2:4]
    assert links.after(connection, "user_e", 2) == []


def test_a_sighting_is_kept_once_moved_and_forgotten(connection: Connection) -> None:
    def see(subject_id: str, mark: str | None = None) -> list[str]:
        seen = CustomerSeen(subject_id=subject_id, customer_id="cus_1", created=NOW, mark=mark)
        return links.fold_batch(connection, [seen], SINCE, NOW)

    assert see("user_a", "cf1-x") == ["user_a"]
    assert see("user_a", "cf1-x") == []
    (sighting,) = sightings.of_subjects(connection, ["user_a", "user_b"])["user_a"]
    assert (sighting.customer_id, sighting.created, sighting.mark) == ("cus_1", NOW, "cf1-x")
    assert see("user_b") == ["user_b"]
    found = sightings.of_subjects(connection, ["user_a", "user_b"])
    assert list(found) == ["user_b"]
    sightings.forget(connection, "cus_1")
    assert sightings.of_subjects(connection, ["user_a", "user_b"]) == {}


def test_of_a_customer_seen_twice_in_one_batch_the_later_sight_counts(connection: Connection) -> None:
    news = [
        CustomerSeen(subject_id=name, customer_id=customer_id, created=NOW)
        for name, customer_id in (
            ("user_a", "cus_1"),
            ("user_b", "cus_2"),
            ("user_b", "cus_1"),
            ("user_b", "cus_2"),
        )
    ]
    assert links.fold_batch(connection, news, SINCE, NOW) == ["user_b"]
    found = sightings.of_subjects(connection, ["user_a", "user_b"])
    assert [each.customer_id for each in found["user_b"]] == ["cus_1", "cus_2"]
    assert list(found) == ["user_b"]


def test_the_sightings_of_a_user_are_in_the_order_of_their_ids_whenever_they_were_met(
    connection: Connection,
) -> None:
    for number in (3, 1, 2):
        seen = CustomerSeen(subject_id="user_a", customer_id=f"cus_{number}", created=NOW - number)
        links.fold_batch(connection, [seen], SINCE, NOW)
    found = sightings.of_subjects(connection, ["user_a"])["user_a"]
    assert [each.customer_id for each in found] == ["cus_1", "cus_2", "cus_3"]


def test_the_links_own_customer_is_no_sighting(connection: Connection) -> None:
    put(connection, Link(subject_id="user_a", revision=1, customer_id="cus_1"))
    seen = CustomerSeen(subject_id="user_a", customer_id="cus_1", created=NOW)
    assert links.fold_batch(connection, [seen], SINCE, NOW) == []
    assert sightings.of_subjects(connection, ["user_a"]) == {}
    assert got(connection, "user_a").revision == 1


def test_several_news_of_one_user_in_one_batch_are_folded_in_turn(connection: Connection) -> None:
    news: list[News] = [
        event("user_a", NOW, email="first@example.com"),
        event("user_b", NOW, email="other@example.com"),
        event("user_a", NOW + 2, email="third@example.com"),
        event("user_a", NOW + 1, email="second@example.com"),
        CustomerSeen(subject_id="user_a", customer_id="cus_1", created=NOW),
    ]
    assert sorted(links.fold_batch(connection, news, SINCE, NOW)) == ["user_a", "user_b"]
    link = got(connection, "user_a")
    assert (link.fields, link.source_version) == (Fields(email="third@example.com"), NOW + 2)
    assert link.sighted
    assert link.wanted
    assert (link.due_at, link.dirty_at, link.lane) == (NOW, NOW, Lane.LIVE)


def test_news_that_says_nothing_new_moves_nothing(connection: Connection) -> None:
    links.fold_batch(connection, [event("user_a")], SINCE, NOW)
    before = got(connection, "user_a")
    assert links.fold_batch(connection, [event("user_a")], SINCE, NOW + 7) == []
    assert got(connection, "user_a") == before


def test_a_later_version_of_what_is_known_is_kept_and_moves_nothing(connection: Connection) -> None:
    links.fold_batch(connection, [event("user_a")], SINCE, NOW)
    before = got(connection, "user_a")
    assert links.fold_batch(connection, [event("user_a", NOW + 5)], SINCE, NOW + 7) == []
    assert got(connection, "user_a") == changed(before, source_version=NOW + 5)


def test_news_writes_none_of_the_workers_columns(connection: Connection) -> None:
    links.fold_batch(connection, [event("user_a")], SINCE, NOW)
    (mine,) = links.claim(connection, NOW, LEASE_END, 1)
    links.save(connection, changed(mine, customer_id="cus_1", applied=Fields(name="A"), attempts=2))
    links.fold_batch(connection, [event("user_a", NOW + 5, email="b@example.com")], SINCE, NOW + 5)
    link = got(connection, "user_a")
    assert (link.customer_id, link.applied, link.attempts) == ("cus_1", Fields(name="A"), 2)
    assert (link.lease, link.held) == (mine.lease, 1)


def test_a_user_who_never_was_is_dropped(connection: Connection) -> None:
    put(connection, Link(subject_id="user_b", revision=1))
    doubtful = changed(event("user_a"), trusted=False)
    links.fold_batch(connection, [doubtful], SINCE, NOW)
    revision = got(connection, "user_a").revision
    absent = UserAbsent(subject_id="user_a", at_revision=revision)
    assert links.fold_batch(connection, [absent], SINCE, NOW) == []
    assert links.get(connection, "user_a") is None
    assert links.get(connection, "user_b") is not None


def test_a_user_who_comes_and_never_was_in_one_batch_leaves_no_row(connection: Connection) -> None:
    absent = UserAbsent(subject_id="user_a", at_revision=1)
    assert links.fold_batch(connection, [event("user_a"), absent], SINCE, NOW) == []
    assert links.get(connection, "user_a") is None


def test_an_old_user_met_on_a_list_gets_no_row(connection: Connection) -> None:
    body = changed(event("user_a").body, version=SINCE - 5, created_at=SINCE - 9)
    assert links.fold_batch(connection, [UserRead(body=body)], SINCE, NOW) == []
    assert links.get(connection, "user_a") is None


def test_a_batch_larger_than_one_statement_names_is_folded_whole(connection: Connection) -> None:
    names = [f"user_{number:05}" for number in range(2 * links.CHUNK + 7)]
    moved = links.fold_batch(connection, [event(name) for name in names], SINCE, NOW)
    assert moved == names
    assert got(connection, names[-1]).wanted


def test_asking_again_makes_a_parked_link_due(connection: Connection) -> None:
    put(connection, Link(subject_id="user_a", revision=1, parked=ParkReason.FOREIGN))
    assert links.fold_batch(connection, [Asked(subject_id="user_a")], SINCE, NOW) == ["user_a"]
    assert got(connection, "user_a").due_at == NOW


def test_intakes_row_has_every_column_at_its_place(connection: Connection) -> None:
    links.fold_batch(connection, [event("user_a", link_back="cus_9")], SINCE, NOW)
    row = connection.exec_driver_sql("SELECT * FROM link_rows").mappings().one()
    assert (row["link_back"], row["wanted"], row["sighted"], row["lane"]) == ("cus_9", 1, 0, 0)
    assert row["source_version"] == NOW
    assert to_link([row[name] for name in Link.__struct_fields__]) == got(connection, "user_a")


def test_a_changed_policy_makes_everybody_due_who_is_there_and_held_by_nobody(connection: Connection) -> None:
    put(
        connection,
        Link(subject_id="user_settled", revision=1),
        Link(subject_id="user_parked", revision=1, parked=ParkReason.MISNAMED),
        due("user_live", due_at=NOW + 900, dirty_at=NOW - 5),
        due("user_held", due_at=LEASE_END, held=1),
        Link(subject_id="user_gone", revision=1, deletion=Deletion.SIGNED, deleted_at=NOW),
    )
    assert links.reconsider(connection, NOW) == 3
    schedule = {name: got(connection, f"user_{name}") for name in ("settled", "parked", "live", "held", "gone")}
    assert {name: (link.due_at, link.dirty_at, link.lane) for name, link in schedule.items()} == {
        "settled": (NOW, NOW, Lane.BULK),
        "parked": (NOW, NOW, Lane.BULK),
        "live": (NOW, NOW - 5, Lane.LIVE),
        "held": (LEASE_END, NOW, Lane.LIVE),
        "gone": (None, None, Lane.LIVE),
    }


@pytest.mark.parametrize("statement", ["save", "open_intent", "release"])
def test_what_is_written_under_a_lease_is_written_to_its_own_link_alone(
    connection: Connection, statement: str
) -> None:
    """Leases are numbered for each link: two held links often have the same number."""
    put(connection, due("user_a"), due("user_b"))
    first, second = links.claim(connection, NOW, LEASE_END, 2)
    assert first.lease == second.lease
    mixed = changed(first, attempts=4, intent_key="cf1-x")
    if statement == "release":
        assert links.release(connection, mixed, NOW, None, clean=True) is not None
    else:
        assert getattr(links, statement)(connection, mixed) is not None
    assert got(connection, first.subject_id).attempts == 4
    assert got(connection, second.subject_id) == second


def test_who_disowns_a_link_leaves_the_others_alone(connection: Connection) -> None:
    put(connection, due("user_a", applied=Fields(name="A")), due("user_b", applied=Fields(name="B")))
    links.disown(connection, "user_a", NOW)
    assert got(connection, "user_b").applied == Fields(name="B")


def test_an_unsettled_link_that_is_disowned_stays_as_old_as_it_is(connection: Connection) -> None:
    put(connection, due("user_a", dirty_at=NOW - 900, due_at=NOW + 900))
    links.disown(connection, "user_a", NOW, ended=Ended.ARCHIVED)
    left = got(connection, "user_a")
    assert (left.dirty_at, left.due_at, left.ended) == (NOW - 900, NOW, Ended.ARCHIVED)
    links.disown(connection, "user_a", NOW + 1)
    assert got(connection, "user_a").ended is Ended.ARCHIVED


def test_news_about_a_known_user_writes_every_column_of_intakes(connection: Connection) -> None:
    links.fold_batch(connection, [event("user_a")], SINCE, NOW)
    links.fold_batch(connection, [event("user_a", NOW + 5, email="b@example.com", link_back="cus_9")], SINCE, NOW)
    link = got(connection, "user_a")
    assert (link.source_version, link.fields, link.link_back, link.revision) == (
        NOW + 5,
        Fields(email="b@example.com"),
        "cus_9",
        2,
    )


def test_links_are_paged_through_in_the_order_of_their_ids(connection: Connection) -> None:
    names = ["user_c", "user_a", "user_d", "user_b"]
    put(connection, *(Link(subject_id=name, revision=1) for name in names))
    first = links.after(connection, "", 2)
    assert first == [Link(subject_id=name, revision=1) for name in ("user_a", "user_b")]
    rest = links.after(connection, "user_b", 9)
    assert [each.subject_id for each in rest] == ["user_c", "user_d"]
    assert links.after(connection, "user_d", 9) == []


def test_of_many_links_those_are_given_that_there_are(connection: Connection) -> None:
    put(connection, Link(subject_id="user_a", revision=1), Link(subject_id="user_b", revision=2))
    found = links.many(connection, ["user_b", "user_x"])
    assert found == {"user_b": Link(subject_id="user_b", revision=2)}
    assert links.many(connection, []) == {}


def test_an_order_is_kept_until_another_comes_or_the_customer_is_another_users(connection: Connection) -> None:
    def see(subject_id: str = "user_a", order: Order = Order.NONE, *, archived: bool = False) -> Order:
        seen = CustomerSeen(
            subject_id=subject_id, customer_id="cus_1", created=NOW, order=order, archived=archived
        )
        links.fold_batch(connection, [seen], SINCE, NOW)
        ((met,),) = sightings.of_subjects(connection, ["user_a", "user_b"]).values()
        assert (met.subject_id, met.archived) == (subject_id, archived)
        return met.order

    assert see() is Order.NONE
    assert see(order=Order.ARCHIVE) is Order.ARCHIVE
    assert see() is Order.ARCHIVE
    assert see(archived=True) is Order.ARCHIVE
    assert see(order=Order.DELETE) is Order.DELETE
    assert see("user_b") is Order.NONE
    assert see("user_b", Order.ADOPT) is Order.ADOPT
    sightings.lapse_order(connection, "cus_1")
    assert see("user_b") is Order.NONE


def test_an_ordered_customer_is_a_sighting_though_the_link_holds_it(connection: Connection) -> None:
    put(connection, Link(subject_id="user_a", revision=1, customer_id="cus_1"))
    seen = CustomerSeen(subject_id="user_a", customer_id="cus_1", created=NOW, order=Order.ADOPT)
    assert links.fold_batch(connection, [seen], SINCE, NOW) == ["user_a"]
    assert list(sightings.of_subjects(connection, ["user_a"])) == ["user_a"]


def test_leases_of_those_due_now_are_not_lengthened_by_a_claim_of_others(connection: Connection) -> None:
    put(connection, due("user_a"), due("user_b", due_at=NOW + 1), due("user_c", lane=Lane.BULK))
    assert [each.subject_id for each in links.claim(connection, NOW, LEASE_END, 1)] == ["user_a"]
    assert got(connection, "user_b").held == 0
    assert got(connection, "user_c").held == 0


def test_a_link_that_is_due_already_is_not_moved_by_a_changed_policy(connection: Connection) -> None:
    put(connection, due("user_a", due_at=NOW - 5), due("user_b", due_at=NOW))
    assert links.reconsider(connection, NOW) == 0
    assert got(connection, "user_a").due_at == NOW - 5
