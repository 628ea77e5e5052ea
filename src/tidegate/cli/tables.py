"""Rows of what a server knows, as a terminal shows them and as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from tidegate.text import clean

__all__ = ["print_counts", "print_json", "print_missing", "print_table"]


def print_json(value: object) -> None:
    """Print a value as JSON, for scripts."""
    print(json.dumps(value, indent=2))


def print_table(titles: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print rows under their titles. Numbers stand at the right of their column."""
    cells = [[_text(value) for value in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(titles, *cells, strict=True)]
    right = [bool(rows) and isinstance(value, int) for value in (rows[0] if rows else titles)]
    for line in (titles, *cells):
        shown = (
            text.rjust(width) if at_right else text.ljust(width)
            for text, width, at_right in zip(line, widths, right, strict=True)
        )
        print("  ".join(shown).rstrip())


def print_counts(
    titles: tuple[str, str], rows: Sequence[tuple[str, int, Mapping[str, int] | None]]
) -> None:
    """Print names with their counts, and how many are on which node where that is known."""
    if all(nodes is None for _, _, nodes in rows):
        print_table(titles, [(name, count) for name, count, _ in rows])
        return
    spread = [
        ", ".join(f"{node} ({of:,})" for node, of in sorted((nodes or {}).items()))
        for _, _, nodes in rows
    ]
    named = [(name, count, of) for (name, count, _), of in zip(rows, spread, strict=True)]
    print_table((*titles, "NODES"), named)


def print_missing(page: Mapping[str, Any]) -> None:
    """Say that a list lacks those of some nodes, if it does."""
    if not page.get("complete", True):
        print("Not all nodes have answered: there may be more.")


def _text(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else clean(str(value))
