"""The server that speaks the native protocol: what `tidegate serve` runs."""

from __future__ import annotations

from tidegate.core.admission.shedding import Profile
from tidegate.core.codes import DRAINED
from tidegate.core.settings import Settings
from tidegate.engine.connection import Connection
from tidegate.node import health
from tidegate.node.dispatch import NativeApplication
from tidegate.node.line import Place
from tidegate.node.server import Server
from tidegate.wire.codecs import JSON_V1, encode_server
from tidegate.wire.handshake import Request
from tidegate.wire.messages import ServerShutdown

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
            self.users,
            self.engine.fanout,
            self.stats,
            self.authenticator,
        )
        native.on_authenticated = self.authenticated
        self._native = native
        self.zones.enforce = self._enforce
        self.zones.tell = self._tell_zone
        self.line.let_in = self._let_in
        engine = self.engine
        engine.on_connect = self._connect
        engine.on_message = native.message
        engine.on_excess = native.excess
        engine.on_close = native.close
        # A message over the limit is answered with an error, so it has to be read first; one of
        # twice the limit closes the connection.
        engine.max_message = 2 * settings.messages.max_size

    def tell_leaving(self, connection: Connection, delay: float) -> None:
        """Send `server_shutdown`."""
        notice = ServerShutdown(DRAINED.name, round(delay, 3))
        connection.send(encode_server(notice).decode())

    def _enforce(self, profile: Profile) -> None:
        self._native.enforce(profile, self.shedder.degraded)

    def _tell_zone(self, connection: Connection) -> None:
        self._native.tell(connection, self.shedder.zone)

    def _connect(self, connection: Connection, request: Request) -> None:
        if connection.lease.held:
            self._native.connect(connection, request)
        else:
            self.line.greet(connection, connection.opened_at)

    def _let_in(self, connection: Connection, place: Place) -> None:
        self.admitted(connection, place)
        self._native.connect(connection, None)

    def _respond(self, request: Request) -> bytes | None:
        return health.respond(request, self)
