"""The figures that the rules rest on: each was chosen for a reason, and is told to users."""

from counterfoil.core import alerts, own, policy
from counterfoil.core.policy import HOUR, MINUTE, SECOND, OnDeletion, Policy


def test_times_are_milliseconds() -> None:
    assert (SECOND, MINUTE, HOUR) == (1_000, 60_000, 3_600_000)


def test_figures_are_what_they_were_chosen_to_be() -> None:
    """Why, is said where they are."""
    assert (policy.RETRY_AGE, policy.AHEAD) == (240_000, 300_000)
    assert (policy.OLD_READ_WINS, policy.ABSENT_TWICE, policy.DISAGREED) == (600_000, 60_000, 30_000)
    assert policy.LATER_LOOKS == (3_600_000, 88_200_000)
    assert (policy.DELETIONS_WITHIN, policy.HELD_FOR, policy.CLOSED_BY) == (3_600_000, 86_400_000, 600_000)
    assert (alerts.SAMPLE, alerts.NAMED) == (100, 3)
    assert (alerts.AGAIN, alerts.BREAKER_AFTER) == (600_000, 60_000)


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


def test_so_many_deletions_are_not_too_many_as_is_set_or_any_where_nothing_is_removed() -> None:
    def limit(on_deletion: OnDeletion) -> int:
        chosen = Policy(environment="a", since=0, livemode=False, deletion_breaker=7, on_deletion=on_deletion)
        return chosen.deletion_limit

    limits = (limit(OnDeletion.DELETE), limit(OnDeletion.ARCHIVE), limit(OnDeletion.KEEP))
    assert limits == (7, 7, 0)
