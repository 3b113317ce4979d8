"""The bare application to compare with: it answers 204 and does nothing, on the server that serve runs.

python -m tools.noop PORT
"""

import sys

import uvloop
from starlette.types import Receive, Scope, Send

from counterfoil.cli.serve import server_for


async def application(_: Scope, receive: Receive, send: Send) -> None:
    """Read the request, answer 204."""
    await receive()
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body", "body": b""})


if __name__ == "__main__":
    uvloop.run(server_for(application, "127.0.0.1", int(sys.argv[1])).serve())
