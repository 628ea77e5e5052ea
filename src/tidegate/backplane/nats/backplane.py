"""All that NATS does for a node, over one connection."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tidegate.backplane.nats.broker import NatsBroker
from tidegate.backplane.nats.bus import Bus
from tidegate.backplane.nats.orders import NatsOrders
from tidegate.backplane.nats.peers import Peers
from tidegate.backplane.nats.presence import NatsPresence
from tidegate.backplane.nats.revocations import NatsRevocations
from tidegate.backplane.nats.servers import Servers
from tidegate.backplane.nats.sessions import NatsSessions
from tidegate.backplane.nats.state import State
from tidegate.backplane.nodes import times_of

if TYPE_CHECKING:
    from tidegate.core.messaging.rules import Rules
    from tidegate.core.settings import Settings

__all__ = ["NatsBackplane"]


class NatsBackplane:
    """The parts; what starts the broker starts them all.

    Args:
        url: of the servers, valid by the settings.
        settings: the prefix of all subjects, how long an answer may take, on how many servers
            something is kept, and when a node is gone.
        rules: which rooms keep a history.
        node: the name of this node: no other one has it.

    Raises:
        ConfigError: a file that the URL names cannot be read, or a package is missing.
    """

    def __init__(self, url: str, settings: Settings, rules: Rules, node: str) -> None:
        own = settings.backplane
        self.bus = bus = Bus(Servers(url, own.timeout, node), own, node)
        state = State(bus, own.replicas)
        self.nodes = Peers(bus, times_of(settings.fleet.ttl))
        self.presence = NatsPresence(bus, rules, self.nodes)
        self.orders = NatsOrders(bus, self.nodes)
        self.revocations = NatsRevocations(bus, state)
        self.sessions = NatsSessions(bus, state)
        self.broker = NatsBroker(bus, rules, own.replicas, self.nodes, self.presence)
        self.traffic = bus.traffic

    @property
    def up(self) -> bool:
        """Whether it can be reached, and this node hears the others."""
        return self.bus.up

    @property
    def subscriptions(self) -> int:
        """How many rooms this node hears."""
        return self.broker.subscriptions
