"""One WebSocket through a proxy, watched frame by frame."""

from __future__ import annotations

import select
import socket
import ssl
import sys
from collections.abc import Callable, Mapping
from time import monotonic
from typing import Final

from websockets.client import ClientProtocol
from websockets.exceptions import InvalidURI
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.typing import Origin, Subprotocol
from websockets.uri import WebSocketURI, parse_uri

from tidegate.addresses import is_loopback
from tidegate.errors import UsageError

__all__ = ["Attempt", "FailedError", "Target"]

_SECONDS: Final = 10.0
_CHUNK: Final = 65536
_LONGEST: Final = 100  # of what a proxy says of itself
# All of 127.0.0.0/8 is this machine, on Linux. An address of our own tells us from the proxy.
_OWN_LOOPBACK: Final = "127.77.0.1"


class FailedError(Exception):
    """There is no connection, or no response; the text says why."""


class Target:
    """Where attempts go.

    Args:
        url: begins with ws:// or wss://.

    Raises:
        UsageError: it does not, or names no host.
    """

    def __init__(self, url: str) -> None:
        try:
            self.uri: WebSocketURI = parse_uri(url)
        except (InvalidURI, ValueError):
            raise UsageError(
                f"--through {url}: must be a URL such as wss://chat.example.com/ws"
            ) from None
        scheme = "https" if self.uri.secure else "http"
        host = f"[{self.uri.host}]" if ":" in self.uri.host else self.uri.host
        usual = self.uri.port == (443 if self.uri.secure else 80)
        self.origin = f"{scheme}://{host}" if usual else f"{scheme}://{host}:{self.uri.port}"
        """The origin of a page from there."""

    def open(self) -> socket.socket:
        """Connect.

        Raises:
            FailedError: it cannot be reached, or its certificate is not trusted.
        """
        host, port = self.uri.host, self.uri.port
        try:
            sock = socket.create_connection((host, port), _SECONDS)
            peer = sock.getpeername()[0]
            if sys.platform == "linux" and ":" not in peer and is_loopback(peer):
                sock.close()
                sock = socket.create_connection((peer, port), _SECONDS, (_OWN_LOOPBACK, 0))
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
            if self.uri.secure:
                context = ssl.create_default_context()
                sock = context.wrap_socket(sock, server_hostname=host)
        except ssl.SSLCertVerificationError as error:
            raise FailedError(f"its certificate is not trusted: {error.verify_message}") from None
        except (OSError, ValueError) as error:
            raise FailedError(getattr(error, "strerror", None) or str(error)) from None
        return sock


class Attempt:
    """An attempt, and the connection that it may become. Close it at the end.

    Raises:
        FailedError: there was no response.
    """

    def __init__(
        self,
        target: Target,
        *,
        origin: str | None = None,
        subprotocol: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.pings = 0
        self.close_code: int | None = None
        self.close_reason = ""
        self.ended = False
        self.messages: list[bytes] = []
        """Text messages that came and were not looked at."""
        self._pongs: set[bytes] = set()
        self._protocol = ClientProtocol(
            target.uri,
            origin=None if origin is None else Origin(origin),
            subprotocols=None if subprotocol is None else [Subprotocol(subprotocol)],
        )
        self._sock = target.open()
        self.address: str = self._sock.getsockname()[0]
        self.certificate = (
            self._sock.getpeercert() if isinstance(self._sock, ssl.SSLSocket) else None
        )
        self._response: Response | None = None
        request = self._protocol.connect()
        request.headers.update(headers or {})
        self.head_bytes = len(request.serialize())
        self._protocol.send_request(request)
        try:
            response = self._read_response()
        except FailedError:
            self.close()
            raise
        self.status = response.status_code
        self.server = response.headers.get("Server", "")[:_LONGEST]
        self.reason = response.headers.get("X-Rejection-Reason", "")[:_LONGEST]
        self.subprotocol = response.headers.get("Sec-WebSocket-Protocol", "")

    @property
    def open(self) -> bool:
        """Whether it is a WebSocket now."""
        return self._protocol.handshake_exc is None and not self.ended

    def message(self, seconds: float) -> bytes | None:
        """Wait for a text message; None if none comes, or the connection ends."""
        self._wait(lambda: bool(self.messages), seconds)
        return self.messages.pop(0) if self.messages else None

    def round_trip(self, seconds: float) -> float | None:
        """Send a ping and wait for its pong; the seconds that it took, None if it did not come."""
        payload = str(monotonic()).encode()
        begin = monotonic()
        try:
            self._protocol.send_ping(payload)
            self._flush()
        except OSError:
            self.ended = True
            return None
        self._wait(lambda: payload in self._pongs, seconds)
        return monotonic() - begin if payload in self._pongs else None

    def hold(self, seconds: float) -> tuple[float, float]:
        """Stay quiet until the time is over or the connection ends; pings are answered.

        Returns:
            The seconds that it was held, and the longest stretch without a byte.
        """
        begin = last = monotonic()
        longest = 0.0
        while not self.ended and (left := begin + seconds - monotonic()) > 0:
            if self._turn(left):
                longest, last = max(longest, monotonic() - last), monotonic()
        end = monotonic()
        return end - begin, max(longest, end - last)

    def close(self) -> None:
        """End it."""
        self._sock.close()

    def _read_response(self) -> Response:
        try:
            self._flush()
        except OSError as error:
            raise FailedError(error.strerror or str(error)) from None
        failed = self._protocol
        self._wait(lambda: bool(self._response or failed.handshake_exc), _SECONDS)
        if self._response is None and failed.handshake_exc is not None and not self.ended:
            raise FailedError("what it answers is no HTTP")
        if self._response is None:
            raise FailedError(
                "it closed the connection without a response"
                if self.ended
                else f"there was no HTTP response within {_SECONDS:g} s"
            )
        return self._response

    def _wait(self, condition: Callable[[], bool], seconds: float) -> None:
        deadline = monotonic() + seconds
        while not condition() and not self.ended and (left := deadline - monotonic()) > 0:
            self._turn(left)

    def _turn(self, seconds: float) -> bool:
        """Wait for bytes and read them; False if none came."""
        buffered = isinstance(self._sock, ssl.SSLSocket) and self._sock.pending()
        if not buffered and not select.select([self._sock], [], [], seconds)[0]:
            return False
        try:
            data = self._sock.recv(_CHUNK)
        except OSError:
            data = b""
        if data:
            self._protocol.receive_data(data)
        else:
            self._protocol.receive_eof()
            self.ended = True
        for event in self._protocol.events_received():
            if isinstance(event, Response):
                self._response = event
            elif isinstance(event, Frame):
                self._frame(event)
        try:
            self._flush()
        except OSError:
            self.ended = True
        return True

    def _frame(self, frame: Frame) -> None:
        if frame.opcode is Opcode.PING:
            self.pings += 1
        elif frame.opcode is Opcode.PONG:
            self._pongs.add(bytes(frame.data))
        elif frame.opcode is Opcode.TEXT:
            self.messages.append(bytes(frame.data))
        elif frame.opcode is Opcode.CLOSE:
            self.ended = True
            self.close_code = self._protocol.close_code
            self.close_reason = self._protocol.close_reason or ""

    def _flush(self) -> None:
        for data in self._protocol.data_to_send():
            if data:
                self._sock.sendall(data)
