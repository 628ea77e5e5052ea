"""Messages as values of a type of yours; a client is told what is wrong with others."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any, Final, Generic, Protocol, Self, TypeVar

from tidegate.library.arguments import annotation_of
from tidegate.node.values import WrongMessage, decoder, error_json

if TYPE_CHECKING:
    from tidegate.node.values import Decode

__all__ = ["Messages", "reading"]

T = TypeVar("T")

_EMPTY: Final = inspect.Parameter.empty


class Peer(Protocol):
    """The connection that messages come from."""

    async def receive(self) -> str | bytes:
        """Return the next message."""

    async def __anext__(self) -> str | bytes:
        """Return the next message, or end the loop."""

    def send(self, message: str, /) -> None:
        """Send a message."""


class Messages(Generic[T]):
    """The messages of one connection as values: `async for message in connection.messages(Chat)`.

    One that is no such value is answered by an error, and the loop goes on.
    """

    __slots__ = ("_decode", "_peer")

    def __init__(self, peer: Peer, kind: Any) -> None:
        self._peer = peer
        self._decode = decoder(kind)

    async def receive(self) -> T:
        """Return the next value.

        Raises:
            ConnectionClosed: the connection has ended, and every message of it was taken.
        """
        while True:
            message = await self._peer.receive()
            try:
                value: T = self._decode(message)
            except WrongMessage as wrong:
                _answer(self._peer, wrong)
            else:
                return value

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        while True:
            message = await self._peer.__anext__()
            try:
                value: T = self._decode(message)
            except WrongMessage as wrong:
                _answer(self._peer, wrong)
            else:
                return value


def reading(handler: Callable[..., Any]) -> Callable[..., Any]:
    """Return an `on_message` that is given values of the type that its message is annotated with.

    Raises:
        TypeError: the annotation cannot be resolved, or no such values can be read.
    """
    try:
        _, parameter, *_ = inspect.signature(handler).parameters.values()
    except (TypeError, ValueError):  # it takes *args, or is written in C
        return handler
    kind = annotation_of(handler, parameter)
    if kind is _EMPTY or parameter.kind is parameter.VAR_POSITIONAL:
        return handler
    if isinstance(kind, str):
        raise TypeError(
            f"on_message: the annotation {kind!r} of {parameter.name} cannot be resolved; define it"
            " where the module can see it"
        )
    decode = _decoder_of(kind, parameter.name)
    if decode is None:
        return handler

    @wraps(handler)
    def typed(connection: Peer, message: str | bytes) -> Any:
        try:
            value = decode(message)
        except WrongMessage as wrong:
            return _answer(connection, wrong)
        return handler(connection, value)

    return typed


def _decoder_of(kind: Any, name: str) -> Decode | None:
    try:
        decode = decoder(kind)
    except TypeError as error:
        raise TypeError(f"on_message: no {name} can be read as {kind!r}: {error}") from None
    return None if decode is decoder(Any) else decode


def _answer(peer: Peer, wrong: WrongMessage) -> None:
    peer.send(error_json(wrong.fault, wrong.detail, wrong.field).decode())
