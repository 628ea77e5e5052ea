"""All that is seen of a node from above, and all that is done to it.

The admin API, the metrics, the banner and a supervisor call `Control` and nothing else of a node.
Arguments and results are values, so a call means the same in-process, over a pipe and as HTTP.
"""

from __future__ import annotations

from collections.abc import Mapping
from time import time
from typing import TYPE_CHECKING, Any, Final

from msgspec import Struct, convert

from tidegate.core.codes import DISCONNECTED, KICKED, is_own_code
from tidegate.core.settings import DrainSettings, RebalanceSettings
from tidegate.core.settings.changes import merged
from tidegate.errors import UsageError
from tidegate.node.control import connections as listing
from tidegate.node.control import moving
from tidegate.node.control.explaining import explain, explain_room, refused_reasons, refused_row
from tidegate.node.control.figures import read_metrics
from tidegate.node.control.fleet import (
    CONNECTIONS,
    DISCONNECT,
    PING,
    REBALANCE,
    SETTINGS,
    STATS,
    USERS,
    Disconnect,
    Fleet,
    Rebalance,
)
from tidegate.node.control.nodes import nodes_page
from tidegate.node.control.publishing import publish
from tidegate.node.control.reading import history, presence, users_page
from tidegate.node.control.rooms import rooms_page
from tidegate.node.control.sample import Sampler
from tidegate.node.control.settings import Applied, settings_view
from tidegate.node.control.snapshot import snapshot
from tidegate.node.control.standing import standing
from tidegate.wire.messages import MAX_USER, is_name

if TYPE_CHECKING:
    from tidegate.core.codes import Fault
    from tidegate.node.control.adding import FleetStats
    from tidegate.node.control.connections import (
        ConnectionsPage,
        ConnectionsQuery,
        Disconnected,
        Selector,
    )
    from tidegate.node.control.explaining import (
        ExplainQuery,
        ExplainRoomQuery,
        Explanation,
        RefusedReason,
        RefusedRow,
        RoomExplanation,
    )
    from tidegate.node.control.figures import Metric
    from tidegate.node.control.moving import Moved
    from tidegate.node.control.nodes import NodesPage
    from tidegate.node.control.parts import Parts
    from tidegate.node.control.pinging import Ping, Pinged
    from tidegate.node.control.publishing import Publish, Published, Source
    from tidegate.node.control.reading import (
        HistoryRow,
        PresenceQuery,
        PresenceRow,
        RoomHistoryQuery,
        UsersPage,
        UsersQuery,
    )
    from tidegate.node.control.revoking import Revoked
    from tidegate.node.control.rooms import RoomsPage, RoomsQuery
    from tidegate.node.control.sample import Sample
    from tidegate.node.control.settings import SettingsView
    from tidegate.node.control.snapshot import Snapshot
    from tidegate.node.control.standing import Standing
    from tidegate.node.rebalancing import Rebalanced

__all__ = ["Control", "DrainProgress", "Status"]

_AHEAD: Final = 60.0  # seconds that the clock of who asks may be ahead


class Status(Struct, frozen=True, rename="camel"):
    """What a load balancer and an operator ask first."""

    version: str
    uptime: float
    """Seconds since the start, 0 before it."""
    ready: bool
    """Whether it should get new connections."""
    reason: str
    """Why it is not ready; empty when it is."""
    addresses: tuple[tuple[str, int], ...]
    """Host and port of every listener."""
    down: tuple[str, ...] = ()
    """What this node needs and cannot reach: `backplane`."""


class DrainProgress(Struct, frozen=True, rename="camel"):
    """How far a drain is. Counts are of the connections at its start, times are in seconds."""

    draining: bool
    over: bool
    total: int
    told: int
    closed: int
    """How many it was the turn of, whether or not they had left by themselves."""
    open: int
    window: float
    elapsed: float
    left: float


class Control:
    """Sees and steers one node. All methods belong to the loop's thread."""

    def __init__(self, node: Parts) -> None:
        self._node = node
        self._made: Sampler | None = None
        self._joined: Fleet | None = None

    @property
    def _fleet(self) -> Fleet:
        if self._joined is None:
            backplane = self._node.backplane
            self._joined = Fleet(
                self._node,
                None if backplane is None else backplane.orders,
                None if backplane is None else backplane.revocations,
            )
        return self._joined

    def join_fleet(self) -> None:
        """Do what other nodes order, from when the backplane has started."""
        _ = self._fleet

    @property
    def _sampler(self) -> Sampler:
        if self._made is None:  # the parts of a node are made after its control
            self._made = Sampler(self._node)
        return self._made

    # What is known of it.

    def status(self) -> Status:
        """Return whether the node is ready, and why not."""
        node = self._node
        ready, reason = node.ready
        between = node.backplane
        down = () if between is None or between.up else ("backplane",)
        return Status(node.version, node.uptime, ready, reason, tuple(node.addresses), down)

    def standing(self) -> Standing:
        """Return which connections it has and could take, for what spreads them over nodes."""
        return standing(self._node)

    def snapshot(self) -> Snapshot:
        """Return the counters, as they are now."""
        return snapshot(self._node)

    async def fleet_stats(self) -> FleetStats:
        """Return the counters of all nodes, added up; of this one where it is alone."""
        return await self._fleet.everywhere(STATS, None)

    def metrics(self) -> list[Metric]:
        """Return the values of all metrics, in the order of the table `METRICS`."""
        return read_metrics(self._node)

    def settings(self) -> SettingsView:
        """Return all settings as they are in force; secrets are masked."""
        return settings_view(self._node.settings)

    async def connections(self, query: ConnectionsQuery) -> ConnectionsPage:
        """Return a page of the connections that have been admitted, by number."""
        if query.scope == "fleet":
            return await self._fleet.everywhere(CONNECTIONS, query)
        return await listing.page(self._node, query)

    async def users(self, query: UsersQuery) -> UsersPage:
        """Return some of the users that have a connection."""
        if query.scope == "fleet":
            return await self._fleet.everywhere(USERS, query)
        return await users_page(self._node, query)

    async def presence(self, query: PresenceQuery) -> PresenceRow | Fault:
        """Return who is in a room, or why that is not known."""
        return await presence(self._node, query)

    async def history(self, query: RoomHistoryQuery) -> HistoryRow | Fault:
        """Return messages of a room, or why there are none."""
        return await history(self._node, query)

    async def rooms(self, query: RoomsQuery) -> RoomsPage:
        """Return some of the rooms that have members."""
        if query.scope == "fleet":
            return await self._fleet.rooms(query)
        return await rooms_page(self._node, query)

    async def nodes(self) -> NodesPage:
        """Return the nodes of the fleet; this one alone where there is none."""
        return await nodes_page(self._node)

    def sample(self) -> Sample:
        """Return what charts show, as it is now; its lag is that since the last call."""
        return self._sampler.take()

    async def explain(self, query: ExplainQuery) -> Explanation:
        """Return what the gate would decide about an attempt now. Nothing is taken."""
        return await explain(self._node, query)

    async def explain_room(self, query: ExplainRoomQuery) -> RoomExplanation:
        """Return what a client may do with a room, and which rule says so."""
        return await explain_room(self._node, query)

    def refusals(self) -> list[RefusedRow]:
        """Return the last refused attempts, the newest first."""
        return [refused_row(refused) for refused in self._node.refusals]

    def refused_reasons(self) -> dict[str, RefusedReason]:
        """Return how many attempts were refused for each reason, and the last of them."""
        return refused_reasons(self._node)

    # What is done to it.

    async def publish(self, message: Publish, source: Source = "api") -> Published | Fault:
        """Carry a message; return what became of it, or why it was not taken.

        Args:
            source: who publishes: the server API, or a function of a `tidegate.App`.

        Raises:
            UsageError: the application of this node has no rooms.
        """
        return await publish(self._node, message, source)

    async def ping_user(self, query: Ping) -> Pinged:
        """Measure the way to a user and back: to the connection that answers first."""
        return await self._fleet.everywhere(PING, query, query.timeout)

    def apply(self, changes: Mapping[str, Mapping[str, object]]) -> Applied:
        """Change the settings that can change while the server runs.

        Args:
            changes: sections as in a settings file, with the settings that are to change.

        Raises:
            SettingError: a name or a value is wrong; nothing has changed then.
        """
        return Applied(*self._node.apply(changes))

    async def apply_everywhere(self, changes: dict[str, dict[str, Any]]) -> Applied:
        """Change settings on all nodes of the fleet; `complete` says whether all have.

        Raises:
            SettingError: a name or a value is wrong; nothing has changed then.
        """
        merged(self._node.settings, changes)  # what is wrong here is not given to the others
        return await self._fleet.everywhere(SETTINGS, changes)

    async def disconnect(
        self,
        selector: Selector,
        detail: str = "",
        *,
        may_return: bool = False,
        code: int | None = None,
    ) -> Disconnected:
        """End connections, those that wait to be admitted too.

        Args:
            detail: what the clients are told beside the reason.
            may_return: whether their clients may come back by themselves.
            code: a close code of the caller's own, 1000 or 3000 to 4999; `detail` is then all that
                the clients are told.

        Raises:
            UsageError: the code is none of these, or is given beside `may_return`.
        """
        if code is not None and (may_return or not is_own_code(code)):
            raise UsageError("code: must be 1000 or 3000 to 4999, and not beside mayReturn")
        reason = DISCONNECTED if may_return else KICKED
        order = Disconnect(selector, detail, reason.name, code)
        return await self._fleet.everywhere(DISCONNECT, order)

    async def join(self, selector: Selector, room: str) -> Moved:
        """Put connections into a room, whatever its rule says; their clients are told.

        Raises:
            UsageError: the room is no name.
        """
        moving.check_room(room)
        return await self._fleet.join(selector, room)

    async def leave(self, room: str, selector: Selector | None = None) -> Moved:
        """Take connections out of a room, all of them without a selector; their clients are told.

        Raises:
            UsageError: the room is no name.
        """
        moving.check_room(room)
        return await self._fleet.leave(room, selector)

    async def revoke(self, user: str, before: float | None = None) -> Revoked:
        """Accept no token of a user any more that was issued before a time; end its connections.

        The clients of those may come back with a newer token. A revocation is kept for
        `auth.revocation_ttl`: by the backplane, where there is one, else by this node until it
        stops.

        Args:
            before: in Unix seconds; now when None.

        Raises:
            UsageError: the user is no name, the time lies ahead, or too many are revoked.
        """
        now = time()
        if not is_name(user, MAX_USER):
            raise UsageError(f"user: must have 1 to {MAX_USER} characters, none of control")
        if before is not None and not 0 <= before <= now + _AHEAD:
            raise UsageError("before: must be a time in Unix seconds that is not ahead")
        before = now if before is None else before
        return await self._fleet.revoke(user, before)

    async def rebalance(self, rate: float | None = None) -> Rebalanced:
        """Begin to move connections from the fullest nodes to the others, on all nodes.

        Args:
            rate: connections a second of each node, 0 to end it; `rebalance.rate` or 10 when None.

        Raises:
            SettingError: `rebalance.rate` may not be that.
        """
        if rate is not None:
            rate = RebalanceSettings(rate=rate).rate
        return await self._fleet.everywhere(REBALANCE, Rebalance(begin=True, rate=rate))

    async def rebalanced(self) -> Rebalanced:
        """Return how far rebalancing is, on all nodes."""
        return await self._fleet.everywhere(REBALANCE, Rebalance(begin=False))

    def drain(self, window: float | None = None) -> DrainProgress:
        """Begin a drain, and return at once; one that is under way goes on.

        Args:
            window: seconds; `drain.window` when None, 0 for all at once.

        Raises:
            SettingError: `drain.window` may not be that.
        """
        if window is not None:
            window = DrainSettings(window=window).window
        self._node.shutdown.begin_drain(window)
        progress = self.drain_progress()
        assert progress is not None
        return progress

    def drain_progress(self) -> DrainProgress | None:
        """Return how far the drain is, None when there is none."""
        drain = self._node.shutdown.drain
        if drain is None:
            return None
        drain.watched = True
        return convert(drain.progress(), DrainProgress)

    @property
    def drain_watched(self) -> bool:
        """Whether somebody has asked how far the drain is, and will want to see its end."""
        drain = self._node.shutdown.drain
        return drain is not None and drain.watched
