"""Asking the admin API of a running server."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import urlsplit

from tidegate.addresses import authority, parse, unbracketed, unix_path
from tidegate.core.settings import AdminSettings
from tidegate.errors import ConfigError, TidegateError, UsageError

__all__ = ["Admin", "AdminError", "RefusedError", "UnreachableError", "WrongRequestError"]

_SECONDS = 10.0

# To connect to all addresses of a machine works on Linux only.
_UNSPECIFIED: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}


class AdminError(TidegateError):
    """The admin API refused what was asked, or answered something else than it should."""


class UnreachableError(AdminError):
    """Nothing answers where the admin API should be."""


class WrongRequestError(AdminError, ConfigError):
    """The admin API says that what was asked is wrong, a setting for example."""


class RefusedError(AdminError):
    """The server cannot do what was asked; `reason` is one of the names in its table of codes."""

    def __init__(self, text: str, reason: str) -> None:
        super().__init__(text)
        self.reason = reason


class Admin:
    """The admin API of one server.

    Args:
        settings: the token, and where the API is unless `url` says it.
        url: where the API is; the scheme may be left out, and the port beside it.

    Raises:
        UsageError: `url` is no URL of an API.
    """

    def __init__(self, settings: AdminSettings, url: str | None = None) -> None:
        self.url = (_url(url, settings.port) if url else _default_url(settings)).rstrip("/")
        self._token = settings.token
        self._prefix = ""
        self._connection: Callable[[], http.client.HTTPConnection]
        path = unix_path(self.url)
        if path is not None:
            self._connection = partial(_UnixConnection, path)
            return
        try:
            parts = urlsplit(self.url)
            port = parts.port
        except ValueError:
            parts, port = urlsplit(""), None
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UsageError(
                f"--admin {url}: must be like 127.0.0.1:8001, http://127.0.0.1:8001 or "
                f"unix:/run/admin.sock"
            )
        secure = parts.scheme == "https"
        kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        self._connection = partial(kind, parts.hostname, port, timeout=_SECONDS)
        self._prefix = parts.path

    def ask(self, path: str, method: str = "GET", body: object = None) -> dict[str, Any]:
        """Send a request, and return the JSON object of the response.

        The server is asked directly: a proxy of the environment is for the way to the internet.

        Args:
            body: is sent as JSON, unless it is None.

        Raises:
            AdminError: it refused, or what answered is no admin API. If nothing answered, it is an
                `UnreachableError`; if the request is wrong, a `WrongRequestError`.
        """
        status, text = self._exchange(path, method, body)
        return self._parsed(path, status, text)

    def text(self, path: str) -> str:
        """Read what is no JSON, such as `/metrics`.

        Raises:
            AdminError: as `ask`.
        """
        status, text = self._exchange(path, "GET", None)
        if status >= HTTPStatus.BAD_REQUEST:
            self._parsed(path, status, text)
        return text.decode(errors="replace")

    def _exchange(self, path: str, method: str, body: object) -> tuple[int, bytes]:
        connection = self._connection()
        headers = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        data = None
        if body is not None:
            data = json.dumps(body).encode()
            headers["Content-Type"] = "application/json"
        try:
            connection.request(method, self._prefix + path, data, headers)
            response = connection.getresponse()
            status, text = response.status, response.read()
        except (OSError, http.client.HTTPException) as error:
            why = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise UnreachableError(f"{self.url} does not answer: {why}") from None
        finally:
            connection.close()
        return status, text

    def _parsed(self, path: str, status: int, text: bytes) -> dict[str, Any]:
        try:
            answer = json.loads(text)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise AdminError(f"{self.url}{path} answered {status}, and not as an admin API does")
        if status < HTTPStatus.BAD_REQUEST:
            return answer
        reason = str(answer.get("error", status))
        said = str(answer.get("message", reason))
        if status == HTTPStatus.CONFLICT:
            raise RefusedError(f"{self.url}{path} answered {status}: {said}", reason)
        if status == HTTPStatus.BAD_REQUEST:
            raise WrongRequestError(f"{self.url}{path} answered {status}: {said}")
        hint = " (admin.token, TIDEGATE_ADMIN_TOKEN)" if status == HTTPStatus.UNAUTHORIZED else ""
        raise AdminError(f"{self.url}{path} answered {status}: {said}{hint}")


def _url(given: str, port: int) -> str:
    """The URL that an address such as 127.0.0.1:8001 stands for; a URL stays as it is."""
    if "://" in given or unix_path(given) is not None:
        return given
    if parse(unbracketed(given)) is not None or (":" not in given and "/" not in given):
        return f"http://{authority(unbracketed(given), port)}"
    return f"http://{given}"


def _default_url(settings: AdminSettings) -> str:
    """Where a server with these settings has its admin API: at its first address."""
    host = unbracketed(settings.host[0])
    if unix_path(host) is not None:
        return host
    return f"http://{authority(_UNSPECIFIED.get(host, host), settings.port)}"


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(_SECONDS)
        self.sock.connect(self._path)
