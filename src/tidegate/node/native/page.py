"""The quiet page at `/` of the public listener: what this is, and how to connect."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from tidegate.wire.codecs import JSON_V1
from tidegate.wire.handshake import http_response

if TYPE_CHECKING:
    from tidegate.core.settings import ServerSettings
    from tidegate.wire.handshake import Request

__all__ = ["PublicPage"]

_HEADERS = (
    (
        "Content-Security-Policy",
        "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
    ),
    ("X-Content-Type-Options", "nosniff"),
    ("Cache-Control", "no-cache"),
)
_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Tidegate</title>
<style>
body {{ font: 16px/1.6 system-ui, sans-serif; max-width: 40rem; margin: 15vh auto;
  padding: 0 1rem }}
code {{ font-family: ui-monospace, monospace }}
</style>
<h1>This is a WebSocket server</h1>
<p>It runs <a href="https://pypi.org/project/tidegate/">Tidegate</a>. Clients connect to
<code>{path}</code> with the subprotocol <code>{subprotocol}</code>.</p>
</html>
"""


class PublicPage:
    """Answers `GET /`, unless that is where WebSockets are opened or the settings say no."""

    def __init__(self, settings: ServerSettings) -> None:
        self._response: bytes | None = None
        if settings.page:
            body = _PAGE.format(path=escape(settings.path or "any path"), subprotocol=JSON_V1)
            kind = "text/html; charset=utf-8"
            self._response = http_response(200, body.encode(), _HEADERS, kind)

    def respond(self, request: Request) -> bytes | None:
        """Return the page, or None for another request."""
        if self._response is None or request.path != "/" or request.method not in ("GET", "HEAD"):
            return None
        if request.method == "HEAD":
            return self._response[: self._response.index(b"\r\n\r\n") + 4]
        return self._response
