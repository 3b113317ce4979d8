"""``counterfoil sandbox``: Clerk, Stripe and Svix, played on this machine."""

import time
from typing import Annotated

import typer

from counterfoil.cli.output import explained, screen
from counterfoil.cli.serve import run, told_to_stop
from counterfoil.sandbox.courier import Courier
from counterfoil.sandbox.http import serve as serve_sandbox
from counterfoil.sandbox.mess import Planter
from counterfoil.sandbox.sandbox import Sandbox, SandboxSettings
from counterfoil.sandbox.svix import SvixSettings


def sandbox(
    port: Annotated[int, typer.Option(help="The port to listen on.")] = 8788,
    webhook: Annotated[
        str, typer.Option(help="Where deliveries are sent.")
    ] = "http://127.0.0.1:8787/webhooks/clerk",
    seed: Annotated[int, typer.Option(help="What happens by chance happens by this seed.")] = 0,
    speed: Annotated[float, typer.Option(help="How much faster than Svix's own the retry schedule runs.")] = 1.0,
    latency: Annotated[float, typer.Option(help="Milliseconds that every answer takes.")] = 50.0,
    mess: Annotated[int, typer.Option(help="Begin with so many cases of an old handler's mess.")] = 0,
) -> None:
    """Play Clerk, Stripe and Svix, and say how to point serve at them. Nothing leaves this machine."""
    settings = SandboxSettings(
        seed=seed,
        latency=(latency / 1000, latency / 1000),
        svix=SvixSettings(time_scale=1.0 / max(speed, 0.001)),
    )
    with explained():
        run(_play(settings, port, webhook, mess))


async def _play(settings: SandboxSettings, port: int, webhook: str, mess: int) -> None:
    stop = told_to_stop()
    world = Sandbox(settings)
    if mess:
        Planter(world, settings.seed, time.time()).plant(mess)
    async with serve_sandbox(world, port) as base, Courier(world.svix, webhook):
        screen.print("[bold]The sandbox is running.[/] In another terminal:\n")
        for name, value in environment(settings, base).items():
            screen.print(f"  export {name}={value}", soft_wrap=True)
        screen.print("  counterfoil serve\n")
        screen.print(f"Make users:  curl -X POST {base}/sandbox/users -d '{{\"count\": 10}}'", soft_wrap=True)
        screen.print(f"The verdict: curl {base}/sandbox/verdict", soft_wrap=True)
        await stop.wait()


def environment(settings: SandboxSettings, base: str) -> dict[str, str]:
    """What points a node at a sandbox that listens at ``base``."""
    return {
        "CLERK_SECRET_KEY": settings.clerk.secret_key,
        "CLERK_WEBHOOK_SIGNING_SECRET": settings.svix.secret,
        "CLERK_API_URL": f"{base}/clerk",
        "STRIPE_SECRET_KEY": settings.stripe.secret_key,
        "STRIPE_API_BASE": f"{base}/stripe",
    }
