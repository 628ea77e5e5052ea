"""Rebalancing of one node: with more than its share, it asks clients to come back elsewhere.

A client that is asked gets `server_shutdown` with the reason `rebalanced`, and 2 s later a close
with the code of `REBALANCED`. Only clients that have been connected for a minute are asked. So no
client is moved twice within a minute, whichever nodes it meets, and no node remembers any.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from functools import partial
from random import random
from time import monotonic
from typing import TYPE_CHECKING, Final, Protocol

from msgspec import Struct

from tidegate.backplane.nodes import times_of
from tidegate.core.admission.shedding import Zone
from tidegate.core.balancing import moves
from tidegate.core.balancing.moves import Member, Phase, Rounds
from tidegate.core.codes import REBALANCED
from tidegate.engine.states import Admission

if TYPE_CHECKING:
    from tidegate.backplane.nodes import NodeRecord, Seen
    from tidegate.core.admission.shedding import LoadShedder
    from tidegate.core.admission.tracker import ConnectionTracker
    from tidegate.core.settings import Settings
    from tidegate.engine.application import Application
    from tidegate.engine.connection import Connection
    from tidegate.engine.engine import Engine
    from tidegate.node.shutdown import Shutdown

__all__ = ["REST_SECONDS", "Rebalanced", "Rebalancing"]

_log = logging.getLogger("tidegate")

REST_SECONDS: Final = 60.0
"""For how long a client that has connected is not asked to move."""
NOTICE_SECONDS: Final = 2.0
"""How long a client has from its notice to the close."""
_USUAL_RATE: Final = 10.0
_LOOK_SECONDS: Final = 10.0  # between two looks whether it has more than its share
_ZONES: Final = (Zone.NORMAL.label, Zone.WARNING.label)


class Rebalanced(Struct, frozen=True, rename="camel"):
    """How far rebalancing is, of one node or of several added up."""

    nodes: int
    """Nodes that have answered."""
    members: int
    """Machines with nodes that take connections, as the first node knows them."""
    active: int
    """Nodes that move connections, or wait for those that they have moved."""
    moved: int
    """Connections that were asked to move since it began."""
    left: int
    """Connections above the shares of their nodes."""
    complete: bool = True
    """Whether all nodes have answered."""


class Fellows(Protocol):
    """What is known of all nodes."""

    async def read(self) -> list[Seen] | None:
        """Return all nodes that were heard lately; None when that cannot be known now."""

    def record(self) -> NodeRecord:
        """Return how this node is now."""


class Giver(Protocol):
    """A node, as far as its connections can be moved."""

    settings: Settings
    tracker: ConnectionTracker
    shedder: LoadShedder
    engine: Engine
    application: Application[Connection]
    shutdown: Shutdown

    @property
    def membership(self) -> Fellows:
        """What it knows of the others."""


class Rebalancing:
    """Moves connections of one node to others.

    Args:
        node: the node.
        dice: returns a number from 0 to 1, without 1.
    """

    def __init__(self, node: Giver, dice: Callable[[], float] = random) -> None:
        self._node = node
        self._dice = dice
        self._rounds = Rounds()
        self._share: int | None = None
        self._members: list[Member] = []
        self._routes: dict[str, str] = {}
        self._room: dict[str, int] = {}
        self._candidates: list[Connection] = []
        self._listed = 0.0
        self._asked: set[Connection] = set()
        self._look_at = 0.0
        self._looking: asyncio.Task[None] | None = None

    # What is asked of it.

    async def begin(self, rate: float | None = None) -> Rebalanced:
        """Begin where this node has more than its share; one that is under way goes on.

        Args:
            rate: connections a second, 0 to end it; `rebalance.rate`, or 10, when None.
        """
        if rate == 0:
            self.end()
            return self.progress()
        await self._read()
        if self._may_move():
            usual = self._node.settings.rebalance.rate or _USUAL_RATE
            self._start(usual if rate is None else rate)
        return self.progress()

    async def look(self) -> Rebalanced:
        """Return how far it is."""
        await self._read()
        return self.progress()

    def progress(self) -> Rebalanced:
        """Return how far it is, as of the last look at the other nodes."""
        left = 0 if self._share is None else max(0, self._open - self._share)
        return Rebalanced(
            nodes=1,
            members=sum(member.takes for member in self._members),
            active=int(self._rounds.phase is not Phase.IDLE),
            moved=self._rounds.moved,
            left=left,
        )

    def tick(self, now: float) -> None:
        """Move those whose turn it is, and look at the other nodes when it is time."""
        rounds = self._rounds
        if rounds.phase is Phase.IDLE and not self._node.settings.rebalance.rate:
            return
        if self._node.shutdown.begun:
            self.end()
        elif rounds.phase is Phase.MOVING:
            if self._may_move():
                self._move(now)
            else:
                rounds.pause(now)
        elif self._looking is None and self._is_due(now):
            self._look_at = now + _LOOK_SECONDS
            self._looking = asyncio.get_running_loop().create_task(self._look_again())

    def end(self) -> None:
        """Move nobody any more. Those that were asked already still go."""
        self._rounds.end()
        self._candidates.clear()
        if self._looking is not None:
            self._looking.cancel()

    # Looking.

    def _is_due(self, now: float) -> bool:
        if self._rounds.phase is Phase.IDLE:
            return now >= self._look_at
        return self._rounds.settled(now)

    async def _look_again(self) -> None:
        try:
            await self._read()
            if self._node.shutdown.begun or not self._may_move():
                return
            if self._rounds.phase is Phase.SETTLING:
                if not self._rounds.look(self._open, self._share, monotonic()):
                    _log.info("rebalanced", extra={"moved": self._rounds.moved})
            elif not moves.is_balanced(self._open, self._share):
                self._start(self._node.settings.rebalance.rate)
        finally:
            self._looking = None

    def _start(self, rate: float) -> None:
        begun = self._rounds.phase is Phase.IDLE
        if self._rounds.begin(self._open, self._share, rate, monotonic()) and begun:
            extra = {"connections": self._open, "share": self._share, "rate": rate}
            _log.info("rebalancing", extra=extra)

    async def _read(self) -> None:
        """Learn what all nodes have, and what the share of this one is."""
        membership = self._node.membership
        seen = await membership.read()
        own = membership.record()
        gone = times_of(self._node.settings.fleet.ttl).gone
        here = [one.record for one in seen or () if one.age < gone and not one.record.draining]
        others = [one for one in here if one.id != own.id]
        records = [own, *others] if not own.draining else others
        self._members, self._routes = _members(records)
        self._room = moves.room(self._members)
        self._share = _own_share(own, records, self._members)

    @property
    def _open(self) -> int:
        """Connections of this node without those that were asked to move."""
        # One that is closing holds its lease until its client has answered the close.
        return self._node.tracker.open - sum(each.lease.held for each in self._asked)

    def _may_move(self) -> bool:
        """Whether the node can afford clients that leave and others that take their place."""
        return self._node.shedder.zone.label in _ZONES

    # Moving.

    def _move(self, now: float) -> None:
        if not self._candidates and now >= self._listed:
            self._listed = now + _LOOK_SECONDS
            since = now - REST_SECONDS
            self._candidates = [
                each
                for each in self._node.engine.connections()
                if each.admission is Admission.ADMITTED and each.opened_at <= since
            ]
        self._asked = {each for each in self._asked if each.lease.held}
        for _ in range(self._rounds.due(self._open, now, len(self._candidates))):
            connection = self._candidates.pop()
            if connection.open and connection not in self._asked:
                self._ask(connection)

    def _ask(self, connection: Connection) -> None:
        route = ""
        if self._room:
            target = moves.taker(self._room, self._dice())
            route = self._routes[target]
            self._room[target] -= 1
            if not self._room[target]:
                del self._room[target]
        self._asked.add(connection)
        # The close goes first into the queue of the loop: what sends may find the peer gone.
        asyncio.get_running_loop().call_later(NOTICE_SECONDS, self._let_go, connection)
        self._node.application.moving(connection, NOTICE_SECONDS, route)

    def _let_go(self, connection: Connection) -> None:
        # What was published to its rooms, and acknowledged, may still be on its way.
        fanout = self._node.engine.shared.fanout
        fanout.when_sent(connection.rooms, partial(self._close, connection))

    def _close(self, connection: Connection) -> None:
        if connection.open:
            # Its own moment was given to it: it comes back at once.
            connection.end(REBALANCED, 0)


def _name(record: NodeRecord) -> str:
    """What workers of one machine have in common: a client cannot choose between them."""
    return " ".join((record.host, *record.addresses))


def _members(records: Sequence[NodeRecord]) -> tuple[list[Member], dict[str, str]]:
    """The machines that there are, and their routes."""
    found: dict[str, Member] = {}
    routes: dict[str, str] = {}
    for record in records:
        name = _name(record)
        before = found.get(name, Member(name, 0, 0, takes=False))
        found[name] = Member(
            name,
            before.connections + record.connections,
            before.capacity + record.capacity,
            takes=before.takes or (record.ready and record.zone in _ZONES),
        )
        routes[name] = record.route
    return list(found.values()), routes


def _own_share(
    own: NodeRecord, records: Sequence[NodeRecord], members: Sequence[Member]
) -> int | None:
    """The share of a node: workers give away in proportion to what they have."""
    name = _name(own)
    share = moves.share(name, members)
    if share is None:
        return None
    together = sum(record.connections for record in records if _name(record) == name)
    if together <= share:
        return own.connections
    return own.connections - (together - share) * own.connections // together
