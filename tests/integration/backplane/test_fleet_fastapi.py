"""A FastAPI application with two uvicorn workers: its limits hold over both."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus

from tests.support import aio
from tests.support.fleet import Watcher
from tests.support.net import free_port, wait_until
from tests.support.process import ROOT
from tests.support.tokens import bearer
from tests.support.valkey import valkey

PER_USER, TTL = 5, 2.0


@contextmanager
def workers(
    url: str, log: Path, **environment: str
) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """`uvicorn --workers 2`, and its port."""
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "tests.support.fleet_app:app", "--workers", "2"]
    with log.open("wb") as file:
        process = subprocess.Popen(
            [*command, "--port", str(port), "--ws", "websockets-sansio"],
            cwd=ROOT,
            env={**os.environ, "BACKPLANE": url, **environment},
            stdout=file,
            stderr=file,
        )
    try:
        wait_until(lambda: log.read_text().count("startup complete") == 2, 60, "both workers")
        socket.create_connection(("127.0.0.1", port)).close()
        yield process, port
        process.terminate()
        process.wait(30)
    finally:
        for child in psutil.Process(process.pid).children() if process.poll() is None else ():
            child.kill()
        process.kill()
        process.wait()


def busiest(process: subprocess.Popen[bytes]) -> psutil.Process:
    """The worker with the most connections."""
    children = psutil.Process(process.pid).children()
    return max(children, key=lambda child: len(child.net_connections("tcp")))


def test_a_users_limit_holds_over_both_and_a_killed_ones_leases_are_free_again(
    tmp_path: Path,
) -> None:
    watcher = Watcher(PER_USER, 1000)

    async def crowd(port: int) -> None:
        await watcher.crowd([(user, port) for user in ("ann", "bob") for _ in range(40)])

    async def run(process: subprocess.Popen[bytes], port: int) -> None:
        await crowd(port)
        assert watcher.users == {"ann": PER_USER, "bob": PER_USER}
        assert watcher.told == {"user_limit": 70}

        before = set(watcher.open)
        victim = busiest(process)
        victim.send_signal(signal.SIGKILL)
        killed = time.monotonic()
        async with asyncio.timeout(20):
            while before <= watcher.open:
                await asyncio.sleep(0.01)
            while len(watcher.open) < len(before):
                await crowd(port)
        # Its time to live began with its last heartbeat, at most a third of it ago.
        early = [one.came_at - killed for one in watcher.open - before]
        assert min(early) >= TTL * 2 / 3
        await watcher.leave_all()

    with (
        valkey(tmp_path / "valkey") as between,
        workers(between.url, tmp_path / "log.txt") as (process, port),
    ):
        aio.run(run(process, port))
    assert not watcher.broken
    assert "Traceback" not in (tmp_path / "log.txt").read_text()


def test_messages_reach_the_members_of_both(tmp_path: Path) -> None:
    async def connected(port: int, user: str) -> tuple[ClientConnection, str]:
        headers = dict([bearer(user)])
        url = f"ws://127.0.0.1:{port}/ws"
        client = await connect(url, proxy=None, additional_headers=headers)
        return client, str(await client.recv())

    async def run(port: int) -> None:
        ann, home = await connected(port, "ann")
        others = []
        bob, away = await connected(port, "bob0")
        while away == home:  # until one is at the other process
            others.append(bob)
            bob, away = await connected(port, f"bob{len(others)}")
        user = f"bob{len(others)}"
        async with asyncio.timeout(30):
            # The first ones may come before a process has subscribed.
            heard = asyncio.ensure_future(bob.recv())
            while not heard.done():
                await ann.send("hello")
                await asyncio.wait([heard], timeout=0.2)
            assert heard.result() == "ann: hello"
            await ann.send(f"to {user}")
            while (text := await bob.recv()) == "ann: hello":
                pass
            assert text == "ann to you"
            await ann.send("all")
            assert await bob.recv() == "ann to all"
            assert await ann.recv() == "ann to all"  # once, and nothing of its own room
            await bob.send("hi")
            assert await ann.recv() == f"{user}: hi"
        for client in (ann, bob, *others):
            await client.close()

    with (
        valkey(tmp_path / "valkey") as between,
        workers(between.url, tmp_path / "log.txt") as (_, port),
    ):
        aio.run(run(port))
    assert "Traceback" not in (tmp_path / "log.txt").read_text()


def test_a_rooms_limit_holds_over_both(tmp_path: Path) -> None:
    async def run(port: int) -> None:
        url = f"ws://127.0.0.1:{port}/ws"
        inside: dict[ClientConnection, str] = {}

        async def come(user: str) -> int:
            headers = dict([bearer(user)])
            try:
                client = await connect(url, proxy=None, additional_headers=headers)
            except InvalidStatus as refused:
                return refused.response.status_code
            inside[client] = str(await client.recv())
            return 101

        while len(set(inside.values())) < 2:  # some are at each process
            assert await come(f"u{len(inside)}") == 101
        before = len(inside)
        answers = await asyncio.gather(*(come(f"v{number}") for number in range(60)))
        assert Counter(answers) == {101: 40 - before, 503: 20 + before}
        await next(iter(inside)).close()
        async with asyncio.timeout(20):
            while await come("late") != 101:
                pass
        for client in inside:
            await client.close()

    with (
        valkey(tmp_path / "valkey") as between,
        workers(between.url, tmp_path / "log.txt", PER_ROOM="40") as (_, port),
    ):
        aio.run(run(port))
    assert "Traceback" not in (tmp_path / "log.txt").read_text()
