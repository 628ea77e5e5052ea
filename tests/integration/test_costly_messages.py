"""Messages that cost far more than their bytes: their senders wait, and nobody else."""

from __future__ import annotations

import contextlib
import json
import random
import socket
import threading
import time
import zlib
from collections.abc import Iterator

import pytest

from tests.conftest import Start
from tests.support.process import Process
from tests.support.raw import TEXT, frame, upgrade

pytestmark = pytest.mark.usefixtures("many_addresses")

OFFERS = [
    ("Sec-WebSocket-Protocol", "tidegate.v1.json"),
    ("Sec-WebSocket-Extensions", "permessage-deflate"),
]
SIZE = 1_000_000
SECONDS = 3.0


def compressed(payload: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return (packer.compress(payload) + packer.flush(zlib.Z_SYNC_FLUSH))[:-4]


def costly() -> bytes:
    """A frame that inflates to nearly 1 MB of JSON, at a ratio that is allowed."""
    dice = random.Random(5)
    block = "".join(dice.choice("abcdefgh") for _ in range(2000))
    items = json.dumps([block[:1990]] * (SIZE // 2000))
    data = compressed(f'{{"type":"room_message","room":"nowhere","data":{items}}}'.encode())
    assert 50 < SIZE / len(data) < 200
    return frame(TEXT, data, rsv=4)


@contextlib.contextmanager
def attackers(server: Process, count: int, data: bytes) -> Iterator[None]:
    """Clients of one address that send the same bytes as fast as they are taken."""
    over = threading.Event()
    threads = []

    def attack(sock: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while not over.is_set():
                sock.sendall(data)

    socks = []
    for _ in range(count):
        sock = socket.socket()
        sock.bind(("127.0.0.2", 0))
        sock.connect(("127.0.0.1", server.port))
        sock.settimeout(30)
        sock.sendall(upgrade(headers=OFFERS))
        assert b" 101 " in sock.recv(4096)
        sock.sendall(frame(TEXT, b'{"type":"join","room":"nowhere"}'))
        socks.append(sock)
        threads.append(threading.Thread(target=attack, args=(sock,), daemon=True))
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for sock in socks:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()
        for thread in threads:
            thread.join(10)


def waits(server: Process, seconds: float) -> list[float]:
    """How long a member of another address waits for each of its answers."""
    times = []
    with server.connect() as raw:
        raw.open(headers=[OFFERS[0]])
        raw.message()
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            sent = time.monotonic()
            raw.send(frame(TEXT, b'{"type":"join","room":"own","id":1}'))
            raw.message()
            times.append(time.monotonic() - sent)
            time.sleep(0.06)
    return sorted(times)


@pytest.mark.alone
def test_a_member_hardly_waits_for_a_hundred_that_send_costly_messages(serve: Start) -> None:
    server = serve({"deflate": {"enabled": True}})
    quiet = waits(server, 0.5)
    with attackers(server, 99, costly()):
        time.sleep(0.5)
        times = waits(server, SECONDS)
    assert len(times) > 10
    # Alone it is a matter of milliseconds. The attackers are threads of this test: on a busy
    # machine they, and not the server, keep the member from reading its answer.
    assert times[len(times) // 2] < 0.1 + quiet[-1], (quiet, times)
    assert times[-1] < 0.5 + quiet[-1], (quiet, times)


def test_a_message_that_inflates_too_much_closes_its_connection(serve: Start) -> None:
    server = serve({"deflate": {"enabled": True}})
    with server.connect() as raw:
        raw.open(headers=OFFERS)
        raw.message()
        raw.send(frame(TEXT, compressed(b" " * SIZE), rsv=4))
        assert json.loads(raw.closed(1008).reason)["error"] == "compression_ratio"
    server.wait_open(0)
    assert server.stats()["disconnections"]["compression_ratio"] == 1
