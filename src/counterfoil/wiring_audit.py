"""Where an audit, and what is applied after it, meets the rest: `wiring` for nodes that serve."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial

import msgspec

from counterfoil.audit.apply import Tell
from counterfoil.audit.examine import Sides
from counterfoil.audit.patience import insistently
from counterfoil.audit.plan_file import About
from counterfoil.billing.listing import CustomerLister
from counterfoil.core.link import Link
from counterfoil.core.policy import Policy
from counterfoil.engine import pin
from counterfoil.engine.supervisor import Role
from counterfoil.errors import WrongEnvironment
from counterfoil.settings import Settings
from counterfoil.store import environment, links
from counterfoil.store.database import Database
from counterfoil.store.orders import Errand
from counterfoil.wiring import Crew, Outside, Upstreams, assemble_crew, chosen_view, with_settings

_LOOK_EVERY, _LOOK_PATIENCE = 20.0, 60.0
"""Seconds: how old a look at Stripe's newest customers may be when a plan's customers are made."""


async def sides_of(settings: Settings, outside: Outside, upstreams: Upstreams, *, database: bool) -> Sides:
    """What an audit reads: two keys are enough; with a ``database``, its links are compared too.

    Raises:
        WrongEnvironment: the database belongs to another environment.
        UpstreamError: a side does not answer.
    """
    found = await pin.ask(upstreams.clerk, upstreams.stripe, settings.stripe_secret_key.get_secret_value())
    recalled = (
        pin.recall(await outside.database.read(environment.load), settings.metadata_key) if database else None
    )
    if recalled is not None:
        pin.compare(recalled[0], found)
    policy = recalled[1] if recalled is not None else Policy(environment="", since=0, livemode=found.livemode)
    return Sides(
        clerk=upstreams.clerk,
        lister=CustomerLister(upstreams.stripe, settings.metadata_key),
        policy=with_settings(policy, settings),
        about=About(
            clerk_instance=found.clerk_instance,
            stripe_account=found.stripe_account,
            livemode=found.livemode,
            metadata_key=settings.metadata_key,
            link_back=f"{settings.link_back} {settings.link_back_key}",
            at=outside.clock.now(),
        ),
        view=chosen_view(settings),
        links=partial(_page_of_links, outside.database) if recalled is not None else None,
    )


async def _page_of_links(database: Database, after: str, limit: int) -> list[Link]:
    return await database.read(lambda connection: links.after(connection, after, limit))


@asynccontextmanager
async def crew_at_work(settings: Settings, outside: Outside, about: About) -> AsyncIterator[tuple[Crew, Tell]]:
    """Workers that do what they are asked for and nothing else, once they know every customer of Stripe's.

    Raises:
        WrongEnvironment: the plan is about another environment, or other settings.
    """
    crew = await assemble_crew(settings, outside)
    check_plan(about, crew.environment, settings)
    crew.supervisor.start(Role.ERRANDS)
    broken = asyncio.create_task(crew.supervisor.wait())
    try:
        while not (crew.context.catch_up.complete or broken.done()):
            await asyncio.wait({broken}, timeout=0.1)
        if broken.done():
            broken.result()
        yield crew, _Fresh(crew).tell
    finally:
        broken.cancel()
        await crew.supervisor.stop()
        await crew.upstreams.stripe.close()


def check_plan(about: About, found: pin.Environment, settings: Settings) -> None:
    """Raise `WrongEnvironment` where a plan was made for another environment, or for other settings."""
    planned = msgspec.structs.replace(
        found,
        clerk_instance=about.clerk_instance,
        stripe_account=about.stripe_account,
        livemode=about.livemode,
    )
    places = (settings.metadata_key, f"{settings.link_back} {settings.link_back_key}")
    if pin.differ(planned, found):
        raise WrongEnvironment(f"the plan is about {planned.sentence()}, and the keys are of {found.sentence()}")
    if places != (about.metadata_key, about.link_back):
        raise WrongEnvironment("the plan was made with another metadata key or link-back: audit again")


class _Fresh:
    """Asks links, after a look at Stripe's newest customers: an old handler may be making some still."""

    def __init__(self, crew: Crew) -> None:
        self._crew = crew
        self._looked: float | None = None

    async def tell(self, errands: Sequence[Errand]) -> Sequence[str]:
        catch_up, elapsed = self._crew.context.catch_up, self._crew.context.clock.elapsed
        if self._looked is None or elapsed() - self._looked > _LOOK_EVERY:
            await insistently(lambda: catch_up.reach(catch_up.world().stripe_now - 2_000, _LOOK_PATIENCE))
            self._looked = elapsed()
        return await self._crew.supervisor.run_errands(errands)
