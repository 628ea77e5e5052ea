"""ASGI applications behind the gate: on our engine, or by the middleware on other servers."""

from tidegate.asgi.middleware import GateMiddleware

__all__ = ["GateMiddleware"]
