"""`tidegate publish`: send a message through a running server."""

from __future__ import annotations

import sys
from typing import Annotated, Any, Final

import msgspec
from cyclopts import Parameter

from tidegate.cli.options import AdminUrl, ConfigFile, load_settings
from tidegate.errors import UsageError

__all__ = ["publish"]

_MOST: Final = 256 * 1024  # bytes, as the server takes


def publish(
    room: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None,
    data: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None,
    /,
    *,
    user: str | None = None,
    everybody: Annotated[bool, Parameter(name="--all", negative=())] = False,
    text: Annotated[bool, Parameter(negative=())] = False,
    admin: AdminUrl = None,
    config: ConfigFile = None,
) -> None:
    """Send a message to a room, as in `tidegate publish lobby '{"n": 1}'`, to a user or to all.

    With --user or --all, DATA is the only argument.

    Parameters
    ----------
    room
        Name of the room.
    data
        The message, as JSON; - reads it from standard input.
    user
        Send it to every connection of this user.
    everybody
        Send it to every connection of the server.
    text
        DATA is a text, and not JSON.
    """
    if user is not None and everybody:
        raise UsageError("give one of --user and --all")
    if user is not None or everybody:
        if data is not None:
            raise UsageError("there is no ROOM with --user or --all, only DATA")
        room, data = None, room
    elif room is None:
        raise UsageError("ROOM is missing, or --user or --all")
    if data is None:
        raise UsageError("DATA is missing; - reads it from standard input")
    from tidegate.cli.admin import Admin

    body: dict[str, Any] = {"data": _value(data, text)}
    if everybody:
        body["all"] = True
    elif user is not None:
        body["user"] = user
    else:
        body["room"] = room
    api = Admin(load_settings(config).settings.admin, admin)
    print(_outcome(api.ask("/publish", "POST", body)))


def _value(data: str, is_text: bool) -> object:
    """The message that the argument stands for."""
    given = data.encode(errors="surrogateescape")
    if data == "-":
        given = sys.stdin.buffer.read(_MOST + 1)
    if len(given) > _MOST:
        raise UsageError(f"DATA: is larger than {_MOST:,} bytes")
    try:
        return given.decode() if is_text else msgspec.json.decode(given)
    except UnicodeDecodeError:
        raise UsageError("DATA: is no text in UTF-8") from None
    except (msgspec.DecodeError, RecursionError) as error:
        raise UsageError(f"DATA: is no JSON ({error}); --text sends it as a text") from None


def _outcome(answer: dict[str, Any]) -> str:
    if "delivered" in answer:
        return f"delivered to {answer['delivered']:,} connections"
    said = f"published to {answer['members']:,} members"
    if "offset" in answer:
        said += f", offset {answer['offset']} of epoch {answer['epoch']}"
    return said
