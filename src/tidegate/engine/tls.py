"""TLS on the same poller: `ssl` sockets that speak the language of plain ones."""

from __future__ import annotations

import contextlib
import socket
import ssl
from typing import Any

from tidegate.errors import ConfigError

__all__ = ["TlsSocket", "server_context"]

_RECORD_BYTES = 16384  # the most that one record carries, RFC 8446 5.1


def server_context(certificate: str, key: str, password: str | None = None) -> ssl.SSLContext:
    """Return a context for TLS 1.2 and newer with session tickets, from two PEM files.

    Args:
        certificate: the chain.
        key: the private key of its first certificate.
        password: of the key, where it is encrypted.

    Raises:
        ConfigError: a file cannot be read, key and certificate do not belong together, or the
            password is missing or wrong.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    encrypted = False

    def ask() -> str:
        # Without this, OpenSSL asks at the terminal, and waits for ever where there is none.
        nonlocal encrypted
        encrypted = True
        return password or ""

    try:
        context.load_cert_chain(certificate, key, ask)
    except (OSError, ValueError) as error:
        if encrypted and password is None:
            problem = "it is encrypted: set tls.key_password"
            raise ConfigError(f"tls.key = {key!r}: {problem}") from None
        if encrypted:
            raise ConfigError(f"tls.key_password is not the password of {key!r}") from None
        raise ConfigError(
            f"tls.certificate = {certificate!r}, tls.key = {key!r}: cannot be used together as "
            f"PEM certificate chain and private key ({error})"
        ) from error
    return context


class TlsSocket:
    """A non-blocking TLS socket with the methods and errors of a plain one.

    "Want read" and "want write" become ``BlockingIOError``; a peer that leaves without
    ``close_notify`` reads as the end of the stream, as a plain socket has no such notice either.
    """

    __slots__ = ("_ssl",)

    def __init__(self, plain: socket.socket, context: ssl.SSLContext) -> None:
        self._ssl = context.wrap_socket(
            plain, server_side=True, do_handshake_on_connect=False, suppress_ragged_eofs=True
        )

    def handshake(self) -> bool:
        """Go on with the handshake; return True when it wants to write.

        Raises:
            BlockingIOError: it waits for the peer; call again when readable.
            OSError: it failed; close the socket.
        """
        try:
            self._ssl.do_handshake()
        except ssl.SSLWantReadError:
            raise BlockingIOError from None
        except ssl.SSLWantWriteError:
            return True
        return False

    def recv(self, size: int) -> bytes:
        """Return up to ``size`` bytes, or none at the end of the stream."""
        try:
            return self._ssl.recv(size)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise BlockingIOError from None

    def send(self, data: bytes, /) -> int:
        """Send some of ``data`` and return how many bytes were taken.

        The rest must be what is sent next: it may be encrypted already.
        """
        sent = 0
        try:
            # OpenSSL wants all that it did not take again, so it gets one record at a time.
            while sent < len(data):
                sent += self._ssl.send(data[sent : sent + _RECORD_BYTES])
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            if not sent:
                raise BlockingIOError from None
        return sent

    def shutdown(self, how: int) -> None:
        """Say goodbye (``close_notify``) without waiting for the answer, then shut down."""
        with contextlib.suppress(OSError, ValueError):
            self._ssl.unwrap()
        self._ssl.shutdown(how)

    def setsockopt(self, level: int, name: int, value: bytes) -> None:
        """Set a socket option, as on a plain socket."""
        self._ssl.setsockopt(level, name, value)

    def getsockopt(self, level: int, name: int, size: int) -> bytes:
        """Return a socket option, as of a plain socket."""
        return self._ssl.getsockopt(level, name, size)

    def getpeername(self) -> Any:
        """Return the address of the peer, as on a plain socket."""
        return self._ssl.getpeername()

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._ssl.fileno()

    def close(self) -> None:
        """Say goodbye if that is still possible, and close the descriptor."""
        with contextlib.suppress(OSError, ValueError):
            self._ssl.unwrap()
        self._ssl.close()
