"""Fixtures for all tests."""

import pytest

from counterfoil.sandbox import Sandbox


@pytest.fixture
def sandbox() -> Sandbox:
    """A quiet sandbox without limits."""
    sandbox = Sandbox()
    sandbox.lift_limits()
    return sandbox
