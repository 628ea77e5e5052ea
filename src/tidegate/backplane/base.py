"""The protocols that a backplane speaks, and what it tells the node it serves.

Every publication takes the same path, on the node that published it too, so a room has one order,
which is the broker's:

    Delivery.publish -> Broker.publish -> Receiver.deliver, on every node with members

A broker answers through `done` and not by `await`, so that the one in memory answers in the same
turn and costs nothing. It may deliver late, lose and repeat; what it promises is said in its own
module. It may also deliver to a room before it has confirmed the subscription, and what was on its
way when the node unsubscribed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, TypeAlias

if TYPE_CHECKING:
    from tidegate.core.codes import Fault
    from tidegate.core.messaging.publication import Direct, Publication

__all__ = ["Broker", "Done", "Receiver"]

Done: TypeAlias = "Callable[[Fault | None], None]"
"""Told once how it went: None when it was done, else why not."""


class Receiver(Protocol):
    """The node that a broker serves. Everything is called in the thread of the node's loop."""

    def deliver(self, publication: Publication, /) -> Fault | None:
        """Send a publication to the room's members on this node; why not, if it was dropped."""

    def deliver_to_user(self, message: Direct, /) -> int:
        """Send a message to the user's connections on this node; to how many it went."""


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
