"""Calls as values: a request, and what its answer becomes. Nothing is sent here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Generic, NamedTuple, TypeVar

import msgspec

from tidegate.errors import UsageError

__all__ = [
    "Answer",
    "Call",
    "Message",
    "NoAnswer",
    "Pages",
    "body_of",
    "get",
    "into",
    "query_of",
    "scope",
]

R = TypeVar("R")
Page = TypeVar("Page")

_ENCODER: Final = msgspec.json.Encoder()


class Message(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One message: `data`, anything that is JSON, to one of `room`, `user` and `all`."""

    data: Any
    room: str | None = None
    user: str | None = None
    all: bool = False


class Answer(NamedTuple):
    """What came back."""

    status: int
    body: bytes
    retry_after: str | None = None
    """The header, as it is."""


class NoAnswer(NamedTuple):
    """Nothing came back."""

    text: str
    sent: bool
    """Whether the server may have got the request."""


@dataclass(frozen=True, slots=True)
class Call(Generic[R]):
    """One request, and what its answer becomes."""

    method: str
    path: str
    parse: Callable[[bytes], R]
    """Raises `msgspec.DecodeError` for what is no answer to this."""
    query: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    key: str | None = None
    """The `Idempotency-Key`: the same each time the request is sent."""
    repeats: bool = False
    """Whether it may be sent again when its answer was lost: it changes nothing, or nothing more.
    """
    takes: tuple[int, ...] = ()
    """Statuses besides those of success that are an answer too."""
    seconds: float = 0.0
    """How much longer than usual the answer may take."""


@dataclass(frozen=True, slots=True)
class Pages(Generic[Page, R]):
    """A list that comes in pages."""

    first: Call[Page]
    rows: Callable[[Page], list[R]]
    following: Callable[[Page], Call[Page] | None]


def query_of(**given: object) -> dict[str, str]:
    """Return the parameters that were given; None is one that was not."""
    return {
        name: value if isinstance(value, str) else repr(value)
        for name, value in given.items()
        if value is not None
    }


def body_of(given: object) -> bytes:
    """Return a body as JSON.

    Raises:
        UsageError: it cannot be written as JSON.
    """
    if isinstance(given, dict):
        given = {name: value for name, value in given.items() if value is not None}
    try:
        return _ENCODER.encode(given)
    except (TypeError, ValueError, RecursionError) as error:
        raise UsageError(f"this cannot be sent as JSON: {error}") from None


def get(path: str, kind: type[R], **query: object) -> Call[R]:
    """Return a call that only reads; parameters that are None are left out."""
    return Call("GET", path, into(kind), query_of(**query), repeats=True)


def into(kind: type[R]) -> Callable[[bytes], R]:
    """Return what reads an answer into a type."""
    return lambda body: msgspec.json.decode(body, type=kind)


def scope(fleet: bool) -> str | None:
    """Return the parameter that asks for all nodes of the fleet, None for one node."""
    return "fleet" if fleet else None
