"""What waits for one member whose server takes no more, where the server is not ours."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tidegate.asgi.packet import Packet
    from tidegate.core.settings import OutboxSettings
    from tidegate.core.stats import Stats

__all__ = ["Outbox"]


class Outbox:
    """Messages in their order, within `outbox.max_bytes`, `outbox.max_age` and `outbox.policy`.

    It exists only while something waits. The first message is with the server already, so it is
    never dropped; and it may be larger than `outbox.max_bytes`, so that a member is not too slow
    for taking one large message.
    """

    __slots__ = ("_packets", "_since", "size")

    def __init__(self, packet: Packet, now: float) -> None:
        self._packets: deque[tuple[Packet, bool]] = deque(((packet, False),))
        self._since = now
        self.size = packet.size
        """Bytes that wait."""

    def __len__(self) -> int:
        return len(self._packets)

    @property
    def first(self) -> Packet:
        """The message that is with the server."""
        return self._packets[0][0]

    def sent(self, now: float) -> int:
        """The server has taken the first message; returns its size."""
        packet, _ = self._packets.popleft()
        self.size -= packet.size
        self._since = now
        return packet.size

    def add(
        self, packet: Packet, now: float, settings: OutboxSettings, stats: Stats, *, of_room: bool
    ) -> bool:
        """Keep a message, or drop it or older ones as the policy says.

        Args:
            of_room: whether it may be dropped.

        Returns:
            False when the member is too slow: it is to be closed.
        """
        if now - self._since > settings.max_age:
            return False
        policy = settings.policy
        if self.size + packet.size > settings.max_bytes:
            if policy == "drop_newest" and of_room:
                stats.messages_dropped[policy] += 1
                return True
            if policy == "drop_oldest":
                self._make_room(packet.size, settings.max_bytes, stats)
            if self.size + packet.size > settings.max_bytes:
                return False
        self._packets.append((packet, of_room))
        self.size += packet.size
        return True

    def _make_room(self, size: int, most: int, stats: Stats) -> None:
        """Drop the oldest messages of rooms until `size` bytes fit in, or none is left."""
        packets = self._packets
        kept = [packets.popleft()]
        while packets and self.size + size > most:
            packet, of_room = waiting = packets.popleft()
            if of_room:
                self.size -= packet.size
                stats.messages_dropped["drop_oldest"] += 1
            else:
                kept.append(waiting)
        packets.extendleft(reversed(kept))
