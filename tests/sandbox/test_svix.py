from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise
from random import Random
from typing import Any

import msgspec
import pytest
from svix.webhooks import Webhook, WebhookVerificationError

from counterfoil.sandbox import SvixSettings
from counterfoil.sandbox.svix import SCHEDULE, Attempt, SvixState

from .support import NOW

BODY = msgspec.json.encode({"type": "user.created", "data": {"first_name": "Zoë"}})


def make(seed: int = 0, **settings: Any) -> SvixState:
    return SvixState(SvixSettings(**settings), Random(seed))


def one(svix: SvixState, now: float) -> Attempt:
    (attempt,) = svix.due(now)
    return attempt


def fail_until_quiet(svix: SvixState) -> list[float]:
    times = []
    while (at := svix.next_due()) is not None:
        svix.settle(one(svix, at), 500, at)
        times.append(at)
    return times


def test_signatures_are_what_the_published_vector_says() -> None:
    svix = make(secret="whsec_plJ3nmyCDGBKInavdOK15jsl")
    headers = svix.sign("msg_loFOjxBNrRLzqYUf", b'{"event_type":"ping","data":{"success":true}}', 1731705121.9)
    assert headers["svix-timestamp"] == "1731705121"
    assert headers["svix-signature"] == "v1,rAvfW3dJ/X/qxhsaXPOyyCGmRKsaKWcsNccKXlIktD0="


@pytest.mark.parametrize("unbranded", [False, True])
def test_the_official_package_verifies_a_delivery(unbranded: bool) -> None:
    now = datetime.now(UTC).timestamp()
    svix = make(unbranded=unbranded)
    svix.publish(now, "user.created", BODY)
    attempt = one(svix, now)
    assert ("webhook-id" in attempt.headers) is unbranded
    Webhook(svix.settings.secret).verify(attempt.body, attempt.headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(svix.settings.secret).verify(attempt.body + b" ", attempt.headers)


def test_both_secrets_sign_for_a_day_after_a_rotation() -> None:
    now = datetime.now(UTC).timestamp()
    svix = make()
    new = svix.rotate_secret(now)
    headers = svix.sign("msg_1", BODY, now)
    assert headers["svix-signature"].count("v1,") == 2
    for secret in (svix.settings.secret, new):
        Webhook(secret).verify(BODY, headers)
    assert svix.sign("msg_1", BODY, now + 24 * 3600)["svix-signature"].count("v1,") == 1


def test_eight_attempts_are_made_over_27_hours_and_35_minutes() -> None:
    svix = make()
    message = svix.publish(NOW, "user.created", BODY)
    times = fail_until_quiet(svix)
    assert len(times) == 8
    assert [later - earlier for earlier, later in pairwise(times)] == list(SCHEDULE)
    assert times[-1] - times[0] == 27 * 3600 + 35 * 60 + 5
    assert svix.message(message).lost


def test_the_schedule_counts_from_each_failure_and_can_be_run_fast() -> None:
    svix = make(time_scale=0.01)
    svix.publish(NOW, "user.created", BODY)
    svix.settle(one(svix, NOW), None, NOW + 15)
    assert svix.next_due() == NOW + 15 + 0.05


def test_each_attempt_is_signed_anew_under_the_same_id() -> None:
    svix = make()
    svix.publish(NOW, "user.created", BODY)
    first = one(svix, NOW)
    svix.settle(first, 503, NOW)
    second = one(svix, NOW + 5)
    assert first.headers["svix-id"] == second.headers["svix-id"]
    assert int(second.headers["svix-timestamp"]) == int(first.headers["svix-timestamp"]) + 5
    assert first.headers["svix-signature"] != second.headers["svix-signature"]


@pytest.mark.parametrize("status", [None, 301, 400, 401, 404, 500])
def test_everything_but_a_2xx_is_tried_again(status: int | None) -> None:
    svix = make()
    svix.publish(NOW, "user.created", BODY)
    svix.settle(one(svix, NOW), status, NOW)
    assert svix.next_due() == NOW + 5


def test_a_2xx_ends_it() -> None:
    svix = make()
    message = svix.publish(NOW, "user.created", BODY)
    svix.settle(one(svix, NOW), 204, NOW + 1)
    assert (svix.pending(), svix.delivered) == (0, 1)
    assert svix.message(message).delivered_at == NOW + 1


def test_abort_message_ends_the_retries() -> None:
    svix = make()
    message = svix.publish(NOW, "user.created", BODY)
    svix.settle(one(svix, NOW), 400, NOW, abort=True)
    assert svix.pending() == 0
    assert svix.message(message).lost


def test_a_lost_message_can_be_sent_again_by_hand() -> None:
    svix = make()
    message = svix.publish(NOW, "user.created", BODY)
    fail_until_quiet(svix)
    svix.resend(message, NOW + 10**6)
    svix.settle(one(svix, NOW + 10**6), 200, NOW + 10**6)
    assert not svix.message(message).lost
    assert svix.resend_lost(NOW + 10**6) == 0


def test_a_dropped_message_is_never_sent_but_can_be_recovered() -> None:
    svix = make(drop=1.0)
    svix.publish(NOW, "user.created", BODY)
    assert svix.due(NOW + 10**6) == []
    assert svix.resend_lost(NOW) == 1
    assert len(svix.due(NOW)) == 1


def test_duplicates_come_with_the_same_id() -> None:
    svix = make(duplicate=1.0)
    svix.publish(NOW, "user.created", BODY)
    attempts = svix.due(NOW + 10)
    assert len(attempts) == 2
    assert len({attempt.headers["svix-id"] for attempt in attempts}) == 1
    for attempt in attempts:
        svix.settle(attempt, 200, NOW + 10)
    assert (svix.pending(), svix.delivered) == (0, 1)


def test_a_failed_duplicate_is_not_retried_on_its_own() -> None:
    svix = make(duplicate=1.0)
    svix.publish(NOW, "user.created", BODY)
    for attempt in svix.due(NOW + 10):
        svix.settle(attempt, 500, NOW + 10)
    assert svix.pending() == 1


def test_messages_overtake_each_other_when_set_so_and_the_seed_says_which() -> None:
    orders = []
    for seed in (1, 1, 2):
        svix = make(seed, reorder=0.5, reorder_by=(1.0, 100.0))
        published = [svix.publish(NOW + number, "user.updated", BODY) for number in range(20)]
        orders.append([published.index(attempt.message_id) for attempt in svix.due(NOW + 200)])
    assert orders[0] == orders[1] != orders[2]
    assert orders[0] != sorted(orders[0])


def test_only_so_many_settled_messages_are_kept() -> None:
    svix = make(keep=2)
    for number in range(5):
        svix.publish(NOW + number, "user.created", BODY)
        svix.settle(one(svix, NOW + number), 200, NOW + number)
    assert len(svix.messages()) == 2
