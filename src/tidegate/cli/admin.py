"""Asking the admin API of a running server."""

from __future__ import annotations

import http.client
import json
from typing import Any
from urllib.parse import urlsplit

from tidegate.core.settings import AdminSettings
from tidegate.errors import TidegateError, UsageError

__all__ = ["Admin", "AdminError", "UnreachableError"]

_SECONDS = 10.0


class AdminError(TidegateError):
    """The admin API refused what was asked, or answered something else than it should."""


class UnreachableError(AdminError):
    """Nobody answers where the admin API should be."""


class Admin:
    """The admin API of one server. `settings` say where it is, unless `url` does, and the token.

    Raises `UsageError` for a `url` that is none.
    """

    def __init__(self, settings: AdminSettings, url: str | None = None) -> None:
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        self.url = (url or f"http://{host}:{settings.port}").rstrip("/")
        self._token = settings.token
        try:
            parts = urlsplit(self.url)
            self._port = parts.port
        except ValueError:
            parts, self._port = urlsplit(""), None
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UsageError(f"--admin {url}: must be like http://127.0.0.1:8001")
        self._secure = parts.scheme == "https"
        self._host = parts.hostname
        self._prefix = parts.path

    def ask(self, path: str, method: str = "GET") -> dict[str, Any]:
        """The JSON object that it answers. Raises `AdminError`, or `UnreachableError` of its kinds.

        The server is asked directly: a proxy of the environment is for the way to the internet.
        """
        kind = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
        connection = kind(self._host, self._port, timeout=_SECONDS)
        headers = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        try:
            connection.request(method, self._prefix + path, headers=headers)
            response = connection.getresponse()
            status, body = response.status, response.read()
        except (OSError, http.client.HTTPException) as error:
            why = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise UnreachableError(f"{self.url} does not answer: {why}") from None
        finally:
            connection.close()
        try:
            answer = json.loads(body)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise AdminError(f"{self.url}{path} answered {status}, and not as an admin API does")
        if status >= 400:
            said = str(answer.get("error", status))
            hint = " (admin.token, TIDEGATE_ADMIN_TOKEN)" if status == 401 else ""
            raise AdminError(f"{self.url}{path} answered {status}: {said}{hint}")
        return answer
