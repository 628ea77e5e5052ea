"""`tidegate say`: a message to a room or a user, as a client sends it."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Annotated

import msgspec
from cyclopts import Parameter

from tidegate.cli.options import ConfigFile, Time, parse_seconds
from tidegate.cli.place import FailedError, ServerUrl, TokenFile, client_of, open_client
from tidegate.errors import UsageError

if TYPE_CHECKING:
    from tidegate.client import Ack, Client

__all__ = ["say"]


def say(
    room: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None,
    text: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None,
    /,
    *,
    user: str | None = None,
    json: Annotated[bool, Parameter(negative=())] = False,
    timeout: Annotated[str, Time] = "10s",
    url: ServerUrl = None,
    token_file: TokenFile = None,
    config: ConfigFile = None,
) -> None:
    """Send a message to a room as a client, as in `tidegate say lobby "hello"`, or to a user.

    The room is joined for that, so the rules of rooms hold, and members see the sender's name. With
    --user, TEXT is the only argument. `tidegate publish` sends as the server, by the admin API.

    Parameters
    ----------
    room
        Name of the room.
    text
        The message; - reads it from standard input.
    user
        Send it to every connection of this user.
    json
        TEXT is JSON.
    timeout
        How long it may take to connect and send, from 1s to 1h.
    """
    if user is not None:
        if text is not None:
            raise UsageError("there is no ROOM with --user, only TEXT")
        room, text = None, room
    elif room is None:
        raise UsageError("ROOM is missing, or --user")
    if text is None:
        raise UsageError("TEXT is missing; - reads it from standard input")
    if text == "-" and token_file is not None and str(token_file) == "-":
        raise UsageError("TEXT and --token-file cannot both be standard input")
    seconds = parse_seconds("--timeout", timeout, 1, 3600)
    data = _value(text, json)
    client = client_of(url, token_file, config)
    try:
        print(asyncio.run(_say(client, room, user, data, seconds)))
    except KeyboardInterrupt:
        raise FailedError("interrupted: it is not known whether the message was sent") from None


def _value(text: str, is_json: bool) -> object:
    try:
        if text == "-":
            text = sys.stdin.buffer.read().decode().rstrip("\n")
        text.encode()
    except UnicodeError:
        raise UsageError("TEXT: is no text in UTF-8") from None
    if not is_json:
        return text
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        raise UsageError(f"TEXT: is no JSON ({error}); --json is for JSON only") from None


async def _say(
    client: Client, room: str | None, user: str | None, data: object, seconds: float
) -> str:
    from tidegate.client import ClientError

    try:
        async with asyncio.timeout(seconds):
            await open_client(client)
            if user is not None:
                sent = await client.direct(user, data, timeout=seconds)
                return f"delivered to {sent.delivered or 0:,} connections"
            return _outcome(await client.publish(str(room), data, timeout=seconds))
    except ClientError as error:
        raise FailedError(str(error)) from None
    except TimeoutError:
        raise FailedError(f"not sent within {seconds:g} s") from None
    finally:
        await client.close()


def _outcome(sent: Ack) -> str:
    if sent.offset is None:
        return "sent"
    return f"sent, offset {sent.offset} of epoch {sent.epoch}"
