"""How a node ends: a drain, or a stop at once, and what asks for them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol

from tidegate.core.codes import DRAINED, SHUTDOWN
from tidegate.node.drain import Drain

if TYPE_CHECKING:
    from tidegate.core.admission.admission import Admission
    from tidegate.core.codes import Close
    from tidegate.core.settings import Settings
    from tidegate.engine.application import Application
    from tidegate.engine.connection import Connection
    from tidegate.engine.engine import Engine
    from tidegate.node.delivery import Delivery
    from tidegate.node.fleet_leases import FleetLeases
    from tidegate.node.telemetry.traces import Traces

__all__ = ["Ending", "Shutdown", "on_signals"]

_log = logging.getLogger("tidegate")

# What ends a process unless it says otherwise.
_DEADLY: Final = (
    *(signal.SIGUSR1, signal.SIGUSR2),
    *(signal.SIGALRM, signal.SIGVTALRM, signal.SIGPROF),
)


class Shutdown:
    """Ends one node, once, however often it is asked to.

    Args:
        leave: tells the other nodes that this one ends.
    """

    def __init__(
        self,
        settings: Settings,
        engine: Engine,
        admission: Admission,
        delivery: Delivery,
        application: Application[Connection],
        traces: Traces | None,
        leases: FleetLeases | None,
        leave: Callable[[], Awaitable[None]],
    ) -> None:
        self.drain: Drain | None = None
        """The drain that is under way or over, if there is one."""
        self._settings = settings
        self._engine = engine
        self._admission = admission
        self._delivery = delivery
        self._application = application
        self._traces = traces
        self._leases = leases
        self._leave = leave
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = False
        self._begun = asyncio.Event()
        self._stopped = asyncio.Event()

    @property
    def begun(self) -> bool:
        """Whether a drain or a stop has begun."""
        return self._begun.is_set()

    async def wait_until_begun(self) -> None:
        """Wait until a drain or a stop has begun."""
        await self._begun.wait()

    async def stop(self, reason: Close = SHUTDOWN, timeout: float | None = None) -> None:
        """Stop listening and close every connection at once.

        Stopping again, or while a drain ends, waits for the first to be done.

        Args:
            reason: why, for the clients.
            timeout: seconds after which what is left is cut off; `server.shutdown_timeout` when
                None.
        """
        await self._stop(reason, timeout)

    async def _stop(self, reason: Close, timeout: float | None, finish: float = 0.0) -> None:
        self._begun.set()
        self._admission.draining = True
        if self._stopping:
            await self._stopped.wait()
            return
        self._stopping = True
        if self.drain is None:
            connections = sum(1 for _ in self._engine.connections())
            _log.info("stopping", extra={"connections": connections})
        else:
            self.drain.over = True
        if timeout is None:
            timeout = self._settings.server.shutdown_timeout
        try:
            await self._engine.stop(reason, timeout, finish)
            await self._leave()
            await self._delivery.stop()
            if self._leases is not None:
                await self._leases.stop()
            if self._traces is not None:
                await self._traces.close()
        finally:
            self._stopped.set()

    def begin_stop(self) -> None:
        """Begin what `stop` does, and return at once."""
        self._begin(self.stop())

    def begin_drain(self, window: float | None = None, pass_on: bool | None = None) -> Drain:
        """Begin a drain over ``window`` seconds, and return at once; one under way just goes on.

        Attempts are refused from now on, unless another process will accept from the same sockets:
        then those that were accepted are still let in, and the others are left to that process.

        Args:
            pass_on: whether another process will; None where that is so of sockets that were
                passed.
        """
        self._begun.set()
        passes_on = self._engine.passes_on if pass_on is None else pass_on
        if not passes_on:
            self._admission.draining = True
        if self.drain is None:
            if window is None:
                window = self._settings.drain.window
            grace = self._settings.server.close_timeout
            self.drain = Drain(self._engine, window, grace, self._application.leaving)
            _log.info("draining", extra={"connections": self.drain.total, "window": window})
            self._begin(self._drain(self.drain, passes_on))
        return self.drain

    def on_sigterm(self) -> None:
        """Begin what SIGTERM asks for: a drain, or a stop without `drain.on_sigterm`."""
        if self._settings.drain.on_sigterm:
            self.begin_drain()
        else:
            self.begin_stop()

    async def wait(self) -> None:
        """Wait until the node has ended."""
        await self._stopped.wait()
        await asyncio.gather(*self._tasks)

    def apply(self, settings: Settings) -> None:
        """Take over the settings that can change."""
        self._settings = settings

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        self._tasks.append(asyncio.get_running_loop().create_task(work))

    async def _drain(self, drain: Drain, passes_on: bool) -> None:
        try:
            if passes_on:
                await self._engine.pass_on()
                self._admission.draining = True
                drain.count_again()
            await drain.run()
        finally:
            cut_off = drain.open
            if cut_off:
                _log.warning("cut off at the end of the drain", extra={"connections": cut_off})
            # HTTP is served while WebSockets are drained; what is under way is finished.
            await self._stop(DRAINED, 0.0, self._settings.server.shutdown_timeout)


class Ending(Protocol):
    """What a signal ends: a node, or all workers of a supervisor."""

    @property
    def begun(self) -> bool:
        """Whether a drain or a stop has begun."""

    async def wait_until_begun(self) -> None:
        """Wait until a drain or a stop has begun."""

    def on_sigterm(self) -> None:
        """Begin what SIGTERM asks for."""

    def begin_stop(self) -> None:
        """Begin to stop, and return at once."""


@contextlib.contextmanager
def on_signals(shutdown: Ending, reload: Callable[[], None] | None = None) -> Iterator[None]:
    """While the context lasts, SIGTERM drains (or stops) and SIGINT stops.

    The next signal of either ends the process at once. Signals come to the main thread only, so in
    another one this does nothing.

    Args:
        reload: called at SIGHUP. With it, SIGQUIT stops as SIGINT does, and the other signals that
            would end the process without a close frame are noted in the log, and do nothing;
            those that have a handler already keep it.
    """
    if threading.current_thread() is not threading.main_thread():
        _log.info("signals do not end this server, because it is not in the main thread")
        yield
        return
    loop = asyncio.get_running_loop()
    actions: dict[int, Callable[[], object]] = {
        signal.SIGTERM: shutdown.on_sigterm,
        signal.SIGINT: shutdown.begin_stop,
    }

    def act(action: Callable[[], object]) -> None:
        for number in actions:
            # The system's own handling works even when the loop is stuck.
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_DFL)
        action()

    others: dict[int, Callable[[], None]] = {}
    if reload is not None:
        actions[signal.SIGQUIT] = shutdown.begin_stop
        others = {
            number: partial(_ignore, number)
            for number in _DEADLY
            if signal.getsignal(number) is signal.SIG_DFL
        }
        others[signal.SIGHUP] = reload
    for number, action in actions.items():
        loop.add_signal_handler(number, act, action)
    for number, action in others.items():
        loop.add_signal_handler(number, action)
    try:
        yield
    finally:
        for number in (*actions, *others):
            loop.remove_signal_handler(number)


def _ignore(number: int) -> None:
    _log.warning("a signal that does nothing here: %s", signal.Signals(number).name)
