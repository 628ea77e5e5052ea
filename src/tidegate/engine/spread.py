"""Several processes at the same addresses: which sockets each of them listens on."""

from __future__ import annotations

import socket
import sys
from collections.abc import Sequence
from typing import Final

from tidegate.engine.endpoints import Endpoint, prepare
from tidegate.errors import ConfigError

__all__ = ["spread"]

# Linux spreads connections over all sockets of an address that have SO_REUSEPORT (socket(7)).
# Elsewhere the last one gets all of them.
_SPREADS: Final = sys.platform == "linux"


def spread(endpoints: Sequence[Endpoint], count: int, backlog: int) -> list[list[Endpoint]]:
    """Return the endpoints of each of several processes, all at the same addresses.

    Where the kernel spreads connections over several sockets, each process gets its own, with a
    queue of its own. Elsewhere, and where a Unix socket or one that was passed leaves no choice,
    the processes share one socket.

    The first socket is opened without SO_REUSEPORT, so that an address that another server uses is
    an error although all the others have it.

    Args:
        endpoints: those of the first process; they listen already.
        count: how many processes there are.
        backlog: connections that the kernel queues for each.

    Raises:
        ConfigError: an address cannot be listened on again. Those that were opened are closed.
    """
    all_of_them = [list(endpoints)]
    opened: list[Endpoint] = []
    try:
        for _ in range(count - 1):
            own: list[Endpoint] = []
            for endpoint in endpoints:
                if _may_spread(endpoint):
                    own.append(_another(endpoint, backlog))
                    opened.append(own[-1])
                else:
                    own.append(endpoint)
            all_of_them.append(own)
    except OSError as error:
        for endpoint in opened:
            endpoint.close()
        host, port = endpoints[0].address
        raise ConfigError(
            f"cannot listen on {host} port {port} for each worker: {error.strerror}"
        ) from None
    return all_of_them


def _may_spread(endpoint: Endpoint) -> bool:
    return _SPREADS and not endpoint.passed and endpoint.sock.family != socket.AF_UNIX


def _another(endpoint: Endpoint, backlog: int) -> Endpoint:
    first = endpoint.sock
    first.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock = socket.socket(first.family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if sock.family == socket.AF_INET6:
            only = first.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only)
        sock.bind(first.getsockname())
        prepare(sock, backlog)
    except BaseException:
        sock.close()
        raise
    return Endpoint(sock)
