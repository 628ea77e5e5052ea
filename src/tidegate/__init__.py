"""Tidegate: the connection gate for WebSockets.

The public names; everything else may change between versions. They are imported when they are
first used, so that a command that needs none of them starts at once.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tidegate.core.admission.attempt import Identity
    from tidegate.core.settings import Settings
    from tidegate.errors import (
        BackplaneError,
        ConfigError,
        ConnectionClosed,
        PeerError,
        Refused,
        TidegateError,
        UsageError,
    )
    from tidegate.gate.claims import claims
    from tidegate.gate.refused import refuse
    from tidegate.library.app import App
    from tidegate.library.asked import Client
    from tidegate.library.connection import Connection
    from tidegate.library.request import Request
    from tidegate.library.server import Server, passed_sockets
    from tidegate.server.asgi import run
    from tidegate.wire.handshake import http_response

__all__ = [
    "App",
    "BackplaneError",
    "Client",
    "ConfigError",
    "Connection",
    "ConnectionClosed",
    "Identity",
    "PeerError",
    "Refused",
    "Request",
    "Server",
    "Settings",
    "TidegateError",
    "UsageError",
    "claims",
    "http_response",
    "passed_sockets",
    "refuse",
    "run",
]

_MODULES = {
    "App": "tidegate.library.app",
    "Client": "tidegate.library.asked",
    "Connection": "tidegate.library.connection",
    "Identity": "tidegate.core.admission.attempt",
    "Request": "tidegate.library.request",
    "Server": "tidegate.library.server",
    "Settings": "tidegate.core.settings",
    "claims": "tidegate.gate.claims",
    "http_response": "tidegate.wire.handshake",
    "passed_sockets": "tidegate.library.server",
    "refuse": "tidegate.gate.refused",
    "run": "tidegate.server.asgi",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(import_module(_MODULES.get(name, "tidegate.errors")), name)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("tidegate"):
            raise
        text = f"tidegate.{name} needs {error.name}: pip install 'tidegate[asgi]'"
        raise ImportError(text) from error
