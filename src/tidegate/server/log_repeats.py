"""An error that comes again and again is written once in ten seconds, with how often it came."""

from __future__ import annotations

import logging
import threading
from collections.abc import Hashable, Iterator
from typing import Final

__all__ = ["Repeats"]

_SECONDS: Final = 10.0
_KNOWN_MOST: Final = 256


class _Seen:
    __slots__ = ("event", "times", "until")

    def __init__(self, event: str, until: float) -> None:
        self.event = event
        self.until = until
        self.times = 0


class Repeats:
    """The errors of the last ten seconds. It keeps none of their frames.

    Two records are the same error when they have a traceback, and were logged by the same line of
    code for an exception of the same type that was raised by the same line. May be called by
    several threads; times are in monotonic seconds.
    """

    def __init__(self) -> None:
        self._seen: dict[Hashable, _Seen] = {}
        self._lock = threading.RLock()

    def hides(self, record: logging.LogRecord, now: float) -> bool:
        """Return whether the record repeats one that was written; it is counted then."""
        key = _key(record) if record.levelno >= logging.ERROR else None
        if key is None:
            return False
        with self._lock:
            seen = self._seen.get(key)
            if seen is not None and (now < seen.until or seen.times):
                seen.times += 1
                return True
            if len(self._seen) >= _KNOWN_MOST:
                self._forget(now)
            if len(self._seen) < _KNOWN_MOST:
                self._seen[key] = _Seen(f"{record.getMessage()} ({key[0]})", now + _SECONDS)
            return False

    def _forget(self, now: float) -> None:
        for key, seen in list(self._seen.items()):
            if seen.until <= now and not seen.times:
                del self._seen[key]

    def next_due(self, now: float) -> float | None:
        """Return the seconds until `due` has something to say, None when it will not have."""
        with self._lock:
            ends = [seen.until for seen in self._seen.values() if seen.times]
        return max(0.0, min(ends) - now) if ends else None

    def due(self, now: float) -> Iterator[tuple[str, int]]:
        """Take out the errors whose time is over; yield those that came again, and how often."""
        with self._lock:
            over = [key for key, seen in self._seen.items() if seen.until <= now]
            ended = [self._seen.pop(key) for key in over]
        for seen in ended:
            if seen.times:
                yield seen.event, seen.times


def _key(record: logging.LogRecord) -> tuple[str, Hashable, Hashable] | None:
    error = record.exc_info[1] if record.exc_info else None
    if error is None:
        return None
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    raised = None if trace is None else (trace.tb_frame.f_code, trace.tb_lineno)
    return type(error).__name__, (record.pathname, record.lineno), raised
