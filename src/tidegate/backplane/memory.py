"""The backplane of a single node: everything is delivered at once, in the same turn.

It loses nothing, repeats nothing and keeps the order of publishing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tidegate.backplane.base import Done, Receiver
    from tidegate.core.messaging.publication import Direct, Publication

__all__ = ["MemoryBroker"]


class MemoryBroker:
    """The broker of a single node."""

    __slots__ = ("_receiver",)

    _receiver: Receiver

    async def start(self, receiver: Receiver, /) -> None:
        """Deliver to this receiver."""
        self._receiver = receiver

    async def stop(self) -> None:
        """Do nothing: nothing is on its way."""

    def subscribe(self, room: str, done: Done, /) -> None:  # noqa: ARG002
        """Confirm it at once: the receiver knows the members of its rooms."""
        done(None)

    def unsubscribe(self, room: str, /) -> None:
        """Do nothing: a room without members gets nothing."""

    def publish(self, publication: Publication, done: Done, /) -> None:
        """Deliver a publication. HOT."""
        done(self._receiver.deliver(publication))

    def send(self, message: Direct, done: Callable[[int], None], /) -> None:
        """Deliver a message. HOT."""
        done(self._receiver.deliver_to_user(message))
