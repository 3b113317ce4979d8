"""What a person is to be told: what is, compared with what was told. Times are milliseconds since the epoch."""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Literal

import msgspec

from counterfoil.core.link import ParkReason
from counterfoil.core.policy import MINUTE, SECOND
from counterfoil.core.words import PARKED, ago

SAMPLE = 100
"""Parked links of one reason that are known by name; beyond that, by their number."""
NAMED = 3
"""Users that one message names."""
AGAIN = 10 * MINUTE
"""New links parked for the same reason are told together, so far apart."""
BREAKER_AFTER = 60 * SECOND
"""A shorter pause of calls is over before anybody has read of it."""
UNSETTLED, HELD = "oldest_unsettled", "deletions_held"
_PARKED = "parked:"


class Kind(StrEnum):
    """What an alert is about."""

    PARKED = "parked"
    BREAKER = "breaker"
    DELETIONS_HELD = "deletions_held"
    OLDEST_UNSETTLED = "oldest_unsettled"


class Parked(msgspec.Struct, frozen=True):
    """The links parked for one reason: how many, and the first `SAMPLE` subjects in the order of their ids."""

    count: int
    subject_ids: tuple[str, ...]


class Upstream(msgspec.Struct, frozen=True):
    """A breaker. ``open_for``: milliseconds, ``None`` while it is closed. ``reason``: why it opened.

    ``proven``: an answer came since it opened last, or since this process began. A closed breaker that is not
    proven is no news: the process has just been started, maybe in the middle of the outage.
    """

    open_for: int | None
    reason: str = ""
    proven: bool = False


class Situation(msgspec.Struct, frozen=True, kw_only=True):
    """What is."""

    parked: Mapping[str, Parked] = {}
    upstreams: Mapping[str, Upstream] = {}
    deletions_held: bool = False
    unsettled: int = 0
    oldest: int | None = None
    """Since when the oldest unsettled link is so."""


class Told(msgspec.Struct, frozen=True, omit_defaults=True):
    """What was told, and when; for parked links also of how many and of whom."""

    at: int
    count: int = 0
    subject_ids: tuple[str, ...] = ()


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """One message. ``told`` is to be remembered under ``key`` once it is delivered; ``None``: forgotten."""

    key: str
    told: Told | None
    alert: Kind
    state: Literal["raised", "cleared"]
    text: str
    subject_id: str | None = None
    reason: str | None = None


class Difference(msgspec.Struct, frozen=True):
    """What is to be told, and what is to be remembered without a word."""

    notices: Sequence[Notice]
    quietly: Mapping[str, Told]


def compare(now_so: Situation, told: Mapping[str, Told], after: int, now: int) -> Difference:
    """Find what is to be told.

    Args:
        now_so: what is.
        told: what was told and not taken back, by key.
        after: how old an unsettled link may get, in milliseconds.
        now: milliseconds.
    """
    reasons = {key.removeprefix(_PARKED) for key in told if key.startswith(_PARKED)}
    about_parked = {
        reason: _parked(reason, now_so.parked.get(reason, Parked(0, ())), told.get(_PARKED + reason), now)
        for reason in sorted(reasons | set(now_so.parked))
    }
    notices = [each for each in about_parked.values() if isinstance(each, Notice)]
    for name, upstream in now_so.upstreams.items():
        notices += _upstream(name, upstream, told, now)
    notices += _deletions(held=now_so.deletions_held, told=told, now=now)
    notices += _oldest(now_so, told, after, now)
    quietly = {_PARKED + reason: each for reason, each in about_parked.items() if isinstance(each, Told)}
    return Difference(notices, quietly)


def _parked(reason: str, found: Parked, before: Told | None, now: int) -> Notice | Told | None:
    """A message about one reason; or, where some are parked no more, what to remember of the rest."""
    key = _PARKED + reason
    if found.count == 0:  # so it was told
        text = f"No link is parked as {reason} any more."
        return _notice(Kind.PARKED, "cleared", key, None, text, reason=reason)
    if reason == ParkReason.OBSERVED:
        return None  # whoever only watches has asked for just that
    new = found.count if before is None else _new(found, before)
    if new and (before is None or now - before.at >= AGAIN):
        text, only = _parked_text(reason, found, new), found.subject_ids[0] if found.count == 1 else None
        known = Told(now, found.count, found.subject_ids)
        return _notice(Kind.PARKED, "raised", key, known, text, subject_id=only, reason=reason)
    if before is not None and not new and found.count < before.count:
        return Told(before.at, found.count, found.subject_ids)
    return None


def _new(found: Parked, before: Told) -> int:
    """How many were parked since they were told: by name where all are known by name, else by number."""
    if max(found.count, before.count) > SAMPLE:
        return max(0, found.count - before.count)
    return len(set(found.subject_ids) - set(before.subject_ids))


def _parked_text(reason: str, found: Parked, new: int) -> str:
    more = f", {new} of them new" if new < found.count else ""
    named = ", ".join(found.subject_ids[:NAMED]) + (", ..." if found.count > NAMED else "")
    links = "1 link is" if found.count == 1 else f"{found.count} links are"
    return f"{links} parked as {reason}{more}: {PARKED.get(reason, 'a person must decide')}. {named}"


def _upstream(name: str, upstream: Upstream, told: Mapping[str, Told], now: int) -> list[Notice]:
    key = f"breaker:{name}"
    if upstream.open_for is not None and upstream.open_for >= BREAKER_AFTER and key not in told:
        text = (
            f"Calls to {name.capitalize()} have been paused for {ago(upstream.open_for)}: {upstream.reason}. "
            "Nothing is lost; run counterfoil check."
        )
        return [_notice(Kind.BREAKER, "raised", key, Told(now), text, reason=name)]
    if upstream.open_for is None and upstream.proven and key in told:
        text = f"{name.capitalize()} answers again, after {ago(now - told[key].at)}."
        return [_notice(Kind.BREAKER, "cleared", key, None, text, reason=name)]
    return []


def _deletions(*, held: bool, told: Mapping[str, Told], now: int) -> list[Notice]:
    if held and HELD not in told:
        text = (
            "Deletions are held: too many users were deleted in too short a time. Look into it, then release them."
        )
        return [_notice(Kind.DELETIONS_HELD, "raised", HELD, Told(now), text)]
    if not held and HELD in told:
        return [_notice(Kind.DELETIONS_HELD, "cleared", HELD, None, "Deletions are carried out again.")]
    return []


def _oldest(now_so: Situation, told: Mapping[str, Told], after: int, now: int) -> list[Notice]:
    late = now_so.oldest is not None and now - now_so.oldest > after
    if late and now_so.oldest is not None and UNSETTLED not in told:
        some = "1 link is" if now_so.unsettled == 1 else f"{now_so.unsettled} links are"
        text = f"{some} unsettled, the oldest for {ago(now - now_so.oldest)}: run counterfoil status."
        return [_notice(Kind.OLDEST_UNSETTLED, "raised", UNSETTLED, Told(now), text)]
    if not late and UNSETTLED in told:
        text = f"No link has been unsettled for over {ago(after)} any more."
        return [_notice(Kind.OLDEST_UNSETTLED, "cleared", UNSETTLED, None, text)]
    return []


def _notice(
    alert: Kind,
    state: Literal["raised", "cleared"],
    key: str,
    told: Told | None,
    text: str,
    *,
    subject_id: str | None = None,
    reason: str | None = None,
) -> Notice:
    return Notice(key=key, told=told, alert=alert, state=state, text=text, subject_id=subject_id, reason=reason)
