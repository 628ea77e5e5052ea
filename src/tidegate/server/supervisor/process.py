"""One worker as the supervisor has it: a process, its link, and what it says of itself."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Final

import structlog
from msgspec import DecodeError, json

from tidegate.server.supervisor.values import Beat, Drain, Failed, Last, Order, Report, Spec

if TYPE_CHECKING:
    from asyncio.subprocess import Process

__all__ = ["Worker", "worker_environment"]

_log = structlog.get_logger("tidegate")

_LINE: Final = 16 << 20  # bytes of the longest line of a link: the metrics of a worker
# What systemd tells the supervisor is not for its workers.
_OF_SYSTEMD: Final = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")


def worker_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a worker. It finds Tidegate where the supervisor has found it."""
    own = {name: value for name, value in environment.items() if name not in _OF_SYSTEMD}
    import tidegate

    home = str(Path(tidegate.__file__).parents[1])
    own["PYTHONPATH"] = os.pathsep.join(filter(None, (environment.get("PYTHONPATH"), home)))
    return own


class Worker:
    """One process.

    Make it by `start`. It is ready from its first beat on, and over when its process has ended.
    """

    def __init__(self, spec: Spec, process: Process, link: socket.socket) -> None:
        self.number = spec.number
        self.admin = admin_path(spec)
        """Path of the Unix socket of its admin API."""
        self.born = monotonic()
        self.beat: Beat | None = None
        """The last one."""
        self.failure: Failed | None = None
        """Why it has not started."""
        self.last: Last | None = None
        """What it had counted at its end; None before it, and after a death."""
        self.leaving = False
        """Whether it was told to drain or stop."""
        self.heard = self.born
        """When it last said something, in monotonic seconds."""
        self._replaced = False
        self._early: Order | None = None
        self._spec = spec
        self._process = process
        self._sock = link
        self._ready = asyncio.Event()
        self._reports = json.Decoder(Report)
        self._link: asyncio.StreamWriter | None = None
        self._work = asyncio.create_task(self._run())

    @classmethod
    async def start(
        cls, spec: Spec, environment: Mapping[str, str], sockets: Sequence[socket.socket]
    ) -> Worker:
        """Start a process.

        Args:
            environment: its variables.
            sockets: those of the numbers in `spec`, which it inherits.

        Raises:
            OSError: the system has no room for another process.
        """
        own, other = socket.socketpair()
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-P",
                "-m",
                "tidegate.server.supervisor.worker",
                str(spec.number),
                stdin=other.fileno(),
                env=environment,
                pass_fds=[sock.fileno() for sock in sockets],
                # Ctrl-C in a terminal is for the supervisor, which tells its workers.
                process_group=0,
            )
        except BaseException:
            own.close()
            raise
        finally:
            other.close()
        return cls(spec, process, own)

    # What is known of it.

    @property
    def pid(self) -> int:
        """The number of its process."""
        return self._process.pid

    @property
    def label(self) -> str:
        """What tells it apart: its number, and that it leaves, where another has that number."""
        return f"{self.number} leaving" if self._replaced else str(self.number)

    @property
    def serving(self) -> bool:
        """Whether it has started, and has not ended."""
        return self._ready.is_set() and not self.over

    @property
    def state(self) -> str:
        """Whether it is `starting`, `serving` or `draining`."""
        if not self._ready.is_set():
            return "starting"
        draining = self.leaving or (self.beat is not None and self.beat.draining)
        return "draining" if draining else "serving"

    @property
    def age(self) -> float:
        """Seconds since it was started."""
        return monotonic() - self.born

    @property
    def over(self) -> bool:
        """Whether its process has ended."""
        return self._work.done()

    @property
    def how(self) -> str:
        """How it has ended, in words."""
        code = self._process.returncode
        if code is None:
            return "it has not ended"
        if code >= 0:
            return f"it ended with exit code {code}"
        with contextlib.suppress(ValueError):
            return f"it was ended by {signal.Signals(-code).name}"
        return f"it was ended by signal {-code}"

    async def wait_ready(self) -> bool:
        """Wait until it serves; False when it has ended instead."""
        ready = asyncio.ensure_future(self._ready.wait())
        await asyncio.wait((ready, self._work), return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        return self._ready.is_set()

    async def wait(self) -> None:
        """Wait until its process has ended."""
        await asyncio.wait((self._work,))

    def when_over(self, call: Callable[[], None]) -> None:
        """Call something when its process has ended."""
        self._work.add_done_callback(lambda _: call())

    # What is done to it.

    def order(self, order: Order) -> None:
        """Tell it to end."""
        self.leaving = True
        self._replaced = isinstance(order, Drain) and order.pass_on
        if self._link is None:
            self._early = order  # it follows what the worker is
        self._write(order)

    def kill(self) -> None:
        """End it at once."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    def _write(self, value: Order | Spec) -> None:
        if self._link is not None and not self._link.is_closing():
            self._link.write(json.encode(value) + b"\n")

    async def _run(self) -> None:
        reader, self._link = await asyncio.open_unix_connection(sock=self._sock, limit=_LINE)
        try:
            self._write(self._spec)
            if self._early is not None:
                self._write(self._early)
            with contextlib.suppress(ConnectionError, ValueError):
                while line := await reader.readline():
                    self._hear(line)
            await self._process.wait()
        finally:
            self._link.close()

    def _hear(self, line: bytes) -> None:
        self.heard = monotonic()
        try:
            report = self._reports.decode(line)
        except DecodeError as error:
            _log.warning("a worker said what makes no sense", worker=self.number, error=str(error))
            return
        if isinstance(report, Beat):
            self.beat = report
            self._ready.set()
        elif isinstance(report, Failed):
            self.failure = report
        else:
            self.last = report


def admin_path(spec: Spec) -> str:
    """Return the path of the Unix socket of a worker's admin API."""
    hosts = spec.settings["admin"]["host"]
    return str(hosts[0]).removeprefix("unix:")
