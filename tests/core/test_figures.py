"""The figures that the rules rest on: each was chosen for a reason, and is told to users."""

import pytest

from counterfoil.core import alerts, own, policy
from counterfoil.core.policy import HOUR, MINUTE, SECOND, Policy


def test_times_are_milliseconds() -> None:
    assert (SECOND, MINUTE, HOUR) == (1_000, 60_000, 3_600_000)


@pytest.mark.parametrize(
    ("figure", "value"),
    [
        (policy.RETRY_AGE, 240_000),  # after Svix's second try, before its third
        (policy.AHEAD, 300_000),  # the tolerance of the signature
        (policy.OLD_READ_WINS, 600_000),
        (policy.ABSENT_TWICE, 60_000),
        (policy.DISAGREED, 30_000),
        (policy.LATER_LOOKS, (3_600_000, 88_200_000)),
        (policy.DELETIONS_WITHIN, 3_600_000),
        (policy.HELD_FOR, 86_400_000),
        (policy.CLOSED_BY, 600_000),
        (alerts.SAMPLE, 100),
        (alerts.NAMED, 3),
        (alerts.AGAIN, 600_000),
        (alerts.BREAKER_AFTER, 60_000),
    ],
)
def test_a_figure_is_what_it_was_chosen_to_be(figure: object, value: object) -> None:
    assert figure == value


def test_limits_are_stripes() -> None:
    assert (policy.NAME_LIMIT, policy.EMAIL_LIMIT, policy.PHONE_LIMIT) == (256, 512, 20)
    assert policy.DESCRIPTION_LIMIT == 5_000
    assert (own.METADATA_KEYS, own.KEY_LIMIT, own.VALUE_LIMIT) == (50, 40, 500)


def test_a_key_of_a_generation_that_a_lost_database_has_forgotten_is_known_as_ours() -> None:
    ours = Policy(environment="a test", since=0, livemode=False)
    assert ours.made(ours.intent_key("user_1", 19), "user_1", 0)
    assert not ours.made(ours.intent_key("user_1", 20), "user_1", 0)
    assert ours.made(ours.intent_key("user_1", 22), "user_1", 3)
    assert not ours.made(ours.intent_key("user_2", 0), "user_1", 0)
    assert not ours.made(None, "user_1", 0)


def test_a_key_is_short_enough_and_long_enough_to_be_nobody_elses() -> None:
    key = Policy(environment="a test", since=0, livemode=False).intent_key("user_1", 0)
    assert len(key) == len("cf1-") + 40
