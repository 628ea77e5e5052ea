"""The limits of the fleet, as one node keeps them.

A lease is taken on this node first, and the fleet is asked then. While the backplane cannot be
reached, the settings say what holds: this node's own limits, or that nobody is admitted. Leases
that were given without asking are told to the fleet when it can be reached again.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from tidegate.backplane.redis.leases import RedisLeases
from tidegate.backplane.redis.servers import connector_of
from tidegate.core.admission.attempt import Reject
from tidegate.core.admission.fleet import ALL, FleetLimits, room_count
from tidegate.core.codes import BACKPLANE_DOWN, FLEET_DOWN, ROOM_LIMIT

if TYPE_CHECKING:
    from tidegate.backplane.base import Leases
    from tidegate.core.admission.attempt import Identity, Lease
    from tidegate.core.admission.fleet import Counted
    from tidegate.core.codes import Fault
    from tidegate.core.settings import Settings
    from tidegate.core.stats import Stats
    from tidegate.gate.fleet import Confirmed

__all__ = ["FleetLeases", "fleet_leases"]

_log = logging.getLogger("tidegate")

_DOWN = Reject(FLEET_DOWN, FLEET_DOWN.retry_after)


def fleet_leases(
    settings: Settings, node: str, stats: Stats, close_all: Callable[[], None] | None
) -> FleetLeases | None:
    """Return what keeps the limits of the fleet; None where this node counts for itself.

    Args:
        settings: the settings.
        node: the name of this node; no other one has it.
        stats: counts what becomes of leases.
        close_all: ends all connections of this node; None where nobody can.

    Raises:
        ConfigError: `fleet.connections` is set, and there is no backplane that can count; or
            `fleet.when_lost` wants what nobody can do.
    """
    url, fleet = settings.backplane.url, settings.fleet
    problem = ""
    if url is None:
        problem = "needs backplane.url"
    elif url.startswith(("nats:", "tls:")):
        problem = "needs Valkey or Redis: NATS cannot count over all nodes at once"
    elif url.startswith("kafka"):
        problem = "needs Valkey or Redis: Kafka cannot count"
    elif not fleet.limits:
        problem = "needs fleet.limits = true"
    if url is None or problem:
        if fleet.connections is not None:
            raise fleet.error("connections", problem)
        return None
    if close_all is None and fleet.when_lost == "close":
        problem = "only `tidegate serve` and `tidegate run` close connections by themselves"
        raise fleet.error("when_lost", problem)
    connector = connector_of(url, settings.backplane.timeout, "{fleet}")
    leases = RedisLeases(connector, settings.backplane, fleet.ttl, node)
    return FleetLeases(settings, leases, stats, close_all or (lambda: None))


class FleetLeases:
    """Keeps the limits of the fleet (`gate.fleet.Fleet`, `core.admission.fleet.FleetCounts`).

    Args:
        settings: the settings.
        leases: counts over all nodes.
        stats: counts what becomes of leases.
        close_all: ends all connections of this node, because their capacity may be given away.
    """

    def __init__(
        self, settings: Settings, leases: Leases, stats: Stats, close_all: Callable[[], None]
    ) -> None:
        self._leases = leases
        self._limits = FleetLimits(settings)
        self._settings = settings.fleet
        self._counts = stats.fleet
        self._close_all = close_all
        self.held: Counter[str] = Counter()
        """What this node holds in every count of the fleet."""

    async def start(self) -> None:
        """Begin to count. Raises BackplaneError when that cannot be."""
        await self._leases.start(self.held, self._lost)

    async def begin(self) -> None:
        """Begin to count as soon as the backplane can be reached; wait for it only a while."""
        await self._leases.begin(self.held, self._lost)

    async def stop(self) -> None:
        """Give back all that this node holds."""
        await self._leases.stop()

    def apply(self, settings: Settings) -> None:
        """Take over the settings that can change."""
        self._limits.apply(settings)
        self._settings = settings.fleet

    @property
    def rooms(self) -> bool:
        """Whether the limits of rooms hold over all nodes, too."""
        return self._settings.rooms

    @property
    def up(self) -> bool:
        """Whether the limits hold over all nodes at present."""
        return self._leases.up

    @property
    def total(self) -> int:
        """Connections of all nodes, as they were a few seconds ago."""
        return self._leases.total

    def limits(self, address: str, identity: Identity) -> tuple[Counted, ...]:
        """Return the counts that a connection would be in, and their limits."""
        return self._limits.limits(address, identity.user, identity.tier)

    async def sums(self, names: Sequence[str]) -> list[int] | None:
        """Return what all nodes have in some counts; None when that cannot be known now."""
        if not self._leases.up:
            return None
        told: asyncio.Future[list[int] | None] = asyncio.get_running_loop().create_future()
        self._leases.sums(names, lambda sums: None if told.done() else told.set_result(sums))
        return await told

    # Leases.

    def confirm(self, lease: Lease, done: Confirmed, /) -> None:
        """Count a new lease of this node in the fleet. HOT."""
        counts = self._limits.of(lease)
        names = tuple(count.name for count in counts)

        def taken(how: int | None) -> None:
            if not lease.held:
                if how == 0:
                    self._leases.change(names, ())
                return
            if how is None:
                done(self._unchecked(lease, names))
            elif how:
                self._counts["refused"] += 1
                done(counts[how - 1].full)
            else:
                self._counts["confirmed"] += 1
                self._put(lease, names)
                done(None)

        if self._leases.up:
            self._leases.take(names, [count.limit for count in counts], taken)
        else:
            taken(None)

    def identified(self, lease: Lease, done: Confirmed, /) -> None:
        """Count a lease under the user and tier that it belongs to now.

        A refusal changes nothing in the fleet; the connection must end then.
        """
        before, counts = lease.fleet, self._limits.of(lease)
        names = tuple(count.name for count in counts)
        counts = tuple(count for count in counts if count.name not in before)
        new = tuple(count.name for count in counts)
        old = tuple(name for name in before if name not in names)

        def taken(how: int | None) -> None:
            if not lease.held:
                if how == 0:
                    self._leases.change(new, ())
                return
            if how is None:
                reject = self._unchecked(lease, ())
                if reject is None:
                    self._move(lease, old, new)
                done(reject)
            elif how:
                self._counts["refused"] += 1
                done(counts[how - 1].full)
            else:
                self.held.update(new)
                self._leave(old)
                self._leases.change(old, ())
                lease.fleet = names
                done(None)

        if self._leases.up:
            self._leases.take(new, [count.limit for count in counts], taken)
        else:
            taken(None)

    def released(self, names: tuple[str, ...], /) -> None:
        """Take a lease that was released out of its counts. HOT."""
        self._leave(names)
        self._leases.change(names, ())

    def replaced(self, names: tuple[str, ...], lease: Lease, /) -> None:
        """Count a lease that takes the place of another one, whatever the limits."""
        lease.fleet = names
        now = tuple(count.name for count in self._limits.of(lease))
        old = tuple(name for name in names if name not in now)
        new = tuple(name for name in now if name not in names)
        if old or new:
            self._move(lease, old, new)

    # Rooms.

    def join(
        self,
        room: str,
        most: int,
        wanted: Callable[[], bool],
        done: Callable[[Fault | None], None],
    ) -> None:
        """Count a new member of a room in the fleet; `done` is told at once or later.

        Args:
            most: the most members that the room may have on all nodes.
            wanted: whether it still wants to be a member. When not, nothing is counted, and `done`
                is not told.
        """
        name = room_count(room)

        def taken(how: int | None) -> None:
            if not wanted():
                if how == 0:
                    self._leases.change((name,), ())
            elif how:
                done(ROOM_LIMIT)
            elif how is None and self._settings.when_down == "refuse":
                done(BACKPLANE_DOWN)
            else:
                self.held[name] += 1
                done(None)

        if self._leases.up:
            self._leases.take((name,), (most,), taken)
        else:
            taken(None)

    def leave(self, room: str) -> None:
        """Take a member that was counted out of a room."""
        self.released((room_count(room),))

    def _unchecked(self, lease: Lease, names: tuple[str, ...]) -> Reject | None:
        """What becomes of a lease that cannot be counted at present."""
        if self._settings.when_down == "refuse":
            return _DOWN
        self._counts["unchecked"] += 1
        self._put(lease, names)
        return None

    def _put(self, lease: Lease, names: tuple[str, ...]) -> None:
        lease.fleet += names
        self.held.update(names)

    def _move(self, lease: Lease, old: tuple[str, ...], new: tuple[str, ...]) -> None:
        lease.fleet = (*(name for name in lease.fleet if name not in old), *new)
        self._leave(old)
        self.held.update(new)
        self._leases.change(old, new)

    def _leave(self, names: tuple[str, ...]) -> None:
        held = self.held
        for name in names:
            left = held[name] - 1
            if left:
                held[name] = left
            else:
                del held[name]

    def _lost(self) -> None:
        """The fleet has not heard of this node for so long that its capacity may be given away."""
        self._counts["lost"] += 1
        closes = self._settings.when_lost == "close"
        _log.warning(
            "the fleet has not heard of this node for %g s, and may have given its capacity away: "
            "its connections %s",
            self._settings.ttl,
            "are closed" if closes else "stay, so there may be more than the limits allow",
            extra={"connections": self.held[ALL]},
        )
        if closes:
            self._close_all()
