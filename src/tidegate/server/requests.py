"""What a request to the admin API asks for: its query and its body, as values."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec
from msgspec.inspect import FloatType, IntType, StrType, UnionType, type_info
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from tidegate.core.settings.fields import shown

if TYPE_CHECKING:
    from starlette.datastructures import QueryParams
    from starlette.requests import Request

__all__ = ["MAX_BODY", "read_body", "read_query"]

MAX_BODY: Final = 64 * 1024
"""The largest body of a request, in bytes."""

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
    return into(**found)


async def read_body(request: Request, into: type[_B]) -> _B:
    """Read a JSON body into a type.

    Raises:
        HTTPException: it is not said to be JSON (415), is larger than `MAX_BODY` (413), or is not
            what it must be (400).
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
            if len(body) > MAX_BODY:
                raise HTTPException(
                    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                    f"the body is larger than {MAX_BODY:,} bytes",
                )
    except ClientDisconnect:
        raise _wrong("the body: it ended too early") from None
    try:
        return msgspec.json.decode(body, type=into)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _wrong(f"the body: {error}") from None


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
    assert isinstance(kind, StrType)
    return text


def _wrong(detail: str) -> HTTPException:
    return HTTPException(HTTPStatus.BAD_REQUEST, detail)
