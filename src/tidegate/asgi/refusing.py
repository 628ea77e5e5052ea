"""Refusals that Starlette and FastAPI send to the client by themselves when they are raised.

Both are `Refused`. Starlette's own handlers do the rest, and an application's own handler of
`HTTPException` is asked as for every other error.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from starlette.exceptions import HTTPException, WebSocketException

from tidegate.core.admission.attempt import Reject
from tidegate.core.codes import (
    INTERNAL_ERROR,
    POLICY,
    REASONS,
    Fault,
    close_text,
)
from tidegate.errors import Refused
from tidegate.wire.codecs import JSON_V1, NEUTRAL_V1

if TYPE_CHECKING:
    from starlette.websockets import WebSocket

    from tidegate.asgi.local import LocalGate
    from tidegate.asgi.types import Scope
    from tidegate.gate.decision import Wait

__all__ = [
    "RefusedBefore",
    "RefusedWhileOpen",
    "chosen",
    "close_reason",
    "headers_of",
    "refuse",
]

_OWN_CODES: Final = 3000  # where the codes of libraries and applications begin (RFC 6455 7.4.2)


class RefusedBefore(Refused, HTTPException):
    """A WebSocket that was not accepted yet is refused: the client gets an HTTP response."""

    headers: dict[str, str] = {}  # noqa: RUF012 - each has its own; this is in place of a property

    def __init__(self, refusal: Refused, more: Iterable[tuple[str, str]] = ()) -> None:
        _copy(refusal, self)
        self.status_code = refusal.status or INTERNAL_ERROR.status
        self.detail = refusal.message
        self.headers = {**refusal.headers, **dict(more)}


class RefusedWhileOpen(Refused, WebSocketException):
    """A WebSocket that is open is refused: it is closed, and the close frame has the reason.

    Of one that is not open yet, Starlette makes a bare 403.
    """

    def __init__(self, refusal: Refused) -> None:
        _copy(refusal, self)
        self.code = refusal.close_code or POLICY.code


async def refuse(
    websocket: WebSocket,
    refusal: Refused,
    more: Iterable[tuple[str, str]] = (),
    *,
    in_band: bool = True,
) -> Refused:
    """Return what to raise for a WebSocket that was not accepted yet.

    A client that offers a subprotocol in which it is told refusals is told once it is open. A
    server without HTTP responses (daphne) closes, which is a bare 403; it closes what is open with
    codes from 3000 on only, so a full room is told by its own.

    Args:
        more: header fields of the response, beside those of the refusal.
        in_band: whether subprotocols are looked at (`server.refuse`).
    """
    offered = websocket.scope.get("subprotocols") or ()
    subprotocol = next(
        (name for name in (JSON_V1, NEUTRAL_V1) if in_band and name in offered), None
    )
    denies = can_deny(websocket.scope)
    if denies and subprotocol is None:
        return RefusedBefore(refusal, more)
    if denies or (refusal.close_code or 0) >= _OWN_CODES:
        await websocket.accept(subprotocol)
    return RefusedWhileOpen(refusal)


def can_deny(scope: Scope) -> bool:
    """Whether the server can send an HTTP response in place of the 101."""
    return "websocket.http.response" in (scope.get("extensions") or {})


def chosen(scope: Scope, subprotocol: str | None) -> str | None:
    """Return the subprotocol to accept with: the application's, or `tidegate.v1` where offered.

    A page offers that one to be told refusals, and a browser wants one of those that it offered.
    """
    offered = scope.get("subprotocols") or ()
    return NEUTRAL_V1 if subprotocol is None and NEUTRAL_V1 in offered else subprotocol


def headers_of(gate: LocalGate, decision: Reject | Wait) -> list[tuple[str, str]]:
    """Return the header fields of a refusal by the gate, such as a ticket of the waiting room."""
    _, headers, _ = gate.response(decision)
    return [(name, value) for name, value in headers if name != "Content-Type"]


def close_reason(refusal: Refused) -> str:
    """Return the reason of a close frame for a refusal, in the form of all of ours."""
    reason = REASONS[refusal.reason]
    if isinstance(reason, Fault):
        return close_text(POLICY, refusal.retry_after, reason.message)
    return close_text(reason, refusal.retry_after)


def _copy(refusal: Refused, to: Refused) -> None:
    Refused.__init__(
        to,
        refusal.reason,
        refusal.message,
        retry_after=refusal.retry_after,
        status=refusal.status,
        close_code=refusal.close_code,
        limit=refusal.limit,
    )
