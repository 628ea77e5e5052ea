"""A node: the kernel's queue, one core, and the gate of its process.

    attempt -> kernel's queue -> the core serves one after the other -> Gate.decide -> its client
               full: the SYN is dropped, and sent again after 1, 3, 7 s ... (RFC 6298: 2.1, 5.5)

Connected clients come first, as in the engine: their messages take their share of the core, and
attempts get the rest. Where they take more than the whole core, work is left undone, and the node
answers later and later: that is its lag. CPU, lag and connections are the signals of pressure,
from which the gate's own shedder makes the zone.
"""

from __future__ import annotations

from collections import deque
from enum import IntEnum
from functools import partial
from typing import TYPE_CHECKING, Final

from tidegate.core.admission.attempt import Lease, Reject
from tidegate.core.admission.shedding import Signals, Zone
from tidegate.core.balancing.weight import Load as Weighed
from tidegate.core.balancing.weight import Weight, wanted
from tidegate.core.codes import SHED
from tidegate.gate.decision import Admit, Held, Wait
from tidegate.sim.backplane import Counts
from tidegate.sim.behaviours import Told
from tidegate.sim.clients import Client, State
from tidegate.sim.process import WALL, Process

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    from tidegate.core.settings import Settings
    from tidegate.gate.decision import Decision, Pending
    from tidegate.sim.backplane import Backplane
    from tidegate.sim.clock import Clock
    from tidegate.sim.load import Load

    class Clients(Protocol):
        """What a node tells of its clients."""

        def admitted(self, client: Client, node: Node) -> None:
            """A client has its lease."""

        def refused(self, client: Client, reject: Reject | None) -> None:
            """An attempt is refused; None where nobody answered it."""

        def unanswered(self, client: Client, turn: int) -> None:
            """The kernel dropped the SYN of an attempt."""

        def lost(self, client: Client, told: Told | None) -> None:
            """A connection was closed."""

        def failed(self, node: Node, why: str) -> None:
            """A node has died of its load."""


__all__ = ["Node", "Status"]

PERIOD: Final = 0.25
"""Seconds between two readings of the signals, as in `node.pressure.zones`."""

_REST: Final = 1.0
_LOOK: Final = 1.0  # s between two looks for attempts that were given up

_AGENT_SECONDS: Final = 1.0  # HAProxy's `agent-inter` of `tidegate deploy`

_SLOWEST: Final = 0.02  # share of the core that attempts get at least
_TURN: Final = 0.02  # s that the engine gives to attempts between two looks at its connections
_MOST_LAG: Final = 120.0


class Status(IntEnum):
    """How a node is."""

    BOOTING = 0
    UP = 1
    DRAINING = 2
    DEAD = 3


class Node:
    """One node of the fleet.

    Args:
        settings: of its gate, scaled to the objects that are counted here.
        memory: bytes that it may have; 0 for any number.
        backplane: counts over all nodes; None where each counts for itself.
    """

    def __init__(
        self,
        number: int,
        zone: int,
        settings: Settings,
        load: Load,
        memory: float,
        clock: Clock,
        chance: Callable[[], float],
        clients: Clients,
        backplane: Backplane | None = None,
    ) -> None:
        self.number = number
        self.zone = zone
        self.status = Status.BOOTING
        self.silent = False
        """Nothing comes from it, not even a refusal: its machine is gone, or the way to it."""
        self.slowness = 1.0
        self.leak = 0.0
        """Bytes a second."""
        self.connections: dict[Client, None] = {}
        self.held: dict[Client, None] = {}
        self.lag = 0.0
        self.cpu = 0.0
        """Share of the core, in the last period."""
        self.starts = 0
        self.probes_failed = 0
        self.checks_failed = 0
        self.checks_passed = 0
        self.retired = False
        self._settings = settings
        self._load = load
        self._memory = memory
        self._clock = clock
        self._chance = chance
        self._clients = clients
        self._backplane = backplane
        self._pending: dict[tuple[Client, int], Pending] = {}
        self._backlog = settings.server.backlog
        self._queue: deque[tuple[Client, int]] = deque()
        self._serving = False
        self._work = 0.0
        self._undone = 0.0
        self._leaked = 0.0
        self._sampled = 0.0
        self._next_look = 0.0
        self._free_at = 0.0
        self._weight = Weight()
        self._asks_for = 100
        self.process = self._new_process()

    def _new_process(self) -> Process:
        counts = None if self._backplane is None else Counts(self._backplane)
        return Process(
            self._settings, self._clock, self._chance, self._promoted, self._turned_away, counts
        )

    # Life.

    def start(self) -> None:
        """Begin to accept, with a new process."""
        self.process.end()
        self.process = self._new_process()
        self.status = Status.UP
        self.silent = False
        self.starts += 1
        self.lag = self.cpu = self._work = self._undone = self._leaked = 0.0
        self.probes_failed = 0
        self._weight = Weight()
        self._serving = False
        self._sampled = self._clock.now
        self._clock.after(PERIOD, self._sample, self.starts)

    def die(self, *, silent: bool = False, stopped: bool = False) -> None:
        """Lose everything: connections, those that wait, and the queue.

        One that is `stopped` gives its leases back to the fleet before it ends.
        """
        self.status = Status.DEAD
        self.silent = silent
        self.cpu = self.lag = 0.0
        self.starts += 1
        self._serving = False
        process, connections, held = self.process, list(self.connections), list(self.held)
        queue, self._queue = self._queue, deque()
        self.connections.clear()
        self.held.clear()
        pending, self._pending = self._pending, {}
        if process.counts is not None:
            process.counts.lost = not stopped
        for one in pending.values():
            one.cancel()
        for client in connections:
            assert client.lease is not None
            process.tracker.release(client.lease)
        for client in held:
            process.waiting.gone(client, self._clock.now)
        process.end()
        for client in connections:
            self._clients.lost(client, None)
        for client in held:
            self._clients.refused(client, None)
        for client, turn in (*queue, *pending):
            if client.turn == turn:
                self._clients.refused(client, None)

    @property
    def accepts(self) -> bool:
        """Whether there is a process that accepts."""
        return self.status in (Status.UP, Status.DRAINING)

    @property
    def load(self) -> int:
        """Connections and attempts that a load balancer sees on it."""
        return len(self.connections) + len(self._queue) + len(self.held)

    @property
    def memory(self) -> float:
        """Bytes."""
        return self._load.process + len(self.connections) * self._load.bytes + self._leaked

    def weigh(self) -> int:
        """Return which share of new connections it asks for, in percent (agent-check).

        One that does not answer keeps what it said.
        """
        now, process = self._clock.now, self.process
        if self.answers(_AGENT_SECONDS):
            shedder = process.shedder
            load = Weighed(shedder.zone.label, shedder.pressure) if process.ready(now) else None
            self._asks_for = self._weight.follow(wanted((load,)), now)
        return self._asks_for

    def answers(self, timeout: float) -> bool:
        """Whether a check of its health gets an answer in time."""
        return self.accepts and not self.silent and self.lag < timeout

    # Attempts.

    def arrive(self, client: Client) -> None:
        """An attempt reaches the kernel. HOT."""
        if len(self._queue) >= self._backlog:
            self._clients.unanswered(client, client.turn)
            return
        self._queue.append((client, client.turn))
        if not self._serving:
            self._serving = True
            self._serve(self.starts)

    def _serve(self, start: int) -> None:
        """Serve the next in the queue, and come back when the core is free again. HOT."""
        if start != self.starts:
            return  # of a process that is gone
        now = self._clock.now
        wait = self.process.gate.wait_to_decide(now)
        if wait or now < self._free_at:
            self._clock.at(max(now + wait, self._free_at), self._serve, start)
            return
        if not self._queue:
            self._serving = False
            return
        client, turn = self._queue.popleft()
        load = self._load
        if client.turn != turn:
            cost = load.abandoned
        else:
            taken = self._decide(client, self.process.decide(client, now))
            cost = load.admit if taken else load.refuse
        self._work += cost * self.slowness
        share = 1.0 - len(self.connections) * load.connected * self.slowness
        self._clock.at(now + cost * self.slowness / max(_SLOWEST, share), self._serve, start)

    def _decide(self, client: Client, decision: Decision | Pending) -> bool:
        if isinstance(decision, Admit | Reject | Wait):
            return self._decided(client, decision)
        self._pending[client, client.turn] = decision
        decision.then(partial(self._known, client, client.turn, decision))
        return True

    def _known(self, client: Client, turn: int, pending: Pending) -> None:
        """The fleet has answered."""
        if self._pending.pop((client, turn), None) is not pending:
            return
        if client.turn != turn:
            pending.cancel()
            return
        now = self._clock.now
        self._decide(client, pending.decide(now, WALL + now))

    def _decided(self, client: Client, decision: Decision) -> bool:
        if isinstance(decision, Admit):
            self.connect(client, decision.lease)
            return True
        if isinstance(decision, Reject):
            self._clients.refused(client, decision)
            return False
        held = decision.position
        if isinstance(held, Held):
            client.state = State.WAITING
            client.turn += 1
            client.node = self
            self.held[client] = None
            self.process.waiting.seated(client, held)
        else:
            # It has no way to keep a ticket: it comes back as another one.
            self._clients.refused(client, None)
        self.process.busy()
        return False

    def connect(self, client: Client, lease: Lease) -> None:
        """A client has its lease here."""
        client.lease = lease
        self.connections[client] = None
        self._clients.admitted(client, self)

    def _promoted(self, client: Client, lease: Lease) -> None:
        self.held.pop(client, None)
        self._work += self._load.admit * self.slowness
        self.connect(client, lease)

    def _turned_away(self, client: Client, reject: Reject) -> None:
        if self.held.pop(client, 0) is None:
            self._clients.refused(client, reject)

    def disconnect(self, client: Client) -> None:
        """A connection ends."""
        del self.connections[client]
        cost = self._load.end * self.slowness
        self._work += cost
        # Ends come before attempts, which wait for a core that is free.
        self._free_at = max(self._free_at, self._clock.now) + cost
        assert client.lease is not None
        self.process.release(client.lease)
        client.lease = None

    def leave(self, client: Client) -> None:
        """One that waits has gone."""
        del self.held[client]
        self.process.waiting.gone(client, self._clock.now)

    # Pressure.

    def _sample(self, start: int) -> None:
        if start != self.starts:
            return
        now = self._clock.now
        passed = now - self._sampled
        self._sampled = now
        base = len(self.connections) * self._load.connected * self.slowness
        work, self._work = self._work, 0.0
        self.cpu = min(1.0, base + work / passed)
        # What the core cannot do waits; below a full core it catches up.
        self._undone = min(_MOST_LAG, max(0.0, self._undone + (base - 1.0) * passed))
        self.lag = self._undone + (_TURN if self._queue else 0.0)
        self._leaked += self.leak * passed
        if self._queue and now >= self._next_look:
            self._next_look = now + _LOOK
            self._expire(now)
        process = self.process
        tracker, shedder = process.tracker, process.shedder
        memory = self.memory / self._memory if self._memory else None
        shedder.sample(
            Signals(
                connections=tracker.utilization if tracker.limit else None,
                loop_lag=self.lag,
                cpu=self.cpu,
                memory=None if memory is None else min(1.0, memory),
            ),
            now,
        )
        # Where clients send so much that none is idle, nobody can be closed.
        sheds = self._load.idle and shedder.zone is Zone.EMERGENCY
        if sheds:
            self._shed(now)
        if memory is not None and memory >= 1.0:
            self._clients.failed(self, "memory")
            return
        # Where nothing happens, the readings stay as they are.
        rests = not (work or self._undone or sheds)
        self._clock.at(now + (_REST if rests else PERIOD), self._sample, start)

    def _shed(self, now: float) -> None:
        """Close those that the shedder chooses."""
        process = self.process
        idle = (
            (client.tried_at, client)
            for client in self.connections
            if not process.shedder.prefers(client.identity.priority)
        )
        for client in process.shedder.shed(idle, process.tracker.open, now):
            self.disconnect(client)
            self._clients.lost(
                client, Told((SHED.retry_after or 0) * (1.0 + self._chance()), slot=False)
            )

    def _expire(self, now: float) -> None:
        """Attempts that wait longer than their clients do are given up."""
        for client, turn in self._queue:
            if client.turn == turn and now - client.tried_at >= client.behaviour.timeout:
                self._clients.refused(client, None)
