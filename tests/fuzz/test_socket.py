"""Any bytes in frames, to a server process: it answers by the tables, lives, and keeps nothing."""

from __future__ import annotations

import json
import struct
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from random import Random
from typing import Final

import pytest
from hypothesis import given

from tests.conftest import Start
from tests.fuzz.answers import check_close, read
from tests.fuzz.messages import FORMS, sent
from tests.fuzz.size import TOGETHER, batches, fuzzing
from tests.support.net import wait_until
from tests.support.process import Process
from tests.support.raw import BINARY, CLOSE, CONT, PING, PONG, TEXT, Frame, Raw, frame
from tests.support.tokens import SECRET, bearer

SETTINGS: Final = {
    "auth": {"secret": SECRET, "anonymous": True},
    "limits": {"per_ip": 10_000, "per_user": 10_000, "rooms_per_connection": 3},
    "messages": {
        "max_size": 20_000,
        "per_second": 0,
        "joins_per_second": 0,
        "control_per_second": 0,
    },
    "sessions": {"enabled": True, "ttl": 1.0},
    "rooms": {
        "rules": [
            {"pattern": "kept", "history_size": 5, "timestamp": True},
            {"pattern": "shown", "presence": "members", "history_size": 2},
        ]
    },
}
END: Final = b"the end"
LARGEST: Final = 20_000


@pytest.fixture(scope="module")
def server(shared_serve: Start) -> Process:
    return shared_serve(SETTINGS)


@pytest.mark.parametrize("form", FORMS)
def test_server_answers_any_frames_by_the_tables_and_keeps_nothing(
    server: Process, form: str
) -> None:
    found: Counter[str] = Counter()
    with opened(server, "json") as witness:

        @given(batches())
        @fuzzing
        def fuzz(random: Random) -> None:
            talk(server, form, random, found)
            # Another client is served as before.
            witness.send_frame(TEXT, json.dumps({"type": "health_ping", "id": 1}))
            while json.loads(witness.message())["type"] != "health_pong":
                pass  # what others say to everybody

        fuzz()
    assert server.process.poll() is None
    # Sessions end a second after their clients.
    server.wait_open(0, 30)
    wait_until(lambda: server.stats()["rooms"] == 0, 10, "all rooms are empty")
    figures = server.metrics()
    for name in ("websocket_users", "websocket_outbox_bytes", "websocket_sessions_waiting"):
        assert figures[name] == 0, name
    assert found["messages"] > found["frames"] // 10, found
    assert found["closed"] > 0, found
    assert found["to the end"] > 0, found
    assert " error " not in server.log.lower()
    print(form, dict(found))


def opened(server: Process, form: str, user: str | None = None, operator: bool = False) -> Raw:
    """A client of a format that has read its `connected`."""
    raw = server.connect(timeout=60)
    headers = [("Sec-WebSocket-Protocol", f"tidegate.v1.{form}")]
    raw.open(headers=headers if user is None else [*headers, bearer(user, operator=operator)])
    assert read(form, raw.message())["type"] == "connected"
    return raw


def talk(server: Process, form: str, random: Random, found: Counter[str]) -> None:
    """Connect, send frames by chance, and check all that comes back."""
    user = random.choice(("ann", "bob", None))
    closes = False
    with opened(server, form, user, operator=not random.randrange(4)) as raw:
        torn = not random.randrange(3)
        stream = b""
        for data in frames(random, form, torn):
            stream += data
            found["frames"] += 1
            closes |= data[0] & 15 == CLOSE
        stream += frame(PING, END)
        with suppress(ConnectionError):  # it has closed, and says so in what can be read
            while stream:
                size = random.choice((1, 10, 100, 1000, 100_000))
                raw.send(stream[:size])
                stream = stream[size:]
        if torn:  # a length that is wrong takes all that follows: nothing follows
            with suppress(OSError):  # it is gone
                raw.half_close()
        outcome = "gone"
        with suppress(EOFError, ConnectionError):
            while outcome == "gone":
                outcome = heard(raw.frame(), form, closes or torn, found)
        assert torn or closes or outcome != "gone", "it has ended without a close"
        found[outcome] += 1


def heard(got: Frame, form: str, echoes: bool, found: Counter[str]) -> str:
    """Check one frame of the server; what it means for the connection."""
    assert got.final, got
    assert got.rsv == 0, got
    if got.opcode == CLOSE:
        try:
            check_close(got.code, got.reason)
        except (ValueError, KeyError, TypeError):
            assert echoes, got  # of a close frame of ours
        return "closed"
    if got.opcode == PONG:
        return "to the end" if got.payload == END else "gone"
    assert got.opcode in (TEXT, BINARY), got
    read(form, got.payload.decode() if got.opcode == TEXT else got.payload)
    found["messages"] += 1
    return "gone"


def frames(random: Random, form: str, torn: bool) -> Iterator[bytes]:
    """Messages in frames, whole and in pieces; where it may be torn, what ends it too."""
    natural = TEXT if form == "json" else BINARY
    for _ in range(TOGETHER):
        data = sent(random, form)
        if torn and not random.randrange(6):
            yield _wrong(random, data)
            continue
        if not torn:  # nothing that ends it
            data = data[:LARGEST]
            if form == "json":
                data = data.decode("utf-8", "replace").encode()[:LARGEST]
                data = data.decode("utf-8", "ignore").encode()
        how = random.randrange(20)
        if how == 0:
            first, second = sorted(random.randrange(len(data) + 1) for _ in range(2))
            yield frame(natural, data[:first], final=False)
            yield frame(PING, data[:20])
            yield frame(CONT, data[first:second], final=False)
            yield frame(CONT, data[second:])
        elif how == 1:
            yield frame(random.choice((PING, PONG)), data[:125])
        else:
            yield frame(natural, data)


def _wrong(random: Random, data: bytes) -> bytes:
    """A frame that may end the connection."""
    how = random.randrange(5)
    if how == 0:
        code = random.choice((0, 999, 1000, 1001, 1005, 1006, 3000, 4000, 4999, 5000, 65535))
        return frame(CLOSE, random.choice((b"", b"\x03", struct.pack("!H", code) + data[:100])))
    if how == 1:
        return frame(random.choice((TEXT, BINARY)), data)
    if how == 2:
        return frame(random.choice((PING, PONG, CLOSE)), data)
    if how == 3:
        made = frame(TEXT, data)
        at = random.randrange(min(len(made), 14))
        return made[:at] + bytes((random.randrange(256),)) + made[at + 1 :]
    return frame(
        random.randrange(16),
        data,
        final=bool(random.randrange(2)),
        rsv=random.choice((0, 0, 1, 2, 4, 7)),
        masked=bool(random.randrange(4)),
    )
