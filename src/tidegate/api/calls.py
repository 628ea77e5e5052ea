"""What `ServerApi` and `AsyncServerApi` can call; the lists are in `lists`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any, TypeVar
from uuid import uuid4

from msgspec import json

from tidegate.api import results
from tidegate.api.figures import NodesPage, Stats
from tidegate.api.results import (
    HistoryPage,
    Outcome,
    Position,
    Presence,
    Published,
)
from tidegate.api.values import Call, Message, body_of, get, into, query_of, scope

R = TypeVar("R")


def publish(room: str, data: object, *, key: str | None = None) -> Call[Published]:
    """Send a message to a room.

    Args:
        room: its name.
        data: anything that is JSON: also dataclasses, dates, msgspec's structs and `msgspec.Raw`.
        key: the `Idempotency-Key`, 1 to 255 characters: within five minutes the same message with
            the same key is published once. One is made for each call, for its own retries.
    """
    return _publish(Message(room=room, data=data), key)


def publish_to_user(user: str, data: object, *, key: str | None = None) -> Call[Published]:
    """Send a message to every connection of a user; the rest is as for `publish`."""
    return _publish(Message(user=user, data=data), key)


def publish_to_all(data: object, *, key: str | None = None) -> Call[Published]:
    """Send a message to every connection; the rest is as for `publish`."""
    return _publish(Message(all=True, data=data), key)


def publish_batch(messages: Iterable[Message], *, key: str | None = None) -> Call[list[Outcome]]:
    """Send up to 1,000 messages, 256 KiB in all, in order.

    Each is carried or refused by itself; `error` of its outcome says why it was not taken.
    """
    return Call(
        "POST",
        "/publish/batch",
        lambda body: json.decode(body, type=results.Outcomes).results,
        body=body_of({"messages": list(messages)}),
        key=_key(key),
        repeats=True,
    )


def join(
    room: str, *, user: str | None = None, connection: str | None = None
) -> Call[results.Moved]:
    """Put connections into a room, whatever its rule says: one by its id, or all of a user."""
    return _post("/rooms/join", results.Moved, {"room": room, "user": user, "id": connection})


def leave(
    room: str, *, user: str | None = None, connection: str | None = None
) -> Call[results.Moved]:
    """Take connections out of a room: one, all of a user, or all members."""
    return _post("/rooms/leave", results.Moved, {"room": room, "user": user, "id": connection})


def presence(room: str) -> Call[Presence]:
    """Tell who is in a room. `NotTaken` with the code "no_presence" where its rule shows nobody."""
    return get("/presence", Presence, room=room)


def history(room: str, *, limit: int = 100, since: Position | None = None) -> Call[HistoryPage]:
    """Read messages of a room: the last ones, or those after a position.

    `NotTaken` with the code "no_history" where the room's rule keeps none.

    Args:
        room: its name.
        limit: 1 to 1,000.
        since: `position` of the page before, or one that was kept from elsewhere.
    """
    epoch, offset = (None, None) if since is None else (since.epoch, since.offset)
    return get("/history", HistoryPage, room=room, limit=limit, epoch=epoch, offset=offset)


def ping(user: str, *, timeout: float = 2.0) -> Call[results.Latency]:
    """Measure the way to a user and back: `latency` is that of the connection that answers first.

    Args:
        user: its name.
        timeout: seconds to wait for the answer, at most 10.
    """
    body = body_of({"user": user, "timeout": timeout})
    parse = into(results.Latency)
    return Call("POST", "/ping", parse, body=body, repeats=True, seconds=timeout)


def disconnect(
    *,
    user: str | None = None,
    ip: str | None = None,
    room: str | None = None,
    connection: str | None = None,
    text: str = "",
    may_return: bool = False,
    code: int | None = None,
) -> Call[int]:
    """Close the connections to which all that is given applies; return how many they were.

    Args:
        user: whose they are.
        ip: where they come from: an address or a network.
        room: of which they are members.
        connection: the id of one.
        text: what the clients are told.
        may_return: whether clients may come back by themselves.
        code: a close code of your own, 3000 to 4999, or 1000. `text` is then the whole reason of
            the close frame; clients come back after 4000 to 4499, and not after 4500 to 4999.
    """
    return Call(
        "POST",
        "/disconnect",
        lambda body: json.decode(body, type=results.Disconnected).count,
        body=body_of(
            {
                "user": user,
                "ip": ip,
                "room": room,
                "id": connection,
                "detail": text or None,
                "mayReturn": may_return or None,
                "code": code,
            }
        ),
    )


def revoke(user: str, *, before: float | None = None) -> Call[results.Revoked]:
    """Refuse the tokens that a user has so far, and close its connections.

    Args:
        user: its name.
        before: Unix seconds; tokens that were issued earlier are refused. Now when None.
    """
    body = body_of({"user": user, "before": before})
    return Call("POST", "/revoke", into(results.Revoked), body=body, repeats=before is not None)


def explain(
    *,
    ip: str | None = None,
    user: str | None = None,
    tier: str | None = None,
    priority: int | None = None,
    origin: str | None = None,
    host: str | None = None,
) -> Call[results.Explanation]:
    """Tell what the gate would decide about an attempt now; nothing is taken.

    Args:
        ip: where it comes from; 127.0.0.1 when None.
        user: the user of its token; anonymous when None.
        tier: the tier of its token.
        priority: the priority of its token, 0 to 100.
        origin: where the page comes from, as in "https://app.example.com"; no page when None.
        host: the host that it asks for.
    """
    return get(
        "/explain",
        results.Explanation,
        ip=ip,
        user=user,
        tier=tier,
        priority=priority,
        origin=origin,
        host=host,
    )


def explain_room(
    room: str, *, user: str | None = None, claim: str | None = None
) -> Call[results.RoomExplanation]:
    """Tell what a client may do with a room, and which rule says so.

    Args:
        room: its name.
        user: who asks; a client without a token when None.
        claim: a pattern of the claim `rooms` of its token.
    """
    return get("/explain/room", results.RoomExplanation, room=room, user=user, claim=claim)


def refusals() -> Call[results.Refusals]:
    """List the last refused attempts, and why."""
    return get("/refusals", results.Refusals)


def settings() -> Call[results.SettingsView]:
    """Read all settings as they are in force."""
    return get("/settings", results.SettingsView)


def change_settings(
    changes: Mapping[str, Mapping[str, object]], *, fleet: bool = False
) -> Call[results.Applied]:
    """Change settings while the server runs, as in `{"limits": {"per_ip": 50}}`.

    They hold until the server ends; with `fleet`, all nodes change that run now. `InvalidRequest`
    where a name or a value is wrong; nothing has changed then.
    """
    body = body_of(changes)
    query = query_of(scope=scope(fleet))
    return Call("PATCH", "/settings", into(results.Applied), query, body=body, repeats=True)


def drain(*, window: float | None = None) -> Call[results.DrainProgress]:
    """Begin to drain the server, which then ends; a drain that is under way goes on.

    Args:
        window: seconds over which connections are closed; `drain.window` of the server when None.
    """
    query = query_of(window=window)
    return Call("POST", "/drain", into(results.DrainProgress), query, repeats=True)


def drain_progress() -> Call[results.DrainProgress]:
    """Tell how far the drain is."""
    return get("/drain", results.DrainProgress)


def rebalance(*, rate: float | None = None) -> Call[results.Rebalanced]:
    """Move connections from the fullest nodes to the others, at a rate a second; 0 ends it."""
    return Call("POST", "/rebalance", into(results.Rebalanced), query_of(rate=rate), repeats=True)


def rebalanced() -> Call[results.Rebalanced]:
    """Tell how far rebalancing is."""
    return get("/rebalance", results.Rebalanced)


def stats(*, fleet: bool = False) -> Call[Stats]:
    """Read the counters of the server, its workers included; with `fleet` of all nodes."""
    return get("/stats", Stats, scope=scope(fleet))


def nodes() -> Call[NodesPage]:
    """List the nodes of the fleet; a server without a backplane is the only one."""
    return get("/nodes", NodesPage)


def timeline(*, since: float = 0.0) -> Call[dict[str, Any]]:
    """Read what charts show: a moment a second of ten minutes, after `since` (Unix seconds)."""
    return get("/timeline", dict[str, Any], since=since)


def metrics() -> Call[str]:
    """Read the metrics, in the text format of Prometheus."""
    return Call("GET", "/metrics", lambda body: body.decode(errors="replace"), repeats=True)


def health() -> Call[results.Health]:
    """Tell that the process lives."""
    return get("/health", results.Health)


def ready() -> Call[results.Readiness]:
    """Tell whether the server should get new connections."""
    takes = (HTTPStatus.SERVICE_UNAVAILABLE,)
    return Call("GET", "/ready", into(results.Readiness), repeats=True, takes=takes)


def openapi() -> Call[dict[str, Any]]:
    """Read the description of the server API, as OpenAPI 3.1."""
    return get("/openapi.json", dict[str, Any])


def _publish(message: Message, key: str | None) -> Call[Published]:
    body = body_of(message)
    parse = into(Published)
    return Call("POST", "/publish", parse, body=body, key=_key(key), repeats=True)


def _key(given: str | None) -> str:
    return str(uuid4()) if given is None else given


def _post(path: str, kind: type[R], body: dict[str, object]) -> Call[R]:
    return Call("POST", path, into(kind), body=body_of(body))
