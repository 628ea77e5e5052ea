"""`tidegate drain`: drain a running server, and watch it."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any

from tidegate.cli.admin import Admin, UnreachableError
from tidegate.cli.options import ConfigFile, load_settings
from tidegate.errors import TidegateError, UsageError

__all__ = ["drain"]

_LOOKS_SECONDS = 0.25
_LINES_SECONDS = 1.0


def drain(
    *, admin: str | None = None, window: float | None = None, config: ConfigFile = None
) -> None:
    """Drain a running server, and wait until it has ended.

    The server refuses attempts, tells every client when to come back, closes all connections
    spread over a window, and ends. The exit code is 0 when it has ended. Ctrl-C stops only the
    watching.

    Parameters
    ----------
    admin
        Where the admin API is. [default: from admin.host and admin.port]
    window
        Seconds over which connections are closed. [default: drain.window of the server]
    """
    if window is not None and not 0 <= window <= 3600:
        raise UsageError(f"--window {window:g}: must be from 0 to 3600")
    api = Admin(load_settings(config).settings.admin, admin)
    seen = api.ask("/drain" if window is None else f"/drain?window={window!r}", "POST")
    shown = _Progress()
    try:
        while not seen["over"]:
            shown.show(_text(seen))
            time.sleep(_LOOKS_SECONDS)
            seen = api.ask("/drain")
    except UnreachableError:
        shown.end()
        # A server waits until its end was seen; one that a second signal ends cannot.
        raise TidegateError(f"the server ended before its drain did: {_text(seen)}") from None
    except KeyboardInterrupt:
        shown.end()
        raise TidegateError(f"the drain goes on: {_text(seen)}") from None
    shown.show(_text(seen), last=True)


def _text(seen: Mapping[str, Any]) -> str:
    gone = seen["total"] - seen["open"]
    if seen["over"]:
        cut = f", {seen['open']:,} cut off" if seen["open"] else ""
        return f"drained {seen['total']:,} connections in {seen['elapsed']:.1f} s{cut}"
    return (
        f"{gone:,} of {seen['total']:,} connections gone after {seen['elapsed']:.0f} s, "
        f"at most {seen['left']:.0f} s more"
    )


class _Progress:
    """One line that changes in a terminal; elsewhere a line a second."""

    def __init__(self) -> None:
        self._live = sys.stdout.isatty()
        self._next = 0.0

    def show(self, text: str, last: bool = False) -> None:
        if self._live:
            # Back to the start of the line, and clear what is left of the one before.
            print(f"\r{text}\x1b[K", end="\n" if last else "", flush=True)
        elif last or time.monotonic() >= self._next:
            self._next = time.monotonic() + _LINES_SECONDS
            print(text, flush=True)

    def end(self) -> None:
        if self._live:
            print()
