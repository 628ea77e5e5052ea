"""Standard output and standard error are pipes that nobody reads: nobody has to wait for that."""

from __future__ import annotations

import http.client
import json
import os
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.net import wait_until
from tests.support.process import Process
from tests.support.raw import PING, PONG

COMMAND = [str(Path(sys.executable).with_name("tidegate")), "serve"]
LOST = "tidegate_log_lines_lost_total"


@contextmanager
def full_pipe() -> Iterator[tuple[int, int]]:
    """The ends of a pipe that takes not one byte more."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    for size in (65536, 1):
        try:
            while True:
                os.write(writing, b"\n" * size)
        except BlockingIOError:
            pass
    os.set_blocking(writing, True)
    os.set_blocking(reading, False)
    yield reading, writing
    os.close(reading)
    os.close(writing)


def read(pipe: int) -> bytes:
    """What is in the pipe now."""
    try:
        return os.read(pipe, 1 << 20)
    except BlockingIOError:
        return b""


def log_lines(server: Process, count: int) -> None:
    """Do what is logged by one line each."""
    connection = http.client.HTTPConnection("127.0.0.1", server.admin_port, timeout=10)
    body, headers = json.dumps({"user": "nobody"}), {"Content-Type": "application/json"}
    for _ in range(count):
        connection.request("POST", "/disconnect", body, headers)
        response = connection.getresponse()
        assert (response.status, response.read()) == (200, b'{"count":0}')
    connection.close()


def round_trips(server: Process, count: int) -> list[float]:
    """What clients wait for each of their answers, while a line is logged before each."""
    found: list[float] = []
    while len(found) < count:
        with server.connect() as client:
            client.open()
            for _ in range(10):  # a client that pings more than that is sent away
                log_lines(server, 1)
                began = time.perf_counter()
                client.send_frame(PING)
                while client.frame().opcode != PONG:
                    pass  # a greeting
                found.append(time.perf_counter() - began)
    return found


@pytest.mark.alone
def test_a_log_that_nobody_reads_makes_nobody_wait(tmp_path: Path) -> None:
    usual = Process(COMMAND, tmp_path / "usual").wait_ready()
    try:
        expected = statistics.median(round_trips(usual, 100))
    finally:
        assert usual.stop() == 0
        usual.kill()
    with full_pipe() as (reading, writing):
        # Its banner, all lines of its log and its end meet the full pipe.
        server = Process(COMMAND, tmp_path / "unread", output=writing).wait_ready()
        try:
            waited = sorted(round_trips(server, 100))
            assert statistics.median(waited) < 10 * expected + 0.01
            assert waited[-1] < 5
            assert server.stop() == 0
        finally:
            server.kill()
        assert b"disconnected" not in read(reading)


def test_lines_that_are_lost_are_counted_and_the_log_says_so(tmp_path: Path) -> None:
    with full_pipe() as (reading, writing):
        server = Process(COMMAND, tmp_path, output=writing).wait_ready()
        try:
            while server.metrics()[LOST] == 0:
                log_lines(server, 2000)
            text = b""

            def told() -> bool:
                nonlocal text
                text += read(reading)
                return b"log lines were lost" in text

            wait_until(told, 20, "the log says that lines were lost")
            assert b"Press Ctrl-C" in text
            lost = int(server.metrics()[LOST])
            assert f"log lines were lost lines={lost}\n".encode() in text
            log_lines(server, 1)
            text = b""
            wait_until(lambda: b"disconnected" in read(reading), 20, "it goes on")
            assert server.metrics()[LOST] == lost
            assert server.stop() == 0
        finally:
            server.kill()
