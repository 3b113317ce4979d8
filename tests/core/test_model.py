"""The rules among toys: whatever fails, dies, comes late or comes twice, one customer each is what is left."""

from random import Random
from typing import Any

import pytest

from counterfoil.core.link import Deletion, Fields, Link, ParkReason
from counterfoil.core.policy import (
    HOUR,
    MINUTE,
    SECOND,
    Adopt,
    Create,
    IfSubscribed,
    LinkBack,
    NoEmail,
    OnDeletion,
    Policy,
)
from counterfoil.core.step import Park
from counterfoil.errors import UpstreamError

from .driver import Crashed, Driver
from .support import SINCE, replace
from .toys import REFUSED, Chaos, ToyCustomer

POLICY = Policy(environment="model", since=SINCE, livemode=False)
PRIVATE = replace(POLICY, link_back=LinkBack.PRIVATE, no_email=NoEmail.CREATE, create=Create.ON_VERIFIED_EMAIL)
BY_EMAIL = replace(POLICY, adopt=Adopt.VERIFIED_EMAIL)
_EMAILS = ["ada@example.com", "bob@example.com", "eve@example.com", REFUSED, None]


class Story:
    """A few users, and all that befalls them."""

    def __init__(
        self,
        seed: int,
        rate: float,
        *,
        meddling: bool = False,
        restores: bool = False,
        policy: Policy = POLICY,
        strangers: int = 0,
    ) -> None:
        """Set the scene.

        Args:
            seed: the same story each time.
            rate: how often what can fail does.
            meddling: people delete customers in Stripe.
            restores: now and then the database is an older one again.
            policy: what was chosen.
            strangers: how many customers there are already, each with an address that a user may have.
        """
        self.random = Random(seed)
        self.chaos = Chaos(self.random, rate=rate)
        self.policy = policy
        self.driver = Driver(self.chaos, policy)
        self.strangers = [
            self.driver.stripe.stranger(f"{self.random.choice(['ada', 'bob', 'eve'])}@example.com")
            for _ in range(strangers)
        ]
        self.driver.meanwhile = self._meanwhile
        self._meddling = meddling
        self._restores = restores
        self._saved = self.driver.snapshot()
        self._people = [f"user_{number}" for number in range(3)]
        self._ever: set[str] = set()

    def _fields(self) -> Fields:
        return Fields(email=self.random.choice(_EMAILS), name=self.random.choice([None, "A", "B", "C"]))

    def _meanwhile(self) -> None:
        if self.chaos.hit(0.3):
            self._something_happens()
        self.chaos.pass_time(self.chaos.now + self.random.choice([50, SECOND]))
        self._check()

    def _something_happens(self) -> None:
        clerk, who = self.driver.clerk, self.random.choice(self._people)
        if who not in clerk.users:
            if who not in self._ever:
                self._ever.add(who)
                clerk.sign_up(who, self._fields())
        elif self.chaos.hit(0.3):
            clerk.delete(who)
        elif self.policy.if_subscribed is not IfSubscribed.DELETE and self.chaos.hit(0.3):
            for each in self.driver.stripe.live(who):
                if not each.subscriptions:
                    self.driver.stripe.subscribe(each.customer_id)
        elif self._meddling and self.chaos.hit(0.5) and (live := self.driver.stripe.live(who)):
            self.random.choice(live).gone = True
        else:
            clerk.change(who, self._fields())

    def _work(self) -> None:
        for subject_id in self.driver.due():
            if subject_id in self.driver.rows:
                try:
                    self.driver.work(subject_id)
                except Crashed:
                    continue
            self._check()

    def _check(self) -> None:
        """Of one subject there are never two but for what Stripe finished late."""
        for subject_id in self._people:
            prompt = [each for each in self.driver.stripe.live(subject_id) if not each.late]
            assert len(prompt) <= 1, prompt

    def _scan(self) -> None:
        """Nothing is done before the first scan has ended."""
        while True:
            try:
                return self.driver.scan()
            except UpstreamError:
                self.chaos.pass_time(self.chaos.now + SECOND)

    def live_through(self, moments: int) -> None:
        """Times of trouble."""
        self._scan()
        for _ in range(moments):
            self._something_happens()
            self.chaos.pass_time(
                self.chaos.now + self.random.choice([SECOND, 10 * SECOND, MINUTE, 10 * MINUTE, 2 * HOUR])
            )
            if self._restores and self.chaos.hit(0.1):
                self._saved = self.driver.snapshot()
            if self._restores and self.chaos.hit(0.1):
                self.chaos.pass_time(self.chaos.now + MINUTE)
                self.driver.restore(self._saved)
                self._scan()
                self.driver.walk()
            self._work()

    def come_to_rest(self) -> None:
        """Nothing fails any more, and a bit over a day passes."""
        self.chaos.rate = 0.0
        for subject_id in list(self.driver.clerk.users):
            email = self.random.choice(["last@example.com", REFUSED])
            self.driver.clerk.change(subject_id, Fields(email=email, name="Last"))
        for hour in range(32):
            if hour == 28 and self._restores:
                self.driver.scan()  # what a database forgot to look for, its next start finds
            if hour in {2, 29}:
                self.driver.walk()
            self._run_until(self.chaos.now + HOUR)

    def _run_until(self, end: int) -> None:
        while self.chaos.now < end:
            self._work()
            moments = [row.due_at for row in self.driver.rows.values() if row.due_at is not None]
            moments += [each[0] for each in self.chaos.later]
            self.chaos.pass_time(min([end, *(max(each, self.chaos.now + 1) for each in moments)]))

    def check_the_end(self) -> None:
        for subject_id in self._people:
            live = self.driver.stripe.live(subject_id)
            user = self.driver.clerk.users.get(subject_id)
            link = self.driver.rows.get(subject_id)
            if user is None:
                self._check_who_left(live, link)
                continue
            assert link is not None
            if link.parked in {ParkReason.FOREIGN, ParkReason.MISNAMED} and self._meddling and self._restores:
                # That the dead name in Clerk was ours is forgotten: a person decides.
                assert len(live) == (link.parked is ParkReason.MISNAMED), link
                continue
            if link.parked is ParkReason.REVIEW and self.strangers:
                assert live == [], link  # somebody else has the address: nothing is touched, nothing made
                continue
            assert link.parked is None, link
            assert [each.customer_id for each in live] == [link.customer_id], link
            assert live[0].fields.name == "Last", link
            assert live[0].fields.email == user.fields.email or user.fields.email == REFUSED, link
            private = self.policy.link_back is LinkBack.PRIVATE
            assert (user.private_name if private else user.link_back) == link.customer_id, link
            assert (user.link_back if private else user.private_name) is None, link

    def _check_who_left(self, live: list[ToyCustomer], link: Link | None) -> None:
        if link is not None and link.parked is ParkReason.SUBSCRIBED:
            assert self.policy.if_subscribed is IfSubscribed.HOLD, link
            assert [each.customer_id for each in live if each.subscribed] == [link.customer_id], link
        elif self.policy.on_deletion is OnDeletion.KEEP:
            assert all(not each.archived for each in live), link
        else:
            # Under `cancel_at_period_end` whoever had no subscription is deleted, and others are archived.
            assert all(each.archived and not each.subscribed for each in live), link
            assert self.policy != POLICY or live == [], link


def _tell(seeds: range, rate: float, **scene: Any) -> None:
    for seed in seeds:
        story = Story(seed, rate, **scene)
        try:
            story.live_through(60)
            story.come_to_rest()
            story.check_the_end()
        except Exception as error:
            error.add_note(f"seed {seed}, rate {rate}")
            raise


@pytest.mark.parametrize("rate", [0.0, 0.15, 0.3, 0.6])
def test_one_customer_each_is_left_after_all_faults(rate: float) -> None:
    _tell(range(250), rate)


@pytest.mark.parametrize("rate", [0.15, 0.3, 0.6])
def test_a_restored_database_makes_no_second_customer(rate: float) -> None:
    _tell(range(250), rate, restores=True)


@pytest.mark.parametrize("rate", [0.3, 0.6])
def test_a_customer_that_people_deleted_is_made_anew(rate: float) -> None:
    _tell(range(250), rate, meddling=True)


@pytest.mark.parametrize("rate", [0.3, 0.6])
def test_after_people_and_restores_together_a_person_is_asked_at_worst(rate: float) -> None:
    _tell(range(250), rate, meddling=True, restores=True)


@pytest.mark.parametrize("restores", [False, True])
@pytest.mark.parametrize("rate", [0.15, 0.6])
@pytest.mark.parametrize(
    "chosen",
    [
        {"on_deletion": OnDeletion.ARCHIVE},
        {"on_deletion": OnDeletion.ARCHIVE, "deletion_grace": 3 * HOUR},
        {"on_deletion": OnDeletion.KEEP},
        {"if_subscribed": IfSubscribed.HOLD},
        {"if_subscribed": IfSubscribed.CANCEL_AT_PERIOD_END},
    ],
    ids=["archive", "archive after a while", "keep", "hold", "cancel"],
)
def test_every_policy_of_deletion_comes_to_its_end_after_all_faults(
    chosen: dict[str, Any], rate: float, restores: bool
) -> None:
    _tell(range(60), rate, restores=restores, policy=replace(POLICY, **chosen))


@pytest.mark.parametrize("rate", [0.0, 0.3, 0.6])
def test_with_a_private_link_back_and_verified_addresses_it_ends_the_same(rate: float) -> None:
    _tell(range(250), rate, policy=PRIVATE)


@pytest.mark.parametrize("rate", [0.15, 0.6])
def test_with_a_private_link_back_a_restored_database_makes_no_second_customer(rate: float) -> None:
    _tell(range(150), rate, policy=PRIVATE, restores=True, meddling=False)


@pytest.mark.parametrize("rate", [0.0, 0.3, 0.6])
def test_strangers_are_claimed_by_one_user_each_or_left_alone(rate: float) -> None:
    _tell(range(250), rate, policy=BY_EMAIL, strangers=2)


def test_strangers_are_claimed_now_and_then_and_refused_now_and_then() -> None:
    claimed, parks = 0, list[ParkReason]()

    def note(link: Link, step: Park) -> None:
        parks.append(step.reason)

    for seed in range(100):
        story = Story(seed, 0.3, policy=BY_EMAIL, strangers=2)
        story.driver.parked = note  # type: ignore[method-assign]
        story.live_through(60)
        customers = story.driver.stripe.customers
        claimed += sum(customers[each].owner is not None for each in story.strangers)
    assert min(claimed, parks.count(ParkReason.REVIEW)) >= 10, (claimed, parks)


def test_the_stories_are_worth_telling() -> None:
    """Between them they meet late customers, later generations, intents given up, and users gone."""
    late = generations = given_up = gone = 0
    for seed in range(100):
        story = Story(seed, 0.3)
        story.live_through(60)
        rows = story.driver.rows.values()
        late += sum(each.late for each in story.driver.stripe.customers.values())
        generations += sum(row.generation for row in rows)
        given_up += sum(row.abandoned_at is not None for row in rows)
        gone += sum(row.deletion is not Deletion.NONE for row in rows)
    assert min(late, generations, given_up, gone) >= 10, (late, generations, given_up, gone)
