"""Deliveries that are not genuine, through the whole application."""

import base64
from collections.abc import Callable
from dataclasses import replace
from random import Random

import pytest

from counterfoil.sandbox.svix import SvixSettings, SvixState
from tests.harness import MINUTE, World, scenario

Spoil = Callable[[dict[str, str], bytes], tuple[dict[str, str], bytes]]
SECRET_WORD = "ada@example.com"


def header(name: str, change: Callable[[str], str]) -> Spoil:
    """Spoil one header."""
    return lambda headers, body: ({**headers, name: change(headers[name])}, body)


def without(name: str) -> Spoil:
    """Leave one header out."""
    return lambda headers, body: ({key: value for key, value in headers.items() if key != name}, body)


def signature(change: Callable[[str], str]) -> Spoil:
    """Spoil the signature."""
    return header("svix-signature", change)


SPOILT: dict[str, Spoil] = {
    "id missing": without("svix-id"),
    "time missing": without("svix-timestamp"),
    "signature missing": without("svix-signature"),
    "all missing": lambda _, body: ({}, body),
    "body changed": lambda headers, body: (headers, body.replace(b"Ada", b"Eve")),
    "body with a space more": lambda headers, body: (headers, body + b" "),
    "body emptied": lambda headers, _: (headers, b""),
    "body that is not UTF-8": lambda headers, body: (headers, b"\xff" + body),
    "id of another": header("svix-id", lambda _: "msg_ada"),
    "id with a full stop": header("svix-id", lambda value: value + ".1"),
    "time that is no number": header("svix-timestamp", lambda _: SECRET_WORD),
    "time moved by a second": header("svix-timestamp", lambda value: str(int(value) + 1)),
    "time six minutes old": header("svix-timestamp", lambda value: str(int(value) - 360)),
    "time six minutes ahead": header("svix-timestamp", lambda value: str(int(value) + 360)),
    "signature without a comma": signature(lambda value: value.replace(",", "")),
    "signature with two commas": signature(lambda value: value + ",x"),
    "two spaces between signatures": signature(lambda value: f"{value}  {value}"),
    "signature that is not base64": signature(lambda _: "v1,%%%"),
    "signature of another version": signature(lambda value: value.replace("v1,", "v2,")),
    "signature empty": signature(lambda _: ""),
    "signature of zeros": signature(lambda _: "v1," + base64.b64encode(bytes(32)).decode()),
    "signature not ASCII": signature(lambda value: value + "\u00eb"),
    "signature cut short": signature(lambda value: value[:-4]),
    "far too many signatures": signature(lambda value: " ".join(["v1,AAAA"] * 100 + [value])),
    "the two sets of names mixed": lambda headers, body: (
        {("webhook-id" if key == "svix-id" else key): value for key, value in headers.items()},
        body,
    ),
}


@pytest.mark.parametrize("spoilt", SPOILT, ids=lambda name: name.replace(" ", "-"))
@scenario
async def test_a_delivery_that_is_not_genuine_is_refused_and_leaves_nothing(world: World, spoilt: str) -> None:
    node = await world.start()
    user = world.sign_up(SECRET_WORD)
    (genuine,) = world.sandbox.svix.due(world.time(), 1)
    headers, body = SPOILT[spoilt](genuine.headers, genuine.body)
    status, said, _ = await world.request(replace(genuine, headers=headers, body=body), node)
    assert status == 400
    assert 0 < len(said) < 60
    for value in (*headers.values(), user, SECRET_WORD, "Ada"):
        assert len(value) < 4 or value not in said
    await world.run(1.0)
    assert await world.link(user) is None
    assert await world.story(user) == []
    assert await world.post(genuine, node) == 204
    world.sandbox.svix.settle(genuine, 204, world.time())
    await world.settle()
    world.assert_in_step()


@scenario
async def test_a_delivery_signed_with_another_secret_is_refused(world: World) -> None:
    node = await world.start()
    world.sign_up()
    (genuine,) = world.sandbox.svix.due(world.time(), 1)
    stranger = SvixState(SvixSettings(secret="whsec_c3RyYW5nZXJzdHJhbmdlcnN0cmFuZ2Vy"), Random(1))
    headers = stranger.sign(genuine.message_id, genuine.body, world.time())
    assert await world.post(replace(genuine, headers=headers), node) == 400


@scenario
async def test_a_recorded_delivery_is_refused_when_it_is_played_back_later(world: World) -> None:
    node = await world.start()
    world.sign_up()
    (recorded,) = world.sandbox.svix.due(world.time(), 1)
    world.sandbox.svix.settle(recorded, await world.post(recorded, node), world.time())
    await world.run(6 * MINUTE)
    assert await world.post(recorded, node) == 400


@scenario
async def test_a_secret_is_rotated_without_losing_a_delivery(world: World) -> None:
    old = world.environ["CLERK_WEBHOOK_SIGNING_SECRET"]
    await world.start()
    new = world.sandbox.svix.rotate_secret(world.time())
    world.sign_up()
    await world.settle()
    world.environ["CLERK_WEBHOOK_SIGNING_SECRET"] = f"{new},{old}"
    await world.restart()
    world.sign_up("grace@example.com")
    await world.settle()
    assert world.sandbox.svix.delivered == world.sandbox.svix.published
    world.assert_in_step()


@scenario
async def test_a_signed_body_that_cannot_be_read_is_kept_and_hinders_nobody(world: World) -> None:
    node = await world.start()
    svix = world.sandbox.svix
    bodies = (b"{", b"[]", b"null", b'"x"', b"\xff\xfe", b'{"type":"user.created","data":{"id":"nobody"}}')
    for body in bodies:
        svix.publish(world.time(), "user.created", body)
    world.sign_up()
    await world.settle()
    assert svix.delivered == svix.published
    assert (await world.figures()).unreadable == len(bodies)
    assert node.supervisor.intake.failing is False
    world.assert_in_step()


@scenario
async def test_events_of_no_concern_are_taken_and_change_nothing(world: World) -> None:
    await world.start()
    svix = world.sandbox.svix
    for kind in ("session.created", "organization.created", "subscription.updated", "email.created"):
        svix.publish(world.time(), kind, b'{"object":"event","type":"%s","data":{"id":"x"}}' % kind.encode())
    await world.settle()
    assert svix.delivered == 4
    assert world.writes() == []
    assert (await world.figures()).links == 0
