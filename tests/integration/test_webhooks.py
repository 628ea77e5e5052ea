"""Webhooks against a receiver that answers well, hangs, fails, is slow or lies."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.conftest import Start
from tests.support.net import wait_until
from tests.support.process import Process
from tests.support.raw import TEXT, Raw
from tests.support.receiver import Receiver

NATIVE = ("Sec-WebSocket-Protocol", "tidegate.v1.json")
ALL = ["connect", "join", "publish"]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as made:
        yield made


def opened(server: Process) -> Raw:
    raw = server.connect()
    raw.open(headers=[NATIVE])
    assert json.loads(raw.message())["type"] == "connected"
    return raw


def say(raw: Raw, **message: Any) -> None:
    raw.send_frame(TEXT, json.dumps(message))


def heard(raw: Raw) -> dict[str, Any]:
    message: dict[str, Any] = json.loads(raw.message())
    return message


def test_connect_sets_who_an_attempt_belongs_to(serve: Start, receiver: Receiver) -> None:
    receiver.answer = lambda kind, data: {"allow": True, "user": "ann", "tier": "paid"}
    server = serve({"webhooks": receiver.settings(questions=["connect"])})
    with opened(server):
        (row,) = server.connections()
        assert (row["user"], row["tier"]) == ("ann", None)  # the settings know no such tier
    (asked,) = receiver.asked("connect")
    assert (asked["user"], asked["path"], asked["address"]) == (None, "/ws", "127.0.0.1")
    assert receiver.bad_signatures == 0


def test_connect_refuses(serve: Start, receiver: Receiver) -> None:
    receiver.answer = lambda kind, data: {"allow": False, "retryAfter": 7}
    server = serve({"webhooks": receiver.settings(questions=["connect"])})
    with server.connect() as raw:
        response = raw.ask()
        assert (response.status, response.headers["retry-after"]) == (403, "7")
        assert response.headers["x-rejection-reason"] == "forbidden"
    assert server.open() == 0


@pytest.mark.parametrize("on_failure", ["refuse", "allow"])
@pytest.mark.parametrize(
    "fault",
    ["hangs", "fails", "redirects", "not json", "no allow", "wrong type", "wrong user", "big"],
)
def test_a_question_without_a_good_answer_has_the_outcome_of_the_settings(
    serve: Start, receiver: Receiver, fault: str, on_failure: str
) -> None:
    bodies = {
        "not json": b"<html>",
        "no allow": b"{}",
        "wrong type": b'{"allow": "yes"}',
        "wrong user": b'{"allow": true, "user": "a\\n"}',
        "big": b'{"allow": true, "x": "' + b"x" * 5_000_000 + b'"}',
    }
    receiver.raw = bodies.get(fault)
    if fault == "hangs":
        receiver.hang.clear()
    elif fault == "fails":
        receiver.status = 500
    elif fault == "redirects":
        receiver.status, receiver.headers = 307, {"Location": receiver.url}
    hooks = receiver.settings(questions=["connect"], timeout=0.5, on_failure=on_failure)
    server = serve({"webhooks": hooks})
    with server.connect() as raw:
        response = raw.ask(headers=[NATIVE] if on_failure == "allow" else [])
        if on_failure == "allow":
            assert response.status == 101
        else:
            assert (response.status, response.headers["retry-after"]) == (503, "5")
            assert response.headers["x-rejection-reason"] == "hook_failed"
    wait_until(lambda: receiver.requests)  # one that is slow may be read after the deadline
    assert len(receiver.requests) == 1
    assert server.metrics()["tidegate_webhook_questions_failed_total"] == 1


def test_join_and_publish_are_asked_and_keep_their_order(serve: Start, receiver: Receiver) -> None:
    def answer(kind: str, data: dict[str, Any]) -> Any:
        time.sleep(0.05 if data.get("data") == 1 else 0)
        if kind == "join":
            return {"allow": data["room"] != "secret"}
        if data["data"] == 2:
            return {"allow": True, "data": {"changed": [2]}}
        return {"allow": data["data"] != 3}

    receiver.answer = answer
    server = serve({"webhooks": receiver.settings(questions=["join", "publish"])})
    with opened(server) as raw:
        say(raw, type="join", room="secret", id=1)
        say(raw, type="join", room="lobby", id=2)
        for number in (1, 2, 3):
            say(raw, type="room_message", room="lobby", data=number, id=number + 10)
        say(raw, type="health_ping", id=99)
        refused = heard(raw)
        assert (refused["type"], refused["code"], refused["id"]) == ("error", "refused", 1)
        assert heard(raw)["id"] == 2
        seen = [heard(raw) for _ in range(6)]
        assert [one["data"] for one in seen if one["type"] == "room_message"] == [
            1,
            {"changed": [2]},
        ]
        answers = [(one["type"], one["id"]) for one in seen if one["type"] != "room_message"]
        assert answers == [("ack", 11), ("ack", 12), ("error", 13), ("health_pong", 99)]


def test_a_hook_that_hangs_delays_only_who_asked(serve: Start, receiver: Receiver) -> None:
    server = serve({"webhooks": receiver.settings(questions=["join"], timeout=10)})
    with opened(server) as asks, opened(server) as other:
        receiver.hang.clear()
        say(asks, type="join", room="lobby", id=1)
        wait_until(lambda: bool(receiver.requests))
        for number in range(20):  # while the receiver hangs
            say(other, type="health_ping", id=number)
            assert heard(other)["id"] == number
        say(asks, type="health_ping", id=2)
        receiver.hang.set()
        assert [heard(asks)["id"] for _ in range(2)] == [1, 2]


def test_a_join_that_is_not_answered_is_refused(serve: Start, receiver: Receiver) -> None:
    receiver.status = 500
    server = serve({"webhooks": receiver.settings(questions=["join", "publish"])})
    with opened(server) as raw:
        for number in range(8):
            say(raw, type="join", room="lobby", id=number)
            answer = heard(raw)
            assert (answer["code"], answer["id"], answer["retryAfter"]) == ("unanswered", number, 5)
    # After five failures in a row it is left alone for a while.
    assert len(receiver.requests) == 5


def test_a_client_that_leaves_while_it_is_asked_about_leaves_nothing(
    serve: Start, receiver: Receiver
) -> None:
    server = serve({"webhooks": receiver.settings(questions=ALL, timeout=10)})
    with opened(server) as raw:
        receiver.hang.clear()
        say(raw, type="join", room="lobby", id=1)
        wait_until(lambda: len(receiver.asked("join")) == 1)
        for number in range(200):
            say(raw, type="health_ping", id=number)
    server.wait_open(0)
    receiver.hang.set()
    with opened(server) as raw:
        say(raw, type="join", room="lobby", id=1)
        assert heard(raw) == {"type": "ack", "id": 1, "members": 1}


def test_facts_are_told_in_order_with_ids(serve: Start, receiver: Receiver) -> None:
    facts = ["connected", "disconnected", "joined", "left", "published"]
    server = serve({"webhooks": receiver.settings(facts=facts)})
    with opened(server) as raw:
        say(raw, type="join", room="a", id=1)
        say(raw, type="join", room="b", id=2)
        say(raw, type="room_message", room="a", data={"n": 1}, id=3)
        say(raw, type="leave", room="a", id=4)
        while heard(raw).get("id") != 4:
            pass
    wait_until(lambda: "disconnected" in receiver.told() and receiver.told().count("left") == 2)
    kinds = receiver.told()
    assert kinds[:5] == ["connected", "joined", "joined", "published", "left"]
    assert sorted(kinds[5:]) == ["disconnected", "left"]
    assert receiver.facts[3]["data"]["data"] == {"n": 1}
    assert len({fact["id"] for fact in receiver.facts}) == 7
    assert all(abs(fact["time"] - time.time()) < 60 for fact in receiver.facts)
    assert receiver.bad_signatures == 0


def test_facts_are_sent_again_with_the_same_ids(serve: Start, receiver: Receiver) -> None:
    receiver.status = 503
    server = serve({"webhooks": receiver.settings(facts=["connected"])})
    with opened(server):
        wait_until(lambda: len(receiver.requests) >= 2)
        receiver.status = 200
        wait_until(lambda: receiver.told() == ["connected"])
    sent = {event["id"] for request in receiver.requests for event in request["events"]}
    assert sent == {receiver.facts[0]["id"]}
    metrics = server.metrics()
    assert metrics["tidegate_webhook_facts_retried_total"] >= 1
    assert metrics["tidegate_webhook_facts_sent_total"] == 1


def test_facts_beyond_the_queue_are_dropped_and_counted(serve: Start, receiver: Receiver) -> None:
    receiver.hang.clear()
    hooks = receiver.settings(facts=["joined", "left"], queue=10, timeout=10)
    server = serve({"webhooks": hooks})
    with opened(server) as raw:
        for number in range(100):
            say(raw, type="join", room="a", id=number)
            say(raw, type="leave", room="a", id=number)
            heard(raw), heard(raw)
        dropped = server.metrics()["tidegate_webhook_facts_dropped_total"]
        assert 80 <= dropped < 200
        assert server.log.count("facts for webhooks are dropped") == 1
        receiver.hang.set()


def test_a_server_stops_although_the_receiver_hangs(serve: Start, receiver: Receiver) -> None:
    receiver.hang.clear()
    hooks = receiver.settings(questions=["join"], facts=["connected"], timeout=60)
    server = serve({"webhooks": hooks})
    with opened(server) as raw:
        say(raw, type="join", room="lobby", id=1)
        wait_until(lambda: len(receiver.requests) == 2)
        started = time.monotonic()
        assert server.stop(timeout=30) == 0
        assert time.monotonic() - started < 20
    assert "Traceback" not in server.log
    assert "HTTP Request" not in server.log


def test_facts_that_are_left_are_sent_when_the_server_stops(
    serve: Start, receiver: Receiver
) -> None:
    server = serve({"webhooks": receiver.settings(facts=["connected", "disconnected"])})
    with opened(server):
        assert server.stop() == 0
    assert receiver.told() == ["connected", "disconnected"]
