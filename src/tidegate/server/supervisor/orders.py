"""The link as a worker has it: it does what is ordered, and tells how it is.

Orders are read in a thread, so that the end of the supervisor is noticed even while the event loop
stands still. Reports are written by the loop and never wait: while the supervisor does not read,
they are left out.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import signal
import socket
import threading
from collections.abc import AsyncIterator, Callable
from time import monotonic, sleep
from typing import TYPE_CHECKING, Final

from msgspec import json

from tidegate.server.supervisor.valkey import end_private
from tidegate.server.supervisor.values import Beat, Drain, Failed, Last, Order, Report, Spec
from tidegate.server.timeline import own_memory

if TYPE_CHECKING:
    from tidegate.node.node import Node

__all__ = ["Link"]

_log = logging.getLogger("tidegate")

_PERIOD: Final = 1.0
_SPARE_SECONDS: Final = 5.0  # beside server.shutdown_timeout, until a worker ends itself
_LAST_SECONDS: Final = 2.0
_PAUSE_SECONDS: Final = 0.01


class Link:
    """The supervisor, for one of its workers.

    Args:
        sock: the worker's end of the link.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._lines = sock.makefile("rb")
        self._unsent = b""
        self._orders = json.Decoder(Order)
        self.spec = json.decode(self._lines.readline(), type=Spec)
        """What this worker is."""

    @property
    def number(self) -> int:
        """The number of this worker."""
        return self.spec.number

    @contextlib.asynccontextmanager
    async def reporting(self, node: Node, metrics: Callable[[], str]) -> AsyncIterator[None]:
        """Tell how the node is and do what is ordered, as long as the context lasts.

        At its end the supervisor is told what was counted.

        Args:
            metrics: returns all metrics as text.
        """
        loop = asyncio.get_running_loop()
        listening = threading.Thread(target=self._listen, args=(loop, node), daemon=True)
        listening.start()
        beating = asyncio.create_task(self._beat(node))
        try:
            yield
        finally:
            beating.cancel()
            control = node.control
            last = Last(control.snapshot(), metrics(), control.drain_progress())
            await asyncio.to_thread(self._send_last, last)

    def failed(self, text: str, *, wrong: bool) -> None:
        """Tell why it does not start."""
        self._send_last(Failed(text, wrong))

    # Reports.

    async def _beat(self, node: Node) -> None:
        while True:
            self._report(_beat_of(node))
            with contextlib.suppress(TimeoutError):
                if node.shutdown.begun:
                    await asyncio.sleep(_PERIOD)
                else:  # so that the supervisor learns of it at once
                    await asyncio.wait_for(node.shutdown.wait_until_begun(), _PERIOD)

    def _report(self, report: Report) -> None:
        if not self._unsent:
            self._unsent = _line(report)
        with contextlib.suppress(OSError):  # the supervisor is gone
            self._send()

    def _send(self) -> None:
        with contextlib.suppress(BlockingIOError):  # it does not read
            sent = self._sock.send(self._unsent, socket.MSG_DONTWAIT)
            self._unsent = self._unsent[sent:]

    def _send_last(self, report: Report) -> None:
        self._unsent += _line(report)
        end = monotonic() + _LAST_SECONDS
        with contextlib.suppress(OSError):
            while self._unsent and monotonic() < end:
                self._send()
                if self._unsent:
                    sleep(_PAUSE_SECONDS)
            self._sock.shutdown(socket.SHUT_WR)

    # Orders.

    def _listen(self, loop: asyncio.AbstractEventLoop, node: Node) -> None:
        with contextlib.suppress(OSError, ValueError):
            for line in self._lines:
                order = self._orders.decode(line)
                loop.call_soon_threadsafe(_carry_out, node, order)
        self._orphaned(loop, node)

    def _orphaned(self, loop: asyncio.AbstractEventLoop, node: Node) -> None:
        """The supervisor is gone: end, at once if it was ending, by force if it does not."""
        end_private(self.spec.folder)
        shutil.rmtree(self.spec.folder, ignore_errors=True)
        if not node.shutdown.begun:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(_stop_orphan, node)
            end = monotonic() + node.settings.server.shutdown_timeout + _SPARE_SECONDS
            threading.Event().wait(max(0.0, end - monotonic()))
        os.kill(os.getpid(), signal.SIGKILL)


def _beat_of(node: Node) -> Beat:
    status = node.control.status()
    return Beat(
        status.ready,
        status.reason,
        node.shutdown.begun,
        own_memory(),
        node.control.sample(),
        status.down,
    )


def _carry_out(node: Node, order: Order) -> None:
    if isinstance(order, Drain):
        node.shutdown.begin_drain(order.window, order.pass_on)
    else:
        node.shutdown.begin_stop()


def _stop_orphan(node: Node) -> None:
    _log.error("the supervisor is gone: this worker stops")
    node.shutdown.begin_stop()


def _line(report: Report) -> bytes:
    return json.encode(report) + b"\n"
