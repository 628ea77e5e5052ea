"""The admin API described as OpenAPI 3.1, from the types that its requests and answers have."""

from __future__ import annotations

from functools import cache
from typing import Annotated, Any, Final, NamedTuple

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType, json

from tidegate.node.control import (
    Applied,
    ConnectionsPage,
    ConnectionsQuery,
    Disconnected,
    DrainProgress,
    EffectiveSetting,
    ExplainQuery,
    ExplainRoomQuery,
    Explanation,
    FleetStats,
    HistoryRow,
    Moved,
    NodesPage,
    Ping,
    Pinged,
    PresenceQuery,
    PresenceRow,
    Publish,
    Published,
    Rebalanced,
    RefusedReason,
    RefusedRow,
    Revoked,
    RoomExplanation,
    RoomHistoryQuery,
    RoomsPage,
    RoomsQuery,
    UsersPage,
    UsersQuery,
)
from tidegate.server.bodies import (
    Disconnect,
    DrainQuery,
    RebalanceQuery,
    Revoke,
    RoomJoin,
    RoomLeave,
    SettingsQuery,
    StatsQuery,
    TimelineQuery,
)
from tidegate.server.idempotency import MAX_KEY
from tidegate.server.messages_api import MAX_BATCH

__all__ = ["CALLS", "Call", "document"]


class Error(Struct, frozen=True):
    """What is wrong, in words; `message` where `error` is the name of a reason.

    `field` is the part of the request that is wrong, such as "room" or "limits.per_ip".
    """

    error: str
    message: str | UnsetType = UNSET
    field: str | UnsetType = UNSET


class Refusals(Struct, frozen=True):
    """The last refused attempts, the newest first, and all of them by reason."""

    refusals: list[RefusedRow]
    reasons: dict[str, RefusedReason]


class Settings(Struct, frozen=True):
    """All settings as they are in force, and where each came from. Secrets are masked."""

    settings: dict[str, EffectiveSetting]
    sources: dict[str, str]


class Messages(Struct, frozen=True):
    """Several messages; each is carried or refused by itself, in this order."""

    messages: Annotated[list[Publish], Meta(max_length=MAX_BATCH)]


class Result(Struct, frozen=True):
    """What became of one message: as alone, or `error` and `message` where it was not taken."""

    delivered: int | UnsetType = UNSET
    members: int | UnsetType = UNSET
    epoch: str | UnsetType = UNSET
    offset: int | UnsetType = UNSET
    error: str | UnsetType = UNSET
    message: str | UnsetType = UNSET
    field: str | UnsetType = UNSET


class Results(Struct, frozen=True):
    """What became of each message, in their order."""

    results: list[Result]


class Call(NamedTuple):
    """One path and method."""

    method: str
    path: str
    summary: str
    result: Any = None
    """The type of the answer; None for any JSON or text."""
    query: type[Struct] | None = None
    body: Any = None
    status: int = 200
    repeats: bool = False
    """Whether it takes an `Idempotency-Key`."""
    open: bool = False
    """Whether it needs no token."""
    text: str = ""
    """The media type of an answer that is no JSON."""


CALLS: Final = (
    Call("POST", "/publish", "Send a message to a room, a user or everybody", Published)._replace(
        body=Publish, repeats=True
    ),
    Call("POST", "/publish/batch", "Send several messages", Results)._replace(
        body=Messages, repeats=True
    ),
    Call("GET", "/rooms", "List rooms", RoomsPage, RoomsQuery),
    Call("POST", "/rooms/join", "Put connections into a room", Moved, None, RoomJoin),
    Call("POST", "/rooms/leave", "Take connections out of a room", Moved, None, RoomLeave),
    Call("GET", "/presence", "Who is in a room", PresenceRow, PresenceQuery),
    Call("GET", "/history", "The last messages of a room", HistoryRow, RoomHistoryQuery),
    Call("GET", "/users", "List users", UsersPage, UsersQuery),
    Call("POST", "/ping", "How long the way to a user and back takes", Pinged, None, Ping),
    Call("GET", "/connections", "List connections", ConnectionsPage, ConnectionsQuery),
    Call("POST", "/disconnect", "Close connections", Disconnected, None, Disconnect),
    Call(
        "POST", "/revoke", "Refuse the tokens of a user, and close its connections", Revoked
    )._replace(body=Revoke),
    Call("GET", "/explain", "What the gate would decide about an attempt", Explanation)._replace(
        query=ExplainQuery
    ),
    Call("GET", "/explain/room", "What a client may do with a room", RoomExplanation)._replace(
        query=ExplainRoomQuery
    ),
    Call("GET", "/refusals", "The last refused attempts, and why", Refusals),
    Call("GET", "/settings", "All settings", Settings),
    Call("PATCH", "/settings", "Change settings", Applied, SettingsQuery)._replace(
        body=dict[str, dict[str, Any]]
    ),
    Call("POST", "/drain", "Close all connections over a window, and stop", DrainProgress)._replace(
        query=DrainQuery, status=202
    ),
    Call("GET", "/drain", "How far the drain is"),
    Call("POST", "/rebalance", "Move connections to nodes that have fewer", Rebalanced)._replace(
        query=RebalanceQuery, status=202
    ),
    Call("GET", "/rebalance", "How far that is", Rebalanced),
    Call("GET", "/stats", "Counters", FleetStats, StatsQuery),
    Call("GET", "/nodes", "The nodes of the fleet", NodesPage),
    Call("GET", "/timeline", "What the charts of the dashboard show", None, TimelineQuery),
    Call("GET", "/metrics", "Metrics for Prometheus", text="text/plain"),
    Call("GET", "/health", "Whether the process lives", open=True),
    Call("GET", "/ready", "Whether it should get new connections", open=True),
    Call("GET", "/openapi.json", "This document"),
)


@cache
def document(version: str) -> bytes:
    """Return the document as JSON, for a version of Tidegate."""
    types = [Error]
    for call in CALLS:
        types += [one for one in (call.result, call.body) if one is not None]
    schemas, components = msgspec.json.schema_components(
        types, ref_template="#/components/schemas/{name}"
    )
    for name, fields in _ONE_AT_LEAST.items():
        components[name]["anyOf"] = [_given(field) for field in fields]
    components["Publish"]["oneOf"] = [_given("room"), _given("user"), _given("all", const=True)]
    known = dict(zip(map(repr, types), schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for call in CALLS:
        paths.setdefault(call.path, {})[call.method.lower()] = _operation(call, known)
    return json.encode(
        {
            "openapi": "3.1.0",
            "info": {
                "title": "Tidegate: server API",
                "version": version,
                "description": "The admin listener of a Tidegate server.",
            },
            "security": [{"token": []}],
            "paths": paths,
            "components": {
                "schemas": components,
                "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            },
        }
    )


def _operation(call: Call, known: dict[str, Any]) -> dict[str, Any]:
    schema = {} if call.result is None else known[repr(call.result)]
    media = call.text or "application/json"
    operation: dict[str, Any] = {
        "summary": call.summary,
        "operationId": f"{call.method.lower()}{call.path.title().translate(_NO_SIGNS)}",
        "responses": {
            str(call.status): {"description": "Done", "content": {media: {"schema": schema}}},
            "default": {
                "description": "Not done: why",
                "content": {"application/json": {"schema": known[repr(Error)]}},
            },
        },
    }
    parameters = [] if call.query is None else list(_parameters(call.query))
    if call.repeats:
        parameters.append(
            {
                "name": "Idempotency-Key",
                "in": "header",
                "description": "A request with the same key and body within five minutes is "
                "answered as the first, and done once.",
                "schema": {"type": "string", "minLength": 1, "maxLength": MAX_KEY},
            }
        )
    if parameters:
        operation["parameters"] = parameters
    if call.body is not None:
        content = {"application/json": {"schema": known[repr(call.body)]}}
        operation["requestBody"] = {"required": True, "content": content}
    if call.open:
        operation["security"] = []
    return operation


def _parameters(query: type[Struct]) -> Any:
    for field in msgspec.structs.fields(query):
        (schema,), _ = msgspec.json.schema_components(
            [field.type], ref_template="#/components/schemas/{name}"
        )
        if not field.required and field.default is not None:
            schema = {**schema, "default": field.default}
        yield {
            "name": field.encode_name,
            "in": "query",
            "required": field.required,
            "schema": schema,
        }


def _given(field: str, **kind: object) -> dict[str, Any]:
    """Return the schema of an object that has a field, which is not null."""
    return {"required": [field], "properties": {field: kind or {"type": "string"}}}


_ONE_AT_LEAST: Final = {"Disconnect": ("id", "user", "ip", "room"), "RoomJoin": ("id", "user")}
"""Bodies that need one of several fields."""

_NO_SIGNS: Final = str.maketrans("", "", "/._")
