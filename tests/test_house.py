"""The house's rules, as far as a machine can hold them."""

import ast
from collections.abc import Iterator
from pathlib import Path

import counterfoil

SOURCE = Path(counterfoil.__file__).parent
MODULE_LINES = 400
FUNCTION_LINES = 50
# These put many parts together, one line for each, and would not be clearer in pieces.
LONGER: dict[tuple[str, str], int] = {}
CLOCKS = {"time.time", "time.time_ns", "time.monotonic", "datetime.now", "datetime.utcnow", "datetime.today"}


def modules() -> Iterator[tuple[str, ast.Module, int]]:
    """Every module: its name, its tree, and how many lines it has."""
    for path in sorted(SOURCE.rglob("*.py")):
        text = path.read_text()
        if text.strip():
            yield str(path.relative_to(SOURCE)), ast.parse(text), len(text.splitlines())


def test_modules_are_short() -> None:
    assert [(name, lines) for name, _, lines in modules() if lines > MODULE_LINES] == []


def test_functions_are_short() -> None:
    long = [
        (name, node.name, node.end_lineno - node.lineno + 1)
        for name, tree, _ in modules()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno is not None
        and node.end_lineno - node.lineno + 1 > LONGER.get((name, node.name), FUNCTION_LINES)
    ]
    assert long == []


def test_every_module_says_what_it_is() -> None:
    assert [name for name, tree, _ in modules() if not ast.get_docstring(tree)] == []


def test_every_public_class_and_function_says_what_it_is() -> None:
    silent = [
        (name, node.name)
        for name, tree, _ in modules()
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        and not node.name.startswith("_")
        and not ast.get_docstring(node)
    ]
    assert silent == []


def test_the_rules_do_not_tell_the_time() -> None:
    told = [
        (name, ast.unparse(node))
        for name, tree, _ in modules()
        if name.startswith("core/")
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and ast.unparse(node) in CLOCKS
    ]
    assert told == []


def test_nothing_is_printed_but_by_the_command_line() -> None:
    printed = [
        (name, node.lineno)
        for name, tree, _ in modules()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert printed == []


def test_nothing_is_left_to_do() -> None:
    marks = ("TO" + "DO", "FIX" + "ME", "XX" + "X")
    found = [
        (str(path.relative_to(SOURCE)), mark)
        for path in sorted(SOURCE.rglob("*.py"))
        for mark in marks
        if mark in path.read_text()
    ]
    assert found == []
