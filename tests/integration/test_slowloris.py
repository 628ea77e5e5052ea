"""Peers that open sockets and take their time."""

from __future__ import annotations

import json
import time
from contextlib import ExitStack, suppress

import pytest

from tests.conftest import Start
from tests.support.net import wait_until
from tests.support.process import Process
from tests.support.raw import Raw, upgrade

SOCKETS = 150
# The kernel hands a silent connection over late (TCP_DEFER_ACCEPT), and deadlines are looked
# at ten times a second.
SLACK = 3.0


@pytest.mark.parametrize("deadline", [1.0, None], ids=["1 s", "default 5 s"])
def test_a_hundred_and_fifty_sockets(serve: Start, deadline: float | None) -> None:
    server_settings = {} if deadline is None else {"handshake_timeout": deadline}
    server = serve({"server": server_settings, "limits": {"connections": 20, "per_ip": 200}})
    deadline = deadline or 5.0
    descriptors = server.usage.num_fds()
    started = time.monotonic()
    with ExitStack() as stack:
        raws = [stack.enter_context(server.connect()) for _ in range(SOCKETS)]
        silent, halves, dribblers = raws[::3], raws[1::3], raws[2::3]
        for raw in halves:
            raw.send(upgrade()[:80])
        request = upgrade(headers=[("X-Long", "x" * 1000)])
        sent = 0
        while time.monotonic() - started < deadline - 0.3:
            for raw in dribblers:
                raw.send(request[sent : sent + 1])
            sent += 1
            # They hold no place: as many as the limit allows get in meanwhile.
            assert server.open() == 0
            assert_serves(server)
            time.sleep(0.1)
        assert server.metrics()['websocket_connections_current{state="opening"}'] > 0
        for raw in halves + dribblers:
            response = raw.response()
            assert response.status == 408
            assert json.loads(response.body)["error"] == "handshake_timeout"
        assert all(raw.gone() for raw in silent)
        assert time.monotonic() - started < deadline + SLACK
        wait_until(lambda: server.usage.num_fds() <= descriptors + 2, 20, "all are closed")
    assert server.stats()["rejections"]["handshake_timeout"] >= len(halves + dribblers)
    assert server.metrics()['websocket_connections_current{state="opening"}'] == 0


def assert_serves(server: Process) -> None:
    with server.connect() as raw:
        raw.open()
        raw.send_close()
        raw.gone()
    server.wait_open(0)


def test_a_slow_peer_that_is_done_in_time_gets_in(serve: Start) -> None:
    server = serve({"server": {"handshake_timeout": 1}})
    data = upgrade()
    with server.connect() as raw:
        for start in range(0, len(data), 20):
            raw.send(data[start : start + 20])
            time.sleep(0.02)
        assert raw.response().status == 101
        # The deadline of the handshake means nothing to an open connection.
        time.sleep(1.2)
        raw.send_frame(1, '{"type": "dance"}')
        raw.message()
        assert "unknown_type" in str(raw.message())


def test_sockets_that_linger_after_a_refusal_are_closed(serve: Start) -> None:
    server = serve()
    descriptors = server.usage.num_fds()
    refused: list[Raw] = []
    for _ in range(100):
        raw = server.connect()
        raw.send(b"nonsense\r\n\r\n")
        refused.append(raw)
    assert all(raw.response().status == 400 for raw in refused)
    # They read the answer and just stay.
    wait_until(lambda: server.usage.num_fds() <= descriptors + 2, 20, "all are closed")
    for raw in refused:
        with suppress(OSError):
            raw.close()
