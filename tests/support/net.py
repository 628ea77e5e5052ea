"""Ports, addresses and waiting."""

from __future__ import annotations

import itertools
import os
import resource
import socket
import struct
import time
from collections.abc import Callable
from pathlib import Path

__all__ = [
    "allow_descriptors",
    "free_port",
    "has_address",
    "is_listening",
    "reset",
    "wait_until",
]

_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: on, zero seconds; close() sends RST

# Below the ports that any system gives to outgoing connections, so that none of them can take a
# port between the look at it and the server's own bind.
_FIRST, _LAST = 10_000, 15_999
# Of several processes of one run (pytest-xdist), each has ports of its own.
_each = (_LAST + 1 - _FIRST) // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
_mine = _FIRST + _each * int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_ports = itertools.cycle(range(_mine, _mine + _each))
for _ in range(os.getpid() * 37 % _each):
    next(_ports)


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody uses, another one at each call."""
    for port in itertools.islice(_ports, _each):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise RuntimeError("no free port")


def has_address(address: str) -> bool:
    """Whether this machine can connect from an address."""
    with socket.socket() as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
    return True


def is_listening(path: Path) -> bool:
    """Whether somebody listens on a Unix socket: its file is there a moment before."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True


def wait_until(condition: Callable[[], object], timeout: float = 20.0, what: str = "") -> None:
    """Look until `condition` holds; fail after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout:g} s: {what or condition}")
        time.sleep(0.01)


def reset(sock: socket.socket) -> None:
    """Close with RST in place of FIN."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    sock.close()


def allow_descriptors(count: int) -> bool:
    """Raise the soft limit on open files to `count`; False if the hard limit does not allow it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= count:
        return True
    if hard != resource.RLIM_INFINITY and hard < count:
        return False
    resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))
    return True
