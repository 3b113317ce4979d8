"""Both clients, at the sandbox's transports."""

from typing import TypeVar

from counterfoil import settings as product_settings
from counterfoil.clerk.api import Answer
from counterfoil.errors import UpstreamError
from counterfoil.wiring import Outside, Upstreams, connect
from tests.harness import StripeTransport, World

E = TypeVar("E", bound=UpstreamError)
SWIFT = {
    "COUNTERFOIL_CLERK_RATE": "1000",
    "COUNTERFOIL_STRIPE_RATE": "1000",
    "COUNTERFOIL_STRIPE_ENDPOINT_RATE": "1000",
}


def clients(world: World, **more: str) -> Upstreams:
    """The clients, at rates that hold nothing back."""
    settings = product_settings.load({**world.environ, **SWIFT, **more}, world.folder)
    outside = Outside(world.database, world.clock, world.clerk_transport, StripeTransport(world))
    return connect(settings, outside, lambda *_: None)


def answering(world: World, status: int, body: bytes, **headers: str) -> Upstreams:
    """Clients whose Clerk always answers this."""

    async def transport(*_: object) -> Answer:
        return Answer(status, headers, body)

    settings = product_settings.load({**world.environ, **SWIFT}, world.folder)
    outside = Outside(world.database, world.clock, transport, StripeTransport(world))
    return connect(settings, outside, lambda *_: None)
