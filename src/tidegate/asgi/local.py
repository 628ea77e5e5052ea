"""The gate of a process that serves WebSockets with somebody else's server.

The steps, counts, reasons and delays are those of a node. What needs the sockets is missing: the
queue of the kernel, heartbeats, outboxes, and clients that wait on their connection.

    scope -> request -> decide -> Admit | Reject | Wait     (release the lease at the end)
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Callable, Mapping
from math import ceil, inf
from random import random
from time import monotonic, time
from typing import TYPE_CHECKING, Any, Final

from tidegate.addresses import UNIX_PEER, counted
from tidegate.asgi.asking import Asking, IdentifiedRequest, Identify
from tidegate.asgi.fields import Fields
from tidegate.asgi.tickets import TicketsOnly, away
from tidegate.core import codes
from tidegate.core.admission.admission import Admission
from tidegate.core.admission.attempt import Attempt, Identity, Lease, Reject
from tidegate.core.admission.shedding import LoadShedder
from tidegate.core.admission.tracker import ConnectionTracker
from tidegate.core.messaging.rooms import Rooms
from tidegate.core.settings import Settings
from tidegate.core.settings.changes import differences, merged, only
from tidegate.core.stats import Stats
from tidegate.core.timing.rates import Rates
from tidegate.gate.decision import Admit, Decision, OpeningRequest, Pending, Wait
from tidegate.gate.gate import Gate
from tidegate.gate.identity import Identifier, TokenIdentifier
from tidegate.gate.issuers import load
from tidegate.gate.refusals import Refusals
from tidegate.gate.refused import refused, rejected
from tidegate.gate.tokens import Authenticator, token_of
from tidegate.gate.waiting import WaitingClients
from tidegate.node.control.snapshot import Snapshot, snapshot
from tidegate.node.fetching import Fetcher
from tidegate.node.fleet_leases import FleetLeases, fleet_leases
from tidegate.node.pressure.signals import Readings
from tidegate.node.readiness import not_admitting
from tidegate.node.refusal_log import RefusalLog
from tidegate.node.rendering import refusal_parts, waiting_parts
from tidegate.node.warner import Warner
from tidegate.wire.forwarded import TrustedProxies

if TYPE_CHECKING:
    from tidegate.asgi.types import Scope
    from tidegate.errors import Refused

__all__ = ["LocalGate"]

_TICK: Final = 0.1
_SAMPLE: Final = 0.25


class LocalGate:
    """Decides about the attempts of one process, and counts its connections.

    Everything belongs to the event loop's thread.

    Args:
        settings: a `Settings`, or a mapping of sections as in a settings file.
        identifier: says who an attempt belongs to; the default reads its token.
        clock: monotonic seconds.
        wall: Unix seconds.
        chance: a random number in [0, 1).

    Raises:
        ConfigError: a setting is wrong, or a key cannot be used.
    """

    def __init__(
        self,
        settings: Settings | Mapping[str, Mapping[str, object]] | None = None,
        *,
        identifier: Identifier | None = None,
        clock: Callable[[], float] = monotonic,
        wall: Callable[[], float] = time,
        chance: Callable[[], float] = random,
    ) -> None:
        if not isinstance(settings, Settings):
            settings = Settings.from_mapping(settings or {})
        self.settings = settings
        self.stats = Stats()
        self.leases = fleet_leases(settings, secrets.token_hex(4), self.stats, None)
        self.tracker = ConnectionTracker(settings.limits, settings.tiers, self.leases)
        limits = settings.limits
        self.rooms: Rooms[Any] = Rooms(
            limits.per_room, limits.rooms_per_connection, rooms_per_user=limits.rooms_per_user
        )
        """The rooms of whatever is built on this gate, within its limits."""
        self.buffered = 0
        """Bytes that wait for the members of a hub; what waits in a server is not known."""
        self.rates = Rates(settings.messages, settings.limits.rooms_per_connection)
        """How fast each connection may send."""
        self.shedder = LoadShedder(settings, clock())
        self.admission = Admission(settings, self.tracker, self.shedder, chance, self._dry_run)
        self.waiting: WaitingClients[Any] = WaitingClients(
            settings, self.admission, self.tracker, self.stats, TicketsOnly(), clock, self.leases
        )
        self.refusals = Refusals(self.stats)
        self._refusal_log = RefusalLog(self.refusals)
        self._authenticator = Authenticator(settings.auth, settings.tiers, Fetcher(), clock, wall)
        self._gate = Gate(
            settings,
            self.stats,
            self.admission,
            self.waiting,
            Asking(identifier or TokenIdentifier(settings.auth, self._authenticator)),
            self.refusals,
            holds_waiting=False,
            fleet=self.leases,
        )
        self._proxies = TrustedProxies(settings.proxies.trusted)
        self._header: Any = settings.proxies.header
        self._clock, self._wall = clock, wall
        self._warn = Warner()
        self._undecided = 0
        self._lag = 0.0
        self._next_sample = clock()
        self._ticking: asyncio.Task[None] | None = None
        self._beginning: asyncio.Task[None] | None = None
        self._kept: set[asyncio.Task[None]] = set()
        self._read = Readings(self.tracker, self).read

    # Attempts.

    def request(self, scope: Scope) -> OpeningRequest:
        """Return what the gate is asked about a WebSocket of an ASGI server."""
        headers = Fields(scope["headers"])
        return OpeningRequest(
            self._address(scope, headers.get(self._header)),
            (scope.get("raw_path") or scope["path"].encode()).decode("latin-1"),
            headers.get("host", ""),
            scope.get("scheme") in ("wss", "https"),
            headers.get("origin"),
            token_of(
                headers,
                scope.get("subprotocols", ()),
                scope.get("query_string", b"").decode("latin-1"),
                query_allowed=self.settings.auth.query_token,
            ),
            headers.get("x-queue-ticket"),
            False,
            headers,
            scope.get("query_string", b"").decode("latin-1"),
        )

    async def decide(
        self, request: OpeningRequest, identify: Identity | Identify | None = None
    ) -> Decision:
        """Decide about an attempt. Nothing is held when this raises or is cancelled.

        Args:
            identify: who the attempt belongs to, or an async function that finds out. It is
                called after the checks that are cheaper, and is cancelled after
                `server.handshake_timeout` seconds. By default the identifier is asked.

        Raises:
            Exception: what `identify` raised.
        """
        if self._undecided >= self.settings.server.max_pending:
            return self._given_up(request, codes.PENDING_LIMIT)
        self._undecided += 1
        try:
            async with asyncio.timeout(self.settings.server.handshake_timeout):
                return await self._decide(request, identify)
        except TimeoutError:
            return self._given_up(request, codes.DECISION_TIMEOUT)
        finally:
            self._undecided -= 1

    async def _decide(
        self, request: OpeningRequest, identify: Identity | Identify | None
    ) -> Decision:
        if self.leases is not None and not self.leases.up:
            await self._begun(self.leases)
        while (wait := self._gate.wait_to_decide(self._clock())) > 0.0:
            await asyncio.sleep(wait)
        if identify is not None:
            request = IdentifiedRequest.of(request, identify)
        decision = self._gate.decide(request, self._clock(), self._wall())
        while not isinstance(decision, Admit | Reject | Wait):
            decision = await self._known(decision)
        return decision

    async def _begun(self, leases: FleetLeases) -> None:
        """Connect to the backplane with the first attempt."""
        if self._beginning is None:
            self._beginning = asyncio.get_running_loop().create_task(leases.begin())
        await asyncio.shield(self._beginning)

    async def _known(self, pending: Pending) -> Decision | Pending:
        known: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        pending.then(lambda: None if known.done() else known.set_result(None))
        try:
            await known
        except BaseException:
            pending.cancel()
            raise
        return pending.decide(self._clock(), self._wall())

    def _given_up(self, request: OpeningRequest, reason: codes.Refusal) -> Reject:
        reject = Reject(reason, reason.retry_after)
        attempt = Attempt(request.address, request.path)
        self.refusals.add(attempt, reject, self._wall(), request.headers)
        return reject

    async def identify(self, lease: Lease, identity: Identity) -> Reject | None:
        """Move a connection to its user, when that becomes known later; why not, if it cannot be.

        After a refusal the connection must end.
        """
        reject = self.tracker.identify(lease, identity)
        if reject is not None or self.leases is None or not lease.held:
            return reject
        told: asyncio.Future[Reject | None] = asyncio.get_running_loop().create_future()
        self.leases.identified(lease, lambda why: None if told.done() else told.set_result(why))
        return await told

    def release(self, lease: Lease, reason: codes.Refusal | codes.Close = codes.NORMAL) -> None:
        """Give the capacity of a connection back at its end, whatever the cause.

        Doing it again has no effect.

        Args:
            reason: why the connection ended, for the counters.
        """
        if self.tracker.release(lease):
            self.stats.disconnected[reason.name] += 1
            self.waiting.freed()

    def give_back(self, lease: Lease) -> None:
        """Give the capacity of an attempt back that was admitted, and became no connection."""
        self._gate.give_back(lease)

    def refused(self, decision: Reject | Wait) -> Refused:
        """Return a refusal as an exception."""
        if isinstance(decision, Reject):
            return rejected(decision)
        return refused(codes.WAITING, away(decision).retry_after)

    def response(self, decision: Reject | Wait) -> tuple[int, list[tuple[str, str]], bytes]:
        """Return a refusal as an HTTP response: status, header fields and body."""
        if isinstance(decision, Reject):
            reason, retry_after, limit = decision
            # Retry-After is in whole seconds (RFC 9110, section 10.2.3).
            seconds = None if retry_after is None else ceil(retry_after)
            status, body, headers = refusal_parts(reason, seconds, limit)
        else:
            status, body, headers = waiting_parts(away(decision))
        return status, [("Content-Type", "application/json"), *headers], body

    def revoke(self, user: str, before: float | None = None) -> None:
        """Accept no token of a user any more that was issued before a time.

        Connections that are open stay: their application closes them.

        Args:
            before: in Unix seconds; now when None.

        Raises:
            UsageError: the tokens of too many users are revoked.
        """
        now = self._wall()
        self._authenticator.revocations.revoke(user, now if before is None else before, now)

    # What is known of it.

    @property
    def ready(self) -> tuple[bool, str]:
        """Whether this process should get new connections, and the reason if not."""
        reason = not_admitting(self, self._clock())
        return not reason, reason

    @property
    def undecided(self) -> int:
        """Attempts that wait for a slow decision."""
        return self._undecided

    @property
    def draining(self) -> bool:
        """Whether no attempt is admitted any more."""
        return self.admission.draining

    def snapshot(self) -> Snapshot:
        """Return the counters, as they are now."""
        return snapshot(self, self._clock())

    # Life.

    def begin_drain(self) -> None:
        """Admit no attempt any more."""
        self.admission.draining = True

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
        self.tracker.apply(wanted.limits, wanted.tiers)
        limits = wanted.limits
        self.rooms.apply(limits.per_room, limits.rooms_per_connection, limits.rooms_per_user)
        self.admission.apply(wanted, self._clock())
        self.waiting.apply(wanted)
        if self.leases is not None:
            self.leases.apply(wanted)
        self.shedder.apply(wanted)
        self.rates.apply(wanted.messages, wanted.limits.rooms_per_connection)
        return live, restart

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Sample the pressure and end positions while the block runs."""
        self.start()
        try:
            if self.leases is not None:
                await self._begun(self.leases)
            yield
        finally:
            await self.close()

    async def close(self) -> None:
        """End what was begun, and give back what this process holds of the fleet."""
        self.stop()
        beginning, self._beginning = self._beginning, None
        if self.leases is not None and beginning is not None:
            await beginning
            await self.leases.stop()

    def start(self) -> None:
        """Sample the pressure and end positions from now on, in the running loop."""
        ticking = self._ticking
        if ticking is None or ticking.done() or ticking.get_loop().is_closed():
            self._ticking = asyncio.get_running_loop().create_task(self._tick_on())

    def stop(self) -> None:
        """End what `start` began."""
        ticking, self._ticking = self._ticking, None
        if ticking is not None and not ticking.get_loop().is_closed():
            ticking.cancel()

    def keep(self, task: asyncio.Task[None]) -> None:
        """Hold a task that nobody waits for until it is done."""
        self._kept.add(task)
        task.add_done_callback(self._kept.discard)

    def tick(self) -> None:
        """Do what is due; call it about ten times a second, where `running` does not."""
        now = self._clock()
        self.waiting.tick(now)
        self._refusal_log.tick(now)
        if now >= self._next_sample:
            self._next_sample = now + _SAMPLE
            change = self.shedder.sample(self._read(now), now)
            if change is not None:
                self.stats.zone_changes[change.new.label] += 1
                self.rates.limit(self.shedder.profile.messages_per_second or inf)

    def take_lag(self) -> float:
        """Return the longest that the loop was late since the last call, in seconds."""
        lag, self._lag = self._lag, 0.0
        return lag

    async def _tick_on(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + _TICK
            await asyncio.sleep(_TICK)
            self._lag = max(self._lag, loop.time() - due)
            self.tick()

    def _address(self, scope: Scope, forwarded: str | None) -> str:
        client, server = scope.get("client"), scope.get("server")
        if client and client[0]:
            peer = counted(client[0])
        else:
            # On a Unix socket there is no client, and the server has no port.
            peer = UNIX_PEER if server is None or server[1] is None else ""
        return self._proxies.client(peer, forwarded, self._header)

    def _dry_run(self, policy: str) -> None:
        self.stats.dry_run[policy] += 1
        self._warn(f"dry run: {policy} would have refused an attempt")
