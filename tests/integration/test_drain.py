"""A server that leaves: everybody is told, closed at a time of its own, and nothing is lost."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import math
import os
import random
import select
import signal
import subprocess
import sys
import time
from bisect import bisect_left
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import websockets
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from tests.conftest import Start
from tests.support.crowd import Crowd, Member
from tests.support.net import allow_descriptors, free_port, wait_until
from tests.support.process import Process
from tests.support.raw import TEXT, Raw
from tidegate.core.settings import Settings
from tidegate.node.native.application import NativeApplication
from tidegate.node.node import Node

NATIVE = ("Sec-WebSocket-Protocol", "tidegate.v1.json")
COMMAND = Path(sys.executable).with_name("tidegate")
MANY: dict[str, dict[str, Any]] = {
    "limits": {"per_ip": 10_000, "connections": 20_000},
    "pacing": {"enabled": False},
    "messages": {"per_second": 0},
}


def settings(window: float, **sections: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {**MANY, "drain": {"window": window}, **sections}


def begin(server: Process, query: str = "", **headers: str) -> tuple[int, dict[str, Any]]:
    connection = http.client.HTTPConnection("127.0.0.1", server.admin_port, timeout=10)
    try:
        connection.request("POST", f"/drain{query}", headers=headers)
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


def in_turn(one: Raw, two: Raw) -> tuple[Raw, Raw]:
    """The one that is closed first, and the other: the order is not that in which they came."""
    ready, _, _ = select.select([one.sock, two.sock], [], [], 10)
    return (one, two) if one.sock in ready else (two, one)


def busiest(times: list[float], seconds: float) -> int:
    times = sorted(times)
    return max(bisect_left(times, start + seconds) - index for index, start in enumerate(times))


def drained(crowd: Crowd, server: Process, window: float, talk: Callable[[], None]) -> float:
    """Drain a server while `talk` is called; how long it took until all were gone."""
    crowd.read(0)
    crowd.lateness = 0.0
    start = time.monotonic()
    server.signal(signal.SIGTERM)
    while crowd.left:
        assert time.monotonic() < start + window + 10, f"{crowd.left} are left"
        crowd.read(0.02)
        talk()
    seconds = time.monotonic() - start
    assert server.process.wait(20) == 0
    return seconds


def check_order(crowd: Crowd, window: float) -> None:
    """All were told first, each its own time, and closed then, evenly."""
    closes, delays = [], []
    members = crowd.members
    for member in members:
        assert member.notice is not None
        assert member.closed is not None
        told, delay = member.notice
        at, code, reason = member.closed
        assert told <= at  # One read may bring both, and `Crowd` checks their order.
        assert (code, json.loads(reason)) == (1012, {"error": "drained", "retryAfter": 0})
        closes.append(at)
        delays.append(delay)
    assert len(set(delays)) == len(members)
    assert 0 <= min(delays) < 0.1 * window
    assert 0.9 * window < max(delays) <= window
    # What was seen within a little less than a second was done within a second.
    assert crowd.lateness < 0.5, "this machine is too busy to measure"
    assert busiest(closes, 1 - crowd.lateness) <= math.ceil(1.2 * len(members) / window)


def check_messages(members: list[Member], margin: float) -> int:
    """Nobody has a gap, and all that was acknowledged before a member's close has reached it.

    Returns how many of the acknowledged messages there were to deliver. `margin` is the time by
    which two events of one moment may be seen apart here.
    """
    rooms: dict[str | None, list[Member]] = {}
    for member in members:
        rooms.setdefault(member.room, []).append(member)
    delivered = 0
    for member in members:
        assert member.closed is not None
        for sender in rooms[member.room]:
            heard = member.heard.get(sender.number, [])
            assert heard == list(range(len(heard)))
            owed = sum(at < member.closed[0] - margin for at, _ in sender.acks)
            assert len(heard) >= owed, (member.number, sender.number)
            delivered += owed
    return delivered


@pytest.mark.alone
def test_everybody_is_told_and_closed_evenly_and_hears_all(serve: Start) -> None:
    window, count = 3.0, 300
    server = serve(settings(window))
    rng = random.Random(1)
    with Crowd(server.port, count, lambda number: f"room {number % 10}") as crowd:

        def talk() -> None:
            for member in rng.sample(crowd.members, 5):
                if member.closed is None:
                    crowd.say(member)

        for _ in range(20):
            talk()
            crowd.read(0.02)
        seconds = drained(crowd, server, window, talk)
        assert seconds < window + 1
        check_order(crowd, window)
        assert check_messages(crowd.members, margin=0.2) > 1000
    assert "draining connections=300 window=3.0" in server.log
    assert server.log.rstrip().endswith("stopped")


def test_a_full_room_hears_all_before_it_is_closed(serve: Start) -> None:
    """With no window all are closed in one go, right behind what was just published."""
    server = serve(settings(0))
    with Crowd(server.port, 400, lambda _: "room") as crowd:
        for _ in range(50):
            crowd.say(crowd.members[0])
        crowd.wait(lambda: len(crowd.members[0].acks) >= 1, 5)
        drained(crowd, server, 0, lambda: None)
        acked = [number for _, number in crowd.members[0].acks]
        for member in crowd.members:
            assert member.heard[0][: len(acked)] == acked
            assert member.heard[0] == list(range(len(member.heard[0])))
            assert member.notice is not None
            assert member.notice[1] == 5.0
            assert member.closed is not None
            assert member.closed[1] == 1012


def test_what_is_acknowledged_in_the_moment_of_the_close_is_delivered() -> None:
    async def run() -> list[list[dict[str, Any]]]:
        node = Node(Settings.from_mapping({"server": {"port": 0}}), NativeApplication)
        await node.start()
        host, port = node.addresses[0]
        clients = [
            await websockets.connect(
                f"ws://{host}:{port}/ws",
                proxy=None,
                subprotocols=[Subprotocol("tidegate.v1.json")],
            )
            for _ in range(3)
        ]
        for client in clients:
            await client.recv()
            await client.send('{"type": "join", "room": "r", "id": 0}')
            await client.recv()
        speaker = next(node.connections)
        # The drain takes its first step, in which it closes all, before the room gets its message.
        node.shutdown.begin_drain(0)
        message = '{"type": "room_message", "room": "r", "data": "last words", "id": 1}'
        node.application.message(speaker, message)
        heard: list[list[dict[str, Any]]] = [[] for _ in clients]
        for client, messages in zip(clients, heard, strict=True):
            with contextlib.suppress(ConnectionClosed):
                while True:
                    messages.append(json.loads(await client.recv()))
        assert {client.close_code for client in clients} == {1012}
        await node.shutdown.wait()
        return heard

    heard = asyncio.run(run())
    types = [sorted(message["type"] for message in messages) for messages in heard]
    assert sorted(types) == [
        ["ack", "room_message", "server_shutdown"],
        ["room_message", "server_shutdown"],
        ["room_message", "server_shutdown"],
    ]


def test_sigterm_drains_by_default(serve: Start) -> None:
    server = serve()
    with server.connect() as one, server.connect() as two:
        for raw in (one, two):
            raw.open(headers=[NATIVE])
            assert json.loads(raw.message())["type"] == "connected"
        start = time.monotonic()
        server.signal(signal.SIGTERM)
        slots = {}
        for raw in (one, two):
            notice = json.loads(raw.message())
            assert notice["type"] == "server_shutdown"
            slots[notice["reconnectDelay"]] = raw
        # The first is closed when both were told, the second in the middle of the window.
        (soon, first), (late, second) = sorted(slots.items())
        assert (soon, late) == (pytest.approx(1, abs=0.1), pytest.approx(14.9, abs=0.1))
        first.closed(1012)
        assert 0.9 < time.monotonic() - start < 5
        first.send_close(1012)
        server.wait_open(1)
        second.send_close(1000)
        assert server.process.wait(20) == 0
    assert "draining connections=2 window=30.0" in server.log


def test_newcomers_are_refused_politely_to_the_end(serve: Start) -> None:
    server = serve(settings(2))
    with server.connect() as stays, server.connect() as native:
        stays.open()
        native.open(headers=[NATIVE])
        server.signal(signal.SIGTERM)
        wait_until(lambda: server.get("/ready")[0] == 503)
        assert server.get("/ready")[1] == {"ready": False, "reason": "draining"}
        with server.connect() as late:
            refused = late.ask()
            assert refused.status == 503
            assert refused.headers["retry-after"] == "5"
            assert refused.headers["x-rejection-reason"] == "draining"
        with server.connect() as late:
            close = late.open(headers=[NATIVE]).closed(1013)
            assert json.loads(close.reason) == {"error": "draining", "retryAfter": 5}
        # It is still served, and gets its notice and its close.
        stays.send_close(1000)
        assert [json.loads(native.message())["type"] for _ in range(2)] == [
            "connected",
            "server_shutdown",
        ]
        native.closed(1012)
        native.send_close(1012)
        assert server.process.wait(20) == 0


def test_what_waits_for_a_slow_reader_goes_out_first(program: Start) -> None:
    server = program("-m tests.support.handlers", settings(0.5, outbox={"max_bytes": 1 << 26}))
    with server.connect(receive_buffer=4096) as slow:
        slow.open()
        slow.send_frame(TEXT, "flood 40 500000")
        wait_until(lambda: server.connections()[0]["buffered"] > 10_000_000)
        server.signal(signal.SIGTERM)
        time.sleep(1)
        sizes = []
        while (got := slow.frame()).opcode != 8:
            sizes.append(len(got.payload))
        assert sizes == [500_000] * 40
        assert got.code == 1012
        slow.send_close(1012)
        assert server.process.wait(20) == 0


def test_peers_that_do_not_answer_are_cut_off_at_the_deadline(serve: Start) -> None:
    server = serve(settings(0.5, server={"close_timeout": 1}))
    with server.connect() as raw, server.connect() as opening:
        raw.open()
        opening.send(b"GET /ws HTTP/1.1\r\n")
        server.settle()
        start = time.monotonic()
        server.signal(signal.SIGTERM)
        assert raw.closed(1012)
        assert server.process.wait(20) == 0
        assert 0.9 < time.monotonic() - start < 3
        assert opening.gone()


def test_it_ends_as_soon_as_all_have_left(serve: Start) -> None:
    server = serve(settings(60))
    with server.connect() as raw:
        raw.open()
        server.signal(signal.SIGTERM)
        wait_until(lambda: server.get("/drain")[1].get("draining"))
        raw.send_close(1001)
        assert server.process.wait(20) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_it_at_once(serve: Start, number: signal.Signals) -> None:
    server = serve(settings(60))
    with server.connect() as one, server.connect() as two:
        one.open()
        two.open()
        server.signal(signal.SIGTERM)
        wait_until(lambda: server.get("/ready")[0] == 503)
        server.signal(number)
        assert server.process.wait(20) == -number


def test_ctrl_c_closes_at_once(serve: Start) -> None:
    server = serve(settings(60))
    with server.connect() as raw:
        raw.open()
        server.signal(signal.SIGINT)
        assert raw.closed(1001).reason == '{"error":"shutdown","retryAfter":5}'
        raw.send_close(1001)
        assert server.process.wait(20) == 0


# The admin API.


def test_the_admin_api_begins_it_and_shows_it(serve: Start) -> None:
    server = serve(settings(60))
    assert server.get("/drain") == (200, {"draining": False})
    with server.connect() as one, server.connect() as two:
        one.open()
        two.open()
        status, body = begin(server, "?window=30")
        assert status == 202
        assert (body["total"], body["open"], body["window"]) == (2, 2, 30.0)
        # One more changes nothing, and so does the signal that an orchestrator sends then.
        assert begin(server, "?window=1")[1]["window"] == 30.0
        server.signal(signal.SIGTERM)
        first, _ = in_turn(one, two)
        first.closed(1012)
        first.send_close(1012)
        wait_until(lambda: server.get("/drain")[1]["open"] == 1)
        status, body = server.get("/drain")
        assert status == 200
        assert body["draining"]
        assert not body["over"]
        assert body["closed"] == 1
        assert 30 < body["left"] <= 35
        server.signal(signal.SIGINT)
        assert server.process.wait(20) == -signal.SIGINT


def test_ctrl_c_after_the_admin_api_closes_at_once(serve: Start) -> None:
    server = serve(settings(60))
    with server.connect() as one, server.connect() as two:
        one.open()
        two.open()
        assert begin(server)[0] == 202
        first, second = in_turn(one, two)
        first.closed(1012)
        first.send_close(1012)
        server.signal(signal.SIGINT)
        second.closed(1001)
        second.send_close(1001)
        assert server.process.wait(20) == 0


# The command.


def command(*arguments: object, **environment: str) -> subprocess.Popen[str]:
    own = {key: value for key, value in os.environ.items() if not key.startswith("TIDEGATE_")}
    return subprocess.Popen(
        [COMMAND, "drain", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**own, **environment},
    )


def test_the_command_drains_and_shows_how_far_it_is(serve: Start) -> None:
    server = serve(settings(60, admin={"token": "a-token-of-the-operator"}))
    with Crowd(server.port, 200) as crowd:
        drain = command(
            *("--admin", f"http://127.0.0.1:{server.admin_port}", "--window", 2),
            TIDEGATE_ADMIN_TOKEN="a-token-of-the-operator",
        )
        crowd.lateness = 0.0
        crowd.wait(lambda: not crowd.left, 15)
        out, error = drain.communicate(timeout=10)
        assert (drain.returncode, error) == (0, "")
        first, *_, last = out.splitlines()
        assert first.endswith("of 200 connections gone after 0 s, at most 7 s more")
        assert last.startswith("drained 200 connections in ")
        check_order(crowd, 2.0)
    assert server.process.wait(20) == 0


def test_the_command_says_what_is_wrong(serve: Start) -> None:
    server = serve(settings(60, admin={"token": "a-token-of-the-operator"}))
    address = f"http://127.0.0.1:{server.admin_port}"
    nobody = f"http://127.0.0.1:{free_port()}"
    for arguments, code, said in (
        (("--admin", address), 1, "this needs the admin token"),
        (("--admin", nobody), 1, f"{nobody} does not answer: Connection refused"),
        (("--admin", f"http://127.0.0.1:{server.port}"), 1, "answered 404"),
        (("--admin", f"127.0.0.1:{server.admin_port}"), 1, "this needs the admin token"),
        (("--admin", "127.0.0.1:port"), 2, "must be like 127.0.0.1:8001, http://127.0.0.1:8001"),
        (("--window", "-1"), 2, "--window -1: must be a number from 0 to 3,600 seconds"),
    ):
        drain = command(*arguments)
        out, error = drain.communicate(timeout=10)
        assert (drain.returncode, out) == (code, ""), error
        assert said in error
        assert error.count("\n") == 1
    assert server.get("/ready")[0] == 200


def test_the_command_stops_waiting_after_a_timeout_and_the_drain_goes_on(serve: Start) -> None:
    server = serve(settings(60))
    with server.connect() as client:
        client.open()
        address = f"127.0.0.1:{server.admin_port}"
        begun = command("--admin", address, "--no-wait", "--window", "30s")
        out, error = begun.communicate(timeout=10)
        assert (begun.returncode, error) == (0, "")
        assert out.startswith("0 of 1 connections gone after 0 s, at most ")
        waits = command("--admin", address, "--timeout", "300ms")
        out, error = waits.communicate(timeout=10)
        assert waits.returncode == 1
        assert error.startswith("tidegate: not drained within 0.3 s; it goes on: 0 of 1 ")
        assert server.get("/ready")[0] == 503


def test_the_command_notices_when_the_server_is_ended_before(serve: Start) -> None:
    server = serve(settings(60))
    with server.connect() as one, server.connect() as two:
        one.open()
        two.open()
        drain = command("--admin", f"http://127.0.0.1:{server.admin_port}")
        wait_until(lambda: server.get("/ready")[0] == 503)
        server.kill()
        _, error = drain.communicate(timeout=10)
        assert drain.returncode == 1
        assert "the server ended before its drain did" in error


# Many.


@pytest.mark.alone
@pytest.mark.slow
def test_ten_thousand_under_load(serve: Start) -> None:
    """10,000 in rooms of 100 that talk all the time leave over 30 seconds."""
    window, count = 30.0, 10_000
    if not allow_descriptors(count + 2000):
        pytest.skip(f"needs a hard limit of {count + 2000} open files (ulimit -Hn)")
    server = serve(settings(window, heartbeat={"interval": 300}))
    rng = random.Random(1)
    with Crowd(server.port, count, lambda number: f"room {number % 100}") as crowd:
        due = time.monotonic()

        def talk() -> None:
            nonlocal due
            while due <= time.monotonic():
                due += 0.01
                member = rng.choice(crowd.members)
                if member.closed is None:
                    crowd.say(member)

        until = time.monotonic() + 2
        while time.monotonic() < until:
            talk()
            crowd.read(0.01)
        seconds = drained(crowd, server, window, talk)
        assert seconds < window + 5
        check_order(crowd, window)
        closes = [member.closed[0] for member in crowd.members if member.closed]
        owed = check_messages(crowd.members, margin=0.5)
        print(
            f"\n{count:,} drained in {seconds:.1f} s; at most {busiest(closes, 1.0)} closes a "
            f"second (even: {count / window:.0f}), seen at most {crowd.lateness * 1000:.0f} ms "
            f"late; {owed:,} acknowledged deliveries, none lost"
        )
