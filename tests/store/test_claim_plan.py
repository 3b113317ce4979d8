"""What a claim costs the server: as much as it takes, however many links there are."""

import time

import pytest
from sqlalchemy import Connection, text

from tests.store.support import NOW, explained_claim

ONLY_POSTGRESQL = True

LINKS = 200_000
LIMIT = 64


def fill(connection: Connection, due_every: int) -> None:
    """Links of which one in ``due_every`` is due, a part of them in the bulk lane; as many wait for later."""
    connection.execute(
        text(
            "INSERT INTO link_rows (subject_id, revision, lane, due_at)"
            " SELECT 'user_' || n, 1, (n / :every) % 2,"
            " CASE n % :every WHEN 0 THEN :now - n % 977 WHEN 1 THEN :now + 1000 + n END"
            " FROM generate_series(1, :links) AS n"
        ),
        {"every": due_every, "now": NOW, "links": LINKS},
    )
    connection.exec_driver_sql("ANALYZE link_rows")


@pytest.mark.parametrize("due_every", [2, 1_000])
@pytest.mark.parametrize("by_database", [False, True])
def test_a_claim_touches_the_rows_that_it_takes_and_sorts_nothing(
    connection: Connection, due_every: int, by_database: bool
) -> None:
    fill(connection, due_every)
    # By the database's time what waits for later is due too: it is of the year 2026 and after.
    now = round(time.time() * 1000) if by_database else NOW
    found = explained_claim(connection, now, LIMIT, by_database=by_database)
    scans = [each for each in found if each.get("Relation Name") == "link_rows" and "Scan" in each["Node Type"]]
    assert {each["Node Type"] for each in scans} <= {"Index Scan", "Bitmap Heap Scan"}
    (due,) = [each for each in scans if each.get("Index Name") == "ix_links_due"]
    assert "Filter" not in due
    assert due["Actual Rows"] == LIMIT
    touched = sum(each["Actual Rows"] * each["Actual Loops"] for each in scans)
    assert touched <= 2 * LIMIT, "each link once to be chosen, and once to be written"
    assert not [each for each in found if "Sort" in each["Node Type"]]
    assert not any(each.get("Rows Removed by Filter") for each in found)
