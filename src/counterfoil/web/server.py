"""The HTTP server."""

from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.log import LogLevels
from granian.server.embed import Server
from starlette.types import ASGIApp

CONNECTIONS = 4_096
"""So many at once; further ones wait to be accepted."""
HEAD_MILLISECONDS = 10_000
"""For a request's head, and for the first byte of the next one."""
HEAD_LIMIT = 64 * 1024
"""Bytes of a request's head, and of a body not yet taken."""


def server_for(application: ASGIApp, host: str, port: int) -> Server:
    """The HTTP server, as serve runs it: no lifespan, HTTP/1.1, one thread.

    Connections that say nothing, or nothing more, have 10 s: a thousand of them, or four, leave room for others.
    """
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
        backpressure=CONNECTIONS,
        http1_settings=HTTP1Settings(header_read_timeout=HEAD_MILLISECONDS, max_buffer_size=HEAD_LIMIT),
    )
