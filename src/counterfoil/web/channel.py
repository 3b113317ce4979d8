"""What the node and its listener tell each other, over a pair of sockets: each message behind its length.

The listener is a process of ours and of this very release, so a message that cannot be read is a bug: it ends the
connection, and with it the listener, which is started anew.
"""

import asyncio
from collections.abc import Callable
from typing import Any, cast

import msgspec

from counterfoil.clerk.view import Described
from counterfoil.clerk.webhook import Unreadable
from counterfoil.core.news import UserDeleted, UserEvent

Item = UserEvent | UserDeleted | Unreadable
"""What a delivery says, or its body where that could not be read."""
Headers = list[tuple[bytes, bytes]]

_LENGTH = 4
"""Bytes in front of each message."""


class Opening(msgspec.Struct, frozen=True, tag=True, kw_only=True):
    """To the listener, first of all: what to listen for. It holds the signing secrets, so it is never logged."""

    host: str
    port: int
    webhook_path: str
    secrets: list[str]
    """None: deliveries are not taken here."""
    instance_id: str
    link_back_key: str
    view: Described


class Written(msgspec.Struct, frozen=True, tag=True):
    """To the listener: whether a batch is on disk."""

    number: int
    written: bool


class Answered(msgspec.Struct, frozen=True, tag=True):
    """To the listener: the answer to a request that it passed on."""

    number: int
    status: int
    headers: Headers
    body: bytes


class Stop(msgspec.Struct, frozen=True, tag=True):
    """To the listener: take no more requests, answer those that are there, and end."""


class Opened(msgspec.Struct, frozen=True, tag=True):
    """To the node: the listener listens."""


class Delivered(msgspec.Struct, frozen=True, tag=True):
    """To the node: genuine deliveries, to be written before they are answered."""

    number: int
    items: list[Item]


class Asked(msgspec.Struct, frozen=True, tag=True):
    """To the node: a request for another path than the webhook's."""

    number: int
    method: str
    path: str
    query: bytes
    headers: Headers
    body: bytes


class GaveUp(msgspec.Struct, frozen=True, tag=True):
    """To the node: whoever asked has hung up."""

    number: int


ToListener = Opening | Written | Answered | Stop
ToNode = Opened | Delivered | Asked | GaveUp


class Channel(asyncio.Protocol):
    """One end of the pair."""

    def __init__(self, kind: Any, heard: Callable[[Any], None], lost: Callable[[], None]) -> None:
        """Args:
        kind: what is heard at this end: `ToListener` or `ToNode`.
        heard: called with each message, in order.
        lost: called once, when the other end has gone.
        """
        self._decode = msgspec.msgpack.Decoder(kind).decode
        self._encode = msgspec.msgpack.Encoder().encode
        self._heard = heard
        self._lost = lost
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are none of asyncio's classes.
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer
        buffer += data
        start = 0
        while len(buffer) >= start + _LENGTH:
            end = start + _LENGTH + int.from_bytes(buffer[start : start + _LENGTH], "big")
            if len(buffer) < end:
                break
            self._heard(self._decode(bytes(buffer[start + _LENGTH : end])))
            start = end
        del buffer[:start]

    def connection_lost(self, _: Exception | None) -> None:
        self._transport = None
        self._lost()

    def tell(self, message: ToListener | ToNode) -> None:
        """Send a message; one to an end that has gone is dropped."""
        if self._transport is not None:
            body = self._encode(message)
            self._transport.write(len(body).to_bytes(_LENGTH, "big") + body)

    def close(self) -> None:
        """Send what is not sent yet, and hang up."""
        if self._transport is not None:
            self._transport.close()
