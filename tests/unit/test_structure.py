"""What keeps the structure: no import circles, one table of codes, nothing set from outside."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from tidegate.core.codes import REASONS

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src" / "tidegate"
FILES = sorted(SOURCE.rglob("*.py"))
TREES = {path: ast.parse(path.read_text()) for path in FILES}

# Where numbers of the protocol belong: the table, and the rules of RFC 6455 about what may be sent.
CODE_FILES = ("core/codes.py", "wire/frames.py")
MOST_IGNORES = 4


def module(path: Path) -> str:
    parts = path.relative_to(SOURCE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module(path) for path in FILES}


def imported(path: Path) -> set[str]:
    """The modules of ours that a module imports, for type checking too."""
    found: set[str] = set()
    for node in ast.walk(TREES[path]):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        found.update(name for name in names if name in MODULES)
    return found - {module(path), *(package(path))}


def package(path: Path) -> Iterator[str]:
    """The packages that a module is in: importing them is how Python gets to it."""
    parts = module(path).split(".")
    for size in range(1, len(parts)):
        yield ".".join(parts[:size])


def test_imports_have_no_circle() -> None:
    graph = {module(path): imported(path) for path in FILES}
    try:
        tuple(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


NUMBERS = {
    number
    for reason in REASONS.values()
    for number in (getattr(reason, "status", 0), getattr(reason, "code", 0))
}
# These are also just numbers; as a code they stand in one of these calls.
AMBIGUOUS = {500, 1000}
CLOSING_CALLS = {"close", "encode_close", "end", "fail", "http_response"}


def literal_codes(tree: ast.Module) -> Iterator[tuple[int, int]]:
    """Numbers of the table that stand elsewhere."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and type(node.value) is int:
            if node.value in NUMBERS - AMBIGUOUS - {0}:
                yield node.lineno, int(node.value)
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func).rpartition(".")[2]
            for argument in node.args if called in CLOSING_CALLS else ():
                if is_ambiguous(argument):
                    yield node.lineno, int(ast.literal_eval(argument))
        elif isinstance(node, ast.arguments):
            for default in (*node.defaults, *node.kw_defaults):
                if default is not None and is_ambiguous(default):
                    yield default.lineno, int(ast.literal_eval(default))


def is_ambiguous(value: ast.expr) -> bool:
    return isinstance(value, ast.Constant) and value.value in AMBIGUOUS


def test_codes_stand_in_the_table_only() -> None:
    found = [
        f"{path.relative_to(SOURCE)}:{line}: {value}"
        for path in FILES
        if not path.as_posix().endswith(CODE_FILES)
        for line, value in literal_codes(TREES[path])
    ]
    assert found == []


def callable_attributes(tree: ast.Module) -> Iterator[str]:
    """Names of attributes that a class declares as callables."""
    for node in ast.walk(tree):
        if isinstance(node, ast.AnnAssign) and "Callable" in ast.unparse(node.annotation):
            if isinstance(node.target, ast.Attribute):
                yield node.target.attr
            elif isinstance(node.target, ast.Name) and "on_" in node.target.id:
                yield node.target.id


def assigned(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Attributes of other objects that are assigned."""
    for node in ast.walk(tree):
        targets: list[ast.expr] = []
        if isinstance(node, ast.Assign):
            targets = node.targets
        elif isinstance(node, ast.AnnAssign | ast.AugAssign):
            targets = [node.target]
        for target in targets:
            if isinstance(target, ast.Attribute):
                owner = target.value
                if not (isinstance(owner, ast.Name) and owner.id in ("self", "cls")):
                    yield target.lineno, target.attr


def test_callables_are_not_assigned_from_outside() -> None:
    names = {name for tree in TREES.values() for name in callable_attributes(tree)}
    found = [
        f"{path.relative_to(SOURCE)}:{line}: {name}"
        for path in FILES
        # The engine fills in the record that its parts share, before there is a connection.
        if path.name != "engine.py"
        for line, name in assigned(TREES[path])
        if name in names
    ]
    assert found == []


def test_types_are_ignored_seldom_and_with_a_reason() -> None:
    lines = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in FILES
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if "type: ignore" in line
    ]
    assert len(lines) <= MOST_IGNORES, lines
    for line in lines:
        assert re.search(r"type: ignore\[[a-z-]+\]  # \w+", line), line


def test_files_are_small() -> None:
    assert [path.name for path in FILES if len(path.read_text().splitlines()) > 400] == []
