"""Facts about the clock and randomness."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path
from typing import Final

from tidegate.doctor.facts import Time
from tidegate.node.pressure.groups import number

__all__ = ["read_time"]

_TIMEX_BYTES: Final = 512  # struct timex is 208 on 64 bits
_TIME_ERROR: Final = 5  # adjtimex(2): the clock is not synchronized


def read_time(root: Path) -> Time:
    """Read where the time comes from, and whether it is right."""
    directory = root / "sys/devices/system/clocksource/clocksource0"
    return Time(
        source=_text(directory / "current_clocksource"),
        sources=tuple(_text(directory / "available_clocksource").split()),
        synchronized=_synchronized(),
        entropy=number(root / "proc/sys/kernel/random/entropy_avail"),
    )


def _synchronized() -> bool | None:
    """Whether the kernel's clock follows a time server; with modes = 0 nothing is changed."""
    if sys.platform != "linux":
        return None
    try:
        state = int(ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES)))
    except (OSError, AttributeError):
        return None
    return None if state < 0 else state != _TIME_ERROR


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
