"""What a call of the server API raises. No text has the token."""

from __future__ import annotations

from tidegate.errors import TidegateError

__all__ = [
    "ApiError",
    "InvalidRequest",
    "NotTaken",
    "TokenRefused",
    "Unavailable",
    "Unreachable",
]


class ApiError(TidegateError):
    """A call had no success.

    Attributes:
        status: the HTTP status; None where nothing answered.
        code: the name in the table of reasons, such as "no_history"; None where it is none.
        text: what the server said of it, for people.
        field: what is wrong with the request, such as "room"; None where it is no field.
        retry_after: seconds after which the call may be made again; None where nobody said so.
    """

    def __init__(
        self,
        where: str,
        text: str,
        *,
        status: int | None = None,
        code: str | None = None,
        field: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        answered = "" if status is None else f"{status} "
        super().__init__(f"{where}: {answered}{text}")
        self.status = status
        self.code = code
        self.text = text
        self.field = field
        self.retry_after = retry_after


class Unreachable(ApiError):  # noqa: N818 - says what it is
    """Nothing answered in time. Whether the server did what was asked is not known."""


class InvalidRequest(ApiError):  # noqa: N818 - says what it is
    """The request is wrong; `field` says where. The same again has the same outcome."""


class TokenRefused(ApiError):  # noqa: N818 - says what it is
    """The token is missing or wrong."""


class NotTaken(ApiError):  # noqa: N818 - says what it is
    """The server cannot do that; `code` says why, such as "no_presence"."""


class Unavailable(ApiError):  # noqa: N818 - says what it is
    """The server, or a proxy in front of it, cannot do that now, and has not done it."""
