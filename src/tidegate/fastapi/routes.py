"""What is known of a route: its own limits, and the types of its messages."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import ceil
from types import SimpleNamespace
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from fastapi import params

from tidegate.core.settings import MessagesSettings
from tidegate.core.timing.rates import Rates
from tidegate.errors import UsageError
from tidegate.node.values import Decode, decoder

__all__ = ["Route", "RouteLimits", "route_of"]


@dataclass(frozen=True, slots=True)
class RouteLimits:
    """Limits of one route, beside those of the settings. None is no limit of its own."""

    per_room: int | None = None
    rates: Rates | None = None

    @classmethod
    def of(
        cls, per_room: int | None, messages_per_second: float | None, abuse_after: int
    ) -> RouteLimits:
        """Make them of what `Gate.limit` is given.

        Raises:
            UsageError: a value is out of its range.
        """
        if per_room is not None and (isinstance(per_room, bool) or per_room < 0):
            raise UsageError(f"per_room must be 0 or more, not {per_room!r}")
        if messages_per_second is None:
            return cls(per_room)
        if not messages_per_second > 0:
            raise UsageError(f"messages_per_second must be above 0, not {messages_per_second!r}")
        # Two seconds' worth at once, as with messages.burst.
        burst = max(1, ceil(2 * messages_per_second))
        rate = float(messages_per_second)
        settings = MessagesSettings(per_second=rate, burst=burst, abuse_after=abuse_after)
        return cls(per_room, Rates(settings, 1))


_NO_LIMITS = RouteLimits()


@dataclass(frozen=True, slots=True)
class Route:
    """One endpoint, as far as its members care."""

    limits: RouteLimits
    decode: Decode


def route_of(endpoint: Any, dependency: Callable[..., Any], limits: RouteLimits | None) -> Route:
    """Return what is known of an endpoint that a dependency gives its member to.

    Raises:
        TypeError: no messages of the type that it names can be read.
    """
    found = _annotation(endpoint, dependency, set())
    arguments = get_args(found)
    kind = arguments[0] if arguments else Any
    return Route(limits or _NO_LIMITS, decoder(kind))


def _annotation(function: Any, dependency: Callable[..., Any], seen: set[int]) -> Any:
    """The type of the parameter that gets what a dependency returns, here or further down."""
    if not callable(function) or id(function) in seen:
        return None
    seen.add(id(function))
    for kind, depends in _dependencies(function):
        if depends is dependency:
            return kind
        found = _annotation(depends, dependency, seen)
        if found is not None:
            return found
    return None


def _dependencies(function: Any) -> Iterator[tuple[Any, Any]]:
    """The parameters of a function that are dependencies: their type, and what is called."""
    plain = inspect.unwrap(function)
    try:
        parameters = inspect.signature(plain).parameters
    except (TypeError, ValueError):  # written in C
        return
    routine = plain if inspect.isroutine(plain) else type(plain).__call__
    names = getattr(routine, "__globals__", {})
    for parameter in parameters.values():
        kind = _resolved(parameter.annotation, names)
        marks: list[Any] = [parameter.default]
        if get_origin(kind) is Annotated:
            kind, *more = get_args(kind)
            marks += more
        for mark in marks:
            if isinstance(mark, params.Depends):
                yield kind, mark.dependency


def _resolved(annotation: Any, names: dict[str, Any]) -> Any:
    """The type that an annotation names; `Any` for one that cannot be resolved by itself."""
    if annotation is inspect.Parameter.empty:
        return Any
    one = SimpleNamespace(__annotations__={"one": annotation})
    try:
        return get_type_hints(one, names, include_extras=True)["one"]
    except (NameError, TypeError):
        return Any
