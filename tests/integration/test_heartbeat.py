"""The dead are found, and nobody else is taken for dead."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import signal
import threading
import time
from collections.abc import Iterator

import pytest
import websockets
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.conftest import Start
from tests.support import aio
from tests.support.net import wait_until
from tests.support.process import Process
from tests.support.raw import PING, TEXT, Raw

INTERVAL = {"interval": 1, "timeout": 1}


def test_who_answers_lives_and_who_is_silent_is_closed(serve: Start) -> None:
    server = serve({"heartbeat": INTERVAL, "limits": {"per_ip": 3}})
    started = time.monotonic()
    with (
        connect(server.url, proxy=None, ping_interval=None) as answers,
        server.connect() as talks,
        server.connect() as silent,
    ):
        talks.open()
        silent.open()
        assert server.open() == 3
        # A peer that answers no ping but says something else is alive as well.
        while server.open() == 3:
            talks.send_frame(TEXT, '{"type": "dance"}')
            assert time.monotonic() - started < 6
            time.sleep(0.2)
        assert 1.5 < time.monotonic() - started < 4
        assert silent.gone()
        while time.monotonic() - started < 4.5:
            talks.send_frame(TEXT, '{"type": "dance"}')
            time.sleep(0.2)
        assert server.open() == 2
        answers.send('{"type": "dance"}')
        answers.recv(20)
        assert "unknown_type" in str(answers.recv(20))
        # The slot of the dead one is free.
        with server.connect() as another:
            another.open()
    assert server.stats()["disconnections"]["heartbeat_timeout"] == 1
    metrics = server.metrics()
    assert metrics["websocket_heartbeat_latency_seconds_count"] >= 3
    assert metrics['websocket_disconnections_total{reason="heartbeat_timeout"}'] == 1


def test_pings_come_at_the_interval(serve: Start) -> None:
    server = serve({"heartbeat": {"interval": 0.3, "timeout": 5}})
    with server.connect() as raw:
        raw.open()
        times: list[float] = []
        while len(times) < 4:
            if raw.frame().opcode == PING:
                times.append(time.monotonic())
        gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
        assert all(0.1 < gap < 1 for gap in gaps), gaps


def test_a_stall_of_the_server_kills_nobody(serve: Start) -> None:
    server = serve({"heartbeat": INTERVAL, "limits": {"per_ip": 100}})

    async def run() -> None:
        clients = await asyncio.gather(
            *(websockets.connect(server.url, proxy=None, ping_interval=None) for _ in range(50))
        )
        await asyncio.sleep(1.2)  # pings are under way
        silent = server.connect().open()
        server.signal(signal.SIGSTOP)
        await asyncio.sleep(3)
        server.signal(signal.SIGCONT)
        assert await asyncio.to_thread(server.open) == 51
        # Only who stays silent when the server runs again is found dead, after its full time.
        resumed = time.monotonic()
        await asyncio.to_thread(server.wait_open, 50)
        assert 1 < time.monotonic() - resumed < 4
        await asyncio.sleep(0.5)
        stats = await asyncio.to_thread(server.stats)
        assert stats["disconnections"]["heartbeat_timeout"] == 1
        assert sum(stats["disconnections"].values()) == 1
        silent.close()
        for client in clients:
            await client.send('{"type": "dance"}')
            await client.recv()
            assert "unknown_type" in str(await client.recv())
            await client.close()

    aio.run(run())


@contextlib.contextmanager
def answering(raw: Raw) -> Iterator[None]:
    """Answer pings in a thread."""

    def answer() -> None:
        with contextlib.suppress(OSError, EOFError, AssertionError):
            while True:
                raw.message()

    thread = threading.Thread(target=answer)
    thread.start()
    try:
        yield
    finally:
        raw.half_close()
        thread.join()


def test_idle_timeout(serve: Start) -> None:
    server = serve({"heartbeat": {"interval": 0.3, "timeout": 2, "idle_timeout": 1.5}})
    started = time.monotonic()
    with (
        connect(server.url, proxy=None, ping_interval=None) as idle,
        server.connect() as busy,
    ):
        busy.open()
        with answering(busy):
            while server.open() == 2:
                busy.send_frame(TEXT, '{"type": "dance"}')
                assert time.monotonic() - started < 5
                time.sleep(0.1)
            # Answering pings is life, but it is not activity.
            assert 1.2 < time.monotonic() - started < 4
            idle.recv(1)
            with pytest.raises(ConnectionClosed) as closed:
                idle.recv(1)
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1000
            assert closed.value.rcvd.reason == '{"error":"idle_timeout","retryAfter":null}'
            wait_until(lambda: disconnected(server, "idle_timeout") == 1)
            assert server.open() == 1


def disconnected(server: Process, cause: str) -> int:
    return int(server.stats()["disconnections"][cause])
