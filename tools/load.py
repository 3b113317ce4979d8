"""A load generator: signed deliveries over keep-alive connections, as one JSON line of figures.

    python -m tools.load PORT PATH CONNECTIONS SECONDS [FIRST]

Every request is of another user and signed beforehand, so that the receiver does all of its work each time.
``FIRST`` is the first user's number: loads that run at once send news of different users.
"""

import asyncio
import base64
import hashlib
import hmac
import json
import sys
import time
from array import array
from typing import cast

import uvloop

from counterfoil.sandbox.clerk import ClerkSettings
from counterfoil.sandbox.svix import SvixSettings

WARM_UP = 1.0
DISTINCT = 160_000


def _body(number: int, now: int) -> bytes:
    """A sign-up as Clerk sends it, of about 2.4 KB."""
    identification = f"idn_{number:027d}"
    verification = {"status": "verified", "strategy": "email_code", "attempts": 1, "expire_at": now}
    address = {
        "id": identification,
        "object": "email_address",
        "email_address": f"person{number}@example.com",
        "reserved": False,
        "verification": verification,
        "linked_to": [],
        "matches_sso_connection": False,
        "created_at": now,
        "updated_at": now,
    }
    account = {
        "id": f"eac_{number}",
        "object": "external_account",
        "provider": "oauth_google",
        "identification_id": identification,
        "provider_user_id": "1" * 21,
        "approved_scopes": "email openid profile " * 6,
        "image_url": "https://images.example.com/" + "x" * 160,
        "public_metadata": {},
        "verification": verification,
        "email_address": f"person{number}@example.com",
        "first_name": "Ada",
        "last_name": "Lovelace",
    }
    user = {
        "id": f"user_{number:027d}",
        "object": "user",
        "external_id": None,
        "username": None,
        "first_name": "Ada",
        "last_name": f"Lovelace {number}",
        "locale": None,
        "primary_email_address_id": identification,
        "primary_phone_number_id": None,
        "primary_web3_wallet_id": None,
        "email_addresses": [address],
        "phone_numbers": [],
        "web3_wallets": [],
        "passkeys": [],
        "external_accounts": [account],
        "saml_accounts": [],
        "enterprise_accounts": [],
        "public_metadata": {"plan": "pro"},
        "private_metadata": {},
        "unsafe_metadata": {},
        "banned": False,
        "locked": False,
        "deprovisioned": False,
        "lockout_expires_in_seconds": None,
        "verification_attempts_remaining": 100,
        "created_at": now,
        "updated_at": now,
        "last_sign_in_at": None,
        "last_active_at": now,
        "image_url": "https://img.example.com/" + "y" * 180,
        "has_image": True,
        "profile_image_url": "https://img.example.com/" + "y" * 180,
        "two_factor_enabled": False,
        "totp_enabled": False,
        "backup_code_enabled": False,
        "password_enabled": False,
    }
    envelope = {
        "object": "event",
        "type": "user.created",
        "timestamp": now,
        "instance_id": ClerkSettings().instance_id,
        "event_attributes": {"http_request": {"client_ip": "203.0.113.7", "user_agent": "Mozilla/5.0"}},
        "data": user,
    }
    return json.dumps(envelope, separators=(",", ":")).encode()


def _requests(path: str, first: int) -> list[bytes]:
    key = base64.b64decode(SvixSettings().secret.removeprefix("whsec_"))
    now = time.time()
    made = []
    for number in range(first, first + DISTINCT):
        body = _body(number, int(now * 1000))
        message, timestamp = f"msg_{number:027d}", str(int(now))
        mac = hmac.digest(key, f"{message}.{timestamp}.".encode() + body, hashlib.sha256)
        head = (
            f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
            f"user-agent: Svix-Webhooks/1.62\r\nsvix-id: {message}\r\nsvix-timestamp: {timestamp}\r\n"
            f"svix-signature: v1,{base64.b64encode(mac).decode()}\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        made.append(head.encode() + body)
    return made


class _Client(asyncio.Protocol):
    """One connection: the next request goes out when the answer is in."""

    def __init__(self, run: "_Run") -> None:
        self._run = run
        self._sent = 0.0
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are none of asyncio's classes.
        self._transport = cast("asyncio.Transport", transport)
        self._next()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if b"\r\n\r\n" not in self._buffer:
            return
        self._run.answered(self._buffer.startswith(b"HTTP/1.1 204"), time.perf_counter() - self._sent)
        self._buffer = b""
        self._next()

    def _next(self) -> None:
        self._sent = time.perf_counter()
        request = self._run.next(self._sent)
        if request is None:
            self._transport.close()
        else:
            self._transport.write(request)

    def connection_lost(self, _: Exception | None) -> None:
        self._run.left -= 1
        if not self._run.left:
            self._run.done.set()


class _Run:
    """All connections' figures."""

    def __init__(self, requests: list[bytes], connections: int, seconds: float) -> None:
        self._requests = requests
        self._number = 0
        self._from = time.perf_counter() + WARM_UP
        self._until = self._from + seconds
        self.left = connections
        self.done = asyncio.Event()
        self.taken = 0
        """Answered rightly, the warm-up included."""
        self.wrong = 0
        self.seconds = seconds
        self.latencies = array("d")

    def next(self, now: float) -> bytes | None:
        if now >= self._until:
            return None
        self._number += 1
        return self._requests[self._number % len(self._requests)]

    def answered(self, right: bool, took: float) -> None:
        now = time.perf_counter()
        if not right:
            self.wrong += 1
            return
        self.taken += 1
        if self._from <= now < self._until:
            self.latencies.append(took)


async def _main(port: int, path: str, connections: int, seconds: float, first: int = 0) -> None:
    run = _Run(_requests(path, first), connections, seconds)
    run._from = time.perf_counter() + WARM_UP
    run._until = run._from + seconds
    loop = asyncio.get_running_loop()
    for _ in range(connections):
        await loop.create_connection(lambda: _Client(run), "127.0.0.1", port)
    await run.done.wait()
    ordered = sorted(run.latencies)
    figures = {
        "per_second": len(ordered) / seconds,
        "p50_ms": ordered[len(ordered) // 2] * 1000,
        "p99_ms": ordered[int(len(ordered) * 0.99)] * 1000,
        "taken": run.taken,
        "wrong": run.wrong,
    }
    sys.stdout.write(json.dumps(figures) + "\n")


if __name__ == "__main__":
    port, where, several, long, *first = sys.argv[1:]
    uvloop.run(_main(int(port), where, int(several), float(long), *map(int, first)))
