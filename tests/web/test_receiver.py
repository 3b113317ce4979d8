"""The webhook endpoint: what is answered to what, and when. How requests come in is in `test_front`."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from counterfoil.clerk.webhook import Unreadable
from counterfoil.core.news import UserEvent
from counterfoil.web.delivery_figures import TYPES_LIMIT
from counterfoil.web.receiver import Reply

from .support import NOW, USER, Headers, World, signed


def post(world: World, headers: Headers, body: bytes, method: bytes = b"POST") -> Reply:
    """Hand the receiver a request that is answered at once."""
    replies: list[Reply] = []
    world.receiver.deliver(method, headers, body, replies.append)
    [reply] = replies
    return reply


def deliver(world: World, body: bytes = USER) -> Reply:
    return post(world, signed(body), body)


@pytest.mark.parametrize(("written", "status", "outcome"), [(True, 204, "taken"), (False, 503, "full")])
def test_news_is_answered_only_once_it_is_written_or_cannot_be(written: bool, status: int, outcome: str) -> None:
    world = World()
    world.held = []
    replies: list[Reply] = []
    world.receiver.deliver(b"POST", signed(), USER, replies.append)
    assert replies == []
    [tell] = world.held
    tell(written)
    [reply] = replies
    assert reply.status == status
    [item] = world.taken
    assert isinstance(item, UserEvent)
    assert (item.subject_id, item.delivery, item.trusted) == ("user_zoe", "msg_1", True)
    assert world.count(outcome) == 1
    assert world.registry.get_sample_value("counterfoil_delivery_seconds_count") == 1


def test_a_delivery_that_is_not_genuine_is_answered_400_with_a_fixed_reason() -> None:
    world = World()
    answer = post(world, signed(b"another"), USER)
    assert answer == Reply(400, "no signature matches")
    assert post(world, [], USER).text == "signature headers missing"
    assert (world.count("refused"), world.refused("no_match"), world.refused("missing")) == (2, 1, 1)
    assert world.taken == []


@pytest.mark.parametrize("name", [b"svix-id", b"svix-timestamp", b"svix-signature"])
def test_a_header_that_is_there_twice_is_refused(name: bytes) -> None:
    world = World()
    answer = post(world, [*signed(), (name, dict(signed())[name])], USER)
    assert (answer.status, world.refused("doubled")) == (400, 1)


@pytest.mark.parametrize("name", [b"svix-id", b"svix-timestamp", b"svix-signature"])
@pytest.mark.parametrize("value", [b"\xff\xfe", b"\x00", b"", "é".encode(), b"v1,\xe9"])
def test_strange_bytes_in_a_header_are_refused(name: bytes, value: bytes) -> None:
    headers = [(each, value if each == name else usual) for each, usual in signed()]
    assert post(World(), headers, USER).status == 400


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b'{"type":"user.created","data":{"id":"user_1"}}'])
def test_a_signed_body_that_cannot_be_read_is_kept_and_answered_204(body: bytes) -> None:
    world = World()
    assert deliver(world, body) == Reply(204)
    assert world.taken == [Unreadable("msg_1", body, NOW)]
    assert (world.count("unreadable"), world.count("refused")) == (1, 0)


def test_a_signed_event_of_another_type_is_counted_and_goes_no_further() -> None:
    world = World()
    world.full = True
    assert deliver(world, b'{"type":"session.ended","data":{}}').status == 204
    assert (world.count("ignored"), world.ignored("session.ended"), world.taken) == (1, 1, [])


def test_so_many_ignored_types_are_told_apart_and_no_more() -> None:
    world = World()
    for number in range(TYPES_LIMIT + 3):
        deliver(world, b'{"type":"t%d","data":{}}' % number)
    deliver(world, b'{"type":"t0","data":{}}')
    assert (world.ignored("t0"), world.ignored(f"t{TYPES_LIMIT}"), world.ignored("other")) == (2, 0, 3)


def test_what_cannot_be_written_is_answered_503_and_asked_for_again() -> None:
    world = World()
    world.full = True
    answer = deliver(world)
    assert (answer.status, answer.headers) == (503, ((b"retry-after", b"5"),))
    assert (world.count("full"), world.count("taken")) == (1, 0)
    assert deliver(world, b"unreadable").status == 503


@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"PUT", b"OPTIONS", b"post"])
def test_other_methods_are_answered_405(method: bytes) -> None:
    world = World()
    answer = post(world, signed(), USER, method)
    assert (answer.status, answer.headers) == (405, ((b"allow", b"POST"),))
    assert (world.taken, world.count("not_post")) == ([], 1)


any_header = st.tuples(
    st.sampled_from([name for name, _ in signed()] + [b"webhook-id", b"x"]),
    st.binary(max_size=40),
)


@given(st.lists(any_header, max_size=8), st.binary(max_size=40))
def test_no_input_is_ever_repeated_or_breaks_the_receiver(headers: Headers, body: bytes) -> None:
    world = World()
    answer = post(world, headers, body)
    assert answer.status == 400
    assert answer.text in {
        "signature headers missing",
        "a header is there twice",
        "signature headers of two kinds",
        "message id malformed",
        "timestamp malformed",
        "timestamp too old",
        "timestamp too far ahead",
        "signature header malformed",
        "no signature matches",
    }
