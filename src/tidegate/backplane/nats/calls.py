"""What a node asks of all others, or of one, and what they answer.

NATS does not say to how many a message went. So the answers are waited for of those who are known
to live; who does not answer in time is not waited for again until it is heard. One that is asked
alone and is not there any more is told by the server at once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import msgspec

if TYPE_CHECKING:
    from tidegate.backplane.nats.bus import Bus
    from tidegate.backplane.nats.peers import Peers
    from tidegate.backplane.nats.wire import Message

__all__ = ["Answered", "Calls", "Carry", "Reply"]


_log = logging.getLogger("tidegate")


class _Call(msgspec.Struct, array_like=True, frozen=True):
    """What is asked; fields that come new are put at the end, so that older nodes read it."""

    node: str
    kind: str
    body: bytes


class _Part(msgspec.Struct, array_like=True, frozen=True):
    """A part of an answer."""

    node: str
    body: bytes | None
    """None when it was not done."""
    last: bool


_encode = msgspec.msgpack.Encoder().encode
_read_call = msgspec.msgpack.Decoder(_Call).decode
_read_part = msgspec.msgpack.Decoder(_Part).decode

Reply: TypeAlias = "Callable[[bytes | None, bool], None]"
"""Sends a part of the answer, None where it was not done, and whether it is the last part."""

Carry: TypeAlias = "Callable[[str, bytes, Reply], None]"
"""Does what a call of a kind asks for, and answers it."""


class Answered(NamedTuple):
    """What has become of a call."""

    parts: dict[str, list[bytes]]
    """What each node has answered."""
    missing: frozenset[str]
    """The nodes that have not, or not to the end."""
    failed: bool
    """Whether one of them has not done it."""


class _Asked:
    """A call of this node that is not answered by all."""

    def __init__(
        self, expected: set[str], waited: set[str], done: Callable[[Answered], None]
    ) -> None:
        self.expected = expected
        """Who should answer."""
        self.waited = waited
        """Who is waited for."""
        self.done = done
        self.parts: dict[str, list[bytes]] = {}
        self.failed = False
        self.timer: asyncio.TimerHandle | None = None


class Calls:
    """Asks the other nodes something, and answers them.

    Args:
        bus: the connection to the server.
        peers: knows which nodes there are.
        name: what it is about: a part of the subjects.
        carry: does what others ask for.
    """

    def __init__(self, bus: Bus, peers: Peers, name: str, carry: Carry) -> None:
        self._bus = bus
        self._peers = peers
        self._name = name
        self._answers = bus.name("answers", bus.node, name)
        self._carry = carry
        self._number = 0
        self._asked: dict[int, _Asked] = {}
        bus.hear(bus.name(name), self._called)
        bus.hear(bus.name(name, bus.node), self._called)
        bus.hear(f"{self._answers}.*", self._answered)
        bus.watch(down=self._down, stopped=self._stop)

    def ask(
        self,
        kind: str,
        body: bytes,
        seconds: float,
        done: Callable[[Answered], None],
        node: str | None = None,
    ) -> None:
        """Ask all other nodes, or one; `done` is told the answers within so many seconds."""
        expected = set(self._peers.known) if node is None else {node}
        waited = set(self._peers.present) if node is None else {node}
        if not self._bus.up:
            done(Answered({}, frozenset(expected), failed=True))
            return
        self._number = number = self._number + 1
        subject = self._bus.name(self._name) if node is None else self._bus.name(self._name, node)
        call = _encode(_Call(self._bus.node, kind, body))
        if len(call) > self._bus.link.largest:
            done(Answered({}, frozenset(expected), failed=True))
            return
        self._bus.link.publish(subject, call, f"{self._answers}.{number}")
        if not waited:
            done(Answered({}, frozenset(expected), failed=False))
            return
        asked = self._asked[number] = _Asked(expected, waited, done)
        asked.timer = asyncio.get_running_loop().call_later(seconds, self._late, number)

    def _called(self, message: Message) -> None:
        call = _read_call(message.data)
        reply = message.reply.decode()
        if call.node == self._bus.node or not reply:
            return

        def answer(body: bytes | None, last: bool) -> None:
            part = _encode(_Part(self._bus.node, body, last))
            if len(part) > self._bus.link.largest:
                _log.warning(
                    "an answer to another node is too big", extra={"order": call.kind[:64]}
                )
                part = _encode(_Part(self._bus.node, None, last))
            self._bus.tell(reply, part)

        self._carry(call.kind, call.body, answer)

    def _answered(self, message: Message) -> None:
        number = int(message.subject.rpartition(b".")[2])
        asked = self._asked.get(number)
        if asked is None:
            return  # it comes too late
        if message.status:  # it was asked alone, and is not there
            for node in asked.expected:
                self._peers.doubt(node)
            asked.expected.clear()
            asked.waited.clear()
        else:
            part = _read_part(message.data)
            if part.body is None:
                asked.failed = True
            else:
                asked.parts.setdefault(part.node, []).append(part.body)
            if part.last:
                asked.expected.discard(part.node)
                asked.waited.discard(part.node)
        if not asked.waited:
            self._over(number)

    def _late(self, number: int) -> None:
        for node in self._asked[number].waited:
            self._peers.doubt(node)
        self._over(number)

    def _over(self, number: int) -> None:
        asked = self._asked.pop(number)
        if asked.timer is not None:
            asked.timer.cancel()
        missing = frozenset(asked.expected)
        asked.done(Answered(asked.parts, missing, asked.failed))

    def _down(self) -> None:
        for number in tuple(self._asked):
            self._over(number)

    def _stop(self) -> None:
        for asked in self._asked.values():
            if asked.timer is not None:
                asked.timer.cancel()
        self._asked.clear()
