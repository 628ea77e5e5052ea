"""Any messages to the protocol's real handler."""

from __future__ import annotations

import logging
from random import Random
from typing import Any, Final

import pytest
from hypothesis import given

from tests.fuzz.answers import check_close, read
from tests.fuzz.messages import FORMS, sent
from tests.fuzz.size import MESSAGES, TOGETHER, batches, fuzzing
from tests.unit.node.native.native_world import SECRET, Peer, World
from tidegate.core.admission.attempt import Claims, Lease
from tidegate.engine.states import Admission
from tidegate.wire.reader import Reader

RULES: Final = [
    {"pattern": "kept", "history_size": 5, "timestamp": True},
    {"pattern": "shown", "presence": "members", "history_size": 2},
]


class Listener(Peer):
    """A peer that reads everything it is sent."""

    heard = 0

    def send(self, message: str | bytes) -> None:
        if self.open:
            read(self.subprotocol.rpartition(".")[2], message)
            self.heard += 1

    def transmit(self, frame: bytes) -> None:
        reader = Reader(1 << 24, 1, masked=False)
        reader.feed(frame)
        while (item := reader.next()) is not None:
            self.send(item[1])


class FuzzWorld(World):
    """A node whose peers speak one format."""

    def __init__(self, form: str) -> None:
        self.form = form
        super().__init__(
            rooms={"rules": RULES},
            messages={"max_size": 20_000},
            limits={"rooms_per_connection": 3},
            auth={"secret": SECRET},
        )

    def _peer(self, lease: Lease, admission: Admission) -> Peer:
        self.count += 1
        peer = Listener(self.count, lease, admission)
        peer.subprotocol = f"tidegate.v1.{self.form}"
        self.peers.append(peer)
        return peer

    def crowd(self) -> list[Any]:
        return [
            self.open("ann"),
            self.open("bob", claims=Claims(operator=True)),
            self.open(),
            self.open(unidentified=True),
            self.wait(),
        ]


@pytest.mark.parametrize("form", FORMS)
def test_handler_answers_anything_with_messages_of_the_table(
    form: str, caplog: pytest.LogCaptureFixture
) -> None:
    told = 0

    @given(batches())
    @fuzzing
    def fuzz(random: Random) -> None:
        nonlocal told
        world = FuzzWorld(form)
        peers = world.crowd()
        for _ in range(TOGETHER):
            peer, data, early = random.choice(peers), sent(random, form), not random.randrange(8)
            if not peer.open:
                continue
            if early:
                world.app.too_early(peer, _as_read(data), 0.5)
            else:
                world.app.message(peer, _as_read(data) if random.randrange(2) else data)
        for peer in peers:
            for code, text, _ in peer.ends:
                check_close(code, text)
            told += peer.heard
            world.leave(peer)
        assert (world.tracker.open, len(world.rooms), len(world.users)) == (0, 0, 0)

    fuzz()
    assert told > MESSAGES // 4, "hardly anything was answered: the messages reach nothing"
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def _as_read(data: bytes) -> str | bytes:
    """As the engine hands it over: text only if it is UTF-8."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data
