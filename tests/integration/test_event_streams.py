"""The fallback, between real sockets: a stream of events, and messages by POST."""

from __future__ import annotations

import json
import signal
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Start
from tests.support.certificates import make_certificate
from tests.support.events import Answer, Events, ask
from tests.support.net import wait_until
from tests.support.process import Process
from tests.support.raw import TEXT
from tests.support.tokens import SECRET, token

NATIVE = ("Sec-WebSocket-Protocol", "tidegate.v1.json")
SETTINGS: dict[str, Any] = {
    "server": {"sse": "/sse", "origins": ["https://app.example"]},
    "auth": {"secret": SECRET},
    "limits": {"per_ip": 1000, "http_per_ip": 1000},
    "pacing": {"enabled": False},
    "messages": {"max_size": 1000},
}
WITH_SESSIONS = {**SETTINGS, "sessions": {"enabled": True, "ttl": 60}}


@pytest.fixture(scope="module")
def server(shared_serve: Start) -> Process:
    return shared_serve(SETTINGS)


@pytest.fixture(scope="module")
def sessions(shared_serve: Start) -> Process:
    return shared_serve(WITH_SESSIONS)


def bearer(user: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token(user)}"}


def welcomed(server: Process, headers: dict[str, str] | None = None, **options: Any) -> Events:
    """A stream that was welcomed."""
    stream = Events(server.port, headers, **options)
    assert stream.next()["type"] == "connected"
    return stream


def streams(server: Process) -> int:
    return int(server.metrics()["websocket_event_streams"])


# A stream.


def test_a_stream_begins_with_its_key_and_the_welcome(sessions: Process) -> None:
    with Events(sessions.port, bearer("ann")) as stream:
        assert stream.head["content-type"] == "text/event-stream"
        assert stream.head["cache-control"] == "no-store, no-transform"
        assert stream.head["x-accel-buffering"] == "no"
        assert "content-encoding" not in stream.head
        assert stream.opened.retry is not None
        assert 1000 <= stream.opened.retry <= 5000
        event = stream.next_event()
        assert event.data["type"] == "connected"
        assert event.data["userId"] == "ann"
        assert event.id == event.data["session"] + ".0"
        assert stream.key not in sessions.log


def test_a_stream_is_a_connection_like_any_other(server: Process) -> None:
    before = server.open()
    with welcomed(server, bearer("ann")) as stream:
        assert stream.ask("join", room="rows") == {"type": "ack", "members": 1}
        assert server.open() == before + 1
        assert streams(server) >= 1
        (row,) = server.connections("room=rows")
        assert (row["transport"], row["user"], row["rooms"]) == ("sse", "ann", ["rows"])
        with server.connect() as raw:
            raw.open(headers=[NATIVE])
            assert "websocket" in {each["transport"] for each in server.connections()}
    wait_until(lambda: server.open() == before)


def test_a_websocket_and_a_stream_chat_in_one_room(server: Process) -> None:
    with welcomed(server, bearer("ann")) as stream, server.connect() as raw:
        raw.open(headers=[NATIVE])
        assert json.loads(raw.message())["type"] == "connected"
        stream.ask("join", room="mixed")
        raw.send_frame(TEXT, json.dumps({"type": "join", "room": "mixed"}).encode())
        wait_until(lambda: len(server.connections("room=mixed")) == 2)
        raw.send_frame(
            TEXT, b'{"type":"room_message",\n"room":"mixed",\r\n"data":{"text":\n"from one"}}'
        )
        heard = stream.next("room_message")
        assert heard["data"] == {"text": "from one"}
        stream.say("room_message", room="mixed", data="from the other")
        texts = [json.loads(raw.message()) for _ in range(2)]
        assert [one["data"] for one in texts] == [{"text": "from one"}, "from the other"]
        assert texts[1]["from"] == "ann"


def test_several_messages_in_one_post_are_handled_in_order(server: Process) -> None:
    with welcomed(server) as stream:
        answer = stream.post(
            {"type": "join", "room": "batch", "id": 1},
            *[{"type": "room_message", "room": "batch", "data": n, "id": n} for n in range(2, 30)],
            {"type": "nonsense", "id": 30},
        )
        assert answer.status == 204
        came = [stream.next() for _ in range(30 + 28)]
        assert [one["id"] for one in came if one["type"] in ("ack", "error")] == [*range(1, 31)]
        assert [one["data"] for one in came if one["type"] == "room_message"] == [*range(2, 30)]


def test_presence_direct_messages_and_history_work_on_a_stream(serve: Start) -> None:
    rules = [{"pattern": "*", "presence": "members", "history_size": 10}]
    server = serve({**WITH_SESSIONS, "rooms": {"rules": rules}})
    with welcomed(server, bearer("ann")) as ann, welcomed(server, bearer("bob")) as bob:
        ann.ask("join", room="r", presence=True)
        assert ann.next("presence_state")["count"] == 1
        bob.ask("join", room="r")
        assert [user["user"] for user in ann.next("user_joined")["users"]] == ["bob"]
        ann.say("direct_message", user="bob", data="psst")
        direct = bob.next("direct_message")
        assert (direct["data"], direct["from"]) == ("psst", "ann")
        assert bob.events[-1].id.endswith(".1")
        ann.say("room_message", room="r", data="kept")
        assert bob.next("room_message")["offset"] == 1
        bob.say("history", room="r", limit=5)
        assert [one["data"] for one in bob.next("history_page")["messages"]] == ["kept"]
        bob.close()
        assert ann.next("room_message")["data"] == "kept"


def test_a_kick_ends_a_stream_with_its_reason(server: Process) -> None:
    with welcomed(server, bearer("kicked")) as stream:
        status, body = _post_admin(server, "/disconnect", {"user": "kicked"})
        assert (status, body["count"]) == (200, 1)
        code, reason = stream.closed()
        assert (code, reason) == (4500, {"error": "kicked", "retryAfter": None})


def _post_admin(server: Process, path: str, body: dict[str, Any]) -> tuple[int, Any]:
    answer = ask(
        server.admin_port,
        headers={"Content-Type": "application/json", "Connection": "close"},
        body=json.dumps(body).encode(),
        path=path,
    )
    return answer.status, answer.body


def test_the_client_that_left_is_noticed_in_every_phase(server: Process) -> None:
    before = server.open()
    for end in (Events.close, Events.vanish):
        end(Events(server.port))
        stream = welcomed(server)
        end(stream)
        stream = welcomed(server)
        stream.ask("join", room="phases")
        end(stream)
    half = socket.create_connection(("127.0.0.1", server.port))
    half.sendall(b"GET /sse HTTP/1.1\r\nHost: loc")
    half.close()
    wait_until(lambda: server.open() == before and streams(server) == 0)


def test_bytes_on_the_stream_end_it(server: Process) -> None:
    with welcomed(server) as stream:
        stream.sock.sendall(b"\x81\x85\x00\x00\x00\x00hello")
        code, reason = stream.closed()
        assert (code, reason["error"]) == (1002, "protocol_error")


def test_a_stream_over_tls(serve: Start, tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path)
    server = serve({**SETTINGS, "tls": {"certificate": str(certificate), "key": str(key)}})
    with welcomed(server, bearer("ann"), tls=True) as stream:
        for number in range(20):
            assert stream.ask("join", room=f"r{number}")["type"] == "ack"


# What is posted.


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (b"", "there is no message in the body"),
        (b"[]", "there is no message in the body"),
        (b"{", "The body is not valid JSON"),
        (b'[{"type":"join"}', "The body is not valid JSON"),
        (b"\xff", "The body is not valid JSON"),
        (b"[" * 100_000, "at most 2000 bytes"),
        (b"[" * 2000, "The body is not valid JSON"),
    ],
)
def test_a_wrong_body_is_refused_with_what_is_wrong(
    server: Process, body: bytes, detail: str
) -> None:
    with welcomed(server) as stream:
        answer = stream.post(body=body)
        assert answer.status == (413 if "at most" in detail else 400)
        assert answer.body["detail"] == detail
        assert stream.ask("join", room="still there")["type"] == "ack"


def test_a_wrong_message_is_answered_on_the_stream(server: Process) -> None:
    with welcomed(server) as stream:
        for body, code in (
            (b'{"type":"nonsense"}', "unknown_type"),
            (b'"text"', "invalid_json"),
            (b'{"type":"join"}', "invalid_field"),
            (b'{"type":"join","room":"' + b"x" * 1200 + b'"}', "too_big"),
        ):
            assert stream.post(body=body).status == 204
            assert stream.next("error")["code"] == code


def test_a_key_that_is_wrong_or_has_ended_is_unknown(server: Process) -> None:
    with welcomed(server) as stream, welcomed(server) as other:
        name, _, secret = other.key.partition(".")
        for key in ("", "x", name, f"{name}.", f"{name}.{secret[:-1]}", f"{name}.{secret}x", "ü"):
            answer = stream.post({"type": "join", "room": "r"}, headers={"X-Stream-Key": key})
            assert (answer.status, answer.body["error"]) == (404, "unknown_stream"), key
        mixed = f"{stream.key.partition('.')[0]}.{secret}"
        assert stream.post({"type": "x"}, headers={"X-Stream-Key": mixed}).status == 404
        key = other.key
    wait_until(lambda: streams(server) == 0)
    body = b'{"type":"join","room":"r"}'
    assert ask(server.port, headers={"X-Stream-Key": key}, body=body).status == 404
    assert key.partition(".")[2] not in server.log


def test_a_body_whose_length_is_not_plain_is_refused(server: Process) -> None:
    for field in ("Transfer-Encoding: chunked", "Content-Length: +5", "Content-Length: 5, 5"):
        with server.connect() as raw:
            raw.send(f"POST /sse HTTP/1.1\r\nHost: x\r\n{field}\r\n\r\n".encode())
            assert raw.response().status == 400


def test_a_body_at_another_path_is_refused_as_ever(server: Process) -> None:
    answer = ask(server.port, headers={}, body=b"{}", path="/ws")
    assert (answer.status, answer.body["error"]) == (400, "bad_request")


def test_the_connection_of_posts_serves_other_requests_too(server: Process) -> None:
    with welcomed(server) as stream:
        stream.ask("join", room="r")
        stream._posts.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b" 200 " in stream._posts.makefile("rb").readline()


def test_a_client_that_waits_for_continue_gets_it(server: Process) -> None:
    with welcomed(server) as stream, server.connect() as raw:
        body = b'{"type":"join","room":"r","id":1}'
        raw.send(
            b"POST /sse HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
            b"X-Stream-Key: %b\r\nContent-Length: %d\r\n\r\n" % (stream.key.encode(), len(body))
        )
        assert raw.response().status == 100
        raw.send(body)
        assert raw.response().status == 204
        assert stream.next()["type"] == "ack"


def test_a_body_in_pieces_and_several_posts_in_one_piece(server: Process) -> None:
    with welcomed(server) as stream, server.connect() as raw:
        body = b'{"type":"join","room":"r","id":%d}'
        head = b"POST /sse HTTP/1.1\r\nHost: x\r\nX-Stream-Key: %b\r\nContent-Length: %d\r\n\r\n"
        whole = b"".join(
            head % (stream.key.encode(), len(body % n)) + body % n for n in range(1, 8)
        )
        for start in range(0, len(whole), 50):
            raw.send(whole[start : start + 50])
        assert [stream.next()["id"] for _ in range(7)] == [*range(1, 8)]
        raw.send(whole)
        assert [stream.next()["id"] for _ in range(7)] == [*range(1, 8)]


def test_a_flood_of_posts_is_limited_as_messages_are(serve: Start) -> None:
    server = serve({**SETTINGS, "messages": {"per_second": 5}})
    with welcomed(server) as stream:
        answers: list[Answer] = []
        while not answers or answers[-1].status == 204:
            answers.append(stream.post(*[{"type": "health_ping", "id": n} for n in range(20)]))
            assert len(answers) < 500
        assert answers[-1].status == 404
        code, reason = stream.closed()
        assert (code, reason["error"]) == (1008, "message_abuse")
        assert "message_rate" in {event.data.get("code") for event in stream.events}


# Who may.


def test_a_page_of_an_allowed_origin_may_read_the_responses(server: Process) -> None:
    page = {"Origin": "https://app.example"}
    asked = {
        **page,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "x-stream-key",
    }
    preflight = ask(server.port, "OPTIONS", asked)
    assert preflight.status == 204
    assert preflight.headers["access-control-allow-origin"] == "https://app.example"
    assert preflight.headers["access-control-allow-credentials"] == "true"
    assert "X-Stream-Key" in preflight.headers["access-control-allow-headers"]
    assert "POST" in preflight.headers["access-control-allow-methods"]
    with welcomed(server, page) as stream:
        assert stream.head["access-control-allow-origin"] == "https://app.example"
        assert stream.head["vary"] == "Origin"
        answer = stream.post({"type": "join", "room": "r"}, headers=page)
        assert answer.headers["access-control-allow-origin"] == "https://app.example"
        answer = stream.post({"type": "join", "room": "r"}, headers={**page, "X-Stream-Key": "x"})
        assert answer.status == 404
        assert answer.headers["access-control-allow-origin"] == "https://app.example"
    refused = Events(server.port, {**page, "Authorization": "Bearer x"}).answer
    assert refused is not None
    assert refused.status == 401
    assert refused.headers["access-control-allow-origin"] == "https://app.example"


@pytest.mark.parametrize(
    "headers", [{"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}]
)
def test_a_page_of_another_origin_is_refused(server: Process, headers: dict[str, str]) -> None:
    for method in ("GET", "OPTIONS"):
        answer = ask(server.port, method, headers)
        assert (answer.status, answer.body["error"]) == (403, "origin")
        assert "access-control-allow-origin" not in answer.headers
    with welcomed(server) as stream:
        answer = stream.post({"type": "join", "room": "r"}, headers=headers)
        assert (answer.status, answer.body["error"]) == (403, "origin")


def test_another_method_is_not_allowed(server: Process) -> None:
    for method in ("PATCH", "PUT"):
        answer = ask(server.port, method, {})
        assert answer.status == 405
        assert answer.headers["allow"] == "GET, POST, DELETE, OPTIONS"


def test_without_the_setting_there_is_nothing(serve: Start) -> None:
    server = serve({})
    for method, body in (("GET", None), ("OPTIONS", None)):
        assert ask(server.port, method, {}, body).status == 404
    assert ask(server.port, "POST", {}, b"{}").status == 400


# The gate.


def test_the_limits_hold_and_say_when_to_come_back(serve: Start) -> None:
    server = serve({**SETTINGS, "limits": {"connections": 2, "per_ip": 100}})
    with welcomed(server), server.connect() as raw:
        raw.open(headers=[NATIVE])
        refused = Events(server.port).answer
        assert refused is not None
        assert (refused.status, refused.body["error"]) == (503, "server_limit")
        assert int(refused.headers["retry-after"]) > 0
        assert refused.headers["x-rejection-reason"] == "server_limit"
        assert server.stats()["rejections"]["server_limit"] == 1


def test_a_client_waits_on_its_stream_until_there_is_capacity(serve: Start) -> None:
    limits = {"connections": 1, "per_ip": 100}
    server = serve({**SETTINGS, "limits": limits, "waiting_room": {"enabled": True}})
    first = welcomed(server)
    with Events(server.port) as second, Events(server.port) as third:
        assert second.next("queue_status")["position"] == 1
        assert third.next("queue_status")["position"] == 2
        second.say("join", room="r")
        assert second.next("error")["code"] == "not_admitted"
        first.close()
        assert second.next("connected")["type"] == "connected"
        assert third.next("queue_status")["position"] == 1
        second.vanish()
        assert third.next("connected")["type"] == "connected"
    wait_until(lambda: server.open() == 0)


def test_a_client_shows_its_token_in_a_first_message(serve: Start) -> None:
    server = serve({**SETTINGS, "auth": {"secret": SECRET, "anonymous": False}})
    with Events(server.port) as stream:
        stream.say("join", room="r")
        assert stream.next("error")["code"] == "not_authenticated"
        stream.say("auth", token=token("ann"))
        assert stream.next("connected")["userId"] == "ann"


# Its life.


@pytest.mark.parametrize("end", [Events.close, Events.vanish])
def test_a_client_resumes_its_session_with_the_last_event_id(sessions: Process, end: Any) -> None:
    with welcomed(sessions, bearer("bob")) as bob:
        ann = Events(sessions.port, bearer("ann"))
        connected = ann.next("connected")
        ann.ask("join", room="resumed")
        bob.ask("join", room="resumed")
        bob.say("direct_message", user="ann", data="seen")
        ann.next("direct_message")
        last = ann.events[-1].id
        end(ann)
        wait_until(lambda: streams(sessions) == 1)
        bob.say("direct_message", user="ann", data="missed")
        bob.say("room_message", room="resumed", data="missed too")
        bob.next("room_message")
        with Events(sessions.port, {**bearer("ann"), "Last-Event-ID": last}) as again:
            back = again.next("connected")
            assert back["connectionId"] == connected["connectionId"]
            assert (back["resumed"], back["recovered"]) == (True, True)
            assert back["rooms"] == ["resumed"]
            assert again.next("direct_message")["data"] == "missed"
            assert again.next("room_message")["data"] == "missed too"
            assert again.key != ann.key
            assert again.ask("leave", room="resumed")["type"] == "ack"
            ids = [event.id for event in again.events if event.id]
            assert ids == [f"{back['session']}.1", f"{back['session']}.2"]


def test_a_client_that_says_that_it_leaves_has_no_session_any_more(sessions: Process) -> None:
    with Events(sessions.port, bearer("leaver")) as stream:
        stream.next("connected")
        last = stream.events[-1].id
        for key, status in (("x", 404), (stream.key, 204), (stream.key, 404)):
            assert ask(sessions.port, "DELETE", {"X-Stream-Key": key}).status == status
        event = stream.next_event()
        assert (event.name, event.data["code"]) == ("closed", 1000)
    wait_until(lambda: not sessions.connections("user=leaver"))
    with Events(sessions.port, {**bearer("leaver"), "Last-Event-ID": last}) as again:
        assert "resumed" not in again.next("connected")


def test_a_websocket_resumes_the_session_of_a_stream(sessions: Process) -> None:
    stream = Events(sessions.port, bearer("ann"))
    connected = stream.next("connected")
    stream.ask("join", room="moved")
    stream.close()
    with sessions.connect() as raw:
        offered = f"tidegate.v1.json, tidegate.session.{connected['session']}.0"
        raw.open(
            headers=[
                ("Sec-WebSocket-Protocol", offered),
                ("Authorization", bearer("ann")["Authorization"]),
            ]
        )
        back = json.loads(raw.message())
        assert (back["resumed"], back["rooms"]) == (True, ["moved"])


def test_comments_keep_a_stream_alive_and_the_peer_that_vanished_is_found(serve: Start) -> None:
    server = serve({**SETTINGS, "heartbeat": {"interval": 0.5, "timeout": 0.5}})
    with welcomed(server) as stream:
        time.sleep(3)
        assert stream.ask("join", room="r")["type"] == "ack"
        assert server.open() == 1


def test_a_client_that_does_not_read_is_closed_and_keeps_nobody_waiting(serve: Start) -> None:
    server = serve(
        {
            **SETTINGS,
            "messages": {"max_size": 100_000, "per_second": 0},
            "server": {"sse": "/sse", "close_timeout": 30},
            "outbox": {"max_bytes": 200_000, "kernel_bytes": 16384},
        }
    )
    slow = Events(server.port, receive_buffer=16384)
    slow.next("connected")
    slow.ask("join", room="r")
    with welcomed(server) as quick:
        quick.ask("join", room="r")
        for number in range(100):
            quick.say("room_message", room="r", data=f"{number:05}" + "x" * 60_000)
            assert quick.next("room_message")["data"].startswith(f"{number:05}")
        code, reason = slow.closed()
        assert (code, reason["error"]) == (4008, "slow_consumer")
        slow.close()
        wait_until(lambda: len(server.connections("room=r")) == 1)
    wait_until(lambda: server.open() == 0)


def test_a_drain_gives_notice_and_says_when_to_come_back(serve: Start) -> None:
    server = serve({**SETTINGS, "drain": {"window": 1}})
    with welcomed(server) as stream:
        server.signal(signal.SIGTERM)
        notice = stream.next("server_shutdown")
        assert notice["reason"] == "drained"
        refused = Events(server.port).answer
        assert refused is not None
        assert (refused.status, refused.body["error"]) == (503, "draining")
        code, reason = stream.closed()
        assert (code, reason["error"]) == (1012, "drained")
        assert stream.events[-1].retry == round(reason["retryAfter"] * 1000)
    assert server.process.wait(20) == 0
