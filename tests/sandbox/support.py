"""Short ways to call a sandbox without a socket, and to find the published schemas."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import msgspec
import pytest

from counterfoil.sandbox import Answer, Reply, Request, Sandbox

NOW = 1_800_000_000.0
CLERK_KEY = "sk_test_clerkSandbox"
STRIPE_KEY = "sk_test_stripeSandbox"
SPECS = Path(__file__).parents[2].parent / "shared" / "specs"


def clerk_reply(
    sandbox: Sandbox,
    method: str,
    path: str,
    *,
    now: float = NOW,
    body: object = None,
    query: Mapping[str, object] | None = None,
    headers: dict[str, str] | None = None,
) -> Reply:
    sent = {"authorization": f"Bearer {CLERK_KEY}", **(headers or {})}
    content = b"" if body is None else msgspec.json.encode(body)
    text = urlencode(query, doseq=True) if query else ""
    return sandbox.begin("clerk", Request(method, path, text, sent, content), now)


def clerk(sandbox: Sandbox, method: str, path: str, **rest: Any) -> Answer:
    answer = clerk_reply(sandbox, method, path, **rest).answer
    assert answer is not None
    return answer


def stripe_reply(
    sandbox: Sandbox,
    method: str,
    path: str,
    params: Mapping[str, object] | None = None,
    *,
    now: float = NOW,
    key: str | None = None,
    secret: str = STRIPE_KEY,
) -> Reply:
    headers = {"authorization": f"Bearer {secret}"}
    if key is not None:
        headers["idempotency-key"] = key
    text = urlencode(params) if params else ""
    query, body = (text, b"") if method == "GET" else ("", text.encode())
    return sandbox.begin("stripe", Request(method, path, query, headers, body), now)


def stripe(
    sandbox: Sandbox, method: str, path: str, params: Mapping[str, object] | None = None, **rest: Any
) -> Answer:
    answer = stripe_reply(sandbox, method, path, params, **rest).answer
    assert answer is not None
    return answer


def error_code(answer: Answer) -> Any:
    body = answer.json()
    return body["errors"][0]["code"] if "errors" in body else body["error"].get("code")


def spec_file(name: str) -> Path:
    path = SPECS / name
    if not path.exists():
        pytest.skip("the published API schemas are not beside this checkout")
    return path
