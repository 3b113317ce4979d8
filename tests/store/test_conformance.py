"""Every function of the store is called by a test that runs on both databases."""

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from counterfoil.store import environment, figures, journal, links, orders, server, sightings, tombstones, upgrade

MODULES = (environment, figures, journal, links, orders, server, sightings, tombstones, upgrade)
HERE = Path(__file__).parent
BOTH = {"connection", "url", "migrated_url", "migrated", "database", "home"}
"""The fixtures of this folder that each test that asks for them gets from both databases."""
NOT_ON_BOTH = {
    "journal.appending": "a statement for one of them",
    "links.adding": "a statement for one of them",
    "orders.decode": "no statement",
    "orders.encode": "no statement",
    "server.look": "SQLite has no server",
    "upgrade.remove": "SQLite has no schemas",
}


def public(module: ModuleType) -> Iterator[str]:
    """The functions that other modules call."""
    for name, found in vars(module).items():
        if inspect.isfunction(found) and found.__module__ == module.__name__ and not name.startswith("_"):
            yield name


def functions() -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """The tests that run on both databases, and the helpers that they may call."""
    for path in (HERE / "support.py", *HERE.glob("test_*.py")):
        text = path.read_text()
        if path.name in {"test_sqlite.py", "test_ownership.py"} or "\nONLY_POSTGRESQL = True\n" in text:
            continue
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and any(
                argument.arg in BOTH for argument in node.args.args
            ):
                yield node


def called() -> set[str]:
    """The names and attributes that are called, as ``claim`` or ``links.claim``."""
    return {
        ast.unparse(node.func)
        for function in functions()
        for node in ast.walk(function)
        if isinstance(node, ast.Call)
    }


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__.rpartition(".")[2])
def test_every_function_is_called_on_both_databases(module: ModuleType) -> None:
    short = module.__name__.rpartition(".")[2]
    made = called()
    missing = [
        name
        for name in public(module)
        if f"{short}.{name}" not in made and name not in made and f"{short}.{name}" not in NOT_ON_BOTH
    ]
    assert missing == []
