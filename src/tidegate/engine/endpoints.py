"""Where a listener listens: addresses become listening sockets, by one rule for all listeners.

- A name listens on all its addresses; `localhost` has one of each family (RFC 6761 6.3).
- `::` takes IPv4 too, unless an IPv4 address is listed beside it.
- Port 0 takes one free port for all addresses.
- A Unix socket that nobody listens on is replaced; its file goes when the listener ends.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
import sys
from collections.abc import Sequence
from typing import Any, Final

from tidegate.addresses import UNIX_PREFIX, unbracketed, unix_path
from tidegate.errors import ConfigError

__all__ = ["DEFERRED_SECONDS", "Endpoint", "adopt", "bound_kernel", "listen", "prepare"]

DEFERRED_SECONDS: Final = 1 if sys.platform == "linux" else 0
"""How long the kernel may keep a connection whose request is not there yet."""

_FAMILIES: Final = (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)
_LOOPBACK: Final = ("127.0.0.1", "::1")
_FREE_PORT_TRIES: Final = 20  # a port that is free at one address may be taken at another
_NO_SUCH_ADDRESS: Final = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
_HINTS: Final = {
    errno.EADDRNOTAVAIL: "; this machine has no such address",
    errno.EAFNOSUPPORT: "; this machine has no IPv6",
}

_Address = tuple[Any, ...]


class Endpoint:
    """One listening socket, and what goes with it when it is closed.

    Args:
        sock: is bound to its address.
        passed: whether another process has opened it and keeps it open, as systemd does. What
            waits in its queue is then never lost: the next process accepts it.
    """

    __slots__ = ("_file", "passed", "sock")

    def __init__(self, sock: socket.socket, *, passed: bool = False) -> None:
        self.sock = sock
        self.passed = passed
        self._file: tuple[str, int] | None = None
        if not passed and sock.family == socket.AF_UNIX:
            path = sock.getsockname()
            self._file = path, os.stat(path).st_ino

    @property
    def address(self) -> tuple[str, int]:
        """Host and port; of a Unix socket `unix:` and its path, and port 0."""
        name = self.sock.getsockname()
        if self.sock.family != socket.AF_UNIX:
            return name[0], name[1]
        if isinstance(name, bytes):  # of Linux's abstract namespace (unix(7))
            name = "@" + name[1:].decode(errors="backslashreplace")
        return f"{UNIX_PREFIX}{name}", 0

    def accept_at_once(self) -> None:
        """Take connections before their peers have sent anything, as a server must that speaks."""
        if self.sock.family != socket.AF_UNIX and sys.platform == "linux":
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 0)

    def close(self) -> None:
        """Close the socket, and remove the file of a Unix socket unless it is somebody else's."""
        self.sock.close()
        if self._file is not None:
            (path, inode), self._file = self._file, None
            with contextlib.suppress(OSError):
                if os.stat(path).st_ino == inode:
                    os.unlink(path)


def listen(
    section: str,
    hosts: Sequence[str],
    port: int,
    backlog: int,
    *,
    mode: int,
    passed: Sequence[Endpoint] = (),
) -> list[Endpoint]:
    """Listen on all addresses of one listener, or on none.

    Args:
        section: the section of the settings, for errors: `server` or `admin`.
        hosts: as `server.host` has them.
        port: for all of them but Unix sockets; 0 takes a free one.
        backlog: connections that the kernel queues until they are accepted.
        mode: who may connect to a Unix socket, as permission bits of its file.
        passed: if there are any, they are listened on and no others.

    Raises:
        ConfigError: an address cannot be used; the text names the settings.
    """
    opened = list(passed)
    try:
        for endpoint in passed:
            _listen_passed(endpoint.sock, backlog)
        if passed:
            return opened
        paths = filter(None, map(unix_path, hosts))
        opened.extend(_listen_unix(section, path, backlog, mode) for path in paths)
        addresses = _resolved(section, [host for host in hosts if unix_path(host) is None], port)
        opened += _listen_tcp(section, addresses, port, backlog)
    except BaseException:
        for endpoint in opened:
            endpoint.close()
        raise
    return opened


def adopt(sock: socket.socket) -> Endpoint:
    """Return the endpoint of a socket that another process has opened and keeps open.

    Raises:
        ConfigError: it is no socket that a server can accept from.
    """
    number = sock.fileno()
    if sock.type != socket.SOCK_STREAM or sock.family not in _FAMILIES:
        raise _passed_error(number, "must be a TCP or Unix stream socket")
    endpoint = Endpoint(sock, passed=True)
    host, port = endpoint.address
    path = unix_path(host)
    if not (port if path is None else path):
        raise _passed_error(number, "has no address")
    if path is not None and path.startswith("@"):
        # Who may connect is a matter of the file's permissions, and it has no file.
        raise _passed_error(number, "must not be of the abstract namespace")
    return endpoint


# TCP.


def _resolved(section: str, hosts: Sequence[str], port: int) -> dict[tuple[int, _Address], bool]:
    """The addresses of all hosts, in order; True for those that a host stands for alone."""
    found: dict[tuple[int, _Address], bool] = {}
    for host in hosts:
        try:
            infos = _infos(unbracketed(host), port)
        except (OSError, UnicodeError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            raise ConfigError(f"{section}.host = {host!r}: {why}") from None
        for family, _, _, _, address in infos:
            found.setdefault((family, address), len(infos) == 1)
    return found


def _infos(host: str, port: int) -> list[tuple[int, int, int, str, _Address]]:
    """What getaddrinfo says of a host; not all systems know that `localhost` is IPv6 as well."""
    hosts = _LOOPBACK if host.lower() == "localhost" else (host,)
    return [
        info for each in hosts for info in socket.getaddrinfo(each, port, type=socket.SOCK_STREAM)
    ]


def _listen_tcp(
    section: str, addresses: dict[tuple[int, _Address], bool], port: int, backlog: int
) -> list[Endpoint]:
    dual_stack = all(family != socket.AF_INET for family, _ in addresses)
    for attempt in range(_FREE_PORT_TRIES):
        opened: list[Endpoint] = []
        chosen = port
        absent: OSError | None = None
        try:
            for (family, address), alone in addresses.items():
                wanted = (address[0], chosen, *address[2:])
                try:
                    sock = _tcp_socket(family, wanted, backlog, dual_stack=dual_stack)
                except OSError as error:
                    # A container without IPv6 may still have a name with an IPv6 address.
                    if not alone and error.errno in _NO_SUCH_ADDRESS:
                        absent = error
                        continue
                    raise _refusal(section, wanted, error) from None
                opened.append(Endpoint(sock))
                chosen = sock.getsockname()[1]
            if addresses and not opened:
                assert absent is not None
                raise _refusal(section, next(iter(addresses))[1], absent)
        except _InUseError:
            _close(opened)
            if port or not opened or attempt == _FREE_PORT_TRIES - 1:
                raise
        except BaseException:
            _close(opened)
            raise
        else:
            break
    return opened


def _tcp_socket(family: int, address: _Address, backlog: int, *, dual_stack: bool) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not dual_stack)
        sock.bind(address)
        prepare(sock, backlog)
    except BaseException:
        sock.close()
        raise
    return sock


def _listen_passed(sock: socket.socket, backlog: int) -> None:
    try:
        prepare(sock, backlog)
    except OSError as error:
        why = f"cannot listen: {os.strerror(error.errno or 0)}"
        raise _passed_error(sock.fileno(), why) from None


def prepare(sock: socket.socket, backlog: int) -> None:
    """Set what a listening socket needs, also one that another process opened, and listen.

    Raises:
        OSError: it cannot listen.
    """
    if sock.family in (socket.AF_INET, socket.AF_INET6):
        # Inherited by what is accepted, which saves a system call for each connection.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if sys.platform == "linux":
            # The kernel hands a connection over when its request is there (tcp(7)).
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, DEFERRED_SECONDS)
    sock.setblocking(False)
    sock.listen(backlog)


def bound_kernel(sock: socket.socket, kernel_bytes: int) -> None:
    """Bound what the kernel keeps unsent for each connection that is accepted from now on.

    Without a bound it takes up to 4 MB for a peer that does not read. TCP_NOTSENT_LOWAT (tcp(7))
    bounds what was not sent yet; what is on its way is bounded by the peer's window, so that a fast
    peer far away is not slowed down, as it would be by SO_SNDBUF. Sockets that are accepted inherit
    it. A Unix socket is bounded by the system.
    """
    if sock.family in (socket.AF_INET, socket.AF_INET6) and hasattr(socket, "TCP_NOTSENT_LOWAT"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, kernel_bytes)


# Unix sockets.


def _listen_unix(section: str, path: str, backlog: int, mode: int) -> Endpoint:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _remove_stale(path)
        sock.bind(path)
        # Nobody can connect before it listens, so nobody comes in with other permissions.
        os.chmod(path, mode)
        prepare(sock, backlog)
        return Endpoint(sock)
    except OSError as error:
        sock.close()
        why = os.strerror(error.errno) if error.errno else str(error)
        raise ConfigError(f"cannot listen on {UNIX_PREFIX}{path}: {why} ({section}.host)") from None


def _remove_stale(path: str) -> None:
    """Remove a socket that nobody listens on, as a process leaves it that was killed.

    Raises:
        OSError: somebody listens on it, or it is something else than a socket.
    """
    try:
        kind = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(kind):
        raise FileExistsError(errno.EEXIST, "")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
        except BlockingIOError:
            pass  # its queue is full
    raise OSError(errno.EADDRINUSE, "")


# Errors.


class _InUseError(ConfigError):
    """Another socket listens there."""


def _refusal(section: str, address: _Address, error: OSError) -> ConfigError:
    code = error.errno or 0
    host, port = address[:2]
    hint = _HINTS.get(code, "")
    if code == errno.EACCES and 0 < port < 1024:
        hint = "; ports below 1024 need the capability CAP_NET_BIND_SERVICE"
    settings = f"{section}.host, {section}.port"
    text = f"cannot listen on {host} port {port}: {os.strerror(code)}{hint} ({settings})"
    return (_InUseError if code == errno.EADDRINUSE else ConfigError)(text)


def _passed_error(descriptor: int, problem: str) -> ConfigError:
    return ConfigError(f"the socket that was passed as descriptor {descriptor} {problem}")


def _close(endpoints: Sequence[Endpoint]) -> None:
    for endpoint in endpoints:
        endpoint.close()
