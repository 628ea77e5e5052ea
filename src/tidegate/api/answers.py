"""What an answer means: a result, an error, or that the call is sent again, and when."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from time import time
from typing import Any, Final, TypeVar

import msgspec

from tidegate.api.errors import (
    ApiError,
    InvalidRequest,
    NotTaken,
    TokenRefused,
    Unavailable,
    Unreachable,
)
from tidegate.api.values import Answer, Call, NoAnswer

__all__ = ["delay", "result"]

R = TypeVar("R")

_FIRST_SECONDS: Final = 0.1
_MOST_SECONDS: Final = 5.0

_NOT_NOW: Final = {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE}
# Those of a proxy, which does not know whether the server did it.
_UNKNOWN: Final = {HTTPStatus.BAD_GATEWAY, HTTPStatus.GATEWAY_TIMEOUT}
_TOKEN: Final = {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}
_NO_API: Final = "this is not what the server API answers"
_NAME: Final = re.compile("[a-z_]+")


def delay(
    call: Call[Any],
    answer: Answer | NoAnswer,
    number: int,
    patience: float,
    dice: Callable[[], float] = random.random,
) -> float | None:
    """Return the seconds after which a call is sent again; None where it is not.

    What the server certainly has not done is sent again, and what may be repeated when its answer
    was lost. The delay is anything up to a bound that doubles each time (full jitter), so that
    clients that failed together do not come back together, and begins after `Retry-After`.

    Args:
        call: what was sent.
        answer: what came back.
        number: how often it was sent before.
        patience: a `Retry-After` of more seconds is not waited for.
        dice: returns a number from 0 to 1.
    """
    wait = 0.0
    if isinstance(answer, NoAnswer):
        again = call.repeats or not answer.sent
    else:
        wait = _seconds(answer.retry_after) or 0.0
        again = answer.status not in call.takes and (
            answer.status in _NOT_NOW or (call.repeats and answer.status in _UNKNOWN)
        )
    if not again or wait > patience:
        return None
    return wait + dice() * min(_MOST_SECONDS, _FIRST_SECONDS * 2.0 ** min(number, 10))


def result(call: Call[R], answer: Answer | NoAnswer, url: str) -> R:
    """Return what an answer says.

    Raises:
        ApiError: one of its kinds, for what was not done.
    """
    where = f"{call.method} {url}{call.path}"
    if isinstance(answer, NoAnswer):
        raise Unreachable(where, f"no answer: {answer.text}")
    if answer.status in call.takes or HTTPStatus.OK <= answer.status < HTTPStatus.MULTIPLE_CHOICES:
        try:
            return call.parse(answer.body)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise ApiError(where, _NO_API, status=answer.status) from None
    raise _error(where, answer)


def _error(where: str, answer: Answer) -> ApiError:
    try:
        said = msgspec.json.decode(answer.body, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError):
        said = {}
    code = text = said.get("error")
    if not isinstance(text, str):
        code, text = None, _NO_API
    elif isinstance(said.get("message"), str):
        text = said["message"]
    field = said.get("field")
    kind: type[ApiError] = Unavailable
    if answer.status in _TOKEN:
        kind = TokenRefused
    elif answer.status == HTTPStatus.CONFLICT:
        kind = NotTaken
    elif answer.status < HTTPStatus.INTERNAL_SERVER_ERROR and answer.status not in _NOT_NOW:
        kind = InvalidRequest if said else ApiError
    return kind(
        where,
        f"{code}: {text}" if code is not None and code != text else text,
        status=answer.status,
        code=code if code is not None and _NAME.fullmatch(code) else None,
        field=field if isinstance(field, str) else None,
        retry_after=_seconds(answer.retry_after),
    )


def _seconds(header: str | None) -> float | None:
    """The seconds of a `Retry-After`: a number, or a date (RFC 9110 section 10.2.3)."""
    if header is None:
        return None
    if header.isascii() and header.isdecimal():
        return float(header[:9])
    try:
        return max(0.0, parsedate_to_datetime(header).timestamp() - time())
    except (ValueError, OverflowError):
        return None
