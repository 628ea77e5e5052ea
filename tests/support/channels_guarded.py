"""The Channels example behind the middleware, for a server that is not ours."""

from __future__ import annotations

from importlib import import_module

from tidegate.asgi import GateMiddleware

__all__ = ["app"]

app = GateMiddleware(import_module("examples.channels_chat").app, {"limits": {"per_ip": 20}})
