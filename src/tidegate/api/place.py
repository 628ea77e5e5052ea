"""Where the server API is, and requests and answers as the HTTP client has them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import httpx2

from tidegate.addresses import unix_path
from tidegate.api.answers import delay
from tidegate.api.values import Answer, Call, NoAnswer
from tidegate.errors import UsageError

if TYPE_CHECKING:
    import ssl

__all__ = ["Place", "answer_of", "no_answer"]

_JSON: Final = {"Content-Type": "application/json"}


class Place:
    """Where the server API is, and how it is asked.

    Args:
        url: as in `http://127.0.0.1:8001`, with https, or `unix:/run/admin.sock`.
        token: `admin.token` of the server.
        timeout: seconds for each answer, and the most of a `Retry-After` that is waited for.
        retries: how often a call is sent again that the server has not done, or that may be
            repeated.
        tls: whom to trust for an https URL; the certificates of the system when None.

    Raises:
        UsageError: one of these is not valid.
    """

    def __init__(
        self,
        url: str,
        token: str | None,
        timeout: float,
        retries: int,
        tls: ssl.SSLContext | None,
    ) -> None:
        if token is not None and not (token and token.isascii() and token.isprintable()):
            raise UsageError("token: must have ASCII characters, none of control")
        if not timeout > 0 or retries < 0:
            raise UsageError("timeout must be above 0, and retries 0 or more")
        self.url = url.rstrip("/")
        self.timeout = timeout
        self.retries = retries
        self._path = unix_path(self.url)
        self._tls = tls
        self._headers = {"Accept-Encoding": "identity", "User-Agent": "tidegate-api"}
        if token is not None:
            self._headers["Authorization"] = f"Bearer {token}"
        if self._path is None:
            _check(url)

    def transport(self) -> dict[str, Any]:
        """How connections are made."""
        # Reading the certificates of the system takes many milliseconds.
        plain = not self.url.startswith("https:")
        verify = False if plain else self._tls or httpx2.create_ssl_context()
        return {"verify": verify, "uds": self._path}

    def options(self) -> dict[str, Any]:
        """How requests are made: directly, whatever proxy the environment has."""
        base = "http://localhost" if self._path is not None else self.url
        return {"base_url": base, "headers": self._headers, "trust_env": False}

    def request(self, call: Call[Any]) -> dict[str, Any]:
        """The request of a call."""
        headers = {} if call.body is None else dict(_JSON)
        if call.key is not None:
            headers["Idempotency-Key"] = call.key
        return {
            "method": call.method,
            "url": call.path,
            "params": call.query or None,
            "content": call.body,
            "headers": headers,
            "timeout": self.timeout + call.seconds,
        }

    def again(self, call: Call[Any], answer: Answer | NoAnswer, number: int) -> float | None:
        """The seconds after which a call is sent again, None for not."""
        return None if number >= self.retries else delay(call, answer, number, self.timeout)


def _check(url: str) -> None:
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if good and not (parts.username or parts.password or parts.query or parts.fragment):
        return
    # It is not shown: it may have a password.
    raise UsageError("url: must be like http://127.0.0.1:8001 or unix:/run/admin.sock")


def answer_of(response: httpx2.Response) -> Answer:
    """Return what came back."""
    return Answer(response.status_code, response.content, response.headers.get("retry-after"))


def no_answer(error: httpx2.HTTPError) -> NoAnswer:
    """Return that nothing came back, and why; the texts of these do not quote what was sent."""
    unsent = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout)
    text = "none in time" if isinstance(error, httpx2.TimeoutException) else str(error)
    return NoAnswer(text or type(error).__name__, not isinstance(error, unsent))
