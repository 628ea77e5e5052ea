"""The errors that Tidegate raises, by whose fault they are."""

from __future__ import annotations

from math import ceil

__all__ = [
    "BackplaneError",
    "ConfigError",
    "ConnectionClosed",
    "PeerError",
    "Refused",
    "TidegateError",
    "UsageError",
]


class TidegateError(Exception):
    """The base of every error that Tidegate raises on purpose."""


class ConfigError(TidegateError):
    """A setting is wrong. The text names the setting, its value and what is allowed."""


class PeerError(TidegateError):
    """The other side broke the protocol. The text is safe to send back to it."""


class UsageError(TidegateError):
    """The calling code used Tidegate wrongly; fix the call."""


class BackplaneError(TidegateError):
    """What carries messages between nodes failed or could not be reached."""


class ConnectionClosed(TidegateError):  # noqa: N818 - it is what happened, not a failure
    """A connection has ended, so no message comes from it.

    Attributes:
        code: the close code; 1005 without one, 1006 for a connection that broke.
        text: what was said with it.
    """

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"the connection has ended with {code}")
        self.code = code
        self.text = text


class Refused(TidegateError):  # noqa: N818 - it is what happened, not a failure
    """A policy refused an attempt.

    Attributes:
        reason: the name in the table of reasons, such as "user_limit".
        message: the same for people.
        retry_after: seconds after which the client may come back; None for not by itself.
        status: the HTTP status, such as 429; None where there is no HTTP response to send.
        close_code: the WebSocket close code, such as 1013; None where nothing is closed.
        limit: the limit that was reached, None when it is not a limit.
    """

    def __init__(
        self,
        reason: str,
        message: str,
        *,
        retry_after: float | None = None,
        status: int | None = None,
        close_code: int | None = None,
        limit: int | None = None,
    ) -> None:
        super().__init__(f"{reason}: {message}")
        self.reason = reason
        self.message = message
        self.retry_after = retry_after
        self.status = status
        self.close_code = close_code
        self.limit = limit

    @property
    def headers(self) -> dict[str, str]:
        """The headers of an HTTP refusal: `X-Rejection-Reason` and, with a delay, `Retry-After`."""
        headers = {"X-Rejection-Reason": self.reason}
        if self.retry_after is not None:
            # HTTP has whole seconds; the client must not come back too early (RFC 9110 10.2.3).
            headers["Retry-After"] = str(ceil(self.retry_after))
        return headers
