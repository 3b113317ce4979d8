"""What an audit has found, in its work file."""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence

import msgspec

from counterfoil.core.finding import Finding

_KINDS = ("duplicate", "orphan", "missing", "foreign", "unlinked", "mislinked", "unclaimed", "stale")
_encode = msgspec.msgpack.Encoder().encode
_finding = msgspec.msgpack.Decoder(Finding).decode


class Found:
    """The part of a work file that tells what was found: one connection writes, the other reads long lists."""

    _db: sqlite3.Connection
    _reads: sqlite3.Connection

    def forget_findings(self) -> None:
        """Compare anew."""
        self._db.execute("DELETE FROM findings")

    def keep_findings(self, batch: Iterable[Finding]) -> None:
        """Write findings; one that is known under its key is replaced."""
        rows = [
            (
                each.key,
                each.subject_id,
                str(each.kind),
                _KINDS.index(each.kind),
                each.subscribed,
                int(each.recent),
                int(each.repair is None),
                _encode(each),
            )
            for each in batch
        ]
        self._db.execute("BEGIN")
        self._db.executemany("INSERT OR REPLACE INTO findings VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)
        self._db.execute("COMMIT")

    def drop_findings(self, subject_ids: Sequence[str]) -> None:
        """Findings of these subjects are looked for anew."""
        self._db.execute("BEGIN")
        self._db.executemany("DELETE FROM findings WHERE subject_id = ?", [(each,) for each in subject_ids])
        self._db.execute("COMMIT")

    def doubtful(self, limit: int) -> list[str]:
        """The subjects of findings, those that may be changes on their way first."""
        rows = self._db.execute(
            "SELECT subject_id, MAX(recent) AS recent, MIN(rank) AS rank FROM findings"
            " WHERE subject_id IS NOT NULL"
            " GROUP BY subject_id ORDER BY recent DESC, rank, subject_id LIMIT ?",
            (limit,),
        )
        return [row[0] for row in rows]

    def findings(self, limit: int = -1) -> Iterator[Finding]:
        """Findings: customers with live subscriptions first, then the graver kinds; ``limit`` -1: all."""
        rows = self._reads.execute(
            "SELECT body FROM findings ORDER BY subscribed > 0 DESC, rank, key LIMIT ?", (limit,)
        )
        for (body,) in rows:
            yield _finding(body)

    def tally(self) -> list[tuple[str, int, int, int, int]]:
        """Of each kind: how many, of them for a person, recent, and with live subscriptions."""
        return self._db.execute(
            "SELECT kind, COUNT(*), SUM(person), SUM(recent), SUM(subscribed > 0) FROM findings"
            " GROUP BY kind ORDER BY MIN(rank)"
        ).fetchall()

    def unheeded(self) -> list[str]:
        """Users in the mapping file who are not there, or whom another customer names already."""
        rows = self._db.execute(
            "SELECT subject_id FROM mapping WHERE subject_id NOT IN (SELECT subject_id FROM users)"
            " OR (subject_id IN (SELECT owner FROM customers)"
            " AND subject_id IS NOT (SELECT owner FROM customers WHERE customer_id = mapping.customer_id))"
            " ORDER BY subject_id"
        )
        return [subject_id for (subject_id,) in rows]

    def counts(self) -> tuple[int, int]:
        """Users and customers that were listed."""
        (users,) = self._db.execute("SELECT COUNT(*) FROM users").fetchone()
        (customers,) = self._db.execute("SELECT COUNT(*) FROM customers").fetchone()
        return users, customers

    def strangers(self) -> int:
        """Customers that name no user."""
        (count,) = self._db.execute("SELECT COUNT(*) FROM customers WHERE owner IS NULL").fetchone()
        return int(count)
