from __future__ import annotations

import asyncio

import pytest

from counterfoil.sandbox import Sandbox


@pytest.fixture(scope="session", autouse=True)
def no_stray_event_loop() -> None:
    """Keep the looptime plugin from making a loop for each plain test, which nobody would close."""
    asyncio.set_event_loop(None)


@pytest.fixture
def sandbox() -> Sandbox:
    """A quiet sandbox without limits."""
    sandbox = Sandbox()
    sandbox.lift_limits()
    return sandbox
