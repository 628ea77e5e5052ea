"""Texts that stand for numbers with a unit: times such as 30s and sizes such as 64KB."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

__all__ = ["examples", "quantity", "seconds"]

_NUMBER: Final = re.compile(r"([+-]?\d{1,15}(?:\.\d{1,9})?) ?([A-Za-z]{0,3})")

_SECONDS: Final = {"": 1, "ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86_400}

# KB is 1000 and KiB is 1024 (IEC 80000-13); upper and lower case are the same here.
_BYTES: Final = {
    "": 1,
    "b": 1,
    **{f"{prefix}b": 1000**power for power, prefix in enumerate("kmgt", 1)},
    **{f"{prefix}ib": 1024**power for power, prefix in enumerate("kmgt", 1)},
}

_UNITS: Final[Mapping[str, tuple[Mapping[str, float], str]]] = {
    "s": (_SECONDS, 'seconds, or a time such as "500ms", "30s", "5m" or "1h"'),
    "bytes": (_BYTES, 'bytes, or a size such as "64KB" or "1MiB"'),
    "bytes/s": (_BYTES, 'bytes, or a size such as "64KB" or "1MiB"'),
}


def quantity(text: str, unit: str) -> float | None:
    """The number of a unit that a text such as 5m stands for; None if it is none.

    Args:
        unit: as `Setting.unit` has it: "s", "bytes" or "bytes/s". Others have no such texts.
    """
    factors, _ = _UNITS.get(unit, ({}, ""))
    match = _NUMBER.fullmatch(text.strip())
    factor = factors.get(match[2].lower()) if match else None
    if match is None or factor is None:
        return None
    number = float(match[1])
    # A thousandth is divided by: 50 * 0.001 is not 0.05.
    return number / round(1 / factor) if factor < 1 else number * factor


def seconds(text: str) -> float | None:
    """The seconds that a time such as 90s, 15m, 1h or 7d stands for; None if it is none."""
    return quantity(text, "s")


def examples(unit: str) -> str:
    """The unit and how its texts look, in words; empty for a unit that has none."""
    return _UNITS[unit][1] if unit in _UNITS else ""
