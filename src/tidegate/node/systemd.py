"""What systemd and a service tell each other: sockets that are open already, and how it goes.

Both are plain protocols over the environment, which other supervisors speak too. Without their
variables nothing happens.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import replace
from time import monotonic_ns
from typing import TYPE_CHECKING, Final, NamedTuple

from tidegate.engine.endpoints import Endpoint, adopt
from tidegate.errors import ConfigError

if TYPE_CHECKING:
    from tidegate.core.settings import Settings
    from tidegate.node.shutdown import Ending

__all__ = ["Notifier", "Passed", "passed_sockets", "reloading", "reporting"]

_log = logging.getLogger("tidegate")

_FIRST_DESCRIPTOR: Final = 3
_PUBLIC, _ADMIN = "public", "admin"
_NO_NAME: Final = "unknown"
_STATUS_SECONDS: Final = 5.0
_ENDING_SECONDS: Final = 1.0
_PATIENCE_SECONDS: Final = 15  # until systemd ends a service that ends and says no more


# Sockets.


class Passed(NamedTuple):
    """Sockets that another process has opened for this one."""

    public: Sequence[Endpoint] = ()
    admin: Sequence[Endpoint] = ()

    def located(self, settings: Settings) -> Settings:
        """Return the settings with the addresses of these sockets in place of their own.

        Raises:
            SettingError: the addresses may not be these; the admin API needs a token, say.
        """
        changes = {}
        for section, endpoints in (("server", self.public), ("admin", self.admin)):
            if endpoints:
                addresses = [endpoint.address for endpoint in endpoints]
                hosts = tuple(dict.fromkeys(host for host, _ in addresses))
                port = next((port for _, port in addresses if port), 0)
                changes[section] = replace(getattr(settings, section), host=hosts, port=port)
        return replace(settings, **changes)


def passed_sockets(environment: MutableMapping[str, str]) -> Passed:
    """Take over the sockets that the environment says were passed (sd_listen_fds(3)).

    A socket named `admin` is for the admin API, and one named `public` for clients; so is one
    without a name of its own. The variables are removed: the sockets can be taken over once.

    Raises:
        ConfigError: what was passed is no listening socket, or has another name.
    """
    count = environment.pop("LISTEN_FDS", "")
    pid = environment.pop("LISTEN_PID", "")
    names = environment.pop("LISTEN_FDNAMES", "").split(":")
    if not count or not pid:
        return Passed()
    if pid != str(os.getpid()):
        _log.warning(
            "the sockets in LISTEN_FDS are not used: they are for process %s, and this is %d; "
            "start tidegate by exec",
            pid if pid.isdecimal() else "?",
            os.getpid(),
        )
        return Passed()
    if not count.isdecimal():
        raise ConfigError("LISTEN_FDS: must be a number of descriptors")
    numbers = range(_FIRST_DESCRIPTOR, _FIRST_DESCRIPTOR + int(count))
    names = [names[index] if index < len(names) else "" for index in range(len(numbers))]
    own = {name for name in names if name in (_PUBLIC, _ADMIN)}
    # What a unit without FileDescriptorName= calls its sockets: systemd.socket(5).
    unnamed = {name for name in names if name in ("", _NO_NAME) or name.endswith(".socket")}
    for name in names:
        if name not in own | unnamed or (name in unnamed and (_PUBLIC in own or len(unnamed) > 1)):
            raise ConfigError(
                f"a socket named {name!r} was passed (LISTEN_FDNAMES): its name must be "
                f"{_PUBLIC} or {_ADMIN}, by FileDescriptorName= in its unit"
            )
    found: dict[bool, list[Endpoint]] = {False: [], True: []}
    for number, name in zip(numbers, names, strict=True):
        try:
            os.set_inheritable(number, False)
            sock = socket.socket(fileno=number)
        except OSError as error:
            why = os.strerror(error.errno or 0)
            raise ConfigError(f"descriptor {number} of LISTEN_FDS: {why}") from None
        found[name == _ADMIN].append(adopt(sock))
    return Passed(found[False], found[True])


# How it goes.


class Notifier:
    """Tells the supervisor how the service is (sd_notify(3)), if it has asked for that."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        path = environment.get("NOTIFY_SOCKET", "")
        self._path = "\0" + path[1:] if path.startswith("@") else path
        self._sock = None
        if path:
            self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._sock.setblocking(False)
        self.watchdog = self._watchdog(environment) if path else None
        """Seconds within which the supervisor wants to hear from it, None if it does not."""

    @property
    def wanted(self) -> bool:
        """Whether anybody listens."""
        return self._sock is not None

    def send(self, *lines: str) -> None:
        """Send assignments such as `READY=1`. It never waits, and what fails is left out."""
        if self._sock is not None:
            with contextlib.suppress(OSError):
                self._sock.sendto("\n".join(lines).encode(), self._path)

    def close(self) -> None:
        """Send no more."""
        if self._sock is not None:
            self._sock.close()
            self._sock = None

    @staticmethod
    def _watchdog(environment: Mapping[str, str]) -> float | None:
        """See sd_watchdog_enabled(3)."""
        time = environment.get("WATCHDOG_USEC", "")
        if environment.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
            return None
        return int(time) / 1e6 if time.isdecimal() and int(time) else None


@contextlib.asynccontextmanager
async def reporting(
    environment: Mapping[str, str],
    shutdown: Ending,
    status: Callable[[], str],
    answers: Callable[[], bool] = lambda: True,
) -> AsyncIterator[None]:
    """Report that the service is ready, and as long as the context lasts how it is.

    The watchdog hears from the event loop: when that stands still, the supervisor finds out.

    Args:
        answers: whether what the service consists of answers; while it does not, the watchdog
            hears nothing.
    """
    notifier = Notifier(environment)
    if not notifier.wanted:
        yield
        return
    notifier.send("READY=1", f"STATUS={status()}")
    work = asyncio.create_task(_report(notifier, shutdown, status, answers))
    try:
        yield
    finally:
        work.cancel()
        notifier.send("STATUS=stopped")
        notifier.close()


@contextlib.contextmanager
def reloading(environment: Mapping[str, str]) -> Iterator[None]:
    """Report that the service reloads its settings, as long as the context lasts.

    `Type=notify-reload` of systemd.service(5) waits for the end of it.
    """
    notifier = Notifier(environment)
    notifier.send("RELOADING=1", f"MONOTONIC_USEC={monotonic_ns() // 1000}")
    try:
        yield
    finally:
        notifier.send("READY=1")
        notifier.close()


async def _report(
    notifier: Notifier, shutdown: Ending, status: Callable[[], str], answers: Callable[[], bool]
) -> None:
    ending = False
    while True:
        lines = [f"STATUS={status()}"]
        if notifier.watchdog is not None and answers():
            lines.append("WATCHDOG=1")
        if shutdown.begun:
            # A drain may take longer than TimeoutStopSec=, as long as it goes on.
            lines.append(f"EXTEND_TIMEOUT_USEC={_PATIENCE_SECONDS}000000")
            if not ending:
                ending = True
                lines.append("STOPPING=1")
        notifier.send(*lines)
        pause = _ENDING_SECONDS if ending else _STATUS_SECONDS
        if notifier.watchdog is not None:
            pause = min(pause, notifier.watchdog / 2)
        if ending:
            await asyncio.sleep(pause)
        else:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(shutdown.wait_until_begun(), pause)
