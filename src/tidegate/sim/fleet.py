"""The fleet: nodes, the balancer in front of them, and the clients, on one virtual clock."""

from __future__ import annotations

from random import Random
from typing import Final

from tidegate.core.admission.attempt import Lease, Reject
from tidegate.core.codes import DRAINED, RATE_LIMITED
from tidegate.core.timing.drain import DrainSchedule
from tidegate.sim.arrivals import Arrivals
from tidegate.sim.backplane import backplane
from tidegate.sim.balancers import balancer
from tidegate.sim.behaviours import BEHAVIOURS, Told
from tidegate.sim.clients import Client, State
from tidegate.sim.clock import Clock
from tidegate.sim.load import Load
from tidegate.sim.node import Node, Status
from tidegate.sim.recorder import Record, Second
from tidegate.sim.scale import scaled
from tidegate.sim.scenario import Scenario
from tidegate.sim.sections import ClientsSection

__all__ = ["Fleet"]

_RETRANSMITS: Final = (1.0, 3.0, 7.0, 15.0, 31.0)
"""Seconds after the first SYN (RFC 6298: 2.1 and 5.5)."""

_REDISPATCHES: Final = 3
_LOOK: Final = 0.5
_UNREACHABLE: Final = 5.0
"""Seconds after which a balancer gives up a node that is silent (HAProxy's `timeout connect`)."""


class Fleet:
    """A run that has not begun. Use `run`."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.clock = Clock()
        self.random = Random(scenario.run.seed)  # noqa: S311 - a simulation, and repeatable
        self.chance = self.random.random
        self.weight = scenario.weight
        self.settings = scaled(scenario.settings, self.weight)
        self.load = Load.of(scenario)
        self.record = Record(self.weight)
        self.nodes: list[Node] = []
        self.clients: list[Client] = []
        self.offline: dict[Client, float] = {}
        """Clients without a network, and until when."""
        self.cut_off_until = -1.0
        """Until when the balancer reaches no node."""
        self._backplane = backplane(self.settings, self.clock, scenario.network.backplane)
        self._way = scenario.network.rtt / 2
        self._second = Second()
        self._balancer = balancer(scenario.balancer.algorithm, self.chance)
        self._rotation: dict[Node, None] = {}

    # Setting up.

    def populate(self) -> None:
        """Make the nodes and the clients, those connected that are so from the start."""
        scenario = self.scenario
        for _ in range(scenario.fleet.nodes):
            node = self.add_node()
            node.start()
            self._rotation[node] = None
        self._rotate()
        for kind in scenario.clients:
            clients = self.add_clients(kind, kind.count)
            for client in clients:
                if kind.connected:
                    self._place(client)
                else:
                    self.later(client, 0.0)
            if kind.arrive:
                Arrivals(self, kind, clients)
        self.clock.at(1.0, self._end_second)
        self._look()

    def add_node(self) -> Node:
        """Add a node, which is not started yet."""
        scenario, number = self.scenario, len(self.nodes)
        node = Node(
            number,
            number % scenario.fleet.zones,
            self.settings,
            self.load,
            scenario.fleet.memory,
            self.clock,
            self.chance,
            self,
            self._backplane,
        )
        self.nodes.append(node)
        # Checks are not in step with each other.
        self.clock.after(self.chance() * scenario.balancer.interval, self._check, node)
        if scenario.liveness.enabled:
            self.clock.after(self.chance() * scenario.liveness.interval, self._probe, node)
        return node

    def add_clients(self, kind: ClientsSection, count: int) -> list[Client]:
        """Add clients, which are away."""
        weight, first = self.weight, len(self.clients)
        added = []
        for number in range(first, first + _objects(count, weight)):
            group = number * weight // kind.per_address
            address = f"10.{group >> 16 & 255}.{group >> 8 & 255}.{group & 255}"
            if group >> 24:  # more than one network of this kind has
                address = f"2001:db8:{group >> 16:x}:{group & 0xFFFF:x}::1"
            behaviour = BEHAVIOURS[kind.behaviour]
            added.append(Client(number, behaviour, address, kind.tier, kind.priority))
        self.clients += added
        return added

    def _place(self, client: Client) -> None:
        """Connect a client that has been there for long: the pace does not count it."""
        for _ in range(_REDISPATCHES):
            node = self._balancer.pick(client)
            assert node is not None
            lease = node.process.tracker.acquire(client.request.address, client.identity)
            if not isinstance(lease, Lease):
                continue
            if self._backplane is not None and self._backplane.take(lease) is not None:
                node.process.tracker.release(lease)
                break
            node.connect(client, lease)
            self._second = Second()
            return
        self.later(client, 0.0)

    # Clients.

    def later(self, client: Client, delay: float) -> None:
        """A client tries to connect, after a delay."""
        client.state = State.AWAY
        client.turn += 1
        self.clock.after(delay + self._way, self._try, client, client.turn)

    def _try(self, client: Client, turn: int) -> None:
        """An attempt comes from a client, which has begun it half a round trip ago. HOT."""
        if client.turn != turn:
            return
        client.state = State.TRYING
        client.turn += 1
        client.tried_at = self.clock.now - self._way
        self._second.attempted += self.weight
        loss = self.scenario.network.loss
        if loss and self.chance() < loss:
            self.unanswered(client, client.turn)
        else:
            self._reach(client, client.turn)

    def _reach(self, client: Client, turn: int) -> None:
        """An attempt reaches the balancer. HOT."""
        if client.turn != turn:
            return
        now = self.clock.now
        if self.offline and self.offline.get(client, -1.0) > now:
            self.unanswered(client, turn)
            return
        self.offline.pop(client, None)
        for _ in range(_REDISPATCHES):
            node = self._balancer.pick(client)
            if node is None:
                break
            if node.silent or now < self.cut_off_until:
                self.clock.after(_UNREACHABLE, self._give_up, client, turn)
                return
            if node.accepts:
                node.arrive(client)
                return
            if not self.scenario.balancer.redispatch:
                break
        self.refused(client, None)

    def _give_up(self, client: Client, turn: int) -> None:
        if client.turn == turn:
            self.refused(client, None)

    def unanswered(self, client: Client, turn: int) -> None:
        """A SYN was lost or dropped: the kernel of the client sends it again, or the client stops.

        See `node.Clients`, as for the next four.
        """
        passed = self.clock.now - client.tried_at
        timeout = client.behaviour.timeout
        for seconds in _RETRANSMITS:
            if passed + 0.5 < seconds < timeout:
                self.clock.at(client.tried_at + seconds, self._reach, client, turn)
                return
        self.clock.at(client.tried_at + timeout, self._give_up, client, turn)

    def admitted(self, client: Client, node: Node) -> None:
        """A client has its lease."""
        client.state = State.CONNECTED
        client.turn += 1
        client.node = node
        client.failures = 0
        self._second.admitted += self.weight
        if client.lost_at is not None:
            self.record.back.append(self.clock.now + self._way - client.lost_at)
            client.lost_at = None
        most = len(node.connections) * self.weight
        if most > self.record.most_connections:
            self.record.most_connections = most
        stay = self.scenario.load.stay
        if stay:
            away = self.random.expovariate(1.0 / stay)
            if self.clock.now + away < self.scenario.run.duration:
                self.clock.after(away, self._leave, client, client.turn)

    def _leave(self, client: Client, turn: int) -> None:
        """A client has what it wanted; another one comes in its stead, or when the curve says."""
        if client.turn != turn or client.node is None:
            return
        client.node.disconnect(client)
        client.node = None
        if client.left is None:
            self.later(client, 0.0)
        else:
            client.state = State.GONE
            client.turn += 1
            client.left.append(client)

    def refused(self, client: Client, reject: Reject | None) -> None:
        """An attempt is refused; None where nobody answered it, or the client cannot see why."""
        told: Told | None = None
        client.node = None
        if reject is None:
            self._second.unanswered += self.weight
        else:
            self._second.refused += self.weight
            self.record.reasons[reject.reason.name] += self.weight
            if client.behaviour.in_band:
                if reject.retry_after is None:
                    client.state = State.GONE
                    client.turn += 1
                    self.record.gone += self.weight
                    return
                told = Told(reject.retry_after, reject.reason is RATE_LIMITED)
        self._back_off(client, told)

    def lost(self, client: Client, told: Told | None) -> None:
        """A connection was closed."""
        client.node = None
        client.lease = None
        self._second.lost += self.weight
        if client.lost_at is None:
            client.lost_at = self.clock.now
        self._back_off(client, told if client.behaviour.in_band else None)

    def _back_off(self, client: Client, told: Told | None) -> None:
        delay = client.behaviour.delay(client.failures, told, self.chance)
        client.failures += 1
        self.later(client, delay + self._way)

    def cut(self, client: Client) -> None:
        """The network of a client is gone, and its connection with it."""
        node = client.node
        if node is None:
            return
        if client.state is State.CONNECTED:
            node.disconnect(client)
            self.lost(client, None)
        elif client.state is State.WAITING:
            node.leave(client)
            self.refused(client, None)

    # Nodes.

    def failed(self, node: Node, why: str) -> None:
        """A node has died of its load; it is started again."""
        self.record.failed.append((self.clock.now, node.number, why))
        node.die()
        self.boot(node)

    def boot(self, node: Node) -> None:
        """Start a node that is new or dead; one that runs goes on."""
        if node.status in (Status.DEAD, Status.BOOTING) and not node.retired:
            node.status = Status.BOOTING
            self.clock.after(self.scenario.fleet.boot, self._booted, node, node.starts)

    def _booted(self, node: Node, start: int) -> None:
        if node.starts == start and not node.retired:
            node.start()

    def drain(self, node: Node) -> float:
        """Drain a node and stop it; return the seconds until it is stopped."""
        window = self.settings.drain.window
        connections = list(node.connections)
        node.status = Status.DRAINING
        node.process.admission.draining = True
        node.process.busy()
        schedule = DrainSchedule(len(connections), window, self.clock.now)
        for index, client in enumerate(connections):
            self.clock.after(schedule.slot(index), self._drained, node, client, client.turn)
        self.clock.after(window + 0.5, self._stop, node, node.starts)
        return window + 0.5

    def _drained(self, node: Node, client: Client, turn: int) -> None:
        if client.turn == turn and client.node is node:
            node.disconnect(client)
            window = self.settings.drain.window
            told = Told(0.0, slot=True) if window else Told(DRAINED.retry_after or 0, slot=False)
            self.lost(client, told)

    def _stop(self, node: Node, start: int) -> None:
        if node.starts == start:
            node.die(stopped=True)
            self.boot(node)

    # The balancer.

    def in_rotation(self, node: Node) -> bool:
        """Whether the balancer sends attempts to a node."""
        return node in self._rotation

    def _rotate(self) -> None:
        self._balancer.rotate(list(self._rotation))

    def out(self, node: Node) -> None:
        """Take a node out of rotation now."""
        if self._rotation.pop(node, 0) is None:
            node.checks_passed = 0
            self._rotate()

    def _check(self, node: Node) -> None:
        """Check the health of a node, and again after the interval."""
        if node.retired and node.status is Status.DEAD:
            self.out(node)
            return
        own, now = self.scenario.balancer, self.clock.now
        good = now >= self.cut_off_until and node.answers(own.timeout) and node.process.ready(now)
        if good:
            node.checks_failed = 0
            node.checks_passed += 1
            if node.checks_passed >= own.rise and node not in self._rotation:
                self._rotation[node] = None
                self._rotate()
        else:
            node.checks_passed = 0
            node.checks_failed += 1
            if node.checks_failed == own.fall:
                self.out(node)
                if node.silent:  # its connections end when the balancer knows
                    for client in list(node.connections):
                        self.cut(client)
        self.clock.after(own.interval, self._check, node)

    def _look(self) -> None:
        self._balancer.look()
        self.clock.after(min(_LOOK, self.scenario.balancer.interval), self._look)

    def _probe(self, node: Node) -> None:
        """Ask a node whether it lives, and restart it if it does not answer."""
        own = self.scenario.liveness
        if node.retired and node.status is Status.DEAD:
            return
        if node.accepts and not node.silent:
            if node.answers(own.timeout):
                node.probes_failed = 0
            else:
                node.probes_failed += 1
                if node.probes_failed >= own.fall:
                    self.failed(node, "liveness")
        self.clock.after(own.interval, self._probe, node)

    # Time.

    def run(self) -> Record:
        """Run the scenario, and return what happened."""
        self.clock.run(self.scenario.run.duration)
        record = self.record
        record.missing = self.weight * sum(
            client.state not in (State.CONNECTED, State.GONE) for client in self.clients
        )
        return record

    def end(self) -> None:
        """End all connections: no node has a lease after that."""
        for node in self.nodes:
            if node.accepts:
                node.die()

    def _end_second(self) -> None:
        nodes, second, record = self.nodes, self._second, self.record
        second.connected = self.weight * sum(len(node.connections) for node in nodes)
        second.waiting = self.weight * sum(len(node.held) for node in nodes)
        second.up = sum(node.accepts for node in nodes)
        record.seconds.append(second)
        record.cpu.append([round(node.cpu, 3) for node in nodes])
        record.connections.append([len(node.connections) * self.weight for node in nodes])
        record.status.append([int(node.status) for node in nodes])
        self._second = Second()
        self.clock.after(1.0, self._end_second)


def _objects(count: int, weight: int) -> int:
    return max(1, round(count / weight)) if count else 0
