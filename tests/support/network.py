"""A network of the test's own, with a firewall."""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.support.proxies import Tool

__all__ = ["Firewall", "own_network"]

_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)

_DROP = """
table inet cut {{
  chain out {{
    type filter hook output priority 0
    ip daddr {address} tcp dport {port} drop
    ip saddr {address} tcp sport {port} drop
  }}
}}
"""


class Firewall:
    """Drops what goes to an address and a port, and what comes from there."""

    def __init__(self, nft: str) -> None:
        self._nft = nft

    def cut(self, address: str, port: int) -> None:
        """Drop it from now on; connections that are open hear nothing either."""
        self._run(_DROP.format(address=address, port=port))

    def lift(self) -> None:
        """Drop nothing."""
        self._run("delete table inet cut")

    def _run(self, rules: str) -> None:
        subprocess.run([self._nft, "-f", "-"], input=rules, text=True, check=True, timeout=20)


@contextmanager
def own_network(tool: Tool) -> Iterator[Firewall]:
    """Put this thread, and what it starts, into a network namespace that has only loopback.

    Needs root and nft; a machine that gives no namespaces skips the test.
    """
    if os.geteuid():
        pytest.skip("needs root, for a network namespace")
    nft, ip = tool("nft"), tool("ip")
    with open("/proc/thread-self/ns/net", "rb") as before:
        if _libc.unshare(_CLONE_NEWNET):
            pytest.skip(f"no network namespace here: {os.strerror(ctypes.get_errno())}")
        try:
            subprocess.run([ip, "link", "set", "lo", "up"], check=True, timeout=20)
            yield Firewall(nft)
        finally:
            assert _libc.setns(before.fileno(), _CLONE_NEWNET) == 0
