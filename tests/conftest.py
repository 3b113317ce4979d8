"""Fixtures for all tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from counterfoil.sandbox import Sandbox
from tests import postgresql as on_postgresql
from tests.databases import KINDS, Home, PostgresqlHome, SqliteHome, migrate

# How long a busy machine takes decides no test.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


@pytest.fixture
def sandbox() -> Sandbox:
    """A quiet sandbox without limits."""
    sandbox = Sandbox()
    sandbox.lift_limits()
    return sandbox


@pytest.fixture(scope="session")
def postgresql() -> Iterator[on_postgresql.Server]:
    """One server for all tests of this process."""
    with on_postgresql.server() as made:
        yield made


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file that was migrated once."""
    file = tmp_path_factory.mktemp("template") / "counterfoil.db"
    migrate(f"sqlite:///{file}")
    return file


def pytest_addoption(parser: pytest.Parser) -> None:
    """Scenarios play on SQLite; a run before a merge plays them on PostgreSQL too."""
    parser.addoption("--both", action="store_true", help="run scenarios and kills on PostgreSQL too")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Whatever asks for a home runs once for each kind of database; what is in tests/store always on both."""
    if "home" in metafunc.fixturenames:
        both = metafunc.config.getoption("--both") or "store" in metafunc.definition.path.parts
        alone = getattr(metafunc.module, "ONLY_SQLITE", False)
        kinds = KINDS if both and not alone else KINDS[:1]
        only = getattr(metafunc.module, "ONLY_POSTGRESQL", False)
        metafunc.parametrize("home", ["postgresql"] if only else kinds, indirect=True)


@pytest.fixture
def home(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Home]:
    """Where this test's databases are."""
    if request.param == "sqlite":
        yield SqliteHome(tmp_path, request.getfixturevalue("sqlite_template"))
        return
    made = PostgresqlHome(request.getfixturevalue("postgresql"))
    try:
        yield made
    finally:
        made.close()
