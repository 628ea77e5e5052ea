"""The server that speaks the native protocol: what `tidegate serve` runs."""

from __future__ import annotations

from tidegate.core.settings import Settings
from tidegate.node import health
from tidegate.node.dispatch import NativeApplication
from tidegate.node.server import Server
from tidegate.wire.codecs import JSON_V1
from tidegate.wire.handshake import Request

__all__ = ["NativeServer"]


class NativeServer(Server):
    """A :class:`Server` whose handlers are the native protocol's, with `/health` and `/ready`.

    Raises:
        ConfigError: a setting is wrong, or a key or certificate cannot be used.
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings, subprotocols=(JSON_V1,), http=self._respond)
        native = NativeApplication(
            settings,
            self.tracker,
            self.rooms,
            self.hub,
            self.engine.fanout,
            self.stats,
            self.authenticator,
        )
        native.on_authenticated = self.authenticated
        engine = self.engine
        engine.on_connect = native.connect
        engine.on_message = native.message
        engine.on_close = native.close
        # A message over the limit is answered with an error, so it has to be read first; one of
        # twice the limit closes the connection.
        engine.max_message = 2 * settings.messages.max_size

    def _respond(self, request: Request) -> bytes | None:
        return health.respond(request, self)
