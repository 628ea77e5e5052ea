"""What requests and answers hold, as JSON."""

from __future__ import annotations

from time import time
from typing import Any
from uuid import uuid4

from msgspec import Raw, Struct, ValidationError, field, json

from tidegate.core.admission.attempt import Claims, Identity
from tidegate.errors import TidegateError
from tidegate.gate.tokens import MAX_PRIORITY, MAX_TIER
from tidegate.wire.messages import MAX_USER, is_name

__all__ = [
    "AnswerError",
    "ConnectAnswer",
    "Event",
    "JoinAnswer",
    "PublishAnswer",
    "event",
    "read",
]

_MAX_INFO = 1024  # bytes


class AnswerError(TidegateError):
    """An answer is not what it should be; the text says what is wrong, and quotes nothing."""


class Event(Struct, frozen=True, rename="camel"):
    """One question or fact. The `id` is the same when it is sent again."""

    id: str
    type: str
    time: float
    """When it happened, in Unix seconds."""
    data: dict[str, Any]


def event(kind: str, data: dict[str, Any]) -> Event:
    """Return an event that happens now."""
    return Event(uuid4().hex, kind, round(time(), 3), data)


class ConnectAnswer(Struct, frozen=True, rename="camel"):
    """Whether an attempt may become a connection, and whose it is then."""

    allow: bool
    user: str | None = None
    tier: str | None = None
    priority: int | None = None
    info: dict[str, Any] | None = None
    join: list[str] = field(default_factory=list)
    retry_after: int | None = None

    def identity(self, asked: Identity) -> Identity:
        """Return the identity of the connection: what is not given stays as it was asked.

        Raises:
            AnswerError: a value is out of its bounds.
        """
        user = asked.user if self.user is None else self.user
        tier = asked.tier if self.tier is None else self.tier
        priority = asked.priority if self.priority is None else self.priority
        if user is not None and not is_name(user, MAX_USER):
            raise AnswerError("user is no name")
        if tier is not None and not is_name(tier, MAX_TIER):
            raise AnswerError("tier is no name")
        if not 0 <= priority <= MAX_PRIORITY:
            raise AnswerError(f"priority is not from 0 to {MAX_PRIORITY}")
        return Identity(user, tier, priority, asked.expires_at, self._claims(asked.claims))

    def _claims(self, asked: Claims | None) -> Claims | None:
        if self.info is None and not self.join:
            return asked
        before = asked or Claims()
        info = before.info if self.info is None else json.encode(self.info)
        if info is not None and len(info) > _MAX_INFO:
            raise AnswerError(f"info has more than {_MAX_INFO} bytes")
        if not all(is_name(room, 128) for room in self.join):
            raise AnswerError("join holds what is no room")
        return Claims(before.rooms, tuple(self.join) or before.join, info, before.operator)


class JoinAnswer(Struct, frozen=True, rename="camel"):
    """Whether a client may join a room."""

    allow: bool


class PublishAnswer(Struct, frozen=True, rename="camel"):
    """Whether a client may publish, and what is published then; without `data`, what it sent."""

    allow: bool
    data: Raw = Raw()


def read(answer: bytes, kind: type[Any]) -> Any:
    """Return an answer as a value of a class.

    Raises:
        AnswerError: it is no JSON, or a field is missing or of a wrong type.
    """
    try:
        return json.decode(answer, type=kind)
    except ValidationError as error:
        raise AnswerError(f"the answer is wrong: {error}") from None
    except (ValueError, RecursionError):  # msgspec.DecodeError is a ValueError
        raise AnswerError("the answer is not JSON") from None
