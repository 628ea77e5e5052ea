"""What a request to the admin API asks for: its query and its body, as values."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec
from msgspec.inspect import FloatType, IntType, LiteralType, StrType, UnionType, type_info
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from tidegate.core.settings.fields import shown

if TYPE_CHECKING:
    from starlette.datastructures import QueryParams
    from starlette.requests import Request

__all__ = ["MAX_BODY", "decode_body", "field_of", "read_body", "read_query", "receive_body"]

MAX_BODY: Final = 64 * 1024
"""The largest body of a request, in bytes."""

_FIELD: Final = re.compile(
    r"^([A-Za-z_][\w.-]*)(?: = .*)?: | - at `\$\.?([^`]+)`|(?:unknown|required) field `([^`]+)`",
    re.DOTALL,
)

_Q = TypeVar("_Q", bound=msgspec.Struct)
_B = TypeVar("_B")


def read_query(params: QueryParams, into: type[_Q]) -> _Q:
    """Read a query into a struct; its fields are the parameters that there are.

    Raises:
        HTTPException: a parameter does not exist, is given twice, or is not what it must be (400).
    """
    fields = {field.encode_name: field for field in msgspec.structs.fields(into)}
    found: dict[str, Any] = {}
    for name, text in params.multi_items():
        field = fields.get(name)
        if field is None:
            there = "there is" if len(fields) == 1 else "there are"
            raise _wrong(f"unknown parameter {shown(name)}; {there} {', '.join(fields)}")
        if field.name in found:
            raise _wrong(f"{name}: given twice")
        found[field.name] = _parsed(name, text, type_info(field.type))
    for name, field in fields.items():
        if field.required and field.name not in found:
            raise _wrong(f"{name}: is missing")
    return into(**found)


async def read_body(request: Request, into: type[_B]) -> _B:
    """Read a JSON body of at most `MAX_BODY` bytes into a type.

    Raises:
        HTTPException: as `receive_body` and `decode_body` say.
    """
    return decode_body(await receive_body(request, MAX_BODY), into)


async def receive_body(request: Request, most: int) -> bytes:
    """Receive a JSON body of at most `most` bytes.

    Raises:
        HTTPException: it is not said to be JSON (415), or is larger (413).
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise HTTPException(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "the body must be application/json (Content-Type)"
        )
    body = bytearray()
    try:
        async for piece in request.stream():
            body += piece
            if len(body) > most:
                raise HTTPException(
                    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                    f"the body is larger than {most:,} bytes",
                )
    except ClientDisconnect:
        raise _wrong("the body: it ended too early") from None
    return bytes(body)


def decode_body(body: bytes, into: type[_B], name: str = "the body") -> _B:
    """Decode a JSON body, or a part of it with another `name`, into a type.

    Raises:
        HTTPException: it is not what it must be (400).
    """
    try:
        return msgspec.json.decode(body, type=into)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _wrong(f"{name}: {error}") from None


def field_of(text: str) -> str | None:
    """Return the part of a request that a text says is wrong; None where it names none.

    The texts are those of this module, of settings and of msgspec.
    """
    found = _FIELD.search(text)
    return None if found is None else next(filter(None, found.groups()))


def _parsed(name: str, text: str, kind: msgspec.inspect.Type) -> int | float | str:
    if isinstance(kind, UnionType):
        kind = next(arm for arm in kind.types if not isinstance(arm, msgspec.inspect.NoneType))
    if isinstance(kind, IntType):
        low, high = kind.ge or 0, kind.le or 0
        if text.isascii() and text.isdecimal() and len(text) < 20 and low <= int(text) <= high:
            return int(text)
        raise _wrong(f"{name}: {shown(text)} is not a whole number from {low} to {high}")
    if isinstance(kind, FloatType):
        try:
            return float(text)
        except ValueError:
            raise _wrong(f"{name}: {shown(text)} is not a number") from None
    if isinstance(kind, LiteralType):
        if text in kind.values:
            return text
        allowed = ", ".join(map(str, kind.values))
        raise _wrong(f"{name}: {shown(text)} must be one of {allowed}")
    assert isinstance(kind, StrType)
    return text


def _wrong(detail: str) -> HTTPException:
    return HTTPException(HTTPStatus.BAD_REQUEST, detail)
