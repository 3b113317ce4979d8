"""The environment: which Clerk instance and which Stripe account this database belongs to.

Pinned at the first start. Afterwards keys of any other environment are refused, before anything is written.
"""

import hashlib
from collections.abc import Mapping

import msgspec
from sqlalchemy import Connection

from counterfoil.billing.stripe import StripeApi, is_live
from counterfoil.clerk.api import ClerkApi
from counterfoil.core.policy import Policy
from counterfoil.errors import ConfigurationError, WrongEnvironment
from counterfoil.store import environment
from counterfoil.store.database import Database
from counterfoil.upstream.gate import LIVE
from counterfoil.upstream.together import together

_UNKNOWN = "unknown"


class Environment(msgspec.Struct, frozen=True, kw_only=True):
    """What the keys are of. ``account`` is "unknown" where a restricted key may not ask."""

    clerk_instance: str
    clerk_type: str
    stripe_account: str
    livemode: bool

    def sentence(self) -> str:
        """In plain words."""
        mode = "live" if self.livemode else "test"
        return (
            f"Clerk instance {self.clerk_instance} ({self.clerk_type}) "
            f"and Stripe account {self.stripe_account} ({mode} mode)"
        )


async def ask(clerk: ClerkApi, stripe: StripeApi, stripe_key: str) -> Environment:
    """Ask both sides what the keys are of.

    Raises:
        UpstreamError: one of them does not answer, or refuses the key.
        ConfigurationError: nothing tells whether the Stripe key is of live or of test mode.
    """
    async with together() as calls:
        one, other = calls.create_task(clerk.instance(LIVE)), calls.create_task(stripe.account(LIVE))
    instance, account = one.result(), other.result()
    livemode = is_live(stripe_key)
    if livemode is None or account is None:
        # A restricted key may not ask for the account; the customers say what mode it is.
        told = await stripe.livemode(LIVE)
        livemode = told if told is not None else livemode
    if livemode is None:
        raise ConfigurationError(
            "nothing tells whether STRIPE_SECRET_KEY is of live or test mode: use a key that begins with "
            "sk_live_, rk_live_, sk_test_ or rk_test_"
        )
    return Environment(
        clerk_instance=instance.id,
        clerk_type=instance.environment_type,
        stripe_account=account or _UNKNOWN,
        livemode=livemode,
    )


def recall(known: Mapping[str, str], metadata_key: str) -> tuple[Environment, Policy] | None:
    """What is pinned, from the database's ``environment``; ``None`` before the first start.

    Raises:
        WrongEnvironment: the customers carry the user's id under another metadata key.
    """
    if "clerk_instance" not in known:
        return None
    if known["metadata_key"] != metadata_key:
        raise WrongEnvironment(
            f"this database's customers carry the user's id under {known['metadata_key']!r}, and "
            f"COUNTERFOIL_METADATA_KEY is {metadata_key!r}: set it back, or every customer would be made again"
        )
    pinned = Environment(
        clerk_instance=known["clerk_instance"],
        clerk_type=known["clerk_type"],
        stripe_account=known["stripe_account"],
        livemode=known["livemode"] == "True",
    )
    # The account may become known later, with another key: it is not part of the name, instance and mode are.
    text = f"{pinned.clerk_instance}\n{pinned.livemode}"
    name = hashlib.sha256(text.encode()).hexdigest()[:16]
    return pinned, Policy(environment=name, since=int(known["since"]), livemode=pinned.livemode)


async def pin(database: Database, found: Environment, metadata_key: str, now: int) -> tuple[Environment, Policy]:
    """Pin the environment at the first start, compare it at every other.

    Raises:
        WrongEnvironment: the database belongs to another environment; the sentence names both.
    """

    def job(connection: Connection) -> tuple[Environment, Policy]:
        environment.lock(connection)  # of two first starts at once one pins, and the other compares
        recalled = recall(environment.load(connection), metadata_key)
        if recalled is None:
            values = {name: str(value) for name, value in msgspec.structs.asdict(found).items()}
            environment.put(connection, values | {"since": str(now), "metadata_key": metadata_key})
        else:
            compare(recalled[0], found)
            if recalled[0].stripe_account == _UNKNOWN:
                environment.put(connection, {"stripe_account": found.stripe_account})
        recalled = recall(environment.load(connection), metadata_key)
        assert recalled is not None
        return recalled

    return await database.write(job)


def compare(pinned: Environment, found: Environment) -> None:
    """Raise `WrongEnvironment` where the keys are of another environment than the pinned one."""
    if differ(pinned, found):
        raise WrongEnvironment(
            f"this database belongs to {pinned.sentence()}, but the keys are of {found.sentence()}. "
            "Nothing was written. Use the first one's keys, or give the other one a database of its own "
            "(DATABASE_URL)."
        )


def differ(one: Environment, other: Environment) -> bool:
    """Whether they are two; an account that is not known may be any."""
    accounts = {one.stripe_account, other.stripe_account} - {_UNKNOWN}
    return one.clerk_instance != other.clerk_instance or one.livemode != other.livemode or len(accounts) > 1
