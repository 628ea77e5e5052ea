"""Tidegate: the connection gate for WebSockets.

The public names; everything else may change between versions.
"""

from __future__ import annotations

from tidegate.core.settings import Settings
from tidegate.engine.connection import Connection
from tidegate.errors import BackplaneError, ConfigError, PeerError, TidegateError, UsageError
from tidegate.node.server import Server
from tidegate.wire.handshake import Request

__all__ = [
    "BackplaneError",
    "ConfigError",
    "Connection",
    "PeerError",
    "Request",
    "Server",
    "Settings",
    "TidegateError",
    "UsageError",
]
