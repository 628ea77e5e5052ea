"""Messages as values: read as the type that an application expects, and written as JSON.

pydantic is optional: it is looked at only where a type of it is in use, so it is imported by then.
"""

from __future__ import annotations

import dataclasses
import re
import sys
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final, TypeAlias, get_args, get_type_hints

import msgspec
import msgspec.inspect

from tidegate.core.codes import INVALID_FIELD, INVALID_JSON, Fault

__all__ = ["Decode", "WrongMessage", "decoder", "encode_json", "encoded", "error_json"]

Decode: TypeAlias = Callable[[str | bytes], Any]

_SHOWN: Final = 200  # characters of what is wrong that a client is told
_RAW: Final = {str, bytes, bytearray, memoryview}
# What msgspec says of a value that is wrong within another: "Expected `int` - at `$.a.b`".
_WHERE: Final = re.compile(r" - at `(?:key in )?\$\.?([^`]*)`$")
_MISSING: Final = re.compile(r"^Object missing required field `([^`]*)`")


class WrongMessage(Exception):  # noqa: N818 - it says what happened
    """A message is not what the application expects.

    Attributes:
        fault: a row of the table of reasons.
        detail: what exactly is wrong; it may be shown to the client.
        field: the name of the field that is wrong, with those that it is in; empty for the whole.
    """

    def __init__(self, fault: Fault, detail: str = "", field: str = "") -> None:
        super().__init__(detail or fault.message)
        self.fault = fault
        self.detail = detail[:_SHOWN]
        self.field = field[:_SHOWN]


# Reading.


def decoder(kind: Any) -> Decode:
    """Return what makes values of a type out of messages.

    `str` and `bytes` are taken as they are, and `Any` is whatever comes. All other types are read
    from JSON: a pydantic model by pydantic, what is left by msgspec.

    Raises:
        TypeError: no values of this type can be made of JSON.
    """
    if kind is Any or kind is object or {str, bytes} <= set(get_args(kind)) <= _RAW:
        return _anything
    if kind is str:
        return _text
    if kind is bytes:
        return _binary
    try:
        return _from_json(kind)
    except TypeError as error:
        if "unhashable" in str(error):  # the metadata of an annotation, say
            return _from_json.__wrapped__(kind)
        raise


@lru_cache(maxsize=256)
def _from_json(kind: Any) -> Decode:
    if _has_model(kind, set()):
        return _by_pydantic(sys.modules["pydantic"].TypeAdapter(kind))
    if isinstance(msgspec.inspect.type_info(kind), msgspec.inspect.CustomType):
        raise TypeError(f"{kind!r} is no type that JSON is read as")
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
            said = str(error)
            raise WrongMessage(INVALID_FIELD, said, _field_of(said)) from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise WrongMessage(INVALID_JSON) from None

    return decode


def _field_of(said: str) -> str:
    """Return the field that msgspec complains about."""
    where, missing = _WHERE.search(said), _MISSING.search(said)
    return ".".join(found[1] for found in (where, missing) if found is not None and found[1])


def _by_pydantic(known: Any) -> Decode:
    validation_error: type[Exception] = sys.modules["pydantic"].ValidationError

    def decode(data: str | bytes) -> Any:
        try:
            return known.validate_json(data)
        except validation_error as error:
            # Without what came: an error is no place to send it back.
            listed: Any = error
            first = listed.errors(include_url=False, include_context=False, include_input=False)[0]
            if first["type"] == "json_invalid":
                raise WrongMessage(INVALID_JSON) from None
            where = ".".join(str(part) for part in first["loc"])
            said = f"{where}: {first['msg']}" if where else first["msg"]
            raise WrongMessage(INVALID_FIELD, said, where) from None

    return decode


def _has_model(kind: Any, seen: set[Any]) -> bool:
    """Whether a pydantic type is in a type, at any depth."""
    if isinstance(kind, type):
        if hasattr(kind, "__pydantic_core_schema__"):
            return True
        if kind in seen:
            return False
        seen.add(kind)
        if dataclasses.is_dataclass(kind) or issubclass(kind, msgspec.Struct):
            return any(_has_model(own, seen) for own in get_type_hints(kind).values())
    return any(_has_model(part, seen) for part in get_args(kind))


# Writing.


def encoded(value: Any) -> str | bytes:
    """Return what is sent for a value: a text and bytes as they are, all else as a JSON text.

    Raises:
        TypeError: no message can be made of it.
    """
    if isinstance(value, str | bytes):
        return value
    if isinstance(value, bytearray | memoryview):
        return bytes(value)
    return encode_json(value).decode()


def encode_json(value: Any) -> bytes:
    """Return JSON of dicts, lists, numbers, dataclasses, Structs, pydantic models, and more.

    Raises:
        TypeError: no JSON can be made of it.
    """
    dump = getattr(value, "model_dump_json", None)
    if dump is not None and not isinstance(value, type):
        text: str = dump()
        return text.encode()
    return msgspec.json.encode(value, enc_hook=_within)


def error_json(fault: Fault, detail: str = "", field: str = "") -> bytes:
    """Return the message that tells a client why its message was not taken."""
    said: dict[str, Any] = {"type": "error", "code": fault.name, "message": fault.message}
    if fault.retry_after is not None:
        said["retryAfter"] = fault.retry_after
    if detail:
        said["detail"] = detail
    if field:
        said["field"] = field
    return msgspec.json.encode(said)


def _within(value: Any) -> Any:
    """What msgspec does not know: a pydantic model within something else."""
    dump = getattr(value, "model_dump", None)
    if dump is not None and not isinstance(value, type):
        return dump(mode="json")
    raise TypeError(f"no message can be made of {type(value).__name__}")
