"""Log lines are written by a thread of their own, so that logging never blocks the event loop.

What reads standard error may stop reading: a pipe takes 64 KiB, and then write(2) waits. Here only
the thread waits. Lines queue up to a bound and are lost after it; how many is counted, and said in
the log when everything before them was written:

    emit -> queue (1 MiB) -> thread -> write(2)
       \\-> lost, until the queue is empty again
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import threading
from collections import deque
from collections.abc import Callable
from math import inf
from time import monotonic
from typing import Final

from tidegate.server.log_repeats import Repeats

__all__ = ["LogWriter", "write_all"]

_QUEUED_MOST: Final = 1024 * 1024
_LINE_MOST: Final = 64 * 1024
_PAUSE_SECONDS: Final = 1.0
_CUT: Final = b" ... (cut)\n"


class LogWriter(logging.Handler):
    """Formats a record where it is logged, and writes it in a thread.

    An error that repeats is written once in ten seconds; see `Repeats`.

    Args:
        write: writes one line whole, and may wait for as long as it likes. What it raises as
            OSError loses the line.
        most: how many bytes may be queued.
    """

    def __init__(self, write: Callable[[bytes], object], most: int = _QUEUED_MOST) -> None:
        super().__init__()
        self._write = write
        self._most = most
        self._lines: deque[bytes] = deque()
        self._queued = 0
        self._untold = 0
        self._closing = False
        self._repeats = Repeats()
        # A signal handler may log while its own thread holds this.
        self._changed = threading.Condition(threading.RLock())
        self._thread = threading.Thread(target=self._run, name="tidegate-log", daemon=True)
        self.lost = 0
        """How many lines were lost."""

    def start(self) -> None:
        """Begin to write. Lines that were logged before are written first."""
        self._thread.start()

    def stop(self, timeout: float) -> None:
        """Write what is queued, for `timeout` seconds at the most."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._thread.ident is not None:
            self._thread.join(timeout)

    def emit(self, record: logging.LogRecord) -> None:
        """Queue one record. It never waits for what reads the log, and never raises."""
        try:
            line = None if self._repeats.hides(record, monotonic()) else self._line(record)
        except Exception as error:  # an argument that does not fit its text, say
            problem = type(error).__name__
            line = self._line(_record("a log record cannot be written", at=record, error=problem))
        with self._changed:
            if line is None:
                pass
            # Once a line is lost the next ones are too, so that the gap is in one piece.
            elif self._untold or self._queued + len(line) > self._most:
                self._lose()
            else:
                self._lines.append(line)
                self._queued += len(line)
            self._changed.notify()

    def _lose(self) -> None:
        self.lost += 1
        self._untold += 1

    def _line(self, record: logging.LogRecord) -> bytes:
        # Half a surrogate pair, as in a file name that is not UTF-8, cannot be encoded.
        line = self.format(record).encode("utf-8", "backslashreplace") + b"\n"
        return line if len(line) <= _LINE_MOST else line[:_LINE_MOST] + _CUT

    # In the thread.

    def _run(self) -> None:
        while True:
            with self._changed:
                while not (self._lines or self._untold or self._closing):
                    if not self._changed.wait(self._repeats.next_due(monotonic())):
                        break
                line = self._lines.popleft() if self._lines else None
            if line is not None:
                if not self._put(line):
                    with self._changed:
                        self._lose()
                with self._changed:
                    self._queued -= len(line)
            elif self._untold:
                if not self._tell_lost() and not self._pause():
                    return
            elif not self._tell_repeats() and self._closing:
                return

    def _put(self, line: bytes) -> bool:
        try:
            self._write(line)
        except OSError:  # a disk that is full, say; there may be space again later
            return False
        return True

    def _pause(self) -> bool:
        """Wait until it makes sense to write again; return False at the end."""
        with self._changed:
            return not self._changed.wait_for(lambda: self._closing, _PAUSE_SECONDS)

    def _tell_lost(self) -> bool:
        """Say how many lines were lost since that was said last; return whether it was written."""
        lines = self._untold
        told = self._put(self._line(_record("log lines were lost", lines=lines)))
        with self._changed:
            self._untold -= lines if told else 0
        return told

    def _tell_repeats(self) -> bool:
        """Say which errors came again and how often; return whether there were any."""
        # At the end nobody waits for their time.
        now = inf if self._closing else monotonic()
        told = False
        for event, times in self._repeats.due(now):
            told = self._put(self._line(_record("an error came again", of=event, times=times)))
        return told


def write_all(descriptor: int) -> Callable[[bytes], None]:
    """Return what writes a line to a descriptor, however long that takes.

    It waits on a descriptor that does not block too: a pipe that another process has made so.
    """

    def write(line: bytes) -> None:
        left = memoryview(line)
        while left:
            try:
                left = left[os.write(descriptor, left) :]
            except BlockingIOError:
                with contextlib.suppress(InterruptedError):
                    select.select((), (descriptor,), ())

    return write


def _record(text: str, at: logging.LogRecord | None = None, **values: object) -> logging.LogRecord:
    if at is not None:
        values["at"] = f"{at.pathname}:{at.lineno}"
    return logging.getLogger("tidegate").makeRecord(
        "tidegate", logging.WARNING, __file__, 0, text, (), None, extra=values
    )
