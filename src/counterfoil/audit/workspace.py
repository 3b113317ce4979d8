"""The audit's work on disk: what was read of both sides, in one SQLite file.

So a million users pass through in flat memory, and an audit that was killed goes on where it was: each page is
written together with the place to go on. The file holds personal data: it is for this user's eyes only, and gone
when the audit has ended.
"""

import fcntl
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from counterfoil.audit.found import Found
from counterfoil.audit.schema import FORMAT, INDEXES, INDEXES_OF_USERS, SCHEMA
from counterfoil.core.finding import Candidate, SeenCustomer, State
from counterfoil.core.link import Link
from counterfoil.core.news import UserBody
from counterfoil.errors import ConfigurationError

_SEVERAL = 5
"""Of what makes a case ambiguous, a few are enough."""
_RIVALS = (
    "SELECT subject_id FROM users WHERE named = ?"
    " AND NOT EXISTS (SELECT 1 FROM customers WHERE customers.owner = users.subject_id)"
)
# An orphan whose user has no customer that a person must see to: it goes, and its address is free.
_GOES = (
    "owner GLOB 'user_*' AND owner NOT IN (SELECT subject_id FROM users) AND NOT EXISTS"
    " (SELECT 1 FROM customers AS own WHERE own.owner = customers.owner AND (own.live IS NOT 0 OR EXISTS"
    " (SELECT 1 FROM users WHERE named = own.customer_id"
    " AND NOT EXISTS (SELECT 1 FROM customers AS other WHERE other.owner = users.subject_id))))"
)
_ELSEWHERE = (
    f"SELECT customer_id FROM customers WHERE email = ? AND owner IS NOT NULL AND NOT ({_GOES})"  # noqa: S608
    " ORDER BY customer_id LIMIT ?"
)
_encode = msgspec.msgpack.Encoder().encode
_user = msgspec.msgpack.Decoder(UserBody).decode
_customer = msgspec.msgpack.Decoder(SeenCustomer).decode
_link = msgspec.msgpack.Decoder(Link).decode


class Range(msgspec.Struct, kw_only=True):
    """A part of Stripe's list: customers created from ``low`` up to, but not at, ``high`` (seconds)."""

    id: int
    low: int
    high: int
    after: str | None = None
    reached: int = 0
    """Customers down to this second are read."""
    density: float = 0.0
    """Customers a second where it has come to; not kept: the next page tells it again."""


class Workspace(Found):
    """The work file. One process at a time; entered, it is open."""

    def __init__(self, folder: Path | None) -> None:
        """Take the folder to work in; ``None``: a temporary one, from which nothing can be gone on with."""
        self._named: Callable[[UserBody], str | None] = lambda user: user.link_back
        self._linked = True
        self._own = folder is None
        self.folder = folder if folder is not None else Path(tempfile.mkdtemp(prefix="counterfoil-audit-"))
        self._lock: int | None = None

    def __enter__(self) -> Self:
        """Raises `ConfigurationError` where another audit works in the same folder."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._lock)
            self._lock = None
            raise ConfigurationError(
                f"another audit works in {self.folder}: wait for it, or name another file"
            ) from None
        self._open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._reads.close()
        self._db.close()
        if self._own:
            self.remove()
        if self._lock is not None:
            os.close(self._lock)

    def _open(self) -> None:
        path = self.folder / "audit.db"
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        self._db = sqlite3.connect(path, isolation_level=None)
        # What a killed process wrote is kept; what a fallen machine loses is read again.
        for pragma in ("journal_mode=WAL", "synchronous=OFF", "cache_size=-20000", "temp_store=FILE"):
            self._db.execute(f"PRAGMA {pragma}")
        self._db.executescript(SCHEMA)
        self._reads = sqlite3.connect(path, isolation_level=None)
        self._reads.execute("PRAGMA cache_size=-20000")

    def remove(self) -> None:
        """The work is done."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def begin(
        self, about: Mapping[str, str], named: Callable[[UserBody], str | None], now: int, longest: int
    ) -> bool:
        """Go on with the work that is here, if it is about the same and not too old; or begin anew.

        Args:
            about: what is read, and how.
            named: the customer that a user's metadata names.
            now: milliseconds.
            longest: work that began longer ago (ms) is of no use any more.

        Returns:
            Whether it goes on with earlier work.
        """
        self._named = named
        wanted = {**about, "format": FORMAT}
        known = self.meta()
        same = all(known.get(key) == value for key, value in wanted.items())
        if same and 0 <= now - int(known.get("began", "0")) <= longest:
            return True
        for name in ("meta", "ranges", "users", "customers", "links", "mapping", "findings"):
            self._db.execute(f"DELETE FROM {name}")  # noqa: S608 - our own names
        self.put({**wanted, "began": str(now)})
        return False

    # What is remembered.

    def meta(self) -> dict[str, str]:
        """All that is remembered."""
        return dict(self._db.execute("SELECT key, value FROM meta").fetchall())

    def put(self, values: Mapping[str, str]) -> None:
        """Remember."""
        rows = list(values.items())
        self._db.executemany("INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)", rows)

    # Reading the two sides.

    def keep_users(self, users: Iterable[UserBody], place: Mapping[str, str], unread: Iterable[str] = ()) -> None:
        """A page of users, and where to go on. ``unread``: those who are there and cannot be read."""
        rows: list[tuple[str, str | None, str | None, bytes]] = [(each, None, None, b"") for each in unread]
        rows += [(each.subject_id, self._named(each), _lower(each.fields.email), _encode(each)) for each in users]
        self._db.execute("BEGIN")
        self._db.executemany("INSERT OR REPLACE INTO users VALUES (?, ?, ?, ?)", rows)
        self.put(place)
        self._db.execute("COMMIT")

    def keep_customers(
        self, customers: Iterable[SeenCustomer], place: Range | None, *, done: bool = False
    ) -> None:
        """A page of customers, and where their range goes on."""
        rows = [
            (
                each.customer_id,
                each.owner,
                None if each.archived else _lower(each.fields.email),
                each.live,
                _encode(each),
            )
            for each in customers
        ]
        self._db.execute("BEGIN")
        self._db.executemany("INSERT OR REPLACE INTO customers VALUES (?, ?, ?, ?, ?)", rows)
        if place is not None:
            self._keep_range(place, done=done)
        self._db.execute("COMMIT")

    def keep_ranges(self, ranges: Sequence[Range]) -> None:
        """Ranges that were made or moved, together."""
        self._db.execute("BEGIN")
        for each in ranges:
            self._keep_range(each, done=False)
        self._db.execute("COMMIT")

    def _keep_range(self, each: Range, *, done: bool) -> None:
        self._db.execute(
            "INSERT OR REPLACE INTO ranges (id, low, high, after, reached, done) VALUES (?, ?, ?, ?, ?, ?)",
            (each.id, each.low, each.high, each.after, each.reached, int(done)),
        )

    def ranges(self) -> list[Range]:
        """The ranges that are not read to their end."""
        rows = self._db.execute("SELECT id, low, high, after, reached FROM ranges WHERE done = 0")
        return [Range(id=a, low=b, high=c, after=d, reached=e) for a, b, c, d, e in rows]

    def begun(self) -> int:
        """How many ranges there ever were."""
        (count,) = self._db.execute("SELECT COALESCE(MAX(id), 0) FROM ranges").fetchone()
        return int(count)

    def index(self, *, users_only: bool = False) -> Iterator[None]:
        """All is read: make it quick to find, an index at each step."""
        for statement in INDEXES_OF_USERS if users_only else INDEXES:
            self._db.execute(statement)
            yield

    def replace_users(self, asked: Sequence[str], found: Iterable[UserBody], unread: Iterable[str]) -> None:
        """Users that were read again: those that were not found are gone."""
        self._db.execute("BEGIN")
        self._db.executemany("DELETE FROM users WHERE subject_id = ?", [(each,) for each in asked])
        self._db.execute("COMMIT")
        self.keep_users(found, {}, unread)

    def keep_links(self, links: Iterable[Link]) -> None:
        """Links of our own database, as they are now."""
        rows = [(each.subject_id, each.customer_id, _encode(each)) for each in links]
        self._db.execute("BEGIN")
        self._db.executemany("INSERT OR REPLACE INTO links VALUES (?, ?, ?)", rows)
        self._db.execute("COMMIT")
        self._linked = True

    def forget_links(self) -> None:
        """What was copied of our own database is old."""
        self._db.execute("DELETE FROM links")
        self._linked = False

    def keep_mapping(self, pairs: Iterable[tuple[str, str]]) -> None:
        """What the mapping file says: subject and customer, "" for none."""
        self._db.execute("BEGIN")
        self._db.execute("DELETE FROM mapping")
        self._db.executemany("INSERT OR REPLACE INTO mapping VALUES (?, ?)", pairs)
        self._db.execute("COMMIT")

    # Comparing.

    def states(self, in_step: Callable[[UserBody, SeenCustomer], bool]) -> Iterator[State | None]:
        """Every subject of either side, in the order of their ids.

        ``None`` for each who has one customer, no link, and is ``in_step`` with it: where a million are, the rest
        need not be gathered for them.
        """
        users = self._reads.execute("SELECT subject_id, named, body FROM users ORDER BY subject_id")
        owned = self._reads.execute(
            "SELECT owner, customer_id, body FROM customers WHERE owner IS NOT NULL ORDER BY owner, customer_id"
        )
        user, customer = users.fetchone(), owned.fetchone()
        while user is not None or customer is not None:
            subject_id = (
                customer[0] if user is None or (customer is not None and customer[0] < user[0]) else user[0]
            )
            row, own = None, {}
            if user is not None and user[0] == subject_id:
                row, user = user[1:], users.fetchone()
            while customer is not None and customer[0] == subject_id:
                own[customer[1]], customer = _customer(customer[2]), owned.fetchone()
            if len(own) == 1 and row is not None and row[1] and not self._linked:
                (only,) = own.values()
                if in_step(_user(row[1]), only):
                    yield None
                    continue
            yield self._state(subject_id, row, own)

    def doubled(self) -> Iterator[State]:
        """The subjects whom several customers name."""
        rows = self._reads.execute(
            "SELECT owner FROM customers WHERE owner IS NOT NULL GROUP BY owner HAVING COUNT(*) > 1 ORDER BY owner"
        )
        for (owner,) in rows:
            yield self.state(owner)

    def state(self, subject_id: str) -> State:
        """All that is known of one subject."""
        row = self._db.execute("SELECT named, body FROM users WHERE subject_id = ?", (subject_id,)).fetchone()
        owned = self._db.execute(
            "SELECT customer_id, body FROM customers WHERE owner = ? ORDER BY customer_id", (subject_id,)
        )
        return self._state(subject_id, row, {customer_id: _customer(body) for customer_id, body in owned})

    def _state(
        self, subject_id: str, row: tuple[str | None, bytes] | None, owned: dict[str, SeenCustomer]
    ) -> State:
        link, customers = self._link(subject_id), tuple(owned.values())
        if row is not None and not row[1]:
            return State(subject_id=subject_id, unread=True, customers=customers, link=link)
        # What may have to go, and is all that another user's metadata names, is not ours to judge.
        rivals = {}
        if row is None or len(customers) > 1:
            for each in customers:
                named_by = self._subjects(_RIVALS, each.customer_id)
                rivals[each.customer_id] = tuple(name for name in named_by if name != subject_id)
        if row is None:
            return State(subject_id=subject_id, customers=customers, rivals=rivals, link=link)
        named_id, user = row[0], _user(row[1])
        mapped: str | None = None
        candidates: tuple[Candidate, ...] = ()
        held: SeenCustomer | None = None
        if not customers:
            held = self._customer(link.customer_id) if link is not None else None
            told = self._db.execute(
                "SELECT customer_id FROM mapping WHERE subject_id = ?", (subject_id,)
            ).fetchone()
            mapped = told[0] if told is not None else None
            candidates = self._candidates(user, named_id, mapped)
        return State(
            subject_id=subject_id,
            user=user,
            customers=customers,
            named=owned.get(named_id or "") or self._customer(named_id),
            candidates=candidates,
            rivals=rivals,
            elsewhere=() if customers else self._elsewhere(user),
            mapped=mapped,
            link=link,
            held=held,
        )

    def _link(self, subject_id: str) -> Link | None:
        if not self._linked:
            return None
        row = self._db.execute("SELECT body FROM links WHERE subject_id = ?", (subject_id,)).fetchone()
        return _link(row[0]) if row is not None else None

    def _customer(self, customer_id: str | None) -> SeenCustomer | None:
        if customer_id is None:
            return None
        row = self._db.execute("SELECT body FROM customers WHERE customer_id = ?", (customer_id,)).fetchone()
        return _customer(row[0]) if row is not None else None

    def _candidates(self, user: UserBody, named: str | None, mapped: str | None) -> tuple[Candidate, ...]:
        """Customers that nobody claims, and that something ties to this user."""
        found: dict[str, SeenCustomer] = {}
        for customer_id in (named, mapped):
            row = self._db.execute(
                "SELECT body FROM customers WHERE customer_id = ? AND owner IS NULL", (customer_id,)
            ).fetchone()
            if row is not None:
                found[str(customer_id)] = _customer(row[0])
        email = _lower(user.fields.email)
        shared: tuple[str, ...] = ()
        if email is not None:
            rows = self._db.execute(
                "SELECT customer_id, body FROM customers WHERE owner IS NULL AND email = ?"
                " ORDER BY customer_id LIMIT ?",
                (email, _SEVERAL),
            ).fetchall()
            found.update((customer_id, _customer(body)) for customer_id, body in rows)
            if rows:
                shared = self._subjects("SELECT subject_id FROM users WHERE email = ?", email)
        return tuple(
            Candidate(
                customer=each,
                named_by=self._subjects(_RIVALS, key),
                given_to=self._other("mapping", key, user.subject_id),
                held_by=self._other("links", key, user.subject_id),
                shared_with=shared,
            )
            for key, each in sorted(found.items())
            if not each.archived
        )

    def _other(self, table: str, customer_id: str, subject_id: str) -> str | None:
        """The other user to whom the mapping file gives a customer, or whose link holds it."""
        query = f"SELECT subject_id FROM {table} WHERE customer_id = ? AND subject_id <> ?"  # noqa: S608 - our own
        row = self._db.execute(query, (customer_id, subject_id)).fetchone()
        return row[0] if row is not None else None

    def _elsewhere(self, user: UserBody) -> tuple[str, ...]:
        """Customers that carry the user's address and name somebody else."""
        rows = self._db.execute(_ELSEWHERE, (_lower(user.fields.email), _SEVERAL))
        return tuple(customer_id for (customer_id,) in rows)

    def _subjects(self, query: str, value: str) -> tuple[str, ...]:
        rows = self._db.execute(f"{query} ORDER BY subject_id LIMIT ?", (value, _SEVERAL))
        return tuple(subject_id for (subject_id,) in rows)

    def set_paid(self, customer: SeenCustomer, paid: bool | None) -> None:
        """Payments were looked at."""
        body = _encode(msgspec.structs.replace(customer, paid=paid))
        self._db.execute("UPDATE customers SET body = ? WHERE customer_id = ?", (body, customer.customer_id))


def _lower(text: str | None) -> str | None:
    return text.lower() if text else None
