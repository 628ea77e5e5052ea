"""What `tidegate listen` prints: a line for each event."""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from typing import Any, Final

import msgspec

from tidegate.client import (
    Gap,
    Joined,
    Presence,
    Publication,
    QueueStatus,
    State,
    StateChange,
)
from tidegate.text import clean, duration

__all__ = ["Lines", "note"]

_NAMES: Final = {Publication: "message", Presence: "presence", Joined: "joined", Gap: "gap"}


def note(text: str) -> None:
    """Tell a person something on standard error."""
    with suppress(OSError):
        print(f"tidegate: {clean(text)}", file=sys.stderr, flush=True)


class Lines:
    """Events as text, or as JSON.

    Args:
        as_json: whether each is a line of JSON.
        several: whether the room has to be named.
    """

    def __init__(self, as_json: bool, several: bool) -> None:
        self._as_json = as_json
        self._several = several

    def show(self, event: object) -> None:
        """Print an event, if there is anything to say."""
        if self._as_json:
            if (said := _fields(event)) is not None:
                print(json.dumps(said), flush=True)
            return
        match event:
            case Publication():
                self._line(event.room, f"{event.sender or '-'}: {_data(event.data)}")
            case Presence():
                names = ", ".join(sorted(event.users))
                self._line(event.room, f"* {event.count:,} users: {names}".rstrip(": "))
            case Joined(again=True, recovered=False):
                note(f"{event.room}: some messages are gone")
            case Gap():
                note(f"{event.room}: some messages were missed")
            case QueueStatus():
                left = event.estimated_wait_remaining
                about = "" if left is None else f", about {duration(left)}"
                note(f"waiting: position {event.position:,} of {event.total_in_queue:,}{about}")
            case StateChange(state=State.BACKOFF):
                note(f"the connection is lost ({event.loss}); back in {duration(event.delay or 0)}")
            case StateChange(state=State.OPEN):
                note("connected")

    def _line(self, room: str, text: str) -> None:
        print(clean(f"[{room}] {text}" if self._several else text), flush=True)


def _data(data: object) -> str:
    return data if isinstance(data, str) else msgspec.json.encode(data).decode()


def _fields(event: object) -> dict[str, Any] | None:
    match event:
        case Publication() | Joined() | Gap():
            # By way of JSON: bytes become base64, and what has no form in it becomes null.
            return {"event": _NAMES[type(event)], **json.loads(msgspec.json.encode(event))}
        case Presence():
            users = [msgspec.to_builtins(user) for _, user in sorted(event.users.items())]
            return {"event": "presence", "room": event.room, "count": event.count, "users": users}
        case QueueStatus():
            return {"event": "waiting", **msgspec.to_builtins(event)}
        case StateChange():
            error = None if event.loss is None else str(event.loss)
            return {"event": "state", "state": event.state, "error": error, "delay": event.delay}
    return None
