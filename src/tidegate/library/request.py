"""What a handler sees of the request that opened a WebSocket, or of another HTTP request."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import parse_qsl

from tidegate.gate.tokens import token_of

__all__ = ["Headers", "QueryParams", "Request", "parse_cookies"]

_ESCAPED = re.compile(r"\\([0-3][0-7]{2}|.)")


class Request:
    """One HTTP request, as its client sent it.

    It is read when you ask for it, and kept by nobody: what a handler needs later, it takes.

    Args:
        method: such as "GET".
        path: still percent-encoded.
        query: what follows the "?", still percent-encoded.
        headers: with names in lower case; fields that came more than once are joined.
        address: the client's IP address, as far as trusted proxies tell.
        query_token: whether a token may stand in the query (`auth.query_token`).
    """

    __slots__ = ("_headers", "_query_token", "address", "method", "path", "query")

    def __init__(
        self,
        method: str,
        path: str,
        query: str,
        headers: Mapping[str, str],
        address: str,
        *,
        query_token: bool = False,
    ) -> None:
        self.method = method
        """Such as "GET"."""
        self.path = path
        """Still percent-encoded."""
        self.query = query
        """What follows the "?", still percent-encoded."""
        self.address = address
        """The client's IP address, as far as trusted proxies tell."""
        self._headers = headers
        self._query_token = query_token

    @property
    def headers(self) -> Headers:
        """The header fields, by name in any case."""
        return Headers(self._headers)

    @property
    def query_params(self) -> QueryParams:
        """The parameters of the query, decoded."""
        return QueryParams(self.query)

    @property
    def cookies(self) -> dict[str, str]:
        """The cookies, by name (RFC 6265). Of two with one name, the first is the closer one."""
        return parse_cookies(self._headers.get("cookie", ""))

    @property
    def subprotocols(self) -> tuple[str, ...]:
        """The subprotocols that the client offers, in its order."""
        offered = self._headers.get("sec-websocket-protocol", "").split(",")
        return tuple(name for part in offered if (name := part.strip(" \t")))

    @property
    def token(self) -> str | None:
        """The token that it carries, unchecked; None without one.

        It comes as `Authorization: Bearer`, as a subprotocol `tidegate.token.<token>`, or, where
        `auth.query_token` allows that, as `token` in the query.
        """
        return token_of(
            self._headers, self.subprotocols, self.query, query_allowed=self._query_token
        )

    def __repr__(self) -> str:
        return f"<Request {self.method} {self.path!r} from {self.address}>"


class Headers(Mapping[str, str]):
    """Header fields by name, in any case (RFC 9110, section 5.1).

    A field that came more than once has its values joined by a comma (section 5.3), in their order.
    """

    __slots__ = ("_fields",)

    def __init__(self, fields: Mapping[str, str]) -> None:
        self._fields = fields

    def __getitem__(self, name: str) -> str:
        return self._fields[name.lower()]

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)

    def __repr__(self) -> str:
        return f"<Headers {', '.join(self._fields)}>"


class QueryParams(Mapping[str, str]):
    """Parameters of a query. Of one that comes more than once, the last value counts.

    `getlist` has all of them.
    """

    __slots__ = ("_values",)

    def __init__(self, query: str) -> None:
        self._values: dict[str, list[str]] = {}
        for name, value in parse_qsl(query, keep_blank_values=True):
            self._values.setdefault(name, []).append(value)

    def __getitem__(self, name: str) -> str:
        return self._values[name][-1]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def getlist(self, name: str) -> list[str]:
        """Return all values of a parameter in their order, none where it does not come."""
        return list(self._values.get(name, ()))

    def __repr__(self) -> str:
        return f"<QueryParams {', '.join(map(repr, self._values))}>"


def parse_cookies(header: str) -> dict[str, str]:
    """Return the cookies of a `Cookie` header (RFC 6265, section 5.4).

    Browsers put the cookie of the longer path first, so the first of two with one name counts.
    Parts that are no cookies are left out.
    """
    cookies: dict[str, str] = {}
    for part in header.split(";"):
        name, equals, value = part.partition("=")
        name = name.strip(" \t")
        if equals and name:
            cookies.setdefault(name, _unquoted(value.strip(" \t")))
    return cookies


def _unquoted(value: str) -> str:
    # Python's http.cookies, which most frameworks use, writes a quoted value with escapes.
    if len(value) < 2 or value[0] != '"' or value[-1] != '"':
        return value
    return _ESCAPED.sub(_unescaped, value[1:-1])


def _unescaped(match: re.Match[str]) -> Any:
    escape = match[1]
    return chr(int(escape, 8)) if len(escape) == 3 else escape
