"""How connections end, from both sides, and what the close handler is told."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.conftest import Start
from tests.support.net import wait_until
from tests.support.process import Process
from tests.support.raw import CLOSE, CONT, TEXT, Raw, frame

CLOSE_TIMEOUT = 0.5


@pytest.fixture(scope="module")
def server(shared_program: Start) -> Process:
    return shared_program(
        "-m tests.support.handlers",
        {
            "server": {"close_timeout": CLOSE_TIMEOUT},
            "messages": {"max_size": 1000, "max_fragments": 10, "fragment_timeout": 0.5},
        },
    )


def opened(server: Process) -> tuple[Raw, str]:
    """An open connection and its id."""
    raw = server.connect().open()
    raw.send_frame(TEXT, "name")
    return raw, str(raw.message())


def ended(server: Process, name: str) -> tuple[int, str]:
    """The code and reason of the one call of the close handler, once the count is 0 again."""

    def ends() -> list[dict[str, Any]]:
        lines = [line for line in server.lines if line.startswith("{")]
        return [end for end in map(json.loads, lines) if end["id"] == name]

    wait_until(ends, 20, f"the end of {name}")
    server.wait_open(0)
    (end,) = ends()
    return end["code"], end["reason"]


@pytest.mark.parametrize("code", [1000, 1001, 1003, 1007, 1011, 3000, 4999])
def test_the_client_closes(server: Process, code: int) -> None:
    raw, name = opened(server)
    with raw:
        raw.send_close(code, "gründe")
        assert raw.closed(code)
        # RFC 6455 7.1.1: the server closes the TCP connection first.
        assert raw.end() == b""
    assert ended(server, name) == (code, "gründe")


def test_the_client_closes_without_a_code(server: Process) -> None:
    raw, name = opened(server)
    with raw:
        raw.send_frame(CLOSE)
        assert raw.frame() == (CLOSE, b"", True, 0)
        assert raw.end() == b""
    assert ended(server, name) == (1005, "")


def test_the_server_closes(server: Process) -> None:
    with connect(server.url, proxy=None) as client:
        client.send("name")
        name = str(client.recv(20))
        client.send("close 4000 so long")
        with pytest.raises(ConnectionClosed) as closed:
            client.recv(20)
    assert closed.value.rcvd is not None
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (4000, "so long")
    assert ended(server, name) == (4000, "so long")


def test_both_close_at_once(server: Process) -> None:
    raw, name = opened(server)
    with raw:
        raw.send(frame(TEXT, b"close 4000 mine") + frame(CLOSE, b"\x0f\xa1yours"))
        assert raw.closed(4000).reason == "mine"
        assert raw.end() == b""
    assert ended(server, name) == (4000, "mine")


def test_what_was_sent_before_the_close_arrives_first(server: Process) -> None:
    raw, name = opened(server)
    with raw:
        raw.send(frame(TEXT, b"one") + frame(TEXT, b"two") + frame(CLOSE, b"\x03\xe8"))
        assert [raw.message(), raw.message()] == ["one", "two"]
        assert raw.closed(1000)
        assert raw.end() == b""
    assert ended(server, name) == (1000, "")


def test_nothing_is_answered_after_a_close(server: Process) -> None:
    raw, name = opened(server)
    with raw:
        raw.send(frame(CLOSE, b"\x03\xe8") + frame(TEXT, b"too late") * 100)
        assert raw.closed(1000)
        assert raw.end() == b""
    assert ended(server, name) == (1000, "")


def test_a_close_frame_that_is_never_answered(server: Process) -> None:
    raw, name = opened(server)
    with raw:
        started = time.monotonic()
        raw.send_frame(TEXT, "close 4000")
        assert raw.closed(4000)
        assert raw.gone()
        assert CLOSE_TIMEOUT / 2 < time.monotonic() - started < CLOSE_TIMEOUT + 2
    assert ended(server, name) == (4000, "")


def test_half_close(server: Process) -> None:
    raw, name = opened(server)
    with raw:
        raw.send_frame(TEXT, "last words")
        raw.half_close()
        assert raw.message() == "last words"
        assert raw.gone()
    assert ended(server, name) == (1006, "")


def test_half_close_behind_a_part_of_a_frame(server: Process) -> None:
    raw, name = opened(server)
    with raw:
        raw.send(frame(TEXT, b"never whole")[:7])
        raw.half_close()
        assert raw.gone()
    assert ended(server, name) == (1006, "")


def test_reset(server: Process) -> None:
    raw, name = opened(server)
    raw.reset()
    assert ended(server, name) == (1006, "")


def test_disappearing_with_unread_bytes(server: Process) -> None:
    raw, name = opened(server)
    raw.send_frame(TEXT, "flood 100 1000")
    server.settle()
    raw.close()
    assert ended(server, name) == (1006, "")


VIOLATIONS = {
    "unmasked": (frame(TEXT, b"x", masked=False), 1002),
    "rsv1": (frame(TEXT, b"x", rsv=4), 1002),
    "reserved opcode": (frame(3, b"x"), 1002),
    "reserved control opcode": (frame(11), 1002),
    "continuation of nothing": (frame(CONT, b"x"), 1002),
    "long ping": (frame(9, bytes(126)), 1002),
    "fragmented ping": (frame(9, b"x", final=False), 1002),
    "text within a message": (frame(TEXT, b"x", final=False) + frame(TEXT, b"x"), 1002),
    "length with the top bit": (b"\x82\xff\x80" + bytes(7) + b"mask", 1002),
    "close payload of one byte": (frame(CLOSE, b"x"), 1002),
    "close code 999": (frame(CLOSE, b"\x03\xe7"), 1002),
    "close code 1005": (frame(CLOSE, b"\x03\xed"), 1002),
    "close code 1006": (frame(CLOSE, b"\x03\xee"), 1002),
    "close code 5000": (frame(CLOSE, b"\x13\x88"), 1002),
    "close reason not UTF-8": (frame(CLOSE, b"\x03\xe8\xff"), 1007),
    "text not UTF-8": (frame(TEXT, b"caf\xe9"), 1007),
    "text not UTF-8, not whole": (frame(TEXT, b"\xff" + bytes(500))[:20], 1007),
    "too big": (frame(TEXT, bytes(1001)), 1009),
    "too big, only its head": (b"\x82\xff" + (1 << 40).to_bytes(8) + b"mask", 1009),
    "too many fragments": (
        frame(TEXT, b"x", final=False) + frame(CONT, b"x", final=False) * 10,
        1009,
    ),
    "too big in fragments": (
        frame(TEXT, bytes(600), final=False) + frame(CONT, bytes(600)),
        1009,
    ),
}


@pytest.mark.parametrize("violation", VIOLATIONS)
def test_violation(server: Process, violation: str) -> None:
    data, code = VIOLATIONS[violation]
    raw, name = opened(server)
    with raw:
        raw.send(frame(TEXT, b"before") + data)
        assert raw.message() == "before"
        raw.closed(code)
        raw.send_close(code)
        assert raw.gone()
    assert ended(server, name)[0] == code


@pytest.mark.parametrize(
    "start",
    [frame(TEXT, b"x", final=False), frame(TEXT, b"never whole")[:9], b"\x81"],
    ids=["message", "frame", "head"],
)
def test_a_message_that_takes_too_long(server: Process, start: bytes) -> None:
    raw, name = opened(server)
    with raw:
        started = time.monotonic()
        raw.send(start)
        assert raw.closed(1008)
        assert 0.3 < time.monotonic() - started < 2
        raw.send_close(1008)
        assert raw.gone()
    assert ended(server, name)[0] == 1008


@pytest.mark.parametrize("violation", ["unmasked", "too big"])
def test_a_violation_is_explained_to_a_peer_that_sends_on(server: Process, violation: str) -> None:
    data, code = VIOLATIONS[violation]
    raw, _ = opened(server)
    with raw:
        raw.send(data + bytes(300_000))
        said = json.loads(raw.closed(code).reason)
        assert said.keys() == {"error", "retryAfter", "detail"}
        assert raw.end() == b""
