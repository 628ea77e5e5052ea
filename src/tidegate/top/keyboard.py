"""Keys of a terminal, one at a time and without a line."""

from __future__ import annotations

import codecs
import os
import select
import sys
import termios
import tty
from types import TracebackType
from typing import Final

__all__ = ["Keyboard"]

# What terminals send for keys that have no character (ECMA-48, and xterm's application mode).
_SEQUENCES: Final = {
    b"\x1b[A": "up",
    b"\x1bOA": "up",
    b"\x1b[B": "down",
    b"\x1bOB": "down",
    b"\x1b": "escape",
    b"\x7f": "backspace",
    b"\x08": "backspace",
}
_MOST: Final = 64


class Keyboard:
    """Reads keys while it is entered; afterwards the terminal is as it was."""

    def __init__(self) -> None:
        self._descriptor = sys.stdin.fileno()
        self._decoder = codecs.getincrementaldecoder("utf-8")("ignore")
        self._keys: list[str] = []

    def __enter__(self) -> Keyboard:
        self._before = termios.tcgetattr(self._descriptor)
        tty.setcbreak(self._descriptor)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        termios.tcsetattr(self._descriptor, termios.TCSADRAIN, self._before)

    def read(self, seconds: float) -> str | None:
        """Wait for a key; None if none comes, "q" where the terminal is gone."""
        if not self._keys:
            ready, _, _ = select.select([self._descriptor], [], [], max(0.0, seconds))
            if ready:
                data = os.read(self._descriptor, _MOST)
                if not data:
                    return "q"
                name = _SEQUENCES.get(data)
                # Of other sequences, such as those of function keys, nothing is taken.
                known = [name] if name else list(self._decoder.decode(data))
                self._keys = [] if name is None and data.startswith(b"\x1b") else known
        return self._keys.pop(0) if self._keys else None
