"""Checks of what is given to the library, so that a mistake shows where it is made."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from math import inf
from types import SimpleNamespace
from typing import Any, get_type_hints

from tidegate.errors import UsageError

__all__ = ["annotation_of", "check_handler", "check_names", "check_seconds", "check_type"]


def check_type(name: str, value: object, *types: type) -> None:
    """Raise TypeError unless `value` is of one of `types`; a bool is no int."""
    if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
        raise TypeError(f"{name} must be {_either(types)}, not {type(value).__name__}")


def check_seconds(name: str, value: float | None) -> None:
    """Raise unless `value` is None, or a number of seconds that is 0 or more and finite."""
    if value is None:
        return
    check_type(name, value, int, float)
    if not 0 <= value < inf:
        raise UsageError(f"{name} must be 0 or more seconds, not {value}")


def check_names(name: str, values: Iterable[str]) -> None:
    """Raise TypeError unless `values` are several texts; one text alone is a common mistake."""
    if isinstance(values, str | bytes):
        raise TypeError(f"{name} must be a list of str, not {type(values).__name__}")
    for value in values:
        check_type(f"each of {name}", value, str)


def check_handler(
    name: str, handler: Callable[..., Any] | None, *arguments: str, plain: bool = False
) -> None:
    """Raise TypeError unless `handler` is None, or can be called with these arguments.

    Args:
        plain: whether it may not be async.
    """
    if handler is None:
        return
    if not callable(handler):
        raise TypeError(f"{name} must be a function, not {type(handler).__name__}")
    call = getattr(handler, "__call__", None)  # noqa: B004 - of an object, it may be async too
    for function in (handler, call):
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise TypeError(f"{name} must not be a generator function: nothing would run it")
        if plain and inspect.iscoroutinefunction(function):
            raise TypeError(f"{name} must be a plain function, not an async one")
    try:
        signature = inspect.signature(handler)
    except (TypeError, ValueError):  # some that are written in C have none
        return
    try:
        signature.bind(*arguments)
    except TypeError as error:
        raise TypeError(
            f"{name} is called with ({', '.join(arguments)}), but takes {signature}: {error}"
        ) from None


def annotation_of(handler: Any, parameter: inspect.Parameter) -> Any:
    """Return the annotation of a parameter; a str where it cannot be resolved.

    The others of the handler may be for type checkers only.
    """
    annotation = parameter.annotation
    if not isinstance(annotation, str):
        return annotation
    function = inspect.unwrap(getattr(handler, "func", handler))  # of a functools.partial
    if not hasattr(function, "__globals__"):
        function = getattr(function, "__func__", type(function).__call__)
    holder = SimpleNamespace(__annotations__={parameter.name: annotation})
    try:
        return get_type_hints(holder, function.__globals__, include_extras=True)[parameter.name]
    except (AttributeError, NameError, SyntaxError, TypeError):
        return annotation


def _either(types: tuple[type, ...]) -> str:
    *others, last = (kind.__name__ for kind in types)
    return f"{', '.join(others)} or {last}" if others else last
