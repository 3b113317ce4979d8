"""Alerts: level-based as everything else. What is is compared with what was told, and the difference is sent.

What was told is remembered in the database once the receiver has taken it: so a restart neither repeats nor
forgets, and a message that was lost with its answer is sent again.
"""

import asyncio
import contextlib
from collections.abc import Mapping

import msgspec
import structlog
from sqlalchemy import Connection

from counterfoil.clerk.api import Transport
from counterfoil.core.alerts import SAMPLE, Difference, Notice, Parked, Situation, Told, Upstream, compare
from counterfoil.engine.clock import Clock
from counterfoil.engine.deletions import HELD_AT
from counterfoil.errors import AlertRefused, DatabaseUnavailable
from counterfoil.store import environment, figures
from counterfoil.store.database import Database
from counterfoil.upstream.breaker import Breaker

PERIOD = 15.0
"""Seconds between looks."""
TIMEOUT = 10.0
_LONGEST = 600.0
"""Seconds between tries at a receiver that does not take them."""
_TOLD = "alerts_told"

_log = structlog.get_logger(__name__)
_decode_told = msgspec.json.Decoder(dict[str, Told]).decode


class Sender:
    """Posts to the one receiver."""

    def __init__(self, transport: Transport, url: str, environment: str) -> None:
        """Args:
        transport: sends the requests.
        url: a secret, for it may hold a token: it is never logged.
        environment: names the pinned environment, in every message.
        """
        self._transport = transport
        self._url = url
        self._environment = environment

    async def send(self, text: str, now: int, **about: str | None) -> None:
        """Post one message; ``about`` without a value is left out.

        Raises:
            AlertRefused: the receiver did not answer 2xx within 10 s.
        """
        told = {name: value for name, value in about.items() if value is not None}
        body = {"text": f"Counterfoil: {text}", **told, "at": now, "environment": self._environment}
        headers = {"content-type": "application/json", "user-agent": "counterfoil"}
        try:
            async with asyncio.timeout(TIMEOUT):
                answer = await self._transport("POST", self._url, headers, msgspec.json.encode(body))
        except (TimeoutError, OSError, ValueError) as error:
            raise AlertRefused(f"no answer ({type(error).__name__})") from None
        if not 200 <= answer.status < 300:
            raise AlertRefused(f"it answered {answer.status}")


class Alerts:
    """The loop. Belongs to one event loop, and hinders nothing else in it."""

    def __init__(
        self, database: Database, clock: Clock, sender: Sender, breakers: Mapping[str, Breaker], after: int
    ) -> None:
        """Args:
        database: what is is read from it, what was told is kept in it.
        clock: the time.
        sender: posts the messages.
        breakers: each upstream's.
        after: how old an unsettled link may get, in milliseconds.
        """
        self._database = database
        self._clock = clock
        self._sender = sender
        self._breakers = breakers
        self._after = after
        self._soon = asyncio.Event()
        self._unkept: dict[str, Told | None] = {}

    def look(self) -> None:
        """Something may have changed: look now."""
        self._soon.set()

    async def run(self) -> None:
        """Look, tell, wait; for ever."""
        pause = PERIOD
        while True:
            try:
                await self._tell()
                pause = PERIOD
            except AlertRefused as error:
                pause = min(pause * 2, _LONGEST)
                _log.warning("alerts.not_sent", error=str(error), again_in=pause)
            except DatabaseUnavailable as error:
                _log.warning("alerts.database", error=str(error))
            self._soon.clear()
            if pause > PERIOD:
                await asyncio.sleep(pause)  # a receiver that is down is not tried sooner, whatever happens
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._soon.wait()

    async def _tell(self) -> None:
        found = await self._difference()
        if found.quietly or self._unkept:
            await self._remember(found.quietly)
        for notice in found.notices:
            await self._send(notice)
            await self._remember({notice.key: notice.told})

    async def _difference(self) -> Difference:
        def job(connection: Connection) -> tuple[Situation, dict[str, Told]]:
            known = environment.load(connection)
            backlog = figures.backlog(connection)
            parked = {
                reason: Parked(count, tuple(figures.parked_ids(connection, reason, "", SAMPLE)))
                for reason, count in backlog.parked.items()
            }
            situation = Situation(
                parked=parked,
                deletions_held=bool(known.get(HELD_AT)),
                unsettled=backlog.unsettled,
                oldest=backlog.oldest,
            )
            return situation, _decode_told(known.get(_TOLD, "{}"))

        situation, told = await self._database.read(job)
        upstreams = {name: _upstream(breaker) for name, breaker in self._breakers.items()}
        situation = msgspec.structs.replace(situation, upstreams=upstreams)
        return compare(situation, _merged(told, self._unkept), self._after, self._clock.now())

    async def _send(self, notice: Notice) -> None:
        await self._sender.send(
            notice.text,
            self._clock.now(),
            alert=notice.alert,
            state=notice.state,
            subject_id=notice.subject_id,
            reason=notice.reason,
        )
        _log.info("alert", alert=notice.alert, state=notice.state, reason=notice.reason)

    async def _remember(self, changes: Mapping[str, Told | None]) -> None:
        """Change these keys only; while the database cannot be written they are kept here: nothing is repeated."""
        self._unkept.update(changes)

        def job(connection: Connection) -> None:
            told = _decode_told(environment.load(connection).get(_TOLD, "{}"))
            environment.put(connection, {_TOLD: msgspec.json.encode(_merged(told, self._unkept)).decode()})

        try:
            await self._database.write(job)
        except DatabaseUnavailable as error:
            _log.warning("alerts.not_kept", error=str(error))
        else:
            self._unkept.clear()


def _merged(told: Mapping[str, Told], changes: Mapping[str, Told | None]) -> dict[str, Told]:
    return {key: value for key, value in {**told, **changes}.items() if value is not None}


def _upstream(breaker: Breaker) -> Upstream:
    open_for = breaker.open_for
    return Upstream(
        open_for=round(open_for * 1_000) if open_for is not None else None,
        reason=breaker.reason,
        proven=breaker.proven,
    )
