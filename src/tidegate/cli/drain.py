"""`tidegate drain`: drain a running server, and watch it."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Mapping
from typing import Annotated, Any

from cyclopts import Parameter

from tidegate.cli.options import AdminUrl, ConfigFile, Time, load_settings, parse_seconds
from tidegate.errors import TidegateError, UsageError

__all__ = ["drain"]

_LOOKS_SECONDS = 0.25
_LINES_SECONDS = 1.0


def drain(
    *,
    window: Annotated[str | None, Time] = None,
    timeout: Annotated[str | None, Time] = None,
    wait: Annotated[bool, Parameter(negative="--no-wait", show_default=False)] = True,
    admin: AdminUrl = None,
    config: ConfigFile = None,
) -> None:
    """Drain a running server, and wait until it has ended.

    The server refuses attempts, tells every client when to come back, closes all connections
    spread over a window, and ends. The exit code is 0 when it has ended, or with --no-wait when
    it has begun to drain. Ctrl-C stops only the waiting; the drain goes on.

    Parameters
    ----------
    window
        Time over which connections are closed, such as 60s or 5m. [default: drain.window of the
        server]
    timeout
        Time to wait for the end. After it the drain goes on, and the exit code is 1. [default: as
        long as it takes]
    wait
        Whether to wait until the server has ended. [default: --wait]
    """
    if timeout is not None and not wait:
        raise UsageError("--timeout: is how long to wait, and --no-wait says not to")
    from tidegate.cli.admin import Admin, UnreachableError

    over = None if window is None else parse_seconds("--window", window, 0, 3600)
    limit = None if timeout is None else parse_seconds("--timeout", timeout, 0, 86_400)
    api = Admin(load_settings(config).settings.admin, admin)
    # How long ago it began says nothing of how long this command has waited.
    end = math.inf if limit is None else time.monotonic() + limit
    seen = api.ask("/drain" if over is None else f"/drain?window={over!r}", "POST")
    shown = _Progress()
    if not wait:
        shown.show(_text(seen), last=True)
        return
    try:
        while not seen["over"]:
            shown.show(_text(seen))
            if time.monotonic() >= end:
                shown.end()
                raise TidegateError(f"not drained within {limit:g} s; it goes on: {_text(seen)}")
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
