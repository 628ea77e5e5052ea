"""The server API of a running server: publishing, reading, and what schemathesis makes of it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import Start
from tests.support.process import Process
from tests.support.raw import PING, PONG, TEXT, Raw
from tests.support.tokens import SECRET, bearer

TOKEN = "a-token-of-the-operator"
NATIVE = ("Sec-WebSocket-Protocol", "tidegate.v1.json")
CHECKS = "not_a_server_error,response_schema_conformance,content_type_conformance"
SETTINGS: dict[str, Any] = {
    "auth": {"secret": SECRET},
    "admin": {"token": TOKEN},
    "rooms": {"rules": [{"pattern": "chat", "history_size": 10, "presence": "members"}]},
}


@pytest.fixture
def server(serve: Start) -> Process:
    return serve(SETTINGS)


@pytest.fixture
def api(server: Process) -> Iterator[httpx.Client]:
    base = f"http://127.0.0.1:{server.admin_port}"
    with httpx.Client(base_url=base, headers={"Authorization": f"Bearer {TOKEN}"}) as client:
        yield client


def member(server: Process, room: str, user: str = "ann") -> Raw:
    raw = server.connect().open(headers=[NATIVE, bearer(user)])
    assert json.loads(raw.message())["type"] == "connected"
    raw.send_frame(TEXT, json.dumps({"type": "join", "room": room, "id": 1}))
    assert json.loads(raw.message())["type"] == "ack"
    return raw


def heard(raw: Raw) -> dict[str, Any]:
    message: dict[str, Any] = json.loads(raw.message())
    return message


def test_publish_reaches_a_room_a_user_and_everybody(server: Process, api: httpx.Client) -> None:
    with member(server, "lobby") as ann, member(server, "chat", "bob") as bob:
        done = api.post("/publish", json={"room": "lobby", "data": {"n": 1}})
        assert (done.status_code, done.json()) == (200, {"members": 1})
        assert heard(ann) == {
            "type": "room_message",
            "room": "lobby",
            "data": {"n": 1},
            "from": None,
            "connectionId": None,
        }
        done = api.post("/publish", json={"room": "chat", "data": [2]})
        assert done.json()["offset"] == 1
        assert heard(bob)["offset"] == 1
        assert api.post("/publish", json={"user": "ann", "data": 3}).json() == {"delivered": 1}
        assert heard(ann)["type"] == "direct_message"
        assert api.post("/publish", json={"all": True, "data": "x"}).json() == {"delivered": 2}
        assert [heard(raw) for raw in (ann, bob)] == [
            {"type": "broadcast", "data": "x", "from": None}
        ] * 2
        assert api.post("/publish", json={"user": "cat", "data": 3}).json() == {"delivered": 0}


def test_a_batch_is_carried_in_order_and_each_by_itself(server: Process, api: httpx.Client) -> None:
    with member(server, "chat") as ann:
        messages: list[Any] = [{"room": "chat", "data": number} for number in range(20)]
        messages.insert(3, {"room": "", "data": 1})
        messages.insert(5, {"data": 1})
        results = api.post("/publish/batch", json={"messages": messages}).json()["results"]
        assert [one.get("offset") for one in results if "error" not in one] == list(range(1, 21))
        assert [index for index, one in enumerate(results) if "error" in one] == [3, 5]
        assert results[3]["message"].startswith("messages[3]: Expected `str` of length >= 1")
        assert (results[3]["field"], results[5]["message"][:12]) == ("room", "messages[5]:")
        assert [heard(ann)["data"] for _ in range(20)] == list(range(20))


def test_a_publish_that_comes_again_is_done_once(server: Process, api: httpx.Client) -> None:
    with member(server, "chat") as ann:
        key = {"Idempotency-Key": "order-17"}
        body = {"room": "chat", "data": "once"}
        first = api.post("/publish", json=body, headers=key)
        again = api.post("/publish", json=body, headers=key)
        assert first.json() == again.json()
        assert "idempotency-replayed" not in first.headers
        assert again.headers["idempotency-replayed"] == "true"
        other = api.post("/publish", json={**body, "data": "other"}, headers=key)
        assert other.status_code == 422
        api.post("/publish", json={"room": "chat", "data": "end"})
        assert [heard(ann)["data"] for _ in range(2)] == ["once", "end"]


def test_rooms_presence_history_and_users_are_shown(server: Process, api: httpx.Client) -> None:
    with member(server, "chat", "bob"), member(server, "chat", "ann"), member(server, "x", "ann"):
        for number in range(3):
            api.post("/publish", json={"room": "chat", "data": {"n": number}})
        page = api.get("/history", params={"room": "chat", "limit": 2}).json()
        assert [one["data"] for one in page["messages"]] == [{"n": 1}, {"n": 2}]
        since = {"room": "chat", "epoch": page["epoch"], "offset": 0, "limit": 2}
        page = api.get("/history", params=since).json()
        for half in ("epoch", "offset"):
            wrong = api.get("/history", params={"room": "chat", half: since[half]})
            assert (wrong.status_code, wrong.json()["field"]) == (
                400,
                "offset" if half == "epoch" else "epoch",
            )
        assert [one["offset"] for one in page["messages"]] == [1, 2]
        assert page["recovered"] is True
        present = api.get("/presence", params={"room": "chat"}).json()
        assert sorted(one["user"] for one in present["users"]) == ["ann", "bob"]
        users = api.get("/users", params={"limit": 1}).json()
        assert users == {"users": [{"user": "ann", "connections": 2}], "total": 2, "next": "ann"}
        users = api.get("/users", params={"after": "ann"}).json()
        assert [one["user"] for one in users["users"]] == ["bob"]
        assert api.get("/presence", params={"room": "x"}).json()["error"] == "no_presence"
        assert api.get("/history", params={"room": "x"}).status_code == 409


def test_a_user_is_pinged(server: Process, api: httpx.Client) -> None:
    with member(server, "chat") as ann, ThreadPoolExecutor(1) as pool:
        asked = pool.submit(api.post, "/ping", json={"user": "ann", "timeout": 10})
        frame = ann.frame()
        assert frame.opcode == PING
        ann.send_frame(PONG, frame.payload)
        answer = asked.result().json()
        assert answer["connections"] == 1
        assert 0 <= answer["latency"] < 10
        silent = api.post("/ping", json={"user": "ann", "timeout": 0.1}).json()
        assert silent == {"user": "ann", "connections": 1, "latency": None}
    nobody = api.post("/ping", json={"user": "cat"}).json()
    assert nobody == {"user": "cat", "connections": 0, "latency": None}
    wrong = api.post("/ping", json={"user": "ann", "timeout": 11})
    assert wrong.status_code == 400
    assert "timeout" in wrong.json()["error"]


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ({"data": 1}, "give one of room, user and all"),
        ({"room": "a", "user": "b", "data": 1}, "give one of room, user and all"),
        ({"room": "a"}, "data"),
        ({"room": "", "data": 1}, "$.room"),
        ({"room": "a\n", "data": 1}, "$.room"),
        ({"room": "a", "data": 1, "rom": 2}, "rom"),
        ([], "object"),
    ],
)
def test_a_wrong_publish_is_answered_with_what_is_wrong(
    api: httpx.Client, body: Any, problem: str
) -> None:
    answer = api.post("/publish", json=body)
    assert answer.status_code == 400
    assert problem in answer.json()["error"]


def test_a_publish_has_bounds(api: httpx.Client) -> None:
    assert api.post("/publish", json={"room": "a", "data": "x" * 300_000}).status_code == 413
    deep = '{"room":"a","data":' + "[" * 100_000 + "]" * 100_000 + "}"
    answer = api.post("/publish", content=deep, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400
    assert api.post("/publish", content=b"{}").status_code == 415
    assert api.get("/publish").status_code == 405
    key = {"Idempotency-Key": "x" * 300}
    assert api.post("/publish", json={"room": "a", "data": 1}, headers=key).status_code == 400


def test_without_the_token_there_is_only_401(server: Process, api: httpx.Client) -> None:
    document = api.get("/openapi.json").json()
    with httpx.Client(base_url=api.base_url) as stranger:
        for path, operations in document["paths"].items():
            for method, operation in operations.items():
                status = stranger.request(method.upper(), path).status_code
                assert status in ((200,) if operation.get("security") == [] else (401,)), path


def test_schemathesis_finds_no_failure_of_the_server(
    server: Process, api: httpx.Client, tmp_path: Path
) -> None:
    document = api.get("/openapi.json").json()
    del document["paths"]["/drain"]  # it would end the server
    schema = tmp_path / "openapi.json"
    schema.write_text(json.dumps(document))
    began = time.monotonic()
    people = [member(server, room, user) for room, user in (("chat", "ann"), ("0", "0"))]
    done = subprocess.run(
        [
            str(Path(sys.executable).with_name("schemathesis")),
            *("run", str(schema), "--url", str(api.base_url)),
            *("--header", f"Authorization: Bearer {TOKEN}"),
            *("--checks", CHECKS, "--max-examples", "15"),
            *("--phases", "examples,coverage,fuzzing", "--seed", "1"),
            *("--request-timeout", "20"),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-5000:]
    assert server.process.poll() is None
    assert time.monotonic() - began < 240
    for raw in people:
        raw.close()
