"""One node: what it is made of, and what its engine tells it.

    listener -> door -> gate        an attempt: decided about as a value, rendered as bytes
    connection -> application       a message: the application says what it means
    application -> delivery -> broker -> delivery -> fan-out      a publication

`Node` composes these and nothing else: each part does its own work.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from functools import partial
from importlib.metadata import version
from random import random
from time import monotonic, time
from typing import TYPE_CHECKING, Final

from tidegate.core import codes
from tidegate.core.admission.admission import Admission
from tidegate.core.admission.shedding import LoadShedder
from tidegate.core.admission.tracker import ConnectionTracker
from tidegate.core.settings.changes import differences, merged, only
from tidegate.core.stats import Stats
from tidegate.engine.connection import Connection
from tidegate.engine.engine import Engine
from tidegate.engine.events import EventStream
from tidegate.engine.standard_streams import open_missing_descriptors
from tidegate.errors import UsageError
from tidegate.gate.gate import Gate
from tidegate.gate.identity import TokenIdentifier
from tidegate.gate.issuers import load
from tidegate.gate.refusals import Refusals
from tidegate.gate.tokens import Authenticator
from tidegate.gate.waiting import WaitingClients
from tidegate.node.control import Control
from tidegate.node.door import GateDoor
from tidegate.node.event_streams import EventStreams
from tidegate.node.fetching import Fetcher
from tidegate.node.fleet_leases import fleet_leases
from tidegate.node.identities import Identities
from tidegate.node.messaging import Messaging
from tidegate.node.pings import Pings
from tidegate.node.pressure.descriptors import descriptor_limit
from tidegate.node.pressure.signals import Readings
from tidegate.node.pressure.zones import ZoneHandler, Zones
from tidegate.node.readiness import in_words, not_ready
from tidegate.node.record import membership_of
from tidegate.node.refusal_log import RefusalLog
from tidegate.node.services import ApplicationFactory, Services
from tidegate.node.shutdown import Shutdown, on_signals
from tidegate.node.systemd import reporting
from tidegate.node.telemetry.attempts import Attempts
from tidegate.node.telemetry.start import traces_of
from tidegate.node.telemetry.traced import TracedDoor, TracedWaiting
from tidegate.node.waiting import WaitingConnections
from tidegate.node.warner import Warner

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tidegate.backplane.base import Broker
    from tidegate.core.settings import Settings
    from tidegate.engine.door import Grant
    from tidegate.engine.endpoints import Endpoint
    from tidegate.gate.identity import Identifier

__all__ = ["Node"]

_log = logging.getLogger("tidegate")

# Read once: it is in a file, and a health check must not need a descriptor for it.
_VERSION: Final = version("tidegate")


class Node:
    """The gate, the engine and an application, as one object.

    Args:
        settings: the settings, valid as they are.
        application: makes the application of this node.
        broker: carries publications between nodes; the default serves this one only.
        identifier: says who an attempt belongs to; the default reads its token.
        on_zone_change: called with the `Change` when pressure makes the zone another one; plain
            or async. What it raises is logged.
        passed: sockets to listen on in place of the addresses in the settings.
        worker: its number among the workers of a supervisor; None without one.

    Raises:
        ConfigError: a key or certificate cannot be used, or OpenTelemetry is missing for traces.
    """

    def __init__(
        self,
        settings: Settings,
        application: ApplicationFactory,
        *,
        broker: Broker | None = None,
        identifier: Identifier | None = None,
        on_zone_change: ZoneHandler | None = None,
        passed: Sequence[Endpoint] = (),
        worker: int | None = None,
    ) -> None:
        open_missing_descriptors()  # first, because the parts below open descriptors
        self.settings = settings
        self.control = Control(self)
        self.stats, self.warn, self.pings = Stats(), Warner(), Pings()
        self.engine = Engine(settings, self.stats, passed)
        leases = fleet_leases(settings, self.engine.shared.name, self.stats, self._leases_lost)
        self.leases = leases
        self.tracker = ConnectionTracker(settings.limits, settings.tiers, leases)
        self.shedder = LoadShedder(settings, monotonic())
        self.admission = Admission(settings, self.tracker, self.shedder, random, self._dry_run)
        traces = traces_of(settings)
        attempts = None if traces is None else Attempts(traces, lambda: self.shedder.zone.label)
        self._messaging = messaging = Messaging(
            settings, self.stats, self.tracker, self.engine, broker, traces, self._release, leases
        )
        self.rooms, self.users = messaging.rooms, messaging.users
        self.rules, self.room_rates = messaging.rules, messaging.room_rates
        self.access, self.history = messaging.access, messaging.history
        self.presence, self.delivery = messaging.presence, messaging.delivery
        self.sessions, self.backplane = messaging.sessions, messaging.backplane
        self._authenticator = authenticator = Authenticator(
            settings.auth, settings.tiers, Fetcher(), monotonic, time
        )
        self.tokens = TokenIdentifier(settings.auth, authenticator)
        self.revocations = authenticator.revocations
        self._identities = Identities(settings, self.tracker, self.users, authenticator, leases)
        self.application = application(
            Services(
                settings,
                self.stats,
                self.tracker,
                self.rooms,
                self.room_rates,
                self.rules,
                self.access,
                self.users,
                self.delivery,
                self.presence,
                self.sessions,
                self._identities.identify,
                self._identities.extend,
                self.control,
            )
        )
        waiting = (
            WaitingClients[Connection] if attempts is None else partial(TracedWaiting, attempts)
        )
        self.waiting = waiting(
            settings,
            self.admission,
            self.tracker,
            self.stats,
            WaitingConnections(self.engine, self.application, self._identities),
            monotonic,
            self.leases,
        )
        self.refusals = Refusals(self.stats)
        self._refusal_log = RefusalLog(self.refusals)
        self._gate = gate = Gate(
            settings,
            self.stats,
            self.admission,
            self.waiting,
            identifier or self.tokens,
            self.refusals,
            holds_waiting=self.application.holds_waiting,
            sessions=self.sessions,
            fleet=self.leases,
        )
        door = GateDoor if attempts is None else partial(TracedDoor, attempts)
        self.event_streams = EventStreams(self.engine.shared.name, self.stats.posts)
        self._door = door(settings, gate, self.refusals, self.application, self.event_streams)
        self.zones = Zones(
            self.shedder,
            self.engine,
            self.tracker,
            self.stats,
            self.application,
            Readings(self.tracker, self.engine).read,
            on_zone_change,
            random,
        )
        self.membership = membership_of(self, worker)
        self.shutdown = Shutdown(
            settings,
            self.engine,
            self.admission,
            self.delivery,
            self.application,
            traces,
            self.leases,
            self.membership.leave,
        )
        self._started_at = 0.0

    # Life.

    async def start(self) -> None:
        """Listen. Call `stop` before the loop ends.

        Raises:
            ConfigError: the address cannot be listened on.
            BackplaneError: the broker cannot be reached.
            UsageError: it has been started or stopped before.
        """
        if self._started_at or self.shutdown.begun:
            problem = "started already" if self._started_at else "stopped before it was started"
            raise UsageError(f"this server was {problem}; a server serves once, so make another")
        self._started_at = monotonic()
        try:
            self.control.join_fleet()
            await self._messaging.start(self.application)
            if self.leases is not None:
                await self.leases.start()
            self.engine.start(self.application, self, self._door, descriptor_limit())
        except BaseException:
            self._started_at = 0.0  # it may be started again, when the address is free
            raise

    async def serve(self) -> None:
        """Serve in the running loop until SIGTERM, which drains, or SIGINT, which stops.

        A second signal ends the process at once.
        """
        with on_signals(self.shutdown):
            await self.start()
            async with reporting(os.environ, self.shutdown, lambda: self.status):
                await self.shutdown.wait()

    async def stop(self, timeout: float | None = None) -> None:
        """Stop listening and close every connection at once.

        Args:
            timeout: seconds after which what is left is cut off; `server.shutdown_timeout` when
                None.
        """
        await self.shutdown.stop(timeout=timeout)

    async def drain(self, window: float | None = None) -> None:
        """Admit nobody, close all connections spread over a window, and stop.

        Attempts are refused with a reason. Every connection gets what was sent to it before, then
        a close frame with 1012; the application tells it beforehand. What has not ended
        `server.close_timeout` seconds after the window is cut off.

        Args:
            window: seconds; `drain.window` when None, 0 for all at once.
        """
        self.shutdown.begin_drain(window)
        await self.shutdown.wait()

    # What is known of it.

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Host and port of every listener."""
        return [listener.address for listener in self.engine.listeners]

    @property
    def connections(self) -> Iterator[Connection]:
        """Every connection that has a socket, in no order."""
        return self.engine.connections()

    @property
    def ready(self) -> tuple[bool, str]:
        """Whether it should get new connections, and the reason if not."""
        reason = not_ready(self)
        return not reason, reason

    @property
    def status(self) -> str:
        """How it is, in a few words for operators."""
        return in_words(self)

    @property
    def uptime(self) -> float:
        """Seconds since the start, 0 before it."""
        return monotonic() - self._started_at if self._started_at else 0.0

    @property
    def version(self) -> str:
        """The version of Tidegate that runs."""
        return _VERSION

    # Settings that change.

    def apply(self, changes: Mapping[str, Mapping[str, object]]) -> tuple[list[str], list[str]]:
        """Change the settings that can change; their names, and those that need a restart.

        Args:
            changes: sections as in a settings file, with the settings that are to change.

        Raises:
            ConfigError: a name, a value or a key is wrong; nothing has changed then.
        """
        live, restart = differences(self.settings, merged(self.settings, changes))
        wanted = merged(self.settings, only(changes, live))
        self._authenticator.apply(wanted.auth, load(wanted.auth))  # may fail, so it is first
        self.settings = wanted
        self._gate.apply(wanted)
        if self.leases is not None:
            self.leases.apply(wanted)
        self.tracker.apply(wanted.limits, wanted.tiers)
        self._messaging.apply(wanted)
        self.admission.apply(wanted, monotonic())
        self.waiting.apply(wanted)
        self.engine.apply(wanted)
        self._identities.apply(wanted)
        self.shutdown.apply(wanted)
        self.zones.apply(wanted)
        if live:
            _log.info("settings changed", extra={"settings": ", ".join(live)})
        return live, restart

    def reload_files(self) -> None:
        """Read certificate, private key and public key anew, for the clients from now on.

        Raises:
            ConfigError: one of them cannot be used; what was in force stays so.
        """
        auth = self.settings.auth
        keys = load(auth)
        self.engine.reload_tls()
        self._authenticator.apply(auth, keys)

    # What the engine tells (engine.application.Host).

    def granted(self, connection: Connection, grant: Grant) -> None:
        """Arm the deadlines of a new connection; note the position of one that waits."""
        if grant.resumed is not None and self.sessions is not None:
            self.sessions.take_over(connection, grant.resumed.session)
        if type(connection) is EventStream:  # `isinstance` asks a Protocol, which is slow
            self.event_streams.add(connection)
        if grant.held is not None:
            self.waiting.seated(connection, grant.held)
        else:
            self._identities.admitted(connection, grant.expires_in)

    def waits(self, connection: Connection) -> None:
        """Tell a connection that waits its position."""
        self.waiting.greet(connection, connection.opened_at)

    def gone(self, connection: Connection, reason: codes.Refusal | codes.Close) -> None:
        """Give the lease of a closed connection back, and take it out of all rooms."""
        if type(connection) is EventStream:
            self.event_streams.remove(connection)
        sessions, moves = self.sessions, self.backplane and self.backplane.sessions
        if sessions is not None and (moves or not self.admission.draining):
            self._identities.gone(connection)
            if sessions.park(connection, reason):
                self.stats.disconnected[reason.name] += 1
                return
        self.delivery.gone(connection)
        if self.tracker.release(connection.lease):
            self.stats.disconnected[reason.name] += 1
            self.waiting.freed()
        else:
            self.waiting.gone(connection, monotonic())
        self._identities.gone(connection)
        self.engine.shared.names.pop(connection.number, None)

    def _release(self, connection: Connection) -> None:
        """Give the lease of a connection back whose client has not come back in time."""
        self.delivery.gone(connection)
        self.tracker.release(connection.lease)
        self.waiting.freed()
        self.engine.shared.names.pop(connection.number, None)

    def _leases_lost(self) -> None:
        """End all connections, and the sessions whose client is away."""
        self.engine.each(self.connections, lambda connection: connection.end(codes.LEASE_LOST))
        if self.sessions is not None:
            self.sessions.end(lambda _: True)

    def measured(self, connection: Connection, seconds: float) -> None:
        """Tell who waits for the answer to a ping."""
        self.pings.measured(connection, seconds)

    def failed(self, connection: Connection, error: Exception) -> None:
        """Log what the application raised."""
        _log.error("a handler of connection %s failed", connection.id, exc_info=error)

    def tick(self, now: float) -> None:
        """Do what is due: tokens that end, positions that end, admissions, zones."""
        self._identities.tick(now, self.engine.each, self.application.expiring)
        self.waiting.tick(now)
        self._refusal_log.tick(now)
        self._messaging.tick(now)
        self.zones.tick(now, may_shed=not self.shutdown.begun)
        self.membership.tick(now)

    def _dry_run(self, policy: str) -> None:
        self.stats.dry_run[policy] += 1
        self.warn(f"dry run: {policy} would have refused an attempt")
