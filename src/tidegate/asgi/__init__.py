"""ASGI applications behind the gate: on our engine, or by the middleware on other servers.

The names are imported when they are first used: the middleware needs no framework.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tidegate.asgi.hub import Hub
    from tidegate.asgi.manager import ConnectionManager
    from tidegate.asgi.middleware import GateMiddleware

__all__ = ["ConnectionManager", "GateMiddleware", "Hub"]

_MODULES = {
    "ConnectionManager": "tidegate.asgi.manager",
    "GateMiddleware": "tidegate.asgi.middleware",
    "Hub": "tidegate.asgi.hub",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(import_module(_MODULES[name]), name)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("tidegate"):
            raise
        text = f"tidegate.asgi.{name} needs {error.name}: pip install 'tidegate[asgi]'"
        raise ImportError(text) from error
