"""A pair of accounts of any size, as an audit reads them: every user and customer is made when it is asked for.

    python -m tools.crowd COUNT

Prints its address, then answers until it is ended. User and customer of one number belong together; of every
thousandth customer the name is an old one. The sandbox itself would hold all of them in memory.
"""

import asyncio
import sys
from urllib.parse import parse_qs

import msgspec
import uvloop
from aiohttp import web

from counterfoil.sandbox.clerk import ClerkSettings
from counterfoil.sandbox.clerk_user import EmailAddress, Json, User, user_body
from counterfoil.sandbox.stripe import StripeSettings
from counterfoil.sandbox.stripe_objects import Customer, customer_body, list_body

BEGAN = 1_600_000_000
"""The first one was created then (Unix seconds); ten come a second apart from the next ten."""
_TOGETHER = 10
_STALE = 1_000
_CLERK, _STRIPE = ClerkSettings(), StripeSettings()


def _made_at(number: int) -> int:
    return BEGAN + number // _TOGETHER


def _user_id(number: int) -> str:
    return f"user_2{number:026d}"


def _customer_id(number: int) -> str:
    return f"cus_{number:014d}"


def _number(identifier: str) -> int:
    return int(identifier.rpartition("_")[2][-14:])


def _user(number: int) -> Json:
    at = _made_at(number) * 1000
    address = EmailAddress(f"idn_{number:027d}", f"person{number}@example.com", at)
    user = User(
        _user_id(number), number, at, at, "Person", str(number), emails=[address], primary_email_id=address.id
    )
    user.public_metadata = {"stripeCustomerId": _customer_id(number)}
    return user_body(user)


def _customer(number: int) -> Json:
    customer = Customer(_customer_id(number), number, _made_at(number), livemode=False)
    customer.email = f"person{number}@example.com"
    customer.name = "Old Name" if number % _STALE == 0 else f"Person {number}"
    customer.metadata = {"clerkUserId": _user_id(number)}
    subscriptions = list_body("/v1/subscriptions", [])
    return {**customer_body(customer), "subscriptions": subscriptions}


class Crowd:
    """Numbers from 0 up to, but not at, ``count``."""

    def __init__(self, count: int) -> None:
        self.count = count

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request of an audit."""
        query = parse_qs(request.rel_url.raw_query_string)
        match request.method, request.rel_url.raw_path.partition("?")[0]:
            case "GET", "/clerk/v1/instance":
                told: object = {"id": _CLERK.instance_id, "environment_type": _CLERK.environment_type}
            case "GET", "/clerk/v1/users/count":
                told = {"object": "total_count", "total_count": self.count}
            case "GET", "/clerk/v1/users":
                told = self._users(query)
            case "GET", "/stripe/v1/account":
                told = {"id": _STRIPE.account_id, "object": "account"}
            case "GET", "/stripe/v1/customers":
                told = self._customers(query)
            case _:
                return web.Response(status=404)
        return web.Response(body=msgspec.json.encode(told), content_type="application/json")

    def _users(self, query: dict[str, list[str]]) -> list[Json]:
        if "user_id" in query:
            return [_user(_number(each)) for each in query["user_id"]]
        # Nobody has changed since being made, so the latest change comes first in the same order.
        after = _number(query["starting_after"][0]) if "starting_after" in query else self.count
        first = after - 1 - int(query.get("offset", ["0"])[0])
        return [_user(number) for number in range(first, max(-1, first - int(query["limit"][0])), -1)]

    def _customers(self, query: dict[str, list[str]]) -> Json:
        low = max(0, int(query.get("created[gte]", ["0"])[0]) - BEGAN) * _TOGETHER
        high = min(self.count, max(0, int(query["created[lt]"][0]) - BEGAN) * _TOGETHER)
        if "starting_after" in query:
            high = min(high, _number(query["starting_after"][0]))
        last = max(low, high - int(query["limit"][0]))
        return list_body("/v1/customers", [_customer(each) for each in range(high - 1, last - 1, -1)], last > low)


async def _serve(count: int) -> None:
    runner = web.ServerRunner(web.Server(Crowd(count).handle, access_log=None))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(f"http://127.0.0.1:{runner.addresses[0][1]}", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1])))
