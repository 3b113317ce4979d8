"""Mutants of a module: each differs from it in one small thing.

Mutated are the bodies of functions, a module's constants, and the SQL in its strings. Left out are docstrings,
annotations, assertions, what is raised or logged, other strings, and what stands in a class outside its methods.

A mutant is known by its module, its function, the line of source that it changes and the change itself; never by
the number of a line.
"""

import ast
import copy
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).parent.parent / "src" / "counterfoil"

_COMPARED: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
_CALCULATED: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.FloorDiv: ast.Mult,
    ast.Div: ast.Mult,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
}
_SQL = re.compile(r"\b(SELECT|UPDATE|INSERT|DELETE|WHERE|SET|CASE|RETURNING|AND)\b")
_SQL_CHANGES = (
    (re.compile(r" AND (?:\w+\.)?\w+ (?:IS (?:NOT )?NULL|(?:[<>=]+) [:\w.]+)"), ""),
    (re.compile(r"\w+ (?:IS (?:NOT )?NULL|(?:[<>=]+) [:\w.]+) (?:AND|OR) "), ""),
    (re.compile(r"CASE WHEN (?:(?!CASE|END).)+? THEN (.+?) ELSE (.+?) END"), r"\1"),
    (re.compile(r"CASE WHEN (?:(?!CASE|END).)+? THEN (.+?) ELSE (.+?) END"), r"\2"),
    (re.compile(r"COALESCE\((\w+), (:\w+)\)"), r"\2"),
    (re.compile(r"COALESCE\((\w+), (:\w+)\)"), r"\1"),
    (re.compile(r"COALESCE\((CAST\(.*?\)), (\w+)\)"), r"\1"),
    (re.compile(r"COALESCE\((CAST\(.*?\)), (\w+)\)"), r"\2"),
    (re.compile(r"= (\w+) \+ 1"), r"= \1"),
    (re.compile(r" IS NULL"), " IS NOT NULL"),
    (re.compile(r" IS NOT NULL"), " IS NULL"),
    (re.compile(r" <= "), " < "),
    (re.compile(r" > "), " >= "),
    (re.compile(r" ORDER BY \w+"), ""),
    (re.compile(r" FOR UPDATE(?: SKIP LOCKED)?"), ""),
    (re.compile(r" LIMIT :\w+"), ""),
)


@dataclass(frozen=True)
class Mutant:
    """One changed module; ``lines`` are those whose tests may notice."""

    module: str
    """The file, from the package's folder."""
    function: str
    """The function's qualified name, or the constant's."""
    line: str
    """The line of source."""
    change: str
    number: int
    """Which of several such in one line."""
    lines: frozenset[int]
    text: str
    """The source of the whole function or constant, by which a kept verdict is known to be of this code."""
    constant: bool
    build: Callable[[], ast.Module]
    """Makes the mutated module."""

    @property
    def name(self) -> str:
        """What it is known by."""
        more = f" #{self.number}" if self.number > 1 else ""
        return f"{self.module} {self.function} | {self.line} | {self.change}{more}"


def mutants(module: str) -> Iterator[Mutant]:
    """All mutants of a module."""
    source = (SOURCE / module).read_text()
    tree, lines = ast.parse(source), source.splitlines()
    seen: Counter[tuple[str, str, str]] = Counter()
    for scope, path in _scopes(tree):
        text = "\n".join(lines[scope.lineno - 1 : scope.end_lineno])
        for place, statement in _places(scope):
            node = _at(scope, place)
            for change, replacement in _changes(node, scope):
                key = (path, lines[node.lineno - 1].strip(), change)
                seen[key] += 1
                reached = frozenset({statement.lineno, *range(node.lineno, _end(node) + 1)})
                constant = isinstance(scope, ast.Assign | ast.AnnAssign)
                build = partial(_replaced, tree, scope, place, replacement)
                yield Mutant(module, *key, seen[key], reached, text, constant, build)


def made_of(module: str, constant: str) -> set[str]:
    """The constant, and the module's other constants that are made of it."""
    made = {constant}
    for node in ast.parse((SOURCE / module).read_text()).body:
        if _named(node) & made:
            made |= targets(node)
    return made


def users(module: str, names: set[str]) -> set[int]:
    """The lines of a module's functions that name any of these."""
    lines = (SOURCE / module).read_text().splitlines()
    if not any(name in line for name in names for line in lines):
        return set()
    functions = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return {
        each.lineno
        for node in ast.parse("\n".join(lines)).body
        if isinstance(node, functions)
        for each in ast.walk(node)
        if isinstance(each, ast.Name) and each.id in names
    }


def _named(node: ast.stmt) -> set[str]:
    return {each.id for each in ast.walk(node) if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Load)}


def targets(node: ast.stmt) -> set[str]:
    """The constant that a module's statement makes."""
    if isinstance(node, ast.Assign):
        return {each.id for each in node.targets if isinstance(each, ast.Name)}
    return {node.target.id} if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) else set()


def _scopes(tree: ast.Module) -> Iterator[tuple[ast.stmt, str]]:
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node, node.name
        elif isinstance(node, ast.ClassDef):
            for each in node.body:
                if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef):
                    yield each, f"{node.name}.{each.name}"
        elif isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None and not _is_type(node.value):
            yield node, ast.unparse(node.target if isinstance(node, ast.AnnAssign) else node.targets[0])


def _is_type(value: ast.expr) -> bool:
    return isinstance(value, ast.BinOp) and isinstance(value.op, ast.BitOr)


def _end(node: Any) -> int:
    """The last line of what is only this node's: a compound statement's head."""
    body = getattr(node, "body", None)
    return max(int(node.lineno), body[0].lineno - 1) if isinstance(body, list) else int(node.end_lineno)


Place = tuple[tuple[str, int | None], ...]


def _places(scope: ast.stmt) -> Iterator[tuple[Place, ast.stmt]]:
    """Every node that may be mutated: the way to it, and its statement."""

    def walk(node: ast.AST, place: Place, statement: ast.stmt) -> Iterator[tuple[Place, ast.stmt]]:
        if isinstance(node, ast.stmt):
            statement = node
        if isinstance(node, ast.Assert | ast.Raise) or _is_of_no_account(node):
            return
        if hasattr(node, "lineno") and node is not scope:
            yield place, statement
        for field, value in ast.iter_fields(node):
            if field in {"annotation", "returns", "args", "decorator_list", "pattern", "type_comment"} and not (
                field == "args" and isinstance(node, ast.Call)
            ):
                continue
            for index, each in enumerate(value) if isinstance(value, list) else [(None, value)]:
                if isinstance(each, ast.AST):
                    yield from walk(each, (*place, (field, index)), statement)

    yield from walk(scope, (), scope)


def _is_of_no_account(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and ast.unparse(node).startswith(("_log.", "assert_never("))


def _at(node: Any, place: Place) -> Any:
    for field, index in place:
        value = getattr(node, field)
        node = value if index is None else value[index]
    return node


def _replaced(tree: ast.Module, scope: ast.stmt, place: Place, replacement: ast.AST | None) -> ast.Module:
    """The module with one node replaced; ``None``: removed."""
    new = copy.deepcopy(scope)
    parent = _at(new, place[:-1])
    field, index = place[-1]
    if index is None:
        setattr(parent, field, replacement)
    elif replacement is None:
        del getattr(parent, field)[index]
    else:
        getattr(parent, field)[index] = replacement
    ast.fix_missing_locations(new)

    def swap(node: ast.stmt) -> ast.stmt:
        if node is scope:
            return new
        if isinstance(node, ast.ClassDef) and scope in node.body:
            owner = copy.copy(node)
            owner.body = [new if each is scope else each for each in node.body]
            return owner
        return node

    return ast.Module([swap(node) for node in tree.body], [])


def _changes(node: ast.AST, scope: ast.stmt) -> Iterator[tuple[str, ast.AST | None]]:
    """What can be put in the node's place, each with its description; ``None``: nothing."""
    inside = not isinstance(scope, ast.Assign | ast.AnnAssign)
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        if not inside and _SQL.search(node.value):
            yield from (
                (told, ast.copy_location(ast.Constant(new), node)) for told, new in _statements(node.value)
            )
        return
    for new in _expressions(node):
        yield f"{_brief(node)} -> {_brief(new)}", ast.copy_location(new, node)
    for dropped, new in _shorter(node):
        if inside or not isinstance(node, ast.BinOp):
            yield f"without {_brief(dropped)}", ast.copy_location(new, node)
    if not inside:
        return
    match node:
        case ast.keyword(arg=str()):
            yield f"without {_brief(node)}", None
        case ast.If(test=test, body=body, orelse=other) if _is_plain(test):
            yield f"if {_brief(test)} -> if not", ast.copy_location(ast.If(_not(test), body, other), node)
        case ast.Return(value=ast.expr() as value) if not (
            isinstance(value, ast.Constant) and value.value is None
        ):
            yield "return None", ast.copy_location(ast.Return(ast.Constant(None)), node)
        case ast.Assign() | ast.AugAssign() | ast.Expr() | ast.Break() | ast.Continue() if not _is_text(node):
            yield "removed", ast.copy_location(ast.Pass(), node)
        case ast.ListComp() | ast.SetComp() | ast.GeneratorExp() | ast.DictComp():
            for index, clause in enumerate(node.generators):
                for number, test in enumerate(clause.ifs):
                    new = copy.deepcopy(node)
                    del new.generators[index].ifs[number]
                    yield f"without if {_brief(test)}", new


def _expressions(node: ast.AST) -> Iterator[ast.expr]:
    match node:
        case ast.Compare(left=left, ops=[op], comparators=[right]):
            for other in _COMPARED[type(op)]:
                yield ast.Compare(left, [other()], [right])
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            yield operand
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _CALCULATED:
            yield ast.BinOp(left, _CALCULATED[type(op)](), right)
        case ast.Constant(value=bool(value)):
            yield ast.Constant(not value)
        case ast.Constant(value=int(value)):
            yield ast.Constant(value + 1)
        case ast.IfExp(test=test, body=body, orelse=other) if _is_plain(test):
            yield ast.IfExp(_not(test), body, other)


def _shorter(node: ast.AST) -> Iterator[tuple[ast.expr, ast.expr]]:
    """Each part of a condition, a union or a set, and what is left without it."""
    match node:
        case ast.BoolOp(op=op, values=values):
            for index, dropped in enumerate(values):
                rest = values[:index] + values[index + 1 :]
                yield dropped, rest[0] if len(rest) == 1 else ast.BoolOp(op, rest)
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            yield left, right
            yield right, left
        case ast.Set(elts=elements) if len(elements) > 1:
            for index, dropped in enumerate(elements):
                yield dropped, ast.Set(elements[:index] + elements[index + 1 :])


def _not(test: ast.expr) -> ast.expr:
    return ast.copy_location(ast.UnaryOp(ast.Not(), test), test)


def _statements(text: str) -> Iterator[tuple[str, str]]:
    seen = {text}
    for pattern, replacement in _SQL_CHANGES:
        for found in pattern.finditer(text):
            put = found.expand(replacement)
            new = text[: found.start()] + put + text[found.end() :]
            if new not in seen:
                seen.add(new)
                yield f"{found[0].strip()} -> {put.strip() or 'nothing'}", new


def _is_plain(test: ast.expr) -> bool:
    """A condition that no other operator turns round."""
    return not isinstance(test, ast.Compare | ast.BoolOp | ast.Constant) and not (
        isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not)
    )


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _brief(node: ast.AST) -> str:
    return " ".join(ast.unparse(node).split())
