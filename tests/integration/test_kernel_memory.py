"""What the kernel keeps for clients that do not read."""

from __future__ import annotations

import contextlib
import re
import sys
from pathlib import Path

import pytest

from tests.conftest import Start
from tests.support.net import wait_until
from tests.support.process import Process
from tests.support.raw import TEXT, frame

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/net/sockstat")

COUNT = 100
JOIN = [("Sec-WebSocket-Protocol", "tidegate.v1.json")]


def kernel_bytes() -> int:
    """The memory of all TCP sockets of this network namespace's machine, in bytes."""
    found = re.search(r"^TCP: .* mem (\d+)", Path("/proc/net/sockstat").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) * 4096


def fill(server: Process, room: str) -> int:
    """How much the kernel keeps for 100 members that never read what they are sent."""
    with contextlib.ExitStack() as held:
        for _ in range(COUNT):
            raw = held.enter_context(server.connect())
            raw.open(headers=JOIN)
            raw.send(frame(TEXT, f'{{"type":"join","room":"{room}","id":1}}'.encode()))
            raw.message()
            raw.message()
        sender = held.enter_context(server.connect())
        sender.open(headers=JOIN)
        sender.message()
        sender.send(frame(TEXT, f'{{"type":"join","room":"{room}","id":1}}'.encode()))
        sender.message()
        before = kernel_bytes()
        data = "x" * 16000
        for number in range(400):  # 6.4 MB to each of them
            text = (
                f'{{"type":"room_message","room":"{room}","data":"{data}","id":{number},'
                f'"echo":false}}'
            )
            sender.send(frame(TEXT, text.encode()))
            sender.message()
        wait_until(lambda: server.stats()["messages"]["dropped"]["drop_oldest"] > COUNT, 10)
        return kernel_bytes() - before


def test_the_kernel_keeps_little_for_those_who_do_not_read(serve: Start) -> None:
    settings = {
        "limits": {"per_ip": 1000},
        "messages": {"per_second": 0},
        "outbox": {"max_bytes": 65536, "policy": "drop_oldest", "max_age": 600},
    }
    assert fill(serve(settings), "bounded") < 30_000_000
