"""Handlers that hold everybody up: named in the log, at most once a second."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Any

from tidegate.engine.application import BLOCKED_SECONDS
from tidegate.node.warner import Warner

__all__ = ["Watch"]


class Watch:
    """Says which handler took so long that every connection had to wait for it."""

    def __init__(self) -> None:
        self._warn = Warner()

    def took(self, role: str, handler: Callable[..., Any], seconds: float) -> None:
        """Log that the plain handler for `role` took so many seconds."""
        self._warn(
            f"{role} ({_name(handler)}) held up every connection for {seconds:.2f} s;"
            f" make it async, or do the work in a thread"
        )

    def over(self, role: str, handler: Callable[..., Any]) -> Callable[..., Any]:
        """Return a handler that does the same, and is timed."""

        def timed(*arguments: Any) -> Any:
            began = monotonic()
            try:
                return handler(*arguments)
            finally:
                seconds = monotonic() - began
                if seconds >= BLOCKED_SECONDS:
                    self.took(role, handler, seconds)

        return timed


def _name(handler: Callable[..., Any]) -> str:
    handler = getattr(handler, "func", handler)  # of a functools.partial
    if not hasattr(handler, "__qualname__"):
        handler = type(handler)
    return f"{handler.__module__}.{handler.__qualname__}"
