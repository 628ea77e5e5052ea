"""Rows of what a server knows, as a terminal shows them and as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence

from tidegate.text import clean

__all__ = ["print_json", "print_table"]


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


def _text(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else clean(str(value))
