"""Paths with parameters, and the coroutines that serve the connections at them."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Final, NamedTuple, TypeAlias
from urllib.parse import quote, unquote

from tidegate.errors import UsageError
from tidegate.library.arguments import annotation_of

__all__ = ["Found", "Route", "RouteHandler", "Routes"]

RouteHandler: TypeAlias = Callable[..., Coroutine[Any, Any, None]]

_PARAMETER: Final = re.compile(r"\{([^{}]*)\}")
# An int of 18 digits fits everywhere, in a database too.
_KINDS: Final[Mapping[type, str]] = {str: "[^/]+", int: "-?[0-9]{1,18}"}
_REQUEST: Final = "request"
# What a path may have unescaped (RFC 3986, section 3.3), and escapes that are written already.
_SAFE: Final = "/:@!$&'()*+,;=-._~%{}"


class Found(NamedTuple):
    """A route, and what it is called with for one path."""

    route: Route
    parameters: dict[str, str | int]


class Route:
    """One path template, and its handler.

    Args:
        path: such as "/chat/{room}", with at most one parameter between two slashes. It
            stands for one or more characters, and is given to the handler by name, as a `str`, or
            an `int` where its annotation says so.
        handler: an async function of the connection and the parameters, and of the `request` where
            it has a parameter of that name.

    Raises:
        UsageError: the path is not a path, or has a parameter that is none.
        TypeError: the handler is no async function, or cannot be called so.
    """

    __slots__ = ("_kinds", "_pattern", "handler", "path", "shape", "wants_request")

    def __init__(self, path: str, handler: RouteHandler) -> None:
        names = _names(path)
        signature = _signature(path, handler)
        self.path = path
        self.handler = handler
        self.wants_request = _REQUEST in signature.parameters
        _check_call(path, signature, names, wants_request=self.wants_request)
        self._kinds = _kinds(path, handler, signature, names)
        self._pattern = re.compile(_PARAMETER.sub(self._group, _escaped(path)))
        self.shape = _PARAMETER.sub(self._type, _quoted(path))
        """What it has in common with routes that match the same paths."""

    @property
    def fixed(self) -> bool:
        """Whether it has no parameters."""
        return not self._kinds

    def match(self, path: str) -> dict[str, str | int] | None:
        """Return the parameters that a path has here, None where it is another path."""
        match = self._pattern.fullmatch(path)
        if match is None:
            return None
        values: dict[str, str | int] = {}
        for name, kind in self._kinds.items():
            text = match[name]
            if kind is int:
                values[name] = int(text)
                continue
            try:
                values[name] = unquote(text, errors="strict")
            except UnicodeDecodeError:
                return None  # no text
        return values

    def call(
        self, connection: Any, request: Any, parameters: Mapping[str, str | int]
    ) -> Coroutine[Any, Any, None]:
        """Return the coroutine of one connection."""
        if self.wants_request:
            return self.handler(connection, request=request, **parameters)
        return self.handler(connection, **parameters)

    def _group(self, match: re.Match[str]) -> str:
        return f"(?P<{match[1]}>{_KINDS[self._kinds[match[1]]]})"

    def _type(self, match: re.Match[str]) -> str:
        return f"{{{self._kinds[match[1]].__name__}}}"


class Routes:
    """The routes of one server. Those without parameters come first, then the order counts."""

    __slots__ = ("_fixed", "_others")

    def __init__(self) -> None:
        self._fixed: dict[str, Found] = {}
        self._others: list[Route] = []

    def __bool__(self) -> bool:
        return bool(self._fixed or self._others)

    def add(self, route: Route) -> None:
        """Add a route.

        Raises:
            UsageError: there is one at this path already.
        """
        if route.shape in self._fixed or route.shape in (other.shape for other in self._others):
            raise UsageError(f"there is a route at {route.path} already")
        if route.fixed:
            self._fixed[route.shape] = Found(route, {})
        else:
            self._others.append(route)

    def find(self, path: str) -> Found | None:
        """Return the route of a path and its parameters, None where there is none."""
        found = self._fixed.get(path)
        if found is not None:
            return found
        for route in self._others:
            parameters = route.match(path)
            if parameters is not None:
                return Found(route, parameters)
        return None


def _names(path: object) -> list[str]:
    if not isinstance(path, str):
        raise TypeError(f'a path must be str, such as "/chat", not {type(path).__name__}')
    if not path.startswith("/") or not path.isprintable() or {"?", "#", " "} & set(path):
        raise UsageError(f'a path must begin with "/" and have no query, not {path!r}')
    names: list[str] = _PARAMETER.findall(path)
    if {"{", "}"} & set(_PARAMETER.sub("", path)):
        raise UsageError(f"the braces of {path!r} do not belong together")
    for name in names:
        if not name.isidentifier() or name == _REQUEST:
            raise UsageError(f"the parameter {name!r} of {path!r} must be a name, not {_REQUEST!r}")
    if any(len(_PARAMETER.findall(part)) > 1 for part in path.split("/")):
        # Two could share the text between them in many ways, and trying them takes long.
        raise UsageError(f"{path!r} has two parameters between two slashes")
    if len(set(names)) < len(names):
        raise UsageError(f"{path!r} has two parameters of one name")
    return names


def _signature(path: str, handler: object) -> inspect.Signature:
    if not callable(handler):
        raise TypeError(
            f"the handler of {path} must be an async function, not {type(handler).__name__}"
        )
    call = getattr(handler, "__call__", None)  # noqa: B004 - of an object, it may be the async one
    if not (inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(call)):
        raise TypeError(f"the handler of {path} must be an async function (async def)")
    return inspect.signature(handler)


def _check_call(
    path: str, signature: inspect.Signature, names: list[str], *, wants_request: bool
) -> None:
    given = [*names, _REQUEST] if wants_request else names
    try:
        signature.bind("connection", **dict.fromkeys(given))
    except TypeError as error:
        called = ", ".join(["connection", *given])
        raise TypeError(
            f"the handler of {path} is called with ({called}), but takes {signature}: {error}"
        ) from None


def _kinds(
    path: str, handler: Any, signature: inspect.Signature, names: list[str]
) -> dict[str, type]:
    """Return the type of each parameter of a path, by the annotations of the handler."""
    kinds: dict[str, type] = {}
    for name in names:
        declared = signature.parameters.get(name)
        kind = str if declared is None else annotation_of(handler, declared)
        if kind is inspect.Parameter.empty or kind is Any:
            kind = str
        if kind not in _KINDS:
            raise TypeError(f"{name} of {path} must be annotated with str or int, not {kind!r}")
        kinds[name] = kind
    return kinds


def _escaped(path: str) -> str:
    """Return a path as the pattern of itself; its parameters stay as they are."""
    parts = _PARAMETER.split(path)  # text, name, text, name, ..., text
    return "".join(
        f"{{{part}}}" if index % 2 else re.escape(_quoted(part)) for index, part in enumerate(parts)
    )


def _quoted(text: str) -> str:
    """Return a part of a path as clients send it."""
    return quote(text, safe=_SAFE)
