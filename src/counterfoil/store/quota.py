"""Statements on the quota that all nodes share, of PostgreSQL alone: one row for each bucket.

The generic cell rate algorithm, by the database's clock: ``next_at`` is when the next slot comes. A reservation
moves it by so many intervals, in one short statement, and no commit waits for the disk: what a crash of the
database forgets has lapsed before it is up again.
"""

from typing import Any

from sqlalchemy import Connection, text

from counterfoil.core.link import Lane
from counterfoil.upstream.shared_quota import HOLD, LONGEST_PUSH, Ask, Grant

_NOW = (
    "(SELECT COALESCE(CAST(:now AS BIGINT),"
    " CAST(extract(epoch FROM statement_timestamp()) * 1000000 AS BIGINT)) AS now) AS t"
)
# What lies too far ahead was written by a clock that has been put back.
_BASE = "GREATEST(CASE WHEN quotas.next_at > t.now + :longest THEN t.now ELSE quotas.next_at END, t.now - :slack)"
_PUT_OFF = "(:lane > 0 AND quotas.live_until BETWEEN t.now AND t.now + :longest)"
_COUNT = (
    f"CASE WHEN {_PUT_OFF} OR {_BASE} > t.now + :horizon THEN 0"
    f" ELSE LEAST(:slots, (t.now + :horizon - {_BASE}) / :interval + 1) END"
)
_NEXT = f"{_BASE} + ({_COUNT}) * :interval"
_UNSYNCED = "set_config('synchronous_commit', 'off', true)"
_RESERVE = text(
    f"UPDATE quotas SET next_at = {_NEXT}, first = {_BASE}, granted = {_COUNT},"  # noqa: S608
    f" live_until = CASE WHEN :lane = 0 AND :waiting > {_COUNT} THEN {_NEXT} + :hold"
    " ELSE quotas.live_until END"
    f" FROM {_NOW} WHERE bucket = :bucket"
    f" RETURNING t.now, quotas.first, quotas.granted, quotas.live_until, {_UNSYNCED}"
)
_PUSH = text(
    f"UPDATE quotas SET next_at = GREATEST({_BASE}, t.now + :seconds)"  # noqa: S608
    f" FROM {_NOW} WHERE bucket = :bucket RETURNING {_UNSYNCED}"
)
_ADD = text("INSERT INTO quotas (bucket) VALUES (:bucket) ON CONFLICT (bucket) DO NOTHING")


def reserve(connection: Connection, ask: Ask, now: int | None = None) -> Grant:
    """Reserve slots of a bucket.

    Args:
        connection: inside a transaction that may write.
        ask: what is wanted.
        now: microseconds; ``None``: by the database's clock.
    """
    values: dict[str, Any] = {
        "bucket": ask.bucket,
        "interval": _micro(ask.interval),
        "lane": int(ask.lane),
        "slots": ask.slots,
        "waiting": ask.waiting,
        "horizon": _micro(ask.horizon),
        "slack": _micro(ask.slack),
        "hold": _micro(HOLD),
        "longest": _micro(LONGEST_PUSH),
        "now": now,
    }
    row = connection.execute(_RESERVE, values).first()
    if row is None:
        connection.execute(_ADD, {"bucket": ask.bucket})
        return reserve(connection, ask, now)
    # Until a whole batch is to be had: asked for one by one, slots would cost a statement each.
    wait = row.first + (ask.slots - 1) * values["interval"] - row.now - values["horizon"]
    if ask.lane is not Lane.LIVE:
        wait = max(wait, row.live_until - row.now)
    return Grant(row.granted, (row.first - row.now) / 1e6, max(0, wait) / 1e6)


def push(connection: Connection, bucket: str, seconds: float, now: int | None = None) -> None:
    """Grant nothing of a bucket for ``seconds``; ``now`` as for `reserve`."""
    values = {
        "bucket": bucket,
        "seconds": _micro(seconds),
        "slack": 0,
        "longest": _micro(LONGEST_PUSH),
        "now": now,
    }
    connection.execute(_PUSH, values)


def _micro(seconds: float) -> int:
    return round(seconds * 1e6)
