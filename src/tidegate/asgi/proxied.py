"""What trusted proxies say of a request: the client's address, and the scheme that it used.

It is the same for WebSockets and HTTP, and by the same settings: `proxies.trusted` and
`proxies.header`. The scheme is that of `X-Forwarded-Proto`, or of the last element of `Forwarded`
(RFC 7239 5.4).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tidegate.addresses import UNIX_PEER
from tidegate.asgi.fields import Fields
from tidegate.wire.forwarded import TrustedProxies, forwarded_scheme

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tidegate.asgi.types import AsgiApp, Receive, Scope, Send
    from tidegate.core.settings.server import ProxiesSettings

__all__ = ["Proxied", "Proxies"]


class Proxies:
    """The proxies that are trusted, and how they pass on what they know."""

    def __init__(self, settings: ProxiesSettings) -> None:
        self._trusted = TrustedProxies(settings.trusted)
        self._style: Any = settings.header

    def trusts(self, peer: str) -> bool:
        """Whether a peer may speak for others."""
        return peer in self._trusted

    def client(self, peer: str, headers: Mapping[str, str]) -> str:
        """Return the address of the client behind a peer."""
        return self._trusted.client(peer, headers.get(self._style), self._style)

    def secure(self, headers: Mapping[str, str]) -> bool | None:
        """Whether the client used TLS, by the headers of a peer that is trusted; None if unsaid."""
        if self._style == "forwarded":
            scheme = forwarded_scheme(headers.get("forwarded", ""))
        else:
            scheme = headers.get("x-forwarded-proto", "").lower()
        return {"https": True, "wss": True, "http": False, "ws": False}.get(scheme)


class Proxied:
    """Corrects the scope of HTTP requests that come from a trusted proxy."""

    def __init__(self, app: AsgiApp, proxies: Proxies) -> None:
        self._app = app
        self._proxies = proxies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] == "http":
            client = scope["client"]
            peer = UNIX_PEER if client is None else client[0]
            if self._proxies.trusts(peer):
                self._correct(scope, peer)
        await self._app(scope, receive, send)

    def _correct(self, scope: Any, peer: str) -> None:
        headers = Fields(scope["headers"])
        address = self._proxies.client(peer, headers)
        if address != peer:
            scope["client"] = (address, 0)
        secure = self._proxies.secure(headers)
        if secure is not None:
            scope["scheme"] = "https" if secure else "http"
