"""permessage-deflate with real clients."""

from __future__ import annotations

import itertools
import os
import zlib
from typing import Any

import pytest
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory
from websockets.sync.client import connect

from tests.conftest import Start
from tests.support.process import Process
from tests.support.raw import BINARY, CONT, TEXT, frame

EXTENSION = "Sec-WebSocket-Extensions"
MAX_SIZE = 1 << 20
MESSAGES: list[str | bytes] = [
    "x",
    "é" * 1000,
    "the quick brown fox " * 5000,
    bytes(500_000),
    os.urandom(100_000),
    "",
    b"",
]


@pytest.fixture(scope="module", params=[False, True], ids=["no takeover", "takeover"])
def server(shared_program: Start, request: pytest.FixtureRequest) -> Process:
    return shared_program(
        "-m tests.support.handlers",
        {
            "deflate": {
                "enabled": True,
                "context_takeover": request.param,
                "min_size": 100,
                "max_ratio": 2000,  # zeros inflate a thousandfold
            },
            "messages": {"max_size": MAX_SIZE, "per_second": 0, "bytes_per_second": 0},
            "outbox": {"max_bytes": 16 << 20},
        },
    )


CHOICES = list(itertools.product([False, True], [False, True], [None, 9, 15], [None, 9, 15, True]))


@pytest.mark.parametrize(("server_off", "client_off", "server_bits", "client_bits"), CHOICES)
def test_websockets(
    server: Process, server_off: bool, client_off: bool, server_bits: Any, client_bits: Any
) -> None:
    factory = ClientPerMessageDeflateFactory(
        server_no_context_takeover=server_off,
        client_no_context_takeover=client_off,
        server_max_window_bits=server_bits,
        client_max_window_bits=client_bits,
    )
    with connect(
        server.url, proxy=None, compression=None, extensions=[factory], max_size=None
    ) as client:
        agreed = client.protocol.extensions
        assert agreed
        for message in MESSAGES * 2:
            client.send(message)
            assert client.recv(10) == message


def test_fewer_bytes_are_sent(server: Process) -> None:
    message = "the same again and again, " * 10_000
    with connect(server.url, proxy=None, max_size=None) as client:
        before = server.stats()["messages"]["bytesSent"]
        client.send(message)
        assert client.recv(10) == message
        assert server.stats()["messages"]["bytesSent"] - before < len(message) // 20


def test_small_messages_are_sent_as_they_are(server: Process) -> None:
    with server.connect() as raw:
        response = raw.ask(headers=[(EXTENSION, "permessage-deflate; client_max_window_bits")])
        assert response.headers["sec-websocket-extensions"].startswith("permessage-deflate")
        raw.send_frame(TEXT, "short")
        got = raw.frame()
        assert (got.rsv, got.payload) == (0, b"short")
        raw.send_frame(TEXT, "long " * 100)
        got = raw.frame()
        assert got.rsv == 4
        inflated = zlib.decompressobj(-15).decompress(got.payload + b"\x00\x00\xff\xff")
        assert inflated == b"long " * 100


def deflated(data: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-15)
    return (compressor.compress(data) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]


def test_fragments(server: Process) -> None:
    data = deflated(b"compressed and cut " * 20)
    with server.connect() as raw:
        raw.open(headers=[(EXTENSION, "permessage-deflate")])
        raw.send(
            frame(BINARY, data[:3], final=False, rsv=4)
            + frame(CONT, data[3:7], final=False)
            + frame(CONT, data[7:])
        )
        got = raw.frame()
        inflated = zlib.decompressobj(-15).decompress(got.payload + b"\x00\x00\xff\xff")
        assert inflated == b"compressed and cut " * 20


BAD = {
    "bomb": (frame(BINARY, deflated(bytes(200 << 20)), rsv=4), 1009),
    "a bit too big": (frame(BINARY, deflated(bytes(MAX_SIZE + 1)), rsv=4), 1009),
    "no deflate": (frame(BINARY, b"\xff" * 100, rsv=4), 1007),
    "not UTF-8": (frame(TEXT, deflated(b"\xff\xff"), rsv=4), 1007),
    "rsv2": (frame(TEXT, b"x", rsv=2), 1002),
    "rsv1 on a control frame": (frame(9, b"x", rsv=4), 1002),
    "rsv1 on a continuation": (
        frame(TEXT, b"x", final=False) + frame(CONT, b"x", rsv=4),
        1002,
    ),
}


@pytest.mark.parametrize("kind", BAD)
def test_violations(server: Process, kind: str) -> None:
    data, code = BAD[kind]
    before = server.usage.memory_info().rss
    with server.connect() as raw:
        raw.open(headers=[(EXTENSION, "permessage-deflate")])
        raw.send(data)
        raw.closed(code)
    assert server.usage.memory_info().rss - before < 32 << 20


@pytest.mark.parametrize(
    "offer",
    [
        "permessage-bzip2",
        "permessage-deflate; unknown",
        "permessage-deflate; server_max_window_bits=7",
        "permessage-deflate; server_max_window_bits=16",
        "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
        "x-webkit-deflate-frame",
        ";;,=",
    ],
)
def test_offers_that_are_not_taken(server: Process, offer: str) -> None:
    with server.connect() as raw:
        response = raw.ask(headers=[(EXTENSION, offer)])
        assert response.status == 101
        assert "sec-websocket-extensions" not in response.headers
        raw.send_frame(TEXT, "plain " * 100)
        assert raw.message() == "plain " * 100


def test_the_next_offer_is_looked_at(server: Process) -> None:
    offer = "permessage-deflate; unknown, permessage-deflate; server_max_window_bits=10"
    with server.connect() as raw:
        response = raw.ask(headers=[(EXTENSION, offer)])
        assert "server_max_window_bits=10" in response.headers["sec-websocket-extensions"]


def test_off_by_default(serve: Start) -> None:
    server = serve()
    with connect(server.url, proxy=None) as client:
        assert not client.protocol.extensions
