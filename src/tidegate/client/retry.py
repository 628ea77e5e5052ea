"""Whether to come back after a loss, and when."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from tidegate.core import codes

__all__ = [
    "FLOOR",
    "LONGEST",
    "Again",
    "Backoff",
    "Loss",
    "Next",
    "delay_after",
    "loss_of_close",
    "loss_of_refusal",
    "next_after",
    "seconds",
]

FLOOR: Final = 0.1
"""The shortest delay, in seconds."""
LONGEST: Final = 3600.0
"""The longest delay that a server can ask for, in seconds."""
_DOUBLINGS: Final = 64  # far beyond any cap, and no float overflows

_NO_CODE: Final = codes.EOF.code
_FOR_GOOD: Final = range(codes.KICKED.code, 5000)  # the classes of own codes, see core/codes.py
_PASSING: Final = (codes.HANDSHAKE_TIMEOUT.status, codes.IP_LIMIT.status)
_OWN_SLOTS: Final = (codes.RATE_LIMITED.name, codes.DRAINED.name)


@dataclass(frozen=True, slots=True)
class Loss:
    """How a connection ended.

    Attributes:
        code: the WebSocket close code; 1006 where there was no close frame.
        error: the reason's name in the table of codes, or one of the client's own: `timeout`,
            `bad_message`, `message_too_big`, `token_failed`, `unsupported`.
        detail: what is wrong, for people.
        retry_after: seconds that the server wants the client to stay away.
        for_good: whether the server has said not to come back.
        status: the HTTP status of a refusal.
    """

    code: int = _NO_CODE
    error: str | None = None
    detail: str | None = None
    retry_after: float | None = None
    for_good: bool = False
    status: int | None = None

    def __str__(self) -> str:
        what = self.error or (f"HTTP {self.status}" if self.status else f"code {self.code}")
        return f"{what}: {self.detail}" if self.detail else what


@dataclass(frozen=True, slots=True)
class Again:
    """Come back after `given` seconds; `slot` says that nobody else comes back then."""

    given: float
    slot: bool = False


Next: TypeAlias = Literal["stop", "token"] | Again
"""What follows a loss: give up, come back with a new token, or come back after a delay."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long a client stays away after a failure.

    A random part of `base` seconds, which doubles with each failure in a row up to `cap` seconds.
    """

    base: float = 1.0
    cap: float = 30.0

    def __post_init__(self) -> None:
        if not 0 < self.base <= self.cap:
            raise ValueError(f"Backoff: 0 < base <= cap, not base={self.base!r}, cap={self.cap!r}")


def seconds(value: object) -> float | None:
    """A number of seconds from the server, if it is one; an hour at most."""
    if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0:
        return min(value, LONGEST)
    return None


def next_after(loss: Loss) -> Next:
    """Whether to come back after a loss, as the table of codes says."""
    code, status = loss.code, loss.status
    if code == codes.UNAUTHORIZED.code or status == codes.UNAUTHORIZED.status:
        return "token"
    usual = codes.USUAL_DELAYS.get(code, 0)
    server_failed = status is None or status >= codes.INTERNAL_ERROR.status or status in _PASSING
    if loss.for_good or usual is None or code in _FOR_GOOD or not server_failed:
        return "stop"
    if loss.retry_after is None:
        return Again(usual)
    return Again(loss.retry_after, slot=loss.error in _OWN_SLOTS)


def delay_after(again: Again, failures: int, random: float, backoff: Backoff) -> float:
    """Seconds until the next attempt.

    The server's delay, and full jitter: a random part of `base`, doubled with each failure. A slot
    that is this client's own gets no random part.

    Args:
        again: what the server asked for.
        failures: failures in a row before this one.
        random: from 0 to 1.
        backoff: base and cap.
    """
    jitter = max(FLOOR, random * min(backoff.cap, backoff.base * 2.0 ** min(failures, _DOUBLINGS)))
    if not again.slot:
        return again.given + jitter
    # A server that gives slots of no length must not be asked in a tight loop.
    if again.given >= backoff.base:
        return again.given
    return max(again.given, jitter if failures else FLOOR)


def loss_of_close(code: int, reason: str) -> Loss:
    """Read a close frame, the reason of which is JSON in our form, or any text."""
    said = _object(reason)
    if said is None:
        return Loss(code, detail=reason or None)
    return Loss(
        code,
        _text(said.get("error")),
        _text(said.get("detail")),
        seconds(said.get("retryAfter")),
        for_good="retryAfter" in said and said["retryAfter"] is None,
    )


def loss_of_refusal(status: int, headers: Mapping[str, str], body: bytes = b"") -> Loss:
    """Read a refusal by HTTP. Names of headers are in lower case, or their case does not count."""
    error = headers.get("x-rejection-reason")
    number = re.match(r"\s*\d+(\.\d+)?", headers.get("retry-after", ""))
    delay = seconds(float(number[0])) if number else None
    said = _object(body.decode(errors="replace")) or {}
    return Loss(
        error=error,
        detail=_text(said.get("detail")) or _text(said.get("message")),
        retry_after=delay,
        # Our own refusals without a delay mean: do not come back.
        for_good=error is not None and delay is None,
        status=status,
    )


def _object(text: str) -> dict[str, object] | None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
