"""Child processes that are pinned to a core, bounded in time and gone at the end."""

from __future__ import annotations

import ctypes
import itertools
import os
import resource
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType

__all__ = [
    "BUILD",
    "HERE",
    "LOAD_CORE",
    "SERVER_CORE",
    "BenchError",
    "Process",
    "descriptors",
    "free_port",
    "wait_for_port",
]

HERE = Path(__file__).resolve().parent
BUILD = HERE / "build"

_cores = sorted(os.sched_getaffinity(0))
SERVER_CORE, LOAD_CORE = _cores[0], _cores[-1]

_ports = itertools.cycle(range(9100, 15900))
_numbers = itertools.count(1)  # of processes: several of one name may run at once


class BenchError(Exception):
    """A measurement could not be taken; the text says why."""


def descriptors() -> int:
    """Return how many descriptors a process may have here at most."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[1]


def free_port() -> int:
    """Return a TCP port that nothing listens on, another one each time."""
    for port in itertools.islice(_ports, 6000):
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise BenchError("no free port between 9100 and 15900")


_libc = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1


def _prepare(core: int) -> None:
    # Even when this process is killed, its children end.
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    os.sched_setaffinity(0, {core})
    hard = descriptors()
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class Process:
    """A child on one core, in a group of its own, its output in a file; killed on exit."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        core: int,
        env: Mapping[str, str] | None = None,
        pipes: bool = False,
    ) -> None:
        BUILD.mkdir(exist_ok=True)
        self.log = BUILD / f"{name}-{next(_numbers)}.log"
        pipe = subprocess.PIPE if pipes else None
        with self.log.open("wb") as log:
            self.child = subprocess.Popen(
                command,
                stdin=pipe or subprocess.DEVNULL,
                stdout=pipe or log,
                stderr=log,
                env=env,
                cwd=HERE.parent,
                start_new_session=True,
                preexec_fn=lambda: _prepare(core),
            )
        self.pid = self.child.pid

    def __enter__(self) -> Process:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.child.wait()
        for pipe in (self.child.stdin, self.child.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()

    def tail(self) -> str:
        """Return the end of what the process said."""
        return self.log.read_text(errors="replace")[-1500:].strip() or "(it said nothing)"

    def check(self) -> None:
        """Raise BenchError with the process's last words when it has ended."""
        code = self.child.poll()
        if code is not None:
            raise BenchError(f"{self.log.stem} ended with {code}: {self.tail()}")

    def _pids(self) -> list[int]:
        """Return the process and those that it has started: workers have the connections."""
        found = [self.pid]
        for pid in found:
            with suppress(OSError):
                for task in Path(f"/proc/{pid}/task").iterdir():
                    found += map(int, (task / "children").read_text().split())
        return found

    def memory(self) -> int:
        """Return its user-space memory in bytes: its proportional set size."""
        self.check()
        total = 0
        for pid in self._pids():
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) * 1024
        return total

    def scheduled(self) -> tuple[float, float]:
        """Return for how long its threads ran, and for how long they waited for the core.

        Threads of one process wait for each other, which says nothing: then the latter is 0.
        """
        self.check()
        ran = waited = 0
        threads = [task for pid in self._pids() for task in Path(f"/proc/{pid}/task").iterdir()]
        for thread in threads:
            with suppress(OSError):
                figures = (thread / "schedstat").read_text().split()
                ran, waited = ran + int(figures[0]), waited + int(figures[1])
        return ran / 1e9, waited / 1e9 if len(threads) == 1 else 0.0

    def cpu(self) -> float:
        """Return the processor time that it has used, user and system, in seconds."""
        return self.scheduled()[0]


def wait_for_port(process: Process, port: int, seconds: float = 15.0) -> None:
    """Wait until `process` accepts connections on `port`."""
    until = time.monotonic() + seconds
    while True:
        process.check()
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        if time.monotonic() > until:
            raise BenchError(f"{process.log.stem} does not listen: {process.tail()}")
        time.sleep(0.05)
