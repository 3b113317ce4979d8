"""Where parts meet: a node that serves. An audit and its apply meet the rest in `wiring_audit`."""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import msgspec
import stripe
import structlog
from prometheus_client import CollectorRegistry
from starlette.types import ASGIApp

from counterfoil.billing.stripe import MARK, StripeApi, is_live
from counterfoil.clerk.api import AiohttpTransport, ClerkApi, Transport
from counterfoil.clerk.body import BodyReader, View
from counterfoil.clerk.webhook import Decoder, Verifier
from counterfoil.core.eligibility import Eligibility
from counterfoil.core.link import Ruling
from counterfoil.core.policy import Adopt, Create, IfSubscribed, LinkBack, NoEmail, OnDeletion, Policy
from counterfoil.engine import pin
from counterfoil.engine.alerts import Alerts, Sender
from counterfoil.engine.catch_up import CatchUp
from counterfoil.engine.chosen import take_up
from counterfoil.engine.clock import Clock, FollowingClock, SystemClock
from counterfoil.engine.context import Context, Rules
from counterfoil.engine.deletions import held_removals
from counterfoil.engine.patience import patiently
from counterfoil.engine.peers import Alone, Peers
from counterfoil.engine.supervisor import Role, Supervisor, retry_all
from counterfoil.errors import DatabaseUnavailable, ServerFailed, Unreachable
from counterfoil.own_code import load_function
from counterfoil.settings import Settings
from counterfoil.store import environment, figures
from counterfoil.store.database import Database
from counterfoil.store.engine import parse
from counterfoil.store.move import refuse_moved
from counterfoil.store.opening import open_database
from counterfoil.store.peers import PostgresqlPeers
from counterfoil.store.soundness import refuse_damaged
from counterfoil.store.upgrade import upgrade
from counterfoil.upstream.gate import Gate, Limits, Observer
from counterfoil.web import app
from counterfoil.web.api import Api
from counterfoil.web.metrics import Metrics
from counterfoil.web.receiver import Receiver

_STRIPE_LIVE, _STRIPE_TEST, _STRIPE_ENDPOINT = 100, 25, 25
"""Calls that Stripe takes in a second (facts 3.5). Clerk counts over ten: what hangs for a while is evened out."""
_TRIES = 4
"""At the first start a person waits for an answer: a hiccup is gone over, an outage is told."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Outside:
    """The world that a node stands in: what a simulation replaces."""

    database: Database
    clock: Clock
    transport: Transport
    stripe_http: stripe.HTTPClient | None = None
    """``None``: the real network."""
    peers: Peers = field(default_factory=Alone)


@dataclass(frozen=True, slots=True)
class Upstreams:
    """Both clients with their gates."""

    clerk: ClerkApi
    stripe: StripeApi
    gates: dict[str, Gate]


@dataclass(frozen=True, slots=True)
class Crew:
    """What works on links, and takes no deliveries."""

    supervisor: Supervisor
    context: Context
    upstreams: Upstreams
    environment: pin.Environment


@dataclass(frozen=True, slots=True)
class Node:
    """A node, ready to be started."""

    supervisor: Supervisor
    context: Context
    upstreams: Upstreams
    receiver: Receiver | None
    """Takes deliveries; ``None``: this node takes none."""
    application: ASGIApp
    """Answers all other requests."""
    environment: pin.Environment
    token: str
    """Opens the local API."""
    role: Role


def _unwatched(*_: object) -> None:
    """Nobody counts the calls."""


def _holds(limit: int, rate: float) -> int | None:
    """The usual limit; whoever asks for more has been given more, and nobody told us how much."""
    return limit if rate <= limit else None


def connect(settings: Settings, outside: Outside, observe: Observer = _unwatched) -> Upstreams:
    """The clients for both sides, at the rates that the keys allow."""
    clerk_key = settings.clerk_secret_key.get_secret_value()
    stripe_key = settings.stripe_secret_key.get_secret_value()
    # The defaults leave a fifth of what the vendors allow to the user's own app.
    clerk_rate = settings.clerk_rate or (80.0 if clerk_key.startswith("sk_live_") else 8.0)
    live = is_live(stripe_key)
    stripe_rate = settings.stripe_rate or (80.0 if live else 20.0)
    slots = outside.peers.slots
    limits = Limits(
        calls=_holds(_STRIPE_LIVE if live else _STRIPE_TEST, stripe_rate),
        endpoint=_holds(_STRIPE_ENDPOINT, settings.stripe_endpoint_rate),
    )
    gates = {
        "clerk": Gate("clerk", clerk_rate, observe, slots=slots),
        "stripe": Gate("stripe", stripe_rate, observe, settings.stripe_endpoint_rate, slots, limits),
    }
    reader = BodyReader(settings.link_back_key, _view(settings))
    return Upstreams(
        clerk=ClerkApi(clerk_key, settings.clerk_api_url, gates["clerk"], outside.transport, reader),
        stripe=StripeApi(
            stripe_key,
            settings.stripe_api_base,
            gates["stripe"],
            settings.metadata_key,
            outside.clock.now,
            outside.stripe_http,
        ),
        gates=gates,
    )


def _view(settings: Settings) -> View:
    """What the settings make of a user."""
    key, _, value = (settings.only_metadata or "").partition("=")
    own = {
        name: load_function(f"COUNTERFOIL_{name.upper()}", named) if named is not None else None
        for name, named in (("eligible", settings.eligible), ("mapping", settings.mapping))
    }
    return View(
        eligibility=Eligibility(
            domains=tuple(settings.only_domains.split(",")) if settings.only_domains else (),
            metadata=(key, value) if key else None,
            function=own["eligible"],
        ),
        mirror=frozenset(settings.mirror.split(",")),
        mapping=own["mapping"],
        own_keys=frozenset({settings.metadata_key, MARK}),
    )


def chosen_view(settings: Settings) -> str:
    """All settings that decide what is kept of a body, as a text. What an own function does is not in it."""
    chosen = (settings.only_domains, settings.only_metadata, settings.eligible, settings.mirror, settings.mapping)
    return " ".join(str(each) for each in (*chosen, settings.link_back_key))


async def assemble(settings: Settings, outside: Outside, *, observe: bool = False) -> Node:
    """Put a node together; nothing runs yet.

    At the first start both sides are asked what the keys are of, and the database is pinned to that. Later
    the pinned environment is taken from the database, so that deliveries are taken although an upstream is
    down; the keys are verified before any work is done.

    Raises:
        ConfigurationError: a setting, or the environment, is not what it must be.
        UpstreamError: at the first start, an upstream does not answer.
    """
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    role = Role(settings.role)
    verifier = Verifier(settings.signing_secrets()) if role is not Role.WORKER else None
    crew = await assemble_crew(settings, outside, metrics.observe_call, observe=observe)
    supervisor, context, upstreams = crew.supervisor, crew.context, crew.upstreams
    receiver = None
    if verifier is not None:
        decoder = Decoder(instance_id=context.instance_id, reader=upstreams.clerk.reader)
        receiver = Receiver(verifier, decoder, supervisor.intake.take, registry, now=outside.clock.now)
    token = secrets.token_urlsafe(24)
    desk = _desk(token, supervisor, context, upstreams, metrics)
    ensurer = supervisor.ensurer
    api = Api(settings.api_tokens(), token, ensurer.at_once, ensurer.wait, ensurer.stands)
    application = app.build(desk, api)
    return Node(supervisor, context, upstreams, receiver, application, crew.environment, token, role)


async def assemble_crew(
    settings: Settings, outside: Outside, watch: Observer = _unwatched, *, observe: bool = False
) -> Crew:
    """As `assemble`, but only what works: no deliveries are taken."""
    upstreams = connect(settings, outside, watch)
    database, clock = outside.database, FollowingClock(outside.clock)
    keys = _Keys(settings, database, clock, upstreams)
    receiver = Role(settings.role) is Role.RECEIVER
    first = keys.pinned_by_a_worker if receiver else keys.first_start
    known = await database.read(environment.load)
    pinned, policy = pin.recall(known, settings.metadata_key) or await first()
    policy = with_settings(policy, settings)
    if not receiver:
        await take_up(database, policy, chosen_view(settings), clock.now())
    context = Context(
        database=database,
        clerk=upstreams.clerk,
        stripe=upstreams.stripe,
        clock=clock,
        catch_up=CatchUp(database, upstreams.stripe, clock, policy, outside.peers),
        rules=Rules(policy, observe=observe),
        instance_id=pinned.clerk_instance,
        peers=outside.peers,
    )
    alerts = _alerts(settings, outside, upstreams, pinned)
    supervisor = Supervisor(context, settings.journal_keep, keys.verify, alerts)
    for gate in upstreams.gates.values():
        gate.breaker.recovered = supervisor.recovered
    return Crew(supervisor, context, upstreams, pinned)


def with_settings(policy: Policy, settings: Settings) -> Policy:
    """What is pinned, and what the user chose."""
    return msgspec.structs.replace(
        policy,
        intent_ttl=settings.intent_ttl,
        quiet=settings.quiet,
        create=Create(settings.create),
        no_email=NoEmail(settings.no_email),
        adopt=Adopt(settings.adopt),
        link_back=LinkBack(settings.link_back),
        on_deletion=OnDeletion(settings.on_deletion),
        deletion_grace=settings.deletion_grace,
        if_subscribed=IfSubscribed(settings.if_subscribed),
        deletion_breaker=settings.deletion_breaker,
    )


class _Keys:
    """Finds out what the keys are of, and compares it with what is pinned."""

    def __init__(self, settings: Settings, database: Database, clock: Clock, upstreams: Upstreams) -> None:
        self._settings = settings
        self._database = database
        self._clock = clock
        self._upstreams = upstreams

    async def first_start(self) -> tuple[pin.Environment, Policy]:
        """Ask both sides, and pin the answer."""
        for _ in range(_TRIES):
            try:
                return await self._once()
            except (Unreachable, ServerFailed) as error:
                _log.warning("keys.not_verified", error=str(error), again_in=1)
                await asyncio.sleep(1.0)
        return await self._once()

    async def pinned_by_a_worker(self) -> tuple[pin.Environment, Policy]:
        """A receiver may have no keys: wait until a node that has them has made the first start."""
        while True:
            known = await self._database.read(environment.load)
            recalled = pin.recall(known, self._settings.metadata_key)
            if recalled is not None:
                return recalled
            _log.warning("environment.not_pinned", wait="for the first start of a worker", again_in=1)
            await asyncio.sleep(1.0)

    async def verify(self) -> None:
        """Return when the keys are known to be of the pinned environment, however long that takes."""
        await patiently(self._once, "keys.not_verified")

    async def _once(self) -> tuple[pin.Environment, Policy]:
        stripe_key = self._settings.stripe_secret_key.get_secret_value()
        found = await pin.ask(self._upstreams.clerk, self._upstreams.stripe, stripe_key)
        return await pin.pin(self._database, found, self._settings.metadata_key, self._clock.now())


def _alerts(settings: Settings, outside: Outside, upstreams: Upstreams, pinned: pin.Environment) -> Alerts | None:
    if settings.alert_url is None:
        return None
    sender = Sender(outside.transport, settings.alert_url.get_secret_value(), pinned.sentence())
    breakers = {name: gate.breaker for name, gate in upstreams.gates.items()}
    return Alerts(outside.database, outside.clock, sender, breakers, settings.alert_after)


def _desk(
    token: str, supervisor: Supervisor, context: Context, upstreams: Upstreams, metrics: Metrics
) -> app.Desk:
    async def render() -> bytes:
        backlog = await context.database.read(figures.backlog)
        breakers = {name: gate.breaker.is_open for name, gate in upstreams.gates.items()}
        held = await context.database.read(held_removals)
        return metrics.render(backlog, breakers, context.catch_up.scanned, held, context.clock.now())

    async def retry(wanted: app.RetryRequest) -> int:
        if wanted.everything:
            return await retry_all(context.database, wanted.reason, supervisor.retry)
        return await supervisor.retry(wanted.subjects)

    def obstacles() -> Sequence[str]:
        return ["the database cannot be written"] if supervisor.intake.failing else []

    async def undo(wanted: app.UndoRequest) -> int:
        return await supervisor.rule(wanted.subjects, Ruling.UNDO)

    async def release(wanted: app.ReleaseRequest) -> int:
        if wanted.deletions:
            return await supervisor.release_deletions()
        return await supervisor.rule(wanted.subjects, Ruling.RELEASE)

    async def notes() -> Sequence[str]:
        found = []
        if not context.catch_up.complete:
            found.append(f"the first scan of Stripe is under way ({context.catch_up.scanned} customers)")
        for name, gate in upstreams.gates.items():
            if gate.breaker.is_open:
                found.append(f"calls to {name} are paused: {gate.breaker.reason}")
        with contextlib.suppress(DatabaseUnavailable):  # that is told as an obstacle
            held = await context.database.read(held_removals)
            if held is not None:
                found.append(f"{held} removals are held: see `counterfoil status`")
        return found

    return app.Desk(token, obstacles, notes, render, retry, undo, release, supervisor.run_errands)


@asynccontextmanager
async def real_world(settings: Settings) -> AsyncIterator[Outside]:
    """The real database, clock and network; the schema is brought up to date first."""
    database = open_database(settings.database_url, settings.database_schema)
    transport = AiohttpTransport()
    try:
        await database.read(refuse_damaged)
        await database.write(upgrade)
        refuse_moved(await database.read(environment.load))
        async with peers_of(settings) as peers:
            yield Outside(database, SystemClock(), transport, peers=peers)
    finally:
        await transport.close()
        await database.close()


@asynccontextmanager
async def peers_of(settings: Settings) -> AsyncIterator[Peers]:
    """The other nodes on the database: whoever calls Clerk or Stripe shares their quota."""
    if parse(settings.database_url).get_backend_name() == "sqlite":
        yield Alone()
        return
    listen_url = settings.listen_url.get_secret_value() if settings.listen_url is not None else None
    peers = PostgresqlPeers(settings.database_url, settings.database_schema, listen_url)
    try:
        yield peers
    finally:
        await peers.close()
