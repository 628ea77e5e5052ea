"""One selector for all connections, itself watched by the asyncio loop.

The loop sees a single file descriptor: the selector's own. When that becomes readable the loop
calls :meth:`Poller.turn`, which asks the selector what is ready and calls those entries directly:
no transport, protocol, handle or future stands between a socket and its connection.

What connections are sent is read for up to :data:`BATCH` of them, then handled for all of these,
and then the next are read: see :mod:`.intake`.

Every turn is bounded in time (:data:`TURN_SECONDS`), and what a turn could not do comes first in
the next one, so that no burst holds the loop and nobody is served twice before the others.

Attempts come last: first all connections are served and everything is written, then attempts are
decided about for a moment, and then the selector is asked again. A message that comes in a storm of
attempts waits for one of them, not for the storm (ADR 0014).
"""

from __future__ import annotations

import asyncio
import contextlib
import select
import selectors
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator
from itertools import islice
from time import monotonic
from typing import Any, Protocol

from tidegate.core.codes import RESET, Close

__all__ = ["BATCH", "READ", "TURN_SECONDS", "WRITE", "Entry", "Poller", "Source", "make_poller"]

READ = 1
WRITE = 4  # the values of EPOLLIN and EPOLLOUT, so that epoll needs no translation

TURN_SECONDS = 0.004
"""How long one turn may handle events, and again how long it may do background work."""

BATCH = 32
"""For how many one thing is done before the next is done for them."""

_EVENTS_PER_POLL = 256

# A small read fits into what the interpreter's own allocator has (512 bytes), with the head of a
# bytes object. Room for 64 KB costs a tenth of a microsecond more, even for the smallest message.
_SMALL_READ = 448
_LARGE_READ = 65536


class Source(Protocol):
    """What the poller reads from: a socket, plain or TLS."""

    def recv(self, size: int, /) -> bytes:
        """Return up to ``size`` bytes, or none at the end of the stream."""


class Entry(ABC):
    """What the poller calls when a descriptor is ready."""

    __slots__ = ()

    sock: Source | None = None
    """What the poller reads from for this entry; None where it does its own reading."""

    def on_readable(self) -> None:
        """Read once, where there is no :attr:`sock`; called again while more is there."""
        raise NotImplementedError

    @abstractmethod
    def on_events(self, events: int) -> bool:
        """Handle anything but plain readability: :data:`WRITE`, an error or a hang-up.

        Returns:
            Whether to go on as if it were plainly readable.
        """

    @abstractmethod
    def on_crash(self) -> None:
        """An error of ours came out of one of these: give back what this entry holds."""

    def lost(self, reason: Close) -> None:
        """Reading from :attr:`sock` failed; the statistics count the ``reason``."""
        raise NotImplementedError


class Poller(ABC):
    """The table of descriptors and the turn over those that are ready.

    Subclasses say how descriptors are watched. All methods belong to the loop's thread.
    """

    def __init__(self) -> None:
        self.now = monotonic()
        """Monotonic seconds at the start of this turn or of the last tick."""
        self.until = 0.0
        """When this turn's time for events is over, for entries that do several things at once."""
        self.table: list[Entry | None] = [None] * 1024
        self.ready: deque[Callable[[], None]] = deque()
        """Work to continue in the next turn: connections with frames left over."""
        self.read: deque[tuple[Any, bytes]] = deque()
        """Entries that have a :attr:`Entry.sock`, and what was read from it: nothing at its end."""
        self.attempts: list[Callable[[], None]] = []
        """Work for the end of this turn, that others are not to wait for; once for each entry."""
        self._left: Iterator[tuple[int, int]] = iter(())
        self._loop: asyncio.AbstractEventLoop | None = None
        self._scheduled = False
        self._handle: Callable[[float], bool] = _nothing
        self._background: Callable[[float], bool] = _nothing

    # What a subclass provides.

    @abstractmethod
    def fileno(self) -> int:
        """Return the selector's own descriptor, for the loop to watch."""

    @abstractmethod
    def _poll(self) -> list[tuple[int, int]]:
        """Return what is ready now, without waiting."""

    @abstractmethod
    def others_wait(self, fd: int) -> bool:
        """Return whether anything but ``fd`` is ready, or was read and not handled. HOT."""

    @abstractmethod
    def _add(self, fd: int) -> None:
        """Begin to watch ``fd`` for readability."""

    @abstractmethod
    def modify(self, fd: int, events: int) -> None:
        """Watch ``fd`` for ``events``, a combination of :data:`READ` and :data:`WRITE` or 0."""

    @abstractmethod
    def forget(self, fd: int) -> None:
        """Stop calling anybody for ``fd``, which the caller closes soon."""

    @abstractmethod
    def release(self, fd: int) -> None:
        """Stop watching ``fd``, which stays open and may be registered again."""

    def close(self) -> None:
        """Leave the loop and give the selector back. Entries are the caller's to close."""
        if self._loop is not None:
            self._loop.remove_reader(self.fileno())
            self._loop = None

    # What all pollers share.

    def attach(
        self,
        loop: asyncio.AbstractEventLoop,
        handle: Callable[[float], bool] | None = None,
        background: Callable[[float], bool] | None = None,
    ) -> None:
        """Let ``loop`` drive this poller.

        Args:
            handle: handles :attr:`read` until the given time; True when that has come. Needed
                where entries have a :attr:`Entry.sock`.
            background: called at the end of a turn with the time to stop at; True asks for
                another turn.
        """
        self._loop = loop
        self._handle = handle or _nothing
        self._background = background or _nothing
        loop.add_reader(self.fileno(), self.turn)

    def register(self, fd: int, entry: Entry) -> None:
        """Watch ``fd`` for readability on behalf of ``entry``."""
        table = self.table
        if fd >= len(table):
            table.extend([None] * (fd + 1))
        table[fd] = entry
        self._add(fd)

    def wake(self) -> None:
        """Ask for a turn soon, because there is work that no descriptor announces."""
        if not self._scheduled and self._loop is not None:
            self._scheduled = True
            self._loop.call_soon(self._woken)

    def _woken(self) -> None:
        self._scheduled = False
        if self._loop is not None:  # not closed since
            self.turn()

    def turn(self) -> None:
        """Serve what is ready, then attempts, and both again for about :data:`TURN_SECONDS`."""
        until = self.until = monotonic() + TURN_SECONDS
        while True:
            more = self._serve(until)
            if not self.attempts:
                break
            self._let_in()
            if monotonic() >= until:
                break
        if more or self.attempts:
            self.wake()

    def _serve(self, until: float) -> bool:
        """Handle what is ready, then work left from before; True when something is left over."""
        self.now = monotonic()
        table = self.table
        read = self.read
        left = self._left
        room = _SMALL_READ
        polled = False
        entry: Entry | None = None
        try:
            over = bool(read) and self._handle(until)
            while not over:
                fd = -1
                for fd, events in islice(left, BATCH):
                    entry = table[fd]
                    if entry is None:
                        self._stale(fd)
                    elif events == READ or entry.on_events(events):
                        sock = entry.sock
                        if sock is None:
                            entry.on_readable()
                        else:
                            try:
                                data = sock.recv(room)
                            except BlockingIOError:
                                pass
                            except OSError:
                                entry.lost(RESET)
                            else:
                                if len(data) == room:
                                    # There are large ones: room for them at once, from now on.
                                    room = _LARGE_READ
                                    with contextlib.suppress(OSError):  # the next read sees it
                                        data += sock.recv(room)
                                read.append((entry, data))
                                continue  # to read from a batch takes no time worth a look
                    if monotonic() >= until:
                        break
                if fd >= 0:
                    over = self._handle(until) if read else monotonic() >= until
                elif polled:
                    break
                else:
                    left = self._left = iter(self._poll())
                    polled = True
        except Exception as error:
            self.crashed(error, entry)
        ready = self.ready
        try:
            for _ in range(len(ready)):
                ready.popleft()()
                if monotonic() >= until:
                    break
        except Exception as error:
            self.crashed(error, None)
        background = self._background
        more = background(monotonic() + TURN_SECONDS)
        return more or bool(ready) or bool(read) or not polled

    def _let_in(self) -> None:
        work, self.attempts = self.attempts, []
        for let_in in work:
            self.guard(let_in)

    def guard(self, work: Callable[[], None]) -> None:
        """Do ``work``; an error of ours in it is reported, and goes no further."""
        try:
            work()
        except Exception as error:
            self.crashed(error, None)

    def crashed(self, error: Exception, entry: Entry | None) -> None:
        """Report an error of ours and end the one entry that it came from, if it is known."""
        assert self._loop is not None
        context = {"message": "error in the engine", "exception": error}
        self._loop.call_exception_handler(context)
        if entry is not None:
            entry.on_crash()

    @abstractmethod
    def _stale(self, fd: int) -> None:
        """Nobody owns ``fd`` any more: it was forgotten, and perhaps closed."""


def _nothing(_until: float) -> bool:
    return False


class _EpollPoller(Poller):
    def __init__(self) -> None:
        super().__init__()
        self._epoll = select.epoll()

    def fileno(self) -> int:
        return self._epoll.fileno()

    def _poll(self) -> list[tuple[int, int]]:
        return self._epoll.poll(0, _EVENTS_PER_POLL)

    def others_wait(self, fd: int) -> bool:
        if self.read:
            return True
        # What is reported here is reported again when a turn asks.
        ready = self._epoll.poll(0, 2)
        return len(ready) == 2 or (bool(ready) and ready[0][0] != fd)

    def _add(self, fd: int) -> None:
        self._epoll.register(fd, READ)

    def modify(self, fd: int, events: int) -> None:
        self._epoll.modify(fd, events)

    def forget(self, fd: int) -> None:
        # close(2) takes the descriptor out of the epoll set: no system call of our own. Should
        # it be reported before, `_stale` takes it out.
        self.table[fd] = None

    def release(self, fd: int) -> None:
        self.table[fd] = None
        self._stale(fd)

    def _stale(self, fd: int) -> None:
        # It is not closed yet, or a child process holds a copy: epoll would go on reporting it.
        try:
            self._epoll.unregister(fd)
        except OSError:
            return

    def close(self) -> None:
        super().close()
        self._epoll.close()


class _SelectorPoller(Poller):
    """Over :mod:`selectors`: kqueue on macOS and the BSDs."""

    def __init__(self) -> None:
        super().__init__()
        self._selector = selectors.DefaultSelector()
        self._fileno: int = self._selector.fileno()
        # A selector cannot watch for nothing, so a paused descriptor is out of the selector.
        self._paused: set[int] = set()

    def fileno(self) -> int:
        return self._fileno

    def _poll(self) -> list[tuple[int, int]]:
        found = self._selector.select(0)
        return [
            (
                key.fd,
                (READ if mask & selectors.EVENT_READ else 0)
                | (WRITE if mask & selectors.EVENT_WRITE else 0),
            )
            for key, mask in found
        ]

    def others_wait(self, fd: int) -> bool:
        return bool(self.read) or any(key.fd != fd for key, _ in self._selector.select(0))

    def _add(self, fd: int) -> None:
        self._selector.register(fd, selectors.EVENT_READ)

    def modify(self, fd: int, events: int) -> None:
        mask = (selectors.EVENT_READ if events & READ else 0) | (
            selectors.EVENT_WRITE if events & WRITE else 0
        )
        if fd in self._paused:
            if mask:
                self._paused.remove(fd)
                self._selector.register(fd, mask)
        elif mask:
            self._selector.modify(fd, mask)
        else:
            self._selector.unregister(fd)
            self._paused.add(fd)

    def forget(self, fd: int) -> None:
        self.table[fd] = None
        if fd in self._paused:
            self._paused.remove(fd)
        else:
            with contextlib.suppress(KeyError):  # never registered
                self._selector.unregister(fd)

    def release(self, fd: int) -> None:
        self.forget(fd)

    def _stale(self, fd: int) -> None:
        """Nothing to do: what is forgotten is out of a selector at once."""

    def close(self) -> None:
        super().close()
        self._selector.close()


def make_poller() -> Poller:
    """Return the best poller of this machine: epoll, else what :mod:`selectors` has."""
    return _EpollPoller() if hasattr(select, "epoll") else _SelectorPoller()
