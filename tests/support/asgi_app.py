"""An ASGI application that does what its paths say, and records what happens to it.

`GET /record` returns the record as JSON: how often the application was called, what it caught, how
it ended. The record is of the process.
"""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

__all__ = ["app"]

_record: dict[str, Any] = {"called": 0, "caught": [], "ended": [], "lifespan": []}
_may_read = asyncio.Event()


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        await _lifespan(scope, receive, send)
    elif scope["type"] == "http":
        await _http(scope, receive, send)
    else:
        _record["called"] += 1
        name = scope["path"].split("/")[1]
        try:
            await _WEBSOCKETS[name](scope, receive, send)
        except BaseException as error:
            _record["caught"].append(f"{name}: {type(error).__name__}")
            raise
        finally:
            _record["ended"].append(name)


async def _lifespan(scope: Any, receive: Any, send: Any) -> None:
    scope.get("state", {})["answer"] = 42  # not all servers have it
    while True:
        kind = (await receive())["type"]
        _record["lifespan"].append(kind)
        await send({"type": f"{kind}.complete"})
        if kind == "lifespan.shutdown":
            print("the application has shut down", _record["caught"], flush=True)
            return


async def _http(scope: Any, receive: Any, send: Any) -> None:
    body = b""
    while True:
        event = await receive()
        body += event.get("body", b"")
        if not event.get("more_body"):
            break
    path = scope["path"]
    if path == "/record":
        answer = json.dumps(_record).encode()
    elif path == "/read":
        _may_read.set()
        answer = b"null"
    elif path == "/scope":
        answer = _shown(scope)
    else:
        answer = b"hello" if not body else str(len(body)).encode()
    headers = [(b"content-type", b"application/json"), (b"x-path", scope.get("raw_path") or b"")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": answer})


def _shown(scope: Any) -> bytes:
    """The scope as JSON: bytes as text, the rest as it is."""
    return json.dumps(scope, default=_readable).encode()


def _readable(value: Any) -> Any:
    return value.decode("latin-1") if isinstance(value, bytes) else repr(value)


async def _accepted(receive: Any, send: Any, **more: Any) -> None:
    assert (await receive())["type"] == "websocket.connect"
    await send({"type": "websocket.accept", **more})


async def _scope(scope: Any, receive: Any, send: Any) -> None:
    await _accepted(receive, send)
    await send({"type": "websocket.send", "text": _shown(scope).decode()})
    await receive()


async def _echo(_: Any, receive: Any, send: Any) -> None:
    await _accepted(receive, send)
    while (event := await receive())["type"] == "websocket.receive":
        await send({**event, "type": "websocket.send"})
    _record["caught"].append(f"disconnect {event['code']} {event.get('reason')}")


async def _chosen(scope: Any, receive: Any, send: Any) -> None:
    headers = [(b"x-one", b"1"), (b"x-two", b"2")]
    await _accepted(receive, send, subprotocol=scope["subprotocols"][-1], headers=headers)
    await receive()


async def _denied(_: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.close"})


async def _response(_: Any, receive: Any, send: Any) -> None:
    await receive()
    headers = [(b"content-type", b"text/plain"), (b"retry-after", b"7")]
    await send({"type": "websocket.http.response.start", "status": 418, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": b"I am ", "more_body": True})
    await send({"type": "websocket.http.response.body", "body": b"a teapot"})


async def _raises(_: Any, receive: Any, send: Any) -> None:
    raise ValueError("before the accept")


async def _raises_later(_: Any, receive: Any, send: Any) -> None:
    await _accepted(receive, send)
    await receive()
    raise ValueError("after the accept")


async def _returns(_: Any, receive: Any, send: Any) -> None:
    await _accepted(receive, send)


async def _returns_early(_: Any, receive: Any, send: Any) -> None:
    await receive()


async def _closes(_: Any, receive: Any, send: Any) -> None:
    await _accepted(receive, send)
    await receive()
    await send({"type": "websocket.close", "code": 4321, "reason": "enough"})
    event = await receive()
    _record["caught"].append(f"after its close: {event['type']}")


async def _reads_late(_: Any, receive: Any, send: Any) -> None:
    await _accepted(receive, send)
    await _may_read.wait()
    total = count = 0
    while (event := await receive())["type"] == "websocket.receive":
        if event.get("text") == "end":
            await send({"type": "websocket.send", "text": f"{count} {total}"})
            continue
        assert int(event["bytes"][:8]) == count
        count += 1
        total += len(event["bytes"])


async def _floods(_: Any, receive: Any, send: Any) -> None:
    await _accepted(receive, send)
    for number in range(200):
        await send({"type": "websocket.send", "bytes": b"%08d" % number + bytes(65536)})
        _record["flooded"] = number + 1
    await receive()


async def _floods_by_two(_: Any, receive: Any, send: Any) -> None:
    async def flood() -> None:
        for _number in range(50):
            await send({"type": "websocket.send", "bytes": bytes(65536)})

    await _accepted(receive, send)
    await asyncio.gather(flood(), flood())
    await send({"type": "websocket.send", "text": "both are done"})
    await receive()


async def _sends_on(_: Any, receive: Any, send: Any) -> None:
    await _accepted(receive, send)
    for _number in range(500):
        await send({"type": "websocket.send", "text": "on"})
        await asyncio.sleep(0.02)


async def _never_returns(_: Any, receive: Any, send: Any) -> None:
    await _accepted(receive, send)
    await asyncio.sleep(3600)


async def _slow_to_accept(_: Any, receive: Any, send: Any) -> None:
    await receive()
    event = await receive()  # nothing but the disconnect can come
    _record["caught"].append(f"before the accept: {event['type']} {event['code']}")
    await send({"type": "websocket.accept"})


async def _wrong(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    event = json.loads(base64.b64decode(scope["path"].split("/")[2]))
    await send(event)


_WEBSOCKETS = {
    "scope": _scope,
    "echo": _echo,
    "chosen": _chosen,
    "denied": _denied,
    "response": _response,
    "raises": _raises,
    "raises_later": _raises_later,
    "returns": _returns,
    "returns_early": _returns_early,
    "closes": _closes,
    "reads_late": _reads_late,
    "floods": _floods,
    "floods_by_two": _floods_by_two,
    "sends_on": _sends_on,
    "never_returns": _never_returns,
    "slow_to_accept": _slow_to_accept,
    "wrong": _wrong,
}
