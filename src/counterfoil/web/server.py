"""The HTTP server."""

from granian.constants import HTTPModes, Interfaces
from granian.log import LogLevels
from granian.server.embed import Server
from starlette.types import ASGIApp


def server_for(application: ASGIApp, host: str, port: int) -> Server:
    """The HTTP server, as serve runs it: no lifespan, HTTP/1.1, one thread."""
    return Server(
        application,
        address=host,
        port=port,
        interface=Interfaces.ASGINL,
        http=HTTPModes.http1,
        websockets=False,
        log_enabled=False,
        log_level=LogLevels.warning,
        backlog=1024,
    )
