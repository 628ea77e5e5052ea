"""The protocols that a backplane speaks, and what it tells the node it serves.

Every publication takes the same path, on the node that published it too, so a room has one order,
which is the broker's:

    Delivery.publish -> Broker.publish -> Receiver.deliver, on every node with members

A broker answers through `done` and not by `await`, so that the one in memory answers in the same
turn and costs nothing. It may deliver late, lose and repeat; what it promises is said in its own
module. It may also deliver to a room before it has confirmed the subscription, and what was on its
way when the node unsubscribed.

Where a room's rule says so, the broker also keeps the last messages: then a publication has an
offset before it is delivered, and every node delivers them in the order of their offsets.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeAlias

if TYPE_CHECKING:
    from tidegate.backplane.nodes import NodeRecord, Seen
    from tidegate.backplane.traffic import Traffic
    from tidegate.core.codes import Fault
    from tidegate.core.messaging.history import Page, Position
    from tidegate.core.messaging.presence import Present
    from tidegate.core.messaging.publication import Direct, Publication

__all__ = [
    "Answers",
    "Backplane",
    "Broker",
    "CarryOut",
    "Done",
    "HistoryQuery",
    "Leases",
    "Nodes",
    "Orders",
    "PresenceReceiver",
    "Presences",
    "Receiver",
    "Revocation",
    "Revocations",
    "SessionStore",
    "Taken",
]

Done: TypeAlias = "Callable[[Fault | None], None]"
"""Told once how it went: None when it was done, else why not."""


Taken: TypeAlias = "Callable[[int | None], None]"
"""Told once how it went: 0 when all was taken, the number of the first limit that is reached, from
1, or None when the backplane cannot be asked, and it is not known whether anything was taken."""


CarryOut: TypeAlias = "Callable[[str, bytes], Awaitable[bytes | None]]"
"""Does what an order of this kind says; returns the answer, None for a kind it does not know."""


class Answers(NamedTuple):
    """What the other nodes have answered to an order."""

    bodies: list[bytes]
    complete: bool
    """Whether all of them have done it."""


class Revocation(NamedTuple):
    """A user, whose tokens from before a time are not accepted. Times are in Unix seconds."""

    user: str
    before: float
    until: float
    """When it may be forgotten: no token from before is valid then."""


class HistoryQuery(NamedTuple):
    """Which messages of a room: the first `limit` after `since`, or the last `limit` without it."""

    since: Position | None
    limit: int


class Receiver(Protocol):
    """The node that a broker serves. Everything is called in the thread of the node's loop."""

    def deliver(self, publication: Publication, /) -> Fault | None:
        """Send a publication to the room's members on this node; why not, if it was dropped."""

    def deliver_to_user(self, message: Direct, /) -> int:
        """Send a message to the user's connections on this node; to how many it went."""

    def deliver_to_all(self, message: Publication, /) -> int:
        """Send a message to all connections of this node; to how many it went."""

    def missed_directs(self) -> None:
        """Messages to users, or to all, may not have reached the connections of this node."""

    def missed(self, room: str, /) -> None:
        """Tell the room's members on this node that messages may not have reached them."""


class Broker(Protocol):
    """Carries publications and direct messages. All methods belong to the loop's thread.

    `done` is called once, before the method returns or later, and never after `stop`.
    """

    async def start(self, receiver: Receiver, /) -> None:
        """Begin to serve this node. Raises BackplaneError when that cannot be."""

    async def stop(self) -> None:
        """End, and call nobody any more."""

    def subscribe(self, room: str, done: Done, /) -> None:
        """Deliver what is published to `room` from now on. The node has its first member there.

        Until `done` is called there is no other call for this room. After a fault the node is not
        subscribed.
        """

    def unsubscribe(self, room: str, /) -> None:
        """Deliver nothing more of `room`. The node has no member there any more.

        A `subscribe` that follows takes effect after it.
        """

    def publish(self, publication: Publication, done: Done, /) -> None:
        """Carry a publication to every node that has subscribed to its room."""

    def send(self, message: Direct, done: Callable[[int], None], /) -> None:
        """Carry a message to every connection of a user; `done` is told to how many, where known.

        A broker that cannot know it counts those of this node.
        """

    def to_all(self, message: Publication, done: Callable[[int], None], /) -> None:
        """Carry a message without a room to every connection; `done` is told as by `send`."""

    def history(
        self, room: str, query: HistoryQuery, done: Callable[[Page | Fault], None], /
    ) -> None:
        """Read a room's history; `done` is told it, or why it cannot be read.

        When it is told before the method returns, the position is that of the last message that
        was delivered to this node. When it is told later, messages may have been delivered in
        between, and some up to that position may still come.
        """


class Leases(Protocol):
    """Counts over all nodes, by name. All methods belong to the loop's thread.

    Every node has counts of its own, and the fleet's are their sums. The node is always right about
    its own: whenever the backplane may know less, or something else, it is told all of them. The
    counts of a node that is not heard of for a while are gone.
    """

    async def start(self, held: Mapping[str, int], lost: Callable[[], None], /) -> None:
        """Begin to count for this node. Raises BackplaneError when that cannot be.

        Args:
            held: what this node holds, always up to date.
            lost: called when the counts of this node may be gone, because the backplane could not
                be reached for too long.
        """

    async def begin(self, held: Mapping[str, int], lost: Callable[[], None], /) -> None:
        """Do the same, but wait only for a while, and go on trying."""

    async def stop(self) -> None:
        """Give back all that this node holds, and call nobody any more."""

    @property
    def up(self) -> bool:
        """Whether the backplane can be asked."""

    @property
    def total(self) -> int:
        """Connections of all nodes, as they were a few seconds ago."""

    def take(self, names: Sequence[str], limits: Sequence[int | None], taken: Taken, /) -> None:
        """Count one more under all of these names, or under none.

        `taken` is told at once or later; what was taken is in `held` only when the caller puts it
        there. It may take seconds when the backplane has just been started again.
        """

    def change(self, out: Sequence[str], into: Sequence[str], /) -> None:
        """Count one less under some names, and one more under others, whatever their limits.

        The caller has changed `held` before.
        """

    def sums(self, names: Sequence[str], done: Callable[[list[int] | None], None], /) -> None:
        """Tell `done` what all nodes have in some counts; None when that cannot be known now."""


class PresenceReceiver(Protocol):
    """What a node has and knows of the users in rooms. Called in the thread of the node's loop."""

    def own_rooms(self) -> Iterable[str]:
        """Return the rooms that have users on this node."""

    def own(self, room: str, /) -> Iterable[Present]:
        """Return the users that a room has on this node."""

    def has(self, room: str, /) -> bool:
        """Whether a room has users on this node."""

    def others(
        self, room: str, node: str, users: Sequence[Present], left: Sequence[str], whole: bool, /
    ) -> bool:
        """Another node has these users in a room, and not any more those that have `left`.

        It has no other users there if this is the `whole` of it. Returns whether it has any now.
        """

    def nodes(self, room: str, /) -> Iterable[str]:
        """Return the other nodes that have users in a room."""

    def rooms_of(self, node: str, /) -> Iterable[str]:
        """Return the rooms in which another node has users."""

    def forget(self, room: str, /) -> None:
        """Forget what other nodes have in a room: it is not followed any more."""


class Presences(Protocol):
    """Tells nodes who is in rooms on the others. All methods belong to the loop's thread.

    A node knows it of the rooms to which it is subscribed, from when that is confirmed.
    """

    def start(self, receiver: PresenceReceiver, /) -> None:
        """Serve this node, from when the broker starts."""

    def tell(self, room: str, users: Sequence[Present], left: Sequence[str], /) -> None:
        """Tell the others what has changed in a room on this node."""

    def follows(self, room: str, /) -> bool:
        """Whether this node knows who is in a room on the others."""

    def read(self, room: str, done: Callable[[dict[str, list[Present]] | Fault], None], /) -> None:
        """Read who is in a room, by node; `done` is told it, or why it cannot be read."""


class SessionStore(Protocol):
    """Has what nodes write of their sessions, for the case that they die."""

    def start(
        self,
        key_known: Callable[[bytes], None],
        own: Callable[[], Iterable[tuple[str, bytes]]],
        ttl: Callable[[], float],
        /,
    ) -> None:
        """Serve this node, from when the broker starts.

        Args:
            key_known: told the key with which all nodes sign sessions.
            own: returns the sessions of this node by their ids, when they are to be written again.
            ttl: returns for how many seconds those of a dead node are kept.
        """

    def keep(self, sessions: Sequence[tuple[str, bytes]], /) -> None:
        """Write sessions by their ids, in place of what was known of them."""

    def drop(self, ids: Sequence[str], /) -> None:
        """Forget sessions."""

    def take(self, node: str, id: str, done: Callable[[bytes | None], None], /) -> None:  # noqa: A002
        """Take a session of another node away; `done` is told what was written of it."""


class Orders(Protocol):
    """Has all nodes of a fleet do something. All methods belong to the loop's thread."""

    def start(self, carry_out: CarryOut, /) -> None:
        """Carry out the orders of other nodes by this, from when the broker starts."""

    async def ask(self, kind: str, body: bytes, seconds: float, /) -> Answers:
        """Give an order to all other nodes; return what they have answered within so many seconds.

        A node that cannot be reached does not get it later.
        """

    async def ask_one(self, node: str, kind: str, body: bytes, seconds: float, /) -> Answers:
        """Give an order to one other node; return what it has answered, nothing if it is gone."""


class Revocations(Protocol):
    """Keeps revocations, so that a node learns those too that were given while it was away."""

    def start(
        self,
        known: Callable[[], Iterable[Revocation]],
        learn: Callable[[Sequence[Revocation]], None],
        /,
    ) -> None:
        """Take what returns the revocations of this node, and what is told those of all.

        When the broker has started, the node has been told.
        """

    def keep(self, revocation: Revocation, /) -> None:
        """Keep one."""


class Nodes(Protocol):
    """Knows the nodes of a fleet, by what each says of itself. It begins with the broker."""

    def announce(self, record: NodeRecord, done: Callable[[bool], None], /) -> None:
        """Keep what this node says of itself; `done` is told whether that has worked.

        It is also kept again, by itself, whenever the connection to the backplane is new.
        """

    async def leave(self) -> None:
        """Forget this node, which ends."""

    async def read(self) -> list[Seen] | None:
        """Return all nodes that were heard lately; None when that cannot be known now."""


class Backplane(Protocol):
    """All that connects the nodes of a fleet; None for what it cannot do."""

    @property
    def up(self) -> bool:
        """Whether it can be reached, and this node hears the others."""

    @property
    def subscriptions(self) -> int:
        """How many rooms this node hears."""

    @property
    def traffic(self) -> Traffic:
        """Counts what goes over it."""

    @property
    def broker(self) -> Broker:
        """Carries messages. The others begin and end with it."""

    @property
    def orders(self) -> Orders | None:
        """Has all nodes do something."""

    @property
    def presence(self) -> Presences | None:
        """Tells nodes who is in rooms on the others."""

    @property
    def sessions(self) -> SessionStore | None:
        """Has what nodes write of their sessions."""

    @property
    def nodes(self) -> Nodes | None:
        """Knows all nodes."""

    @property
    def revocations(self) -> Revocations | None:
        """Keeps revocations for all nodes."""
