"""Users whose own data cannot be read: whatever they wrote, it is their own loss and nobody else's."""

from tests.harness import MINUTE, World, scenario

MANY = 520
"""More than one page of Clerk's list."""


@scenario
async def test_a_user_who_cannot_be_read_hides_nobody_from_the_walk_and_the_sweep(world: World) -> None:
    clerk = world.sandbox.clerk
    users = [
        clerk.create_user(world.time(), email=f"person{number}@example.com", silent=True) for number in range(MANY)
    ]
    # The list begins with the newest: these are the last ones of its first page, and somewhere in it.
    odd = {users[20], users[300]}
    for user in odd:
        clerk.users[user].first_name = "a\0b"
    await world.start(COUNTERFOIL_CREATE="on_demand")
    await world.run(MINUTE)
    known = await world.figures()
    assert known.links == MANY - len(odd)
