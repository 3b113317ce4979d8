"""What each event costs, counted by the other side."""

from tests.harness import World, scenario


@scenario
async def test_a_sign_up_costs_two_calls_and_its_echo_none(world: World) -> None:
    await world.start()
    before = world.calls()
    user = world.sandbox.clerk.create_user(world.time(), email="ada@example.com", first_name="Ada")
    await world.settle()
    print(await world.story(user))
    assert world.calls() - before == 2
