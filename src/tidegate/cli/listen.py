"""`tidegate listen`: the messages of rooms, as they come."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from tidegate.cli.options import ConfigFile
from tidegate.cli.place import FailedError, ServerUrl, TokenFile, client_of, open_client
from tidegate.errors import UsageError

if TYPE_CHECKING:
    from tidegate.cli.lines import Lines
    from tidegate.client import Client, ClientError, Feed, Room

__all__ = ["listen"]

_MOST_HISTORY = 1000


def listen(
    rooms: Annotated[tuple[str, ...], Parameter(allow_leading_hyphen=False, negative=())] = (),
    /,
    *,
    history: int = 0,
    presence: Annotated[bool, Parameter(negative=())] = False,
    limit: int | None = None,
    json: Annotated[bool, Parameter(negative=())] = False,
    url: ServerUrl = None,
    token_file: TokenFile = None,
    config: ConfigFile = None,
) -> int:
    """Print the messages of one or more rooms as they come, as in `tidegate listen lobby news`.

    A connection that is lost comes back by itself, with what was missed where the room keeps a
    history. What happens to the connection is told on standard error. Ctrl-C ends it.

    Parameters
    ----------
    rooms
        Names of the rooms.
    history
        Begin with so many of the last messages of each room, 1,000 at most.
    presence
        Tell who comes and leaves too.
    limit
        End after so many messages.
    json
        Print a line of JSON for each event.
    """
    if not rooms:
        raise UsageError("ROOM is missing")
    if not 0 <= history <= _MOST_HISTORY:
        raise UsageError(f"--history {history}: must be from 0 to {_MOST_HISTORY:,}")
    if limit is not None and limit < 1:
        raise UsageError(f"--limit {limit}: must be at least 1")
    from tidegate.cli.lines import Lines

    client = client_of(url, token_file, config)
    lines = Lines(json, several=len(rooms) > 1)
    members = [client.room(name, history=history, presence=presence) for name in rooms]
    try:
        asyncio.run(_listen(client, members, limit, lines))
    except KeyboardInterrupt:
        return 0
    return 0


async def _listen(client: Client, rooms: list[Room], limit: int | None, lines: Lines) -> None:
    from tidegate.cli.lines import note
    from tidegate.client import (
        ClientClosed,
        ClientError,
        Feed,
        Gap,
        Joined,
        Left,
        Presence,
        Publication,
        State,
        StateChange,
    )

    kinds: tuple[type[Any], ...] = (Publication, Presence, Joined, Left, Gap)
    # One feed for all keeps the order in which things happen.
    feed: Feed[object] = Feed(10_000)
    client.on(object, feed.put)
    for room in rooms:
        for kind in kinds:
            room.on(kind, feed.put)
        room.on(ClientError, partial(_refused, feed, room.name))
    try:
        await open_client(client)
        for room in rooms:
            try:
                await room.join()
            except ClientError as error:
                raise FailedError(f"{room.name}: {error}") from None
        left = limit
        async for event in feed:
            match event:
                case StateChange(state=State.CLOSED, loss=loss):
                    raise FailedError(f"the server has closed the connection: {loss}")
                case Left(room=name, reason=reason):
                    raise FailedError(f"{name}: the server has taken this client out ({reason})")
                case FailedError():
                    raise event
                case ClientError():
                    note(str(event))
                case _:
                    lines.show(event)
            if isinstance(event, Publication) and left is not None:
                left -= 1
                if not left:
                    return
    except ClientClosed as closed:
        raise FailedError(f"the server has closed the connection: {closed.loss}") from None
    finally:
        await client.close()


def _refused(feed: Feed[object], room: str, error: ClientError) -> None:
    # It is tried again with the next connection only, and nobody should wait for that.
    feed.put(FailedError(f"{room}: {error}"))
