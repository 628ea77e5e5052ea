"""All that is seen of a node from above, and all that is done to it.

The admin API, the metrics, the banner and a supervisor call `Control` and nothing else of a node.
Arguments and results are values, so a call means the same in-process, over a pipe and as HTTP.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from msgspec import Struct, convert

from tidegate.core.settings import DrainSettings
from tidegate.node.control import connections as listing
from tidegate.node.control.explaining import explain, refused_reasons, refused_row
from tidegate.node.control.figures import read_metrics
from tidegate.node.control.rooms import rooms_page
from tidegate.node.control.sample import Sampler
from tidegate.node.control.settings import Applied, settings_view
from tidegate.node.control.snapshot import snapshot

if TYPE_CHECKING:
    from tidegate.node.control.connections import (
        ConnectionsPage,
        ConnectionsQuery,
        Disconnected,
        Selector,
    )
    from tidegate.node.control.explaining import (
        ExplainQuery,
        Explanation,
        RefusedReason,
        RefusedRow,
    )
    from tidegate.node.control.figures import Metric
    from tidegate.node.control.parts import Parts
    from tidegate.node.control.rooms import RoomsPage, RoomsQuery
    from tidegate.node.control.sample import Sample
    from tidegate.node.control.settings import SettingsView
    from tidegate.node.control.snapshot import Snapshot

__all__ = ["Control", "DrainProgress", "Status"]


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
        return Status(node.version, node.uptime, ready, reason, tuple(node.addresses))

    def snapshot(self) -> Snapshot:
        """Return the counters, as they are now."""
        return snapshot(self._node)

    def metrics(self) -> list[Metric]:
        """Return the values of all metrics, in the order of the table `METRICS`."""
        return read_metrics(self._node)

    def settings(self) -> SettingsView:
        """Return all settings as they are in force; secrets are masked."""
        return settings_view(self._node.settings)

    async def connections(self, query: ConnectionsQuery) -> ConnectionsPage:
        """Return a page of the connections that have been admitted, by number."""
        return await listing.page(self._node, query)

    def rooms(self, query: RoomsQuery) -> RoomsPage:
        """Return some of the rooms that have members."""
        return rooms_page(self._node, query)

    def sample(self) -> Sample:
        """Return what charts show, as it is now; its lag is that since the last call."""
        return self._sampler.take()

    def explain(self, query: ExplainQuery) -> Explanation:
        """Return what the gate would decide about an attempt now. Nothing is taken."""
        return explain(self._node, query)

    def refusals(self) -> list[RefusedRow]:
        """Return the last refused attempts, the newest first."""
        return [refused_row(refused) for refused in self._node.refusals]

    def refused_reasons(self) -> dict[str, RefusedReason]:
        """Return how many attempts were refused for each reason, and the last of them."""
        return refused_reasons(self._node)

    # What is done to it.

    def apply(self, changes: Mapping[str, Mapping[str, object]]) -> Applied:
        """Change the settings that can change while the server runs.

        Args:
            changes: sections as in a settings file, with the settings that are to change.

        Raises:
            SettingError: a name or a value is wrong; nothing has changed then.
        """
        return Applied(*self._node.apply(changes))

    async def disconnect(self, selector: Selector, detail: str = "") -> Disconnected:
        """End connections, those that wait to be admitted too. Their clients may not come back.

        Args:
            detail: what the clients are told beside the reason.
        """
        return await listing.disconnect(self._node, selector, detail)

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
