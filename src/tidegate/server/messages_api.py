"""The part of the admin API that is about messages, rooms and users."""

from __future__ import annotations

from http import HTTPStatus
from time import monotonic
from typing import TYPE_CHECKING, Annotated, Any, Final

from msgspec import Meta, Raw, Struct, json
from starlette.exceptions import HTTPException
from starlette.responses import Response

from tidegate.core.codes import Fault
from tidegate.node.control import (
    Ping,
    PresenceQuery,
    Publish,
    RoomHistoryQuery,
    Selector,
    UsersQuery,
)
from tidegate.server.bodies import RoomJoin, RoomLeave
from tidegate.server.idempotency import MAX_KEY, Answers, Conflict
from tidegate.server.requests import decode_body, field_of, read_body, read_query, receive_body

if TYPE_CHECKING:
    from starlette.requests import Request

    from tidegate.node.control import Control

__all__ = ["MAX_BATCH", "MAX_PUBLISH", "Batch", "MessagesApi"]

MAX_PUBLISH: Final = 256 * 1024
"""The largest body of a publish, in bytes."""
MAX_BATCH: Final = 1000
"""The most messages of one request."""


class Batch(Struct, forbid_unknown_fields=True):
    """Several messages; each is carried or refused by itself, in this order."""

    messages: Annotated[list[Raw], Meta(max_length=MAX_BATCH)]


class MessagesApi:
    """What each path does."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self._answers = Answers()

    async def publish(self, request: Request) -> Response:
        """Carry one message."""
        key, body, before = await self._again(request)
        if before is not None:
            return before
        done = await self._control.publish(decode_body(body, Publish))
        status, answer = _outcome(done)
        return self._first(key, body, status, answer, done)

    async def join(self, request: Request) -> Response:
        """Put connections into a room."""
        body = await read_body(request, RoomJoin)
        selector = Selector(id=body.id, user=body.user)
        return _json(await self._control.join(selector, body.room))

    async def leave(self, request: Request) -> Response:
        """Take connections out of a room."""
        body = await read_body(request, RoomLeave)
        some = body.id is not None or body.user is not None
        selector = Selector(id=body.id, user=body.user) if some else None
        return _json(await self._control.leave(body.room, selector))

    async def batch(self, request: Request) -> Response:
        """Carry several messages."""
        key, body, before = await self._again(request)
        if before is not None:
            return before
        results: list[Any] = []
        for number, raw in enumerate(decode_body(body, Batch).messages):
            try:
                message = decode_body(bytes(raw), Publish, f"messages[{number}]")
            except HTTPException as error:
                problem = {"error": "invalid_field", "message": error.detail}
                field = field_of(error.detail)
                results.append(problem if field is None else {**problem, "field": field})
                continue
            results.append(_outcome(await self._control.publish(message))[1])
        return self._first(key, body, HTTPStatus.OK, {"results": results}, None)

    async def presence(self, request: Request) -> Response:
        """Tell who is in a room."""
        query = read_query(request.query_params, PresenceQuery)
        return _answer(await self._control.presence(query))

    async def history(self, request: Request) -> Response:
        """Tell what was said in a room."""
        query = read_query(request.query_params, RoomHistoryQuery)
        return _answer(await self._control.history(query))

    async def users(self, request: Request) -> Response:
        """Tell who has a connection."""
        return _json(await self._control.users(read_query(request.query_params, UsersQuery)))

    async def ping(self, request: Request) -> Response:
        """Measure the way to a user and back."""
        return _json(await self._control.ping_user(await read_body(request, Ping)))

    async def _again(self, request: Request) -> tuple[str, bytes, Response | None]:
        """The key and the body of a request, and the answer if it was answered before."""
        key = request.headers.get("idempotency-key", "")
        if len(key) > MAX_KEY or not key.isprintable():
            raise HTTPException(
                HTTPStatus.BAD_REQUEST,
                f"Idempotency-Key: must have 1 to {MAX_KEY} characters, none of control",
            )
        body = await receive_body(request, MAX_PUBLISH)
        key = key and f"{request.url.path} {key}"
        if not key:
            return key, body, None
        try:
            found = self._answers.find(key, body, monotonic())
        except Conflict:
            raise HTTPException(
                HTTPStatus.UNPROCESSABLE_ENTITY,
                "Idempotency-Key: it was used for another request within five minutes",
            ) from None
        if found is None:
            return key, body, None
        status, answer = found
        headers = {"Idempotency-Replayed": "true"}
        return key, body, Response(answer, status, headers, media_type="application/json")

    def _first(self, key: str, body: bytes, status: int, answer: object, done: object) -> Response:
        encoded = json.encode(answer)
        # What was not taken may be asked for again with the same key.
        if key and not isinstance(done, Fault):
            self._answers.keep(key, body, status, encoded, monotonic())
        headers = _retry(done) if isinstance(done, Fault) else {}
        return Response(encoded, status, headers, media_type="application/json")


def _outcome(done: object) -> tuple[int, object]:
    if not isinstance(done, Fault):
        return HTTPStatus.OK, done
    status = HTTPStatus.CONFLICT if done.retry_after is None else HTTPStatus.SERVICE_UNAVAILABLE
    return status, {"error": done.name, "message": done.message}


def _answer(done: object) -> Response:
    status, answer = _outcome(done)
    headers = _retry(done) if isinstance(done, Fault) else {}
    return Response(json.encode(answer), status, headers, media_type="application/json")


def _retry(fault: Fault) -> dict[str, str]:
    return {} if fault.retry_after is None else {"Retry-After": str(fault.retry_after)}


def _json(value: object) -> Response:
    return Response(json.encode(value), media_type="application/json")
