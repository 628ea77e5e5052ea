"""The NATS protocol: messages however they are cut, and what a server says that is wrong."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.support.aio import in_loop
from tidegate.backplane.nats.batches import Head
from tidegate.backplane.nats.subjects import token
from tidegate.backplane.nats.wire import Message, Wire, request

SENT = (
    b'INFO {"server_id":"a","max_payload":99}\r\n+OK\r\nPONG\r\n'
    b"MSG a.b 7 3\r\nab\n\r\n"
    b"MSG a.b  8 reply.to\t0\r\n\r\n"
    b"HMSG a 9 23 25\r\nNATS/1.0\r\nA: b\r\nC: \r\n\r\nhi\r\n"
    b"HMSG a 9 16 16\r\nNATS/1.0 503\r\n\r\n\r\n"
    b"PING\r\n-ERR 'Permissions Violation for Publish to \"x\"'\r\n"
)


class Heard(Wire):
    """One with all that it has told."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.said: list[str] = []
        super().__init__(
            self.messages.append, lambda: self.said.append("pong"), self.said.append, self._info
        )

    def _info(self, info: dict[str, Any]) -> None:
        self.said.append(f"info {sorted(info)}")


class Transport(asyncio.WriteTransport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.ended = False

    def write(self, data: Any) -> None:
        self.written += data

    def abort(self) -> None:
        self.ended = True


@pytest.mark.parametrize("step", [1, 2, 3, 7, 1000])
@in_loop
async def test_messages_are_the_same_however_they_are_cut(step: int) -> None:
    wire, transport = Heard(), Transport()
    wire.connection_made(transport)
    for start in range(0, len(SENT), step):
        wire.data_received(SENT[start : start + step])
    assert [(each.sid, each.subject, each.data) for each in wire.messages] == [
        (7, b"a.b", b"ab\n"),
        (8, b"a.b", b""),
        (9, b"a", b"hi"),
        (9, b"a", b""),
    ]
    assert [each.reply for each in wire.messages] == [b"", b"reply.to", b"", b""]
    third, fourth = wire.messages[2:]
    assert third.headers() == {"A": "b", "C": ""}
    assert (third.header(b"A"), third.header(b"C"), third.header(b"B")) == (b"b", b"", b"")
    assert (third.status, fourth.status) == (0, 503)
    assert wire.said == [
        "info ['max_payload', 'server_id']",
        "pong",
        'Permissions Violation for Publish to "x"',
    ]
    assert transport.written == b"PONG\r\n"
    assert wire.first.result()["max_payload"] == 99


@pytest.mark.parametrize(
    "sent",
    [
        b"HTTP/1.1 400 Bad Request\r\n",
        b"INFO {\r\n",
        b"INFO []\r\n",
        b"MSG a\r\n",
        b"MSG a x 3\r\n",
        b"MSG a 1 -3\r\n",
        b"HMSG a 1 5 -3\r\n",
        b"x" * ((1 << 20) + 3),
    ],
)
@in_loop
async def test_what_is_no_nats_ends_the_connection(sent: bytes) -> None:
    wire, transport = Heard(), Transport()
    wire.connection_made(transport)
    wire.data_received(sent)
    assert transport.ended
    assert "does not speak NATS" in str(wire.lost.result())


@in_loop
async def test_end_says_what_the_server_said_last() -> None:
    wire = Heard()
    wire.connection_made(Transport())
    wire.data_received(b"-ERR 'Slow Consumer'\r\n")
    wire.connection_lost(None)
    assert str(wire.lost.result()) == "Slow Consumer"
    assert wire.first.cancelled()


def test_commands_have_the_sizes_of_their_parts() -> None:
    assert request("a", "", "é".encode()) == b"PUB a  2\r\n\xc3\xa9\r\n"
    head = b"NATS/1.0\r\nA: b\r\n\r\n"
    assert request("a", "r", b"xyz", b"A: b\r\n") == (
        b"HPUB a r %d %d\r\n" % (len(head), len(head) + 3) + head + b"xyz\r\n"
    )


@pytest.mark.parametrize(
    ("room", "expected"),
    [
        ("plain-Room_1", "plain-Room_1"),
        ("", "="),
        ("a.b", "a=2Eb"),
        ("*", "=2A"),
        (">", "=3E"),
        ("=", "=3D"),
        ("~a b\r\n", "=7Ea=20b=0D=0A"),
        ("é", "=C3=A9"),
        ("\ud800", "=ED=A0=80"),
    ],
)
def test_token_of_a_room_is_one_token(room: str, expected: str) -> None:
    assert token(room) == expected


def test_tokens_of_different_rooms_are_different() -> None:
    rooms = ["a.b", "a=2Eb", "a=2eb", "a%2Eb", "a b", "a+b", "a*b", "A.b", "", "="]
    assert len({token(room) for room in rooms}) == len(rooms)


def test_head_knows_where_in_the_stream_to_begin() -> None:
    head = Head("e", 10, 100)
    assert head.start(9) == 1, "what was before is not known"
    for offset in range(11, 3000):
        head.advance(offset, offset * 10)
    assert len(head.marks) <= 64
    assert head.start(5) == 1
    for offset in (2200, 2500, 2990, 2999):
        # The message after `offset` has this number; it is not behind where reading begins.
        assert (offset - 40) * 10 < head.start(offset) <= (offset + 1) * 10
