"""Rooms and users over the WebSockets of an ASGI application.

A message is encoded once and given to all members in the same turn, without waiting for any of
them. Members are in no room any more as soon as they have ended, whatever the cause.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Collection, Coroutine
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, Any

from tidegate.asgi.brokers import broker_of
from tidegate.asgi.member import HubMember
from tidegate.asgi.packet import Packet
from tidegate.asgi.rooms import Room, User, users_of
from tidegate.asgi.span import Span
from tidegate.core.codes import ROOM_LIMIT, Fault
from tidegate.errors import UsageError
from tidegate.node.users import Users
from tidegate.node.values import encoded
from tidegate.node.warner import Warner

if TYPE_CHECKING:
    from tidegate.asgi.local import LocalGate
    from tidegate.core.messaging.rooms import Rooms
    from tidegate.core.settings import Settings
    from tidegate.core.stats import Stats
    from tidegate.errors import Refused

__all__ = ["Hub", "HubStats"]


@dataclass(frozen=True, slots=True)
class HubStats:
    """What a hub holds now.

    Attributes:
        connections: open WebSockets.
        users: users with at least one of them.
        rooms: rooms with at least one member.
        buffered: bytes that wait for slow clients, where the server is not ours.
        dropped: messages that slow clients did not get, so far.
        refused: attempts that were refused, by reason, so far.
    """

    connections: int
    users: int
    rooms: int
    buffered: int
    dropped: int
    refused: dict[str, int]


class Hub:
    """The members, rooms and users of one process. Everything belongs to the loop's thread.

    With a backplane, what is sent reaches the members in other processes too; who is listed, and
    how many were reached, is of this process.

    Args:
        gate: has the limits, the settings of outboxes and the counters.
        clock: monotonic seconds.
    """

    def __init__(self, gate: LocalGate, *, clock: Callable[[], float] = monotonic) -> None:
        self._gate = gate
        self._rooms: Rooms[HubMember] = gate.rooms
        self._users: Users[HubMember] = Users()
        self._members: dict[HubMember, None] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._placing: set[asyncio.Task[None]] = set()
        self._pings = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._clock = clock
        self._warn = Warner()
        leases = gate.leases
        self._counts = leases if leases is not None and leases.rooms else None
        name = secrets.token_hex(4)
        broker = broker_of(gate.settings, name)
        self._span = None if broker is None else Span(broker, self, name)

    async def close(self) -> None:
        """End the connection to other processes, and wait for none of their answers any more."""
        for task in tuple(self._placing):
            task.cancel()
        if self._span is not None:
            await self._span.close()

    # What applications use.

    def room(self, name: str) -> Room[Any]:
        """Return a room by its name; it need not have members."""
        return Room(self, name)

    def user(self, name: str) -> User:
        """Return a user by name; it need not be connected."""
        return User(self, name)

    async def broadcast(self, message: Any, *, exclude: HubMember | None = None) -> int:
        """Send a message to every member, and return how many were reached."""
        packet = Packet(encoded(message))
        if self._span is not None:
            self._span.tell_all(packet.data)
        return self._send(packet, self._members, exclude, of_room=True)

    @property
    def members(self) -> tuple[HubMember, ...]:
        """All that are connected, in the order in which they came."""
        return tuple(self._members)

    @property
    def users(self) -> list[str]:
        """The users that are connected, each once."""
        return users_of(self._members)

    def __len__(self) -> int:
        """How many are connected."""
        return len(self._members)

    def stats(self) -> HubStats:
        """Return what it holds now."""
        counts = self.counters
        return HubStats(
            connections=len(self._members),
            users=len(self._users),
            rooms=len(self._rooms),
            buffered=self.buffered,
            dropped=counts.messages_dropped.total(),
            refused={reason: count for reason, count in counts.rejected.items() if count},
        )

    # What members and gates use.

    @property
    def settings(self) -> Settings:
        """The settings that are in force."""
        return self._gate.settings

    @property
    def counters(self) -> Stats:
        """The counters of the process."""
        return self._gate.stats

    @property
    def buffered(self) -> int:
        """Bytes that wait for slow clients, where the server is not ours."""
        return self._gate.buffered

    def now(self) -> float:
        """The time in monotonic seconds."""
        return self._clock()

    def opened(self, member: HubMember) -> None:
        """A member can be reached from now on.

        Raises:
            UsageError: the others are in another event loop.
        """
        if not self._members:
            self._loop = asyncio.get_running_loop()
        self._check_loop()
        if self._span is not None:
            self._span.begin()
        self._members[member] = None
        self._users.add(member)
        for room in member.joins:
            if self._counts is None:
                self._placed(self.join_here(member, room))
            else:
                placing = self.start(self._place(member, room))
                self._placing.add(placing)
                placing.add_done_callback(self._placing.discard)

    async def _place(self, member: HubMember, room: str) -> None:
        self._placed(await self.join(member, room))

    def _placed(self, fault: Fault | None) -> None:
        if fault is not None:
            self._warn(f"a client is not in a room of its token: {fault.message}")

    def gone(self, member: HubMember) -> None:
        """A member has ended."""
        rooms = member.rooms
        self._rooms.leave_all(member)
        self._left(rooms)
        self._members.pop(member, None)
        self._users.remove(member)
        if member.lease is not None:
            self._gate.release(member.lease)

    async def join(self, member: HubMember, room: str, per_room: int | None = None) -> Fault | None:
        """Put a member into a room; the reason when it cannot join.

        One that has ended already is in no room, and needs no reason: it sees its end.

        Args:
            per_room: a limit of the caller's own, beside that of the settings.
        """
        counts = self._counts
        if counts is None or room in member.rooms or member.end is not None:
            return self.join_here(member, room, per_room)
        most = self._rooms.most(room)
        told: asyncio.Future[Fault | None] = asyncio.get_running_loop().create_future()
        counts.join(
            room,
            most if per_room is None else min(most, per_room),
            lambda: not told.done(),
            told.set_result,
        )
        try:
            fault = await told
        except asyncio.CancelledError:
            if not told.cancelled() and told.result() is None:
                counts.leave(room)
            raise
        if fault is not None:
            self._rooms.refused[fault.name] += 1
        else:
            there = room in member.rooms  # by another call, which counts
            fault = self.join_here(member, room, per_room)
            if there or room not in member.rooms:
                counts.leave(room)
        return fault

    def refused(self, refusal: Refused) -> None:
        """Count an attempt that was refused for a room."""
        if refusal.status is not None:
            self.counters.rejected[refusal.reason] += 1

    def join_here(self, member: HubMember, room: str, per_room: int | None = None) -> Fault | None:
        """Put a member into a room without asking the other processes."""
        if member.end is not None:
            return None
        if per_room is not None and room not in member.rooms and self.count(room) >= per_room:
            return ROOM_LIMIT
        # One that is not accepted yet is not among the connections of its user.
        user = member.user
        devices = () if user is None else (*self._users.of_user(user), member)
        fault = self._rooms.join(member, room, devices)
        if fault is None and self._span is not None and self.count(room) == 1:
            self._span.follow(room)
        return fault

    def leave(self, member: HubMember, room: str) -> bool:
        """Take a member out of a room; False when it was not in it."""
        left = self._rooms.leave(member, room)
        if left:
            self._left((room,))
        return left

    def _left(self, rooms: tuple[str, ...]) -> None:
        for room in rooms:
            if self._counts is not None:
                self._counts.leave(room)
            if self._span is not None and not self.count(room):
                self._span.leave(room)

    def count(self, room: str) -> int:
        """How many members a room has."""
        return self._rooms.count(room)

    def members_of(self, room: str) -> tuple[HubMember, ...]:
        """The members of a room, in the order in which they joined."""
        return tuple(self._rooms.members(room))

    def devices(self, user: str) -> tuple[HubMember, ...]:
        """The members of a user."""
        return self._users.of_user(user)

    def publish(self, room: str, message: Any, exclude: HubMember | None = None) -> int:
        """Send a message to the members of a room; how many were reached."""
        packet = Packet(encoded(message))
        if self._span is not None:
            self._span.publish(room, packet.data)
        return self._send(packet, self._rooms.members(room), exclude, of_room=True)

    def tell(self, user: str, message: Any) -> int:
        """Send a message to every connection of a user; how many were reached."""
        packet = Packet(encoded(message))
        if self._span is not None:
            self._span.tell(user, packet.data)
        return self._send(packet, self._users.of_user(user), None, of_room=False)

    # What other processes have sent.

    def deliver(self, room: str, data: str | bytes, /) -> None:
        """Send a message of another process to the members of a room."""
        self._send(Packet(data), self._rooms.members(room), None, of_room=True)

    def deliver_to_user(self, user: str, data: str | bytes, /) -> None:
        """Send a message of another process to every connection of a user."""
        self._send(Packet(data), self._users.of_user(user), None, of_room=False)

    def deliver_to_all(self, data: str | bytes, /) -> None:
        """Send a message of another process to every member."""
        self._send(Packet(data), self._members, None, of_room=True)

    def kept(self, size: int) -> None:
        """So many bytes more wait in outboxes."""
        self._gate.buffered += size

    def start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run something that nobody waits for; it is not lost before it is done."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def next_ping(self) -> str:
        """Return what tells the answer to a ping from that to others."""
        self._pings += 1
        return f"p{self._pings:x}"

    def _send(
        self,
        packet: Packet,
        members: Collection[HubMember],
        exclude: HubMember | None,
        *,
        of_room: bool,
    ) -> int:
        if members:
            self._check_loop()
        reached = 0
        for member in tuple(members):  # a copy: one that is too slow leaves while it is told
            if member is not exclude:
                reached += member.push(packet, of_room=of_room)
        return reached

    def _check_loop(self) -> None:
        if asyncio.get_running_loop() is not self._loop:
            raise UsageError(
                "the members of a hub must all be in one event loop; in tests, write "
                "`with TestClient(app) as client:`, or each connection gets a loop of its own"
            )
