"""What the node and its listener tell each other."""

import asyncio
import socket
from typing import Any

from counterfoil.clerk.webhook import Unreadable
from counterfoil.core.link import Address, Fields
from counterfoil.core.news import UserBody, UserDeleted, UserEvent
from counterfoil.web.channel import Channel, Delivered, GaveUp, Item, Opened, ToNode

BODY = UserBody(
    subject_id="user_a",
    version=2**62,
    created_at=1,
    fields=Fields(email="a@example.com", metadata={"plan": "pro"}),
    address=Address.CARRIED,
    mapping_error="wrong",
)
ITEMS: list[Item] = [
    UserEvent(body=BODY, created=True, sent_at=3, trusted=True, delivery="msg_1"),
    UserDeleted(subject_id="user_b", sent_at=4, trusted=False, delivery="msg_2"),
    Unreadable("msg_3", b"\xff\x00" * 200_000, 5),
]


async def connect(channel: Channel, end: socket.socket) -> None:
    await asyncio.get_running_loop().create_unix_connection(lambda: channel, sock=end)


async def test_all_that_a_delivery_says_arrives_as_it_was_and_in_order() -> None:
    heard: list[Any] = []
    gone = asyncio.Event()
    one, other = socket.socketpair()
    speaks = Channel(ToNode, heard.append, lambda: None)
    hears = Channel(ToNode, heard.append, gone.set)
    await connect(speaks, one)
    await connect(hears, other)
    speaks.tell(Opened())
    speaks.tell(Delivered(1, ITEMS))
    speaks.tell(GaveUp(2))
    speaks.close()
    await gone.wait()
    assert heard == [Opened(), Delivered(1, ITEMS), GaveUp(2)]
    hears.tell(Opened())  # nobody is there: dropped


def test_a_message_may_come_in_any_pieces() -> None:
    heard: list[Any] = []
    channel = Channel(ToNode, heard.append, lambda: None)
    sent: list[bytes] = []

    class Transport(asyncio.Transport):
        def write(self, data: Any) -> None:
            sent.append(bytes(data))

    channel.connection_made(Transport())
    channel.tell(Delivered(1, ITEMS[:2]))
    channel.tell(GaveUp(7))
    whole = b"".join(sent)
    for size in (1, 3, 64, len(whole)):
        heard.clear()
        for start in range(0, len(whole), size):
            channel.data_received(whole[start : start + size])
        assert heard == [Delivered(1, ITEMS[:2]), GaveUp(7)]
