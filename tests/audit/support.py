"""An audit and an apply in a world of virtual time: the product's own parts, without the command line."""

from pathlib import Path

from counterfoil import settings as product_settings
from counterfoil.audit import plan_file
from counterfoil.audit.apply import Applier, Report
from counterfoil.audit.checks import Checks
from counterfoil.audit.examine import examine
from counterfoil.audit.plan_file import About, Notes
from counterfoil.audit.progress import Progress
from counterfoil.audit.workspace import Workspace
from counterfoil.billing.listing import CustomerLister
from counterfoil.core.finding import Finding
from counterfoil.sandbox.mess import Mess, Planted, Planter
from counterfoil.wiring import Outside, connect
from counterfoil.wiring_audit import crew_at_work, sides_of
from tests.harness import StripeTransport, World

ADOPTING = {"COUNTERFOIL_ADOPT": "verified_email"}
SWIFT = {
    "COUNTERFOIL_STRIPE_RATE": "5000",
    "COUNTERFOIL_STRIPE_ENDPOINT_RATE": "5000",
    "COUNTERFOIL_CLERK_RATE": "5000",
}


def settings(world: World, more: dict[str, str]) -> product_settings.Settings:
    """Two keys, and no signing secret."""
    environ = {name: value for name, value in world.environ.items() if "SIGNING" not in name}
    return product_settings.load({**environ, **more}, world.folder, receives=False)


def outside(world: World) -> Outside:
    """The world that the product sees."""
    return Outside(world.database, world.clock, world.clerk_transport, StripeTransport(world))


def plant(world: World, count: int, seed: int) -> Mess:
    """A mess that is days old."""
    return Planter(world.sandbox, seed, world.time()).plant(count)


CHOSEN = {**ADOPTING, **SWIFT}


async def audit(
    world: World,
    environ: dict[str, str],
    *,
    folder: Path | None = None,
    mapping: dict[str, str] | None = None,
    database: bool = True,
) -> tuple[About, list[Finding]]:
    """Both sides compared, to the end."""
    made, around = settings(world, environ), outside(world)
    upstreams = connect(made, around)
    sides = await sides_of(made, around, upstreams, database=database)
    with Workspace(folder) as space:
        about = await examine(sides, space, list((mapping or {}).items()), Progress())
        return about, list(space.findings())


async def planned(world: World, environ: dict[str, str], *struck: str) -> tuple[list[Finding], Path]:
    """All findings, and a plan of them but for those about the ``struck`` customers."""
    about, found = await audit(world, environ)
    plan = world.folder / "plan.jsonl"
    plan_file.write(plan, about, [each for each in found if each.customer_id not in struck])
    return found, plan


async def apply(world: World, plan: Path, environ: dict[str, str], max_deletes: int = 0) -> Report:
    """A plan applied by workers of its own."""
    made, around = settings(world, environ), outside(world)
    about, found = plan_file.read(plan)
    with Notes(plan) as notes:
        async with crew_at_work(made, around, about) as (crew, tell):
            policy = crew.context.rules.policy
            stripe = crew.upstreams.stripe
            checks = Checks(
                stripe, CustomerLister(stripe, made.metadata_key), policy, max_deletes - notes.deleted()
            )
            applier = Applier(around.database, crew.upstreams.clerk, checks, policy, tell, Progress(), notes)
            return await applier.run(found)


def planted(found: list[Finding]) -> set[Planted]:
    """Findings in the words of whoever planted the mess."""
    return {
        Planted(
            str(each.kind),
            "" if each.kind == "unclaimed" else each.subject_id or "",
            each.customer_id or "",
            each.repair is None,
        )
        for each in found
    }
