"""The server under load, started for it or elsewhere, and its figures."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import current_thread, main_thread
from time import monotonic, sleep
from typing import Final, Protocol
from urllib.request import ProxyHandler, Request, build_opener

import psutil

from tidegate.errors import TidegateError

__all__ = ["Elsewhere", "Figures", "Started", "Target", "free_port", "lag_of", "readings"]

_START_SECONDS: Final = 20.0
_STOP_SECONDS: Final = 10.0
_ASK_SECONDS: Final = 10.0
_DIRECT: Final = build_opener(ProxyHandler({}))  # a proxy is for the way to the internet

# Only what is measured may be the limit.
_LIFTED: Final = (
    "limits.connections=10000000",
    "limits.per_ip=10000000",
    "limits.per_user=10000000",
    "limits.per_room=10000000",
    "limits.dry_run=",
    "pacing.enabled=false",
    "waiting_room.enabled=false",
    "shedding.enabled=false",
    "breaker.enabled=false",
    "messages.per_second=0",
    "messages.joins_per_second=0",
    "messages.bytes_per_second=0",
    "auth.anonymous=true",
    "anonymous.join=*",
    "anonymous.publish=*",
    "sessions.enabled=false",
    "log.level=warning",
    "server.host=127.0.0.1",
    "server.path=/ws",
    "server.origins=",
    "admin.host=127.0.0.1",
    "proxies.trusted=",
    "proxies.protocol=false",
)


@dataclass(frozen=True, slots=True)
class Figures:
    """What a server has used so far; None for what cannot be seen."""

    at: float
    cpu: float | None = None
    """Seconds of processor time."""
    rss: float | None = None
    """Bytes."""
    lags: Mapping[float, float] | None = None
    """How often the event loop was late, by the upper bounds of ranges, in seconds."""


class Target(Protocol):
    """A server that can be asked for its figures."""

    @property
    def pid(self) -> int | None:
        """Its process, where it was started for this."""

    def figures(self) -> Figures:
        """Return what it has used so far."""

    def stop(self) -> None:
        """End it, where it was started for this."""


@contextmanager
def _later_signals() -> Iterator[list[int]]:
    """Yield the signals that come within the block, which must not end us before its end."""
    later: list[int] = []
    if current_thread() is not main_thread():
        yield later
        return
    before = {
        number: signal.signal(number, lambda number, _: later.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield later
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Started:
    """A server that is started with some settings, the limits lifted.

    Args:
        config: the settings file to start from, None for the defaults.
        assignments: settings beside it, as `section.key=value`.

    Raises:
        TidegateError: it does not start.
    """

    def __init__(self, config: Path | None, assignments: tuple[str, ...] = ()) -> None:
        self.port, self._admin_port = free_port(), free_port()
        self._folder = TemporaryDirectory(prefix="tidegate-capacity-")
        self._log = Path(self._folder.name) / "log.txt"
        self.token = secrets.token_urlsafe(32)
        command = [sys.executable, "-m", "tidegate", "serve"]
        if config is not None:
            command += ["--config", str(config)]
        ports = (f"server.port={self.port}", f"admin.port={self._admin_port}")
        for assignment in (*assignments, *_LIFTED, *ports):
            command += ["--set", assignment]
        environment = {
            name: value for name, value in os.environ.items() if name != "TIDEGATE_CONFIG"
        }
        with self._log.open("wb") as log, _later_signals() as later:
            self.process = subprocess.Popen(  # noqa: S603 - our own program
                command,
                env={**environment, "TIDEGATE_ADMIN_TOKEN": self.token},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for the one who measures
            )
        self._psutil = psutil.Process(self.process.pid)
        try:
            if later:
                raise KeyboardInterrupt
            self._wait()
        except BaseException:
            self.process.kill()
            self.process.wait()
            self._folder.cleanup()
            raise

    @property
    def pid(self) -> int | None:
        """Its process."""
        return self.process.pid

    def figures(self) -> Figures:
        """Return what it has used so far."""
        request = Request(
            f"http://127.0.0.1:{self._admin_port}/metrics",
            headers={"Authorization": f"Bearer {self.token}"},
        )
        try:
            times = self._psutil.cpu_times()
            rss = float(self._psutil.memory_info().rss)
            with _DIRECT.open(request, timeout=_ASK_SECONDS) as response:
                text = response.read().decode()
        except (psutil.Error, OSError) as error:
            if self.process.poll() is None:
                raise TidegateError(f"the server does not answer: {error}") from None
            raise TidegateError(f"the server has ended: {self._said()}") from None
        return Figures(monotonic(), times.user + times.system, rss, lag_of(readings(text)))

    def stop(self) -> None:
        """End it."""
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._folder.cleanup()

    def _wait(self) -> None:
        until = monotonic() + _START_SECONDS
        while monotonic() < until:
            if self.process.poll() is not None:
                break
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            sleep(0.05)
        raise TidegateError(f"the server did not start: {self._said()}")

    def _said(self) -> str:
        lines = self._log.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"


class Elsewhere:
    """A server that runs already.

    Args:
        read: reads a path of its admin API as text; None where there is none to ask.
    """

    pid: int | None = None

    def __init__(self, read: Callable[[str], str] | None) -> None:
        self._read = read

    def figures(self) -> Figures:
        """Return what it says that it has used so far."""
        if self._read is None:
            return Figures(monotonic())
        found = readings(self._read("/metrics"))
        return Figures(
            monotonic(),
            found.get("process_cpu_seconds_total"),
            found.get("process_resident_memory_bytes"),
            lag_of(found),
        )

    def stop(self) -> None:
        """Leave it as it is."""


def readings(text: str) -> dict[str, float]:
    """Return the values of an exposition, by name with labels."""
    found: dict[str, float] = {}
    for line in text.splitlines():
        name, _, value = line.rpartition(" ")
        if name and not line.startswith("#"):
            try:
                found[name] = float(value)
            except ValueError:
                continue
    return found


def lag_of(found: Mapping[str, float]) -> dict[float, float]:
    """Return the ranges of the event loop's lag."""
    prefix, suffix = 'websocket_event_loop_lag_seconds_bucket{le="', '"}'
    return {
        float(name.removeprefix(prefix).removesuffix(suffix)): count
        for name, count in found.items()
        if name.startswith(prefix)
    }


def free_port() -> int:
    """Return a port of this machine that is free now, below the ephemeral ones."""
    for _ in range(100):
        port = 10_000 + secrets.randbelow(6_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise TidegateError("no free port was found between 10,000 and 16,000")
