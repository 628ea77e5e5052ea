"""The URL of a server."""

from __future__ import annotations

import ssl
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

__all__ = ["checked", "with_route"]

_SCHEMES = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}


def checked(url: str, context: ssl.SSLContext | None) -> str:
    """Return the URL with a WebSocket scheme; `http` and `https` stand for `ws` and `wss`.

    Raises:
        ValueError: if nothing can be reached by it.
    """
    parts = urlsplit(url)
    scheme = _SCHEMES.get(parts.scheme)
    if scheme is None or not parts.hostname:
        raise ValueError(f"url: as in wss://chat.example.com/ws, not {url!r}")
    if parts.username or parts.password:
        raise ValueError("url: no user and password; give a token")
    if parts.fragment:
        raise ValueError(f"url: without a fragment (RFC 6455 3), not {url!r}")
    if context is not None and scheme == "ws":
        raise ValueError("ssl: a TLS context needs a wss:// URL")
    try:
        _ = parts.port
    except ValueError as error:
        raise ValueError(f"url: {error}") from None
    return urlunsplit(parts._replace(scheme=scheme))


def with_route(url: str, route: str | None) -> str:
    """Add the query parameter `route`, which leads to the same node again."""
    if route is None:
        return url
    parts = urlsplit(url)
    query = [pair for pair in parse_qsl(parts.query, keep_blank_values=True) if pair[0] != "route"]
    return urlunsplit(parts._replace(query=urlencode([*query, ("route", route)])))
