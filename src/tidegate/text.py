"""Bytes, seconds and names, as people read them in a terminal."""

from __future__ import annotations

__all__ = ["clean", "duration", "number", "size"]


def clean(text: str) -> str:
    """Return a text of somebody else without what would steer the terminal."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def size(count: float) -> str:
    """Return bytes in the largest unit of which there is one, as in "1.5 GiB"."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.3g} {unit}" if count < 1000 else f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:.3g} TiB"


def number(value: float) -> str:
    """Return a number with three digits, or with all those before the point: "0.1", "1,234"."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def duration(seconds: float) -> str:
    """Return seconds in the unit in which they are easiest to read, as in "2 h"."""
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.3g} {unit}"
    return f"{seconds:.3g} s"
