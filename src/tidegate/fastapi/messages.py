"""Messages of a client as values of the type that an application expects."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, TypeAlias, get_args, get_type_hints

import msgspec
from pydantic import BaseModel, TypeAdapter, ValidationError

from tidegate.core.codes import INVALID_FIELD, INVALID_JSON, Fault

__all__ = ["Decode", "WrongMessage", "decoder"]

Decode: TypeAlias = Callable[[str | bytes], Any]

_SHOWN = 200  # characters of what is wrong that a client is told


class WrongMessage(Exception):  # noqa: N818 - it says what happened
    """A message is not what the application expects.

    Attributes:
        fault: a row of the table of reasons.
        detail: what exactly is wrong; it may be shown to the client.
    """

    def __init__(self, fault: Fault, detail: str = "") -> None:
        super().__init__(detail or fault.message)
        self.fault = fault
        self.detail = detail[:_SHOWN]


def decoder(kind: Any) -> Decode:
    """Return what makes values of a type out of messages.

    `str` and `bytes` are taken as they are, and `Any` is whatever comes. All other types are read
    from JSON: a pydantic model by pydantic, what is left by msgspec.

    Raises:
        TypeError: no values of this type can be made of JSON.
    """
    if kind is Any or kind is object or set(get_args(kind)) == {str, bytes}:
        return _anything
    if kind is str:
        return _text
    if kind is bytes:
        return _binary
    if _has_model(kind, set()):
        return _by_pydantic(TypeAdapter(kind))
    return _by_msgspec(msgspec.json.Decoder(kind))


def _anything(data: str | bytes) -> str | bytes:
    return data


def _text(data: str | bytes) -> str:
    if isinstance(data, str):
        return data
    raise WrongMessage(INVALID_FIELD, "a text message is expected, not a binary one")


def _binary(data: str | bytes) -> bytes:
    if isinstance(data, bytes):
        return data
    raise WrongMessage(INVALID_FIELD, "a binary message is expected, not a text")


def _by_msgspec(known: msgspec.json.Decoder[Any]) -> Decode:
    def decode(data: str | bytes) -> Any:
        try:
            return known.decode(data)
        except msgspec.ValidationError as error:
            raise WrongMessage(INVALID_FIELD, str(error)) from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise WrongMessage(INVALID_JSON) from None

    return decode


def _by_pydantic(known: TypeAdapter[Any]) -> Decode:
    def decode(data: str | bytes) -> Any:
        try:
            return known.validate_json(data)
        except ValidationError as error:
            # Without what came: an error is no place to send it back.
            first = error.errors(include_url=False, include_context=False, include_input=False)[0]
            if first["type"] == "json_invalid":
                raise WrongMessage(INVALID_JSON) from None
            where = ".".join(str(part) for part in first["loc"])
            said = f"{where}: {first['msg']}" if where else first["msg"]
            raise WrongMessage(INVALID_FIELD, said) from None

    return decode


def _has_model(kind: Any, seen: set[Any]) -> bool:
    """Whether a pydantic model is in a type, at any depth."""
    if isinstance(kind, type):
        if issubclass(kind, BaseModel):
            return True
        if kind in seen:
            return False
        seen.add(kind)
        if dataclasses.is_dataclass(kind) or issubclass(kind, msgspec.Struct):
            return any(_has_model(own, seen) for own in get_type_hints(kind).values())
    return any(_has_model(part, seen) for part in get_args(kind))
