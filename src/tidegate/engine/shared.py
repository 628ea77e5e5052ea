"""What the halves of a connection, the listeners and the intake share: a record, no behaviour.

The engine fills it in and stands on top of it; nothing below imports the engine. What connections
read for every frame is looked up once and kept here under its own name.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tidegate.core.timing.deadlines import Deadlines
from tidegate.engine.buffers import Buffers
from tidegate.engine.later import Later
from tidegate.engine.leftover import Leftover

if TYPE_CHECKING:
    import asyncio
    import ssl

    from tidegate.core.settings import Settings
    from tidegate.core.settings.messages import OutboxSettings
    from tidegate.core.stats import Stats
    from tidegate.core.timing.heartbeat import Heartbeat
    from tidegate.core.timing.rates import Rates
    from tidegate.engine.application import Application, Host
    from tidegate.engine.descriptors import Shares
    from tidegate.engine.door import Door
    from tidegate.engine.fanout import Fanout
    from tidegate.engine.lingering import Lingerers
    from tidegate.engine.poller import Poller
    from tidegate.engine.streams import Streams
    from tidegate.engine.tasks import Tasks
    from tidegate.engine.unfinished import Unfinished

__all__ = ["Corked", "Shared"]

Corked = deque[tuple[Any, bytes]]
"""Frames and the connections they are for, in the order of sending."""


class Shared:
    """What one engine's parts have in common. Everything belongs to the loop's thread."""

    __slots__ = (
        "application",
        "at_work",
        "buffers",
        "cancels",
        "close_timeout",
        "closing",
        "corked",
        "count",
        "deferred",
        "deflate_min_size",
        "door",
        "ends",
        "fanout",
        "fragment_timeout",
        "fragments",
        "handshake_timeout",
        "heartbeat",
        "heartbeat_timeout",
        "host",
        "later",
        "leftover",
        "lingerers",
        "loop",
        "max_fragments",
        "max_message",
        "max_pending",
        "name",
        "names",
        "on_message",
        "openings",
        "outbox",
        "pending",
        "poller",
        "posts",
        "rates",
        "rates_are_dry",
        "refuses_early",
        "shares",
        "slow",
        "stats",
        "streams",
        "tasks",
        "tls",
        "unfinished",
    )

    # Set when the engine starts.
    application: Application[Any]
    host: Host[Any]
    door: Door
    loop: asyncio.AbstractEventLoop
    on_message: Callable[[Any, str | bytes], Any]
    """`Application.message`: bound once, because it is called for every message."""
    refuses_early: bool
    shares: Shares
    cancels: bool

    def __init__(
        self,
        name: str,
        settings: Settings,
        stats: Stats,
        poller: Poller,
        fanout: Fanout,
        heartbeat: Heartbeat[Any],
        rates: Rates,
        unfinished: Unfinished,
        lingerers: Lingerers,
        streams: Streams,
        tasks: Tasks,
        tls: ssl.SSLContext | None,
    ) -> None:
        self.name = name
        """Unique for this process; the first half of every connection's id."""
        self.stats = stats
        self.poller = poller
        self.fanout = fanout
        self.heartbeat = heartbeat
        self.rates = rates
        """What connections may send; a change is in force at once for all of them."""
        self.unfinished = unfinished
        """Counts and bounds of `openings`."""
        self.lingerers = lingerers
        self.streams = streams
        self.later = Later(poller)
        self.tasks = tasks
        self.tls = tls
        self.corked: Corked | None = None
        """Small messages that go out when a batch was handled; None when none is being handled."""
        self.openings: Deadlines[Any] = Deadlines()
        """Attempts that have no answer yet: each has `timeout`, `give_way`, `drop` and `key`."""
        self.closing: Deadlines[Any] = Deadlines()
        """Connections whose close frame is out."""
        self.fragments: Deadlines[Any] = Deadlines()
        """Connections that have begun a message and not finished it."""
        self.posts: Deadlines[Any] = Deadlines()
        """Connections over which messages are posted."""
        self.slow: Deadlines[Any] = Deadlines()
        """Connections that have, or lately had, an outbox."""
        self.buffers = Buffers(
            settings.most_kept, self.later.add, self._relieved, (self.closing, self.slow)
        )
        """What all of them keep, counted and bounded."""
        self.deferred: dict[Any, Callable[[Any], Any]] = {}
        """Methods of the application to call when the one at work for a connection is done."""
        self.leftover = Leftover()
        """Messages whose peer has closed while they waited for a handler."""
        self.at_work: dict[Any, asyncio.Task[None]] = {}
        """The async methods at work, where the application has them cancelled with their peer."""
        self.ends: dict[Any, asyncio.Future[None]] = {}
        """What is done when a connection has ended, where somebody waits for it."""
        self.count = 0
        self.names: dict[int, str] = {}
        """The ids of connections that came from another node, by number."""
        """Connections so far."""
        self.pending = 0
        """Attempts that are parked until their decision is known."""
        self.max_pending = settings.server.max_pending
        self.max_fragments = settings.messages.max_fragments
        self.fragment_timeout = settings.messages.fragment_timeout
        self.rates_are_dry = settings.limits.is_dry("messages")
        self.deflate_min_size = settings.deflate.min_size
        self.max_message = settings.messages.max_size
        self.outbox: OutboxSettings
        self.close_timeout: float
        self.handshake_timeout: float
        self.heartbeat_timeout: float
        self.apply(settings)

    def apply(self, settings: Settings) -> None:
        """Take over the settings that can change."""
        self.unfinished.apply(settings.limits)
        self.lingerers.unfinished.apply(settings.limits)
        self.streams.apply(settings.limits)
        self.outbox = settings.outbox
        self.buffers.apply(settings.most_kept)
        self.close_timeout = settings.server.close_timeout
        self.handshake_timeout = settings.server.handshake_timeout
        self.heartbeat_timeout = settings.heartbeat.timeout

    def _relieved(self, ended: int) -> None:
        self.host.warn(f"buffers.max_bytes is used up: closed those who used the most, {ended} now")
