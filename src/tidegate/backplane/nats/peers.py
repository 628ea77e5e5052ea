"""Which other nodes live, and what each says of itself.

Each says again and again that it lives, to all who hear it; nothing is kept anywhere else. One that
comes says hello, and is answered by all. One that was not heard for a while is gone, as if it had
left by itself; nobody is gone while this node does not hear the others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Set
from time import monotonic
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec import DecodeError

from tidegate.backplane.living import LivingNodes
from tidegate.backplane.nodes import NodeRecord, NodeTimes, Seen

if TYPE_CHECKING:
    from tidegate.backplane.nats.bus import Bus
    from tidegate.backplane.nats.wire import Message

__all__ = ["Peers"]

_ROLL_CALL_SECONDS: Final = 0.05
_BEAT: Final = "beat"
_HELLO: Final = "hello"
_BYE: Final = "bye"


class _Said(msgspec.Struct, array_like=True, frozen=True):
    """What a node says; fields that come new are put at the end, so that older nodes read it."""

    node: str
    kind: str
    record: bytes
    """How it is, as JSON; empty where it does not say that now."""


_encode = msgspec.msgpack.Encoder().encode
_read_said = msgspec.msgpack.Decoder(_Said).decode
_encode_record = msgspec.json.Encoder().encode
_read_record = msgspec.json.Decoder(NodeRecord).decode


class Peers:
    """Tells the others that this node lives, and knows which of them do (`base.Nodes`).

    Args:
        bus: the connection to the server.
        times: how often nodes say that they live, and how long they may be silent.
    """

    def __init__(self, bus: Bus, times: NodeTimes) -> None:
        self._bus = bus
        self._all = bus.name("peers")
        self._forgotten = times.forgotten
        self._silent: set[str] = set()
        self._records: dict[str, tuple[bytes, float]] = {}
        self._own = b""
        self.living = LivingNodes(bus.node, times, lambda: bus.up, self._beat)
        """Which of them live."""
        self.living.watch(self._silent.discard, lambda _: None, lambda: None)
        bus.hear(self._all, self._told)
        bus.hear(self._to(bus.node), self._told)
        bus.watch(heard=self._heard, ready=self._roll_call, stopped=self.living.stop)

    @property
    def known(self) -> Set[str]:
        """The other nodes that are not gone."""
        return self.living.known

    @property
    def present(self) -> Set[str]:
        """Those of them that answer what they are asked."""
        return self.known - self._silent

    def doubt(self, node: str) -> None:
        """A node has not answered: nobody waits for it until it is heard again."""
        if self.living.knows(node):
            self._silent.add(node)

    # Records.

    def announce(self, record: NodeRecord, done: Callable[[bool], None], /) -> None:
        """Tell the others how this node is; `done` is told whether the server has taken it."""
        self._own = _encode_record(record)
        self._say(_BEAT, self._own)
        self._bus.link.confirm(lambda error: done(error is None))

    async def leave(self) -> None:
        """Tell the others that this node ends."""
        self._own = b""
        self.living.stop()
        self._say(_BYE)

    async def read(self) -> list[Seen] | None:
        """Return all nodes that were heard lately; None when that cannot be known now."""
        if not self._bus.up:
            return None
        now = monotonic()
        records = list(self._records.values())
        if self._own:
            records.append((self._own, now))
        seen = []
        for data, heard in records:
            try:
                seen.append(Seen(_read_record(data), now - heard))
            except DecodeError:
                continue  # of a version that is too different
        return seen

    # What is said.

    def _to(self, node: str) -> str:
        return self._bus.name("peers", node)

    def _say(self, kind: str, record: bytes = b"", to: str = "") -> None:
        self._bus.tell(to or self._all, _encode(_Said(self._bus.node, kind, record)))

    def _told(self, message: Message) -> None:
        said = _read_said(message.data)
        node = said.node
        if node == self._bus.node:
            return
        if said.kind == _BYE:
            self._records.pop(node, None)
            self.living.left(node)
            return
        now = monotonic()
        record = said.record or self._records.get(node, (b"", now))[0]
        if record:
            self._records[node] = (record, now)
        if said.kind == _HELLO:
            self._say(_BEAT, self._own, self._to(node))
        self._silent.discard(node)
        self.living.heard(node)

    def _heard(self) -> None:
        """This node hears the others."""
        self.living.begin()
        self._say(_HELLO, self._own)

    async def _roll_call(self) -> None:
        await asyncio.sleep(_ROLL_CALL_SECONDS)

    def _beat(self) -> None:
        self._say(_BEAT)
        forgotten = monotonic() - self._forgotten
        for node in [one for one, (_, last) in self._records.items() if last < forgotten]:
            del self._records[node]
