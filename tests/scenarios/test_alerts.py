"""A person is told, once, and told again when it is over; whatever the receiver does."""

import json
from typing import Any

import pytest

from counterfoil.engine.alerts import PERIOD
from counterfoil.errors import DatabaseUnavailable
from counterfoil.sandbox.faults import Fault
from counterfoil.store import environment
from tests.harness import HOUR, MINUTE, World, scenario

SECRET = "token-of-the-receiver"
ALERTS: dict[str, Any] = {"COUNTERFOIL_ALERT_URL": f"https://alerts.test/hook/{SECRET}"}
SOON = 2 * PERIOD


class Receiver:
    """Takes alerts, or does not."""

    def __init__(self, world: World) -> None:
        self.taken: list[dict[str, Any]] = []
        self.tries: list[float] = []
        self.status = 200
        self._world = world
        world.receivers["alerts.test"] = self._take

    async def _take(self, body: bytes) -> int:
        self.tries.append(self._world.time())
        if 200 <= self.status < 300:
            self.taken.append(json.loads(body))
        if self.status == 0:
            raise ConnectionResetError
        return self.status

    def says(self) -> list[tuple[str, str, str | None]]:
        """What was told since the last call."""
        told, self.taken = self.taken, []
        return [(each["alert"], each["state"], each.get("reason")) for each in told]


def refused_sign_up(world: World, name: str) -> str:
    world.sandbox.plan_fault(
        "stripe",
        "customers.create",
        Fault(kind="error_before", status=400),
        when=lambda request: name.encode() in request.body,
    )
    return world.sign_up(f"{name}@example.com")


@scenario
async def test_a_parked_link_is_told_once_and_again_when_it_is_mended(world: World) -> None:
    receiver = Receiver(world)
    node = await world.start(**ALERTS)
    user = refused_sign_up(world, "ada")
    await world.run(SOON)
    (told,) = receiver.taken
    assert told["text"].startswith("Counterfoil: 1 link is parked as rejected: ")
    assert (told["subject_id"], told["environment"]) == (user, node.environment.sentence())
    assert set(told) == {"text", "alert", "state", "reason", "subject_id", "at", "environment"}
    assert "ada@" not in json.dumps(told)
    await world.run(HOUR)
    assert receiver.says() == [("parked", "raised", "rejected")]
    await node.supervisor.retry([user])
    await world.run(SOON)
    assert receiver.says() == [("parked", "cleared", "rejected")]
    world.assert_in_step()


@scenario
async def test_hundreds_of_parked_links_are_two_messages(world: World) -> None:
    receiver = Receiver(world)
    await world.start(**ALERTS)
    for number in range(350):
        world.sign_up(f"person{number}@example.com", stripeCustomerId=f"cus_nowhere{number:07}")
    await world.run(HOUR)
    texts = [each["text"] for each in receiver.taken]
    assert len(texts) == 2, texts
    assert (await world.figures()).backlog.parked == {"foreign": 350}


@scenario
async def test_an_outage_is_told_and_its_end_too(world: World) -> None:
    receiver = Receiver(world)
    await world.start(**ALERTS)
    world.sandbox.add_outage("stripe", world.time(), world.time() + HOUR)
    for number in range(10):
        world.sign_up(f"person{number}@example.com")
    await world.run(5 * MINUTE)
    assert receiver.says() == [("breaker", "raised", "stripe")]
    await world.run(30 * MINUTE)
    assert receiver.says() == [("oldest_unsettled", "raised", None)]
    await world.run(HOUR)
    assert sorted(receiver.says()) == [("breaker", "cleared", "stripe"), ("oldest_unsettled", "cleared", None)]
    world.assert_in_step()


@scenario
async def test_a_short_outage_is_not_told(world: World) -> None:
    receiver = Receiver(world)
    await world.start(**ALERTS)
    world.sandbox.add_outage("stripe", world.time(), world.time() + 30)
    for number in range(10):
        world.sign_up(f"person{number}@example.com")
    await world.run(HOUR)
    assert receiver.says() == []
    world.assert_in_step()


@scenario
async def test_the_limit_of_what_is_late_is_a_setting(world: World) -> None:
    receiver = Receiver(world)
    await world.start(**ALERTS, COUNTERFOIL_ALERT_AFTER="2m")
    world.sandbox.add_outage("clerk", world.time(), world.time() + 10 * MINUTE)
    world.sign_up()
    await world.run(3 * MINUTE)
    assert ("oldest_unsettled", "raised", None) in receiver.says()
    await world.run(20 * MINUTE)
    assert ("oldest_unsettled", "cleared", None) in receiver.says()


@scenario
async def test_a_restart_neither_repeats_nor_forgets(world: World) -> None:
    receiver = Receiver(world)
    await world.start(**ALERTS)
    user = refused_sign_up(world, "ada")
    world.sandbox.add_outage("clerk", world.time() + MINUTE, world.time() + HOUR)
    await world.run(MINUTE)
    world.sign_up("grace@example.com")
    for number in range(10):
        world.sign_up(f"person{number}@example.com")
    await world.run(5 * MINUTE)
    assert sorted(receiver.says()) == [("breaker", "raised", "clerk"), ("parked", "raised", "rejected")]
    await world.crash(world.nodes[0])
    await world.start(**ALERTS, ready=False)
    await world.run(5 * MINUTE)
    assert receiver.says() == []
    await world.run(HOUR)
    told = receiver.says()
    assert ("breaker", "cleared", "clerk") in told
    await world.nodes[0].supervisor.retry([user])
    await world.run(SOON)
    assert receiver.says() == [("parked", "cleared", "rejected")]


@scenario
async def test_what_was_mended_while_nobody_looked_is_told_after_the_start(world: World) -> None:
    receiver = Receiver(world)
    node = await world.start(**ALERTS)
    user = refused_sign_up(world, "ada")
    await world.run(SOON)
    await world.crash(node)
    quiet = await world.start()
    await quiet.supervisor.retry([user])
    await world.settle()
    await world.crash(quiet)
    assert receiver.says() == [("parked", "raised", "rejected")]
    await world.start(**ALERTS)
    await world.run(SOON)
    assert receiver.says() == [("parked", "cleared", "rejected")]


@scenario
async def test_a_receiver_that_is_down_is_told_when_it_is_back_and_hinders_nobody(world: World) -> None:
    receiver = Receiver(world)
    receiver.status = 503
    await world.start(**ALERTS)
    user = refused_sign_up(world, "ada")
    await world.run(HOUR)
    world.sign_up("grace@example.com")
    await world.settle()
    assert receiver.says() == []
    assert 6 <= len(receiver.tries) <= 15, "the tries grow apart"
    receiver.status = 0
    await world.run(20 * MINUTE)
    receiver.status = 204
    await world.run(11 * MINUTE)
    assert [each.get("subject_id") for each in receiver.taken] == [user], receiver.taken
    await world.run(HOUR)
    assert len(receiver.taken) == 1


@scenario
async def test_while_the_database_cannot_be_written_nothing_is_repeated_and_nothing_forgotten(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    receiver = Receiver(world)
    await world.start(**ALERTS)
    user = refused_sign_up(world, "ada")
    await world.run(5.0)

    async def refuse(_: object) -> None:
        raise DatabaseUnavailable("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(world.database, "write", refuse)
        await world.run(5 * MINUTE)
    assert receiver.says() == [("parked", "raised", "rejected")]
    await world.run(MINUTE)
    await world.restart(**ALERTS)
    await world.run(MINUTE)
    assert receiver.says() == []
    await world.nodes[0].supervisor.retry([user])
    await world.run(SOON)
    assert receiver.says() == [("parked", "cleared", "rejected")]


@scenario
async def test_while_the_database_cannot_be_read_nothing_is_said(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    receiver = Receiver(world)
    await world.start(**ALERTS)
    refused_sign_up(world, "ada")
    await world.run(5.0)

    async def refuse(_: object) -> None:
        raise DatabaseUnavailable("disk gone")

    with monkeypatch.context() as patch:
        patch.setattr(world.database, "read", refuse)
        await world.run(5 * MINUTE)
    assert receiver.says() == []
    await world.run(SOON)
    assert receiver.says() == [("parked", "raised", "rejected")]


@scenario
async def test_what_has_cleared_before_the_receiver_took_it_is_never_told(world: World) -> None:
    receiver = Receiver(world)
    receiver.status = 503
    node = await world.start(**ALERTS)
    user = refused_sign_up(world, "ada")
    await world.run(MINUTE)
    await node.supervisor.retry([user])
    await world.run(MINUTE)
    receiver.status = 200
    await world.run(HOUR)
    assert receiver.says() == []


@scenario
async def test_held_deletions_are_told(world: World) -> None:
    receiver = Receiver(world)
    await world.start(**ALERTS)
    for value, state in (("1790000000000", "raised"), (None, "cleared")):
        await world.database.write(
            lambda connection, value=value: environment.put(connection, {"deletions_held_at": value})  # type: ignore[misc]
        )
        await world.run(SOON)
        assert receiver.says() == [("deletions_held", state, None)]


@scenario
async def test_without_a_receiver_nothing_is_sent_or_remembered(world: World) -> None:
    receiver = Receiver(world)
    await world.start()
    refused_sign_up(world, "ada")
    await world.run(HOUR)
    assert receiver.tries == []
    assert "alerts_told" not in await world.database.read(environment.load)


@scenario
async def test_the_receivers_address_is_never_logged(world: World, capsys: Any) -> None:
    receiver = Receiver(world)
    receiver.status = 500
    await world.start(**ALERTS)
    refused_sign_up(world, "ada")
    await world.run(5 * MINUTE)
    receiver.status = 0
    await world.run(5 * MINUTE)
    said = "".join(capsys.readouterr())
    assert "alerts.not_sent" in said
    assert SECRET not in said
