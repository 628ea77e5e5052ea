"""What an application does to the node that it runs on: publish, join, disconnect."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec import UNSET, Raw, UnsetType

from tidegate.core.codes import Fault
from tidegate.errors import UsageError
from tidegate.gate.refused import refused
from tidegate.library.arguments import check_type
from tidegate.node.control.connections import Selector
from tidegate.node.control.publishing import Publish
from tidegate.node.values import encode_json

if TYPE_CHECKING:
    from tidegate.node.control import Control
    from tidegate.node.control.publishing import Published

__all__ = ["Actions"]


class Actions:
    """What `App` can do while it runs, in the thread of its event loop."""

    def __init__(self) -> None:
        self._control: Control | None = None

    def runs_on(self, control: Control) -> None:
        """Do all that follows to this node."""
        self._control = control

    async def publish(self, room: str, data: Any) -> tuple[str, int] | None:
        """Send data to the members of a room, whatever its rule says.

        Args:
            data: what JSON can be made of.

        Returns:
            The position of the message, epoch and offset; None where the room keeps no history.

        Raises:
            Refused: it was not taken, because the node has too much to send.
            TypeError: no JSON can be made of the data.
            UsageError: the room is no name, or the application does not run.
        """
        done = await self._publish(data, room=room)
        if isinstance(done.epoch, str) and isinstance(done.offset, int):
            return done.epoch, done.offset
        return None

    async def send(self, user: str, data: Any) -> int:
        """Send data to every connection of a user; return to how many it goes. Raises as `publish`.

        Clients that are away but may resume their session count.
        """
        return _known((await self._publish(data, user=user)).delivered)

    async def broadcast(self, data: Any) -> int:
        """Send data to all connections; return to how many it goes. Raises as `publish`."""
        return _known((await self._publish(data, all=True)).delivered)

    async def join(self, room: str, *, user: str | None = None, id: str | None = None) -> int:  # noqa: A002
        """Put a connection, or all of a user, into a room, whatever its rule says.

        The clients are told by `joined`, or by `left` where a limit keeps them out.

        Returns:
            How many have come into the room.

        Raises:
            UsageError: the room is no name, neither user nor id is given, or the application does
                not run.
        """
        return (await self._node.join(Selector(user=user, id=id), room)).count

    async def leave(self, room: str, *, user: str | None = None, id: str | None = None) -> int:  # noqa: A002
        """Take a connection, all of a user, or without either all, out of a room; how many."""
        selector = None if user is None and id is None else Selector(user=user, id=id)
        return (await self._node.leave(room, selector)).count

    async def disconnect(
        self,
        *,
        user: str | None = None,
        id: str | None = None,  # noqa: A002
        detail: str = "",
    ) -> int:
        """End a connection, or all of a user; their clients do not come back by themselves.

        Args:
            detail: what the clients are told beside the reason.

        Returns:
            How many were ended.
        """
        check_type("detail", detail, str)
        return (await self._node.disconnect(Selector(user=user, id=id), detail)).count

    @property
    def _node(self) -> Control:
        if self._control is None:
            raise UsageError("the application does not run yet")
        return self._control

    async def _publish(self, data: Any, **to: Any) -> Published:
        encoded = Raw(encode_json(data))
        try:
            message = Publish(encoded, **to)
        except ValueError as error:
            raise UsageError(str(error)) from None
        done = await self._node.publish(message, "hook")
        if isinstance(done, Fault):
            raise refused(done)
        return done


def _known(count: int | UnsetType) -> int:
    return 0 if count is UNSET else count
