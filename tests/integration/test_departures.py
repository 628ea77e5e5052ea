"""Whatever way connections end, all that they held is given back."""

from __future__ import annotations

import random
import subprocess
import sys
from collections import Counter
from collections.abc import Callable

import pytest

from tests.conftest import Start
from tests.support.net import wait_until
from tests.support.process import ROOT, Process
from tests.support.raw import BINARY, TEXT, Raw, frame, upgrade
from tests.support.tokens import SECRET, bearer, token

pytestmark = pytest.mark.usefixtures("many_descriptors", "many_addresses")

COUNT = 300
KILLED = 30
SETTINGS = {
    "auth": {"secret": SECRET},
    "limits": {"per_ip": 1000, "per_user": 1000},
    "tiers": {"gold": {"connections": 1000, "reserved": 0.1}},
    "heartbeat": {"interval": 0.5, "timeout": 0.5},
    "server": {"close_timeout": 0.5},
    "messages": {"fragment_timeout": 0.5},
    "outbox": {"max_bytes": 65536},
}


def close_frame(raw: Raw) -> None:
    raw.send_close()


def close_and_disappear(raw: Raw) -> None:
    raw.send_close()
    raw.close()


def silence(raw: Raw) -> None:
    """Answer no ping any more."""


def dribble(raw: Raw) -> None:
    raw.send(frame(TEXT, b"never whole")[:5])


def violation(raw: Raw) -> None:
    raw.send(frame(TEXT, b"x", masked=False))


def handler_error(raw: Raw) -> None:
    raw.send_frame(TEXT, "raise")


def handler_error_later(raw: Raw) -> None:
    raw.send_frame(TEXT, "fail")


def server_close(raw: Raw) -> None:
    raw.send_frame(TEXT, "close 4000")


def leave_a_waiting_handler(raw: Raw) -> None:
    raw.send_frame(TEXT, "sleep 0.2")
    raw.reset()


def never_read(raw: Raw) -> None:
    raw.send_frame(TEXT, "flood 100 100000")


def in_the_middle_of_a_write(raw: Raw) -> None:
    raw.send_frame(TEXT, "flood 40 1000")
    raw.send_frame(BINARY, bytes(1000))
    raw.reset()


WAYS: list[Callable[[Raw], None]] = [
    close_frame,
    close_and_disappear,
    Raw.close,
    Raw.reset,
    Raw.half_close,
    silence,
    dribble,
    violation,
    handler_error,
    handler_error_later,
    server_close,
    leave_a_waiting_handler,
    never_read,
    in_the_middle_of_a_write,
]


def everything_is_zero(server: Process, descriptors: int) -> None:
    server.wait_open(0, 10)
    stats = server.stats()
    counts = stats["connections"]
    assert counts["uniqueIps"] == 0
    assert counts["uniqueUsers"] == 0
    assert counts["utilization"] == 0
    assert sum(stats["disconnections"].values()) == counts["accepted"]
    assert server.connections() == []
    assert server.stats()["rooms"] == 0
    metrics = server.metrics()
    assert metrics['websocket_connections_current{state="open"}'] == 0
    assert metrics["websocket_utilization_ratio"] == 0
    assert metrics["websocket_connection_duration_seconds_count"] == counts["accepted"]
    # Connections of the watcher itself come and go, so a few more may be open for a moment.
    wait_until(lambda: server.usage.num_fds() <= descriptors + 2, 20, "descriptors are closed")


def test_all_ways_at_random(serve: Start, program: Start) -> None:
    server = program("-m tests.support.handlers", SETTINGS)
    server.expects_errors = True
    descriptors = server.usage.num_fds()
    dice = random.Random(2)
    raws = []
    for number in range(COUNT):
        tier = dice.choice([None, "gold", "unknown"])
        headers = [bearer(f"user{number % 40}", tier=tier)] if dice.random() < 0.6 else []
        raw = server.connect(source=f"127.0.2.{number % 50 + 1}", receive_buffer=4096)
        raws.append(raw.open(headers=headers))
    command = [sys.executable, "-m", "tests.support.hold", server.port, KILLED, token("kim")]
    child = subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, cwd=ROOT)
    with child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"holding\n"
        assert server.stats()["connections"]["uniqueUsers"] > 30
        assert server.open() > COUNT // 2
        ways = [dice.choice(WAYS) for _ in raws]
        for raw, way in zip(raws, ways, strict=True):
            way(raw)
        child.kill()
    # Those that just wait end by the server's own deadlines; only then do the sockets go.
    server.wait_open(0, 10)
    for raw in raws:
        raw.close()
    everything_is_zero(server, descriptors)
    stats = server.stats()
    assert stats["connections"]["accepted"] == COUNT + KILLED
    ended = Counter(stats["disconnections"])
    for cause in ("normal", "eof", "reset", "heartbeat_timeout", "handler_error", "slow_consumer"):
        assert ended[cause] > 0, cause


def test_attempts_that_come_to_nothing(serve: Start) -> None:
    server = serve({"server": {"handshake_timeout": 0.5}, "limits": {"per_ip": 1000}})
    descriptors = server.usage.num_fds()
    for number in range(200):
        raw = server.connect()
        if number % 4 == 0:
            raw.send(upgrade())  # the answer finds nobody
            raw.reset()
        elif number % 4 == 1:
            raw.send(upgrade())
            raw.close()
        elif number % 4 == 2:
            raw.send(upgrade()[:50])
            raw.reset()
        else:
            raw.send(upgrade(replace={"Sec-WebSocket-Key": "short"}))
            raw.close()
    everything_is_zero(server, descriptors)


def test_members_of_rooms(serve: Start) -> None:
    server = serve(SETTINGS)
    descriptors = server.usage.num_fds()
    dice = random.Random(3)
    with_rooms = []
    for number in range(100):
        raw = server.connect().open(
            headers=[bearer(f"user{number % 7}"), ("Sec-WebSocket-Protocol", "tidegate.v1.json")]
        )
        for room in dice.sample(["a", "b", "c", "d"], 2):
            raw.send_frame(TEXT, f'{{"type": "join", "room": "{room}"}}')
        raw.send_frame(TEXT, '{"type": "room_message", "room": "a", "data": 1}')
        with_rooms.append(raw)
    wait_until(lambda: server.stats()["rooms"] == 4)
    for raw in with_rooms:
        dice.choice([close_frame, Raw.close, Raw.reset, Raw.half_close, silence, violation])(raw)
    server.wait_open(0, 10)
    for raw in with_rooms:
        raw.close()
    everything_is_zero(server, descriptors)
