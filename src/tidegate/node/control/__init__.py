"""Control by value: what everything above a node sees of it, and what it does to it.

`Control` has the calls; the rest are their arguments and results.
"""

from __future__ import annotations

from tidegate.node.control.adding import FleetStats
from tidegate.node.control.connections import (
    ConnectionRow,
    ConnectionsPage,
    ConnectionsQuery,
    Disconnected,
    Selector,
)
from tidegate.node.control.control import Control, DrainProgress, Status
from tidegate.node.control.explaining import (
    ExplainQuery,
    ExplainRoomQuery,
    ExplainStep,
    Explanation,
    RefusedReason,
    RefusedRow,
    RoomExplanation,
)
from tidegate.node.control.figures import METRICS, Description, Distribution, Metric
from tidegate.node.control.lists import Scope
from tidegate.node.control.moving import Moved
from tidegate.node.control.nodes import NodeRow, NodesPage
from tidegate.node.control.pinging import Ping, Pinged
from tidegate.node.control.publishing import Publish, Published
from tidegate.node.control.reading import (
    HistoryRow,
    Kept,
    PresenceQuery,
    PresenceRow,
    PresentRow,
    RoomHistoryQuery,
    UserRow,
    UsersPage,
    UsersQuery,
)
from tidegate.node.control.revoking import Revoked
from tidegate.node.control.rooms import RoomHistory, RoomRow, RoomsPage, RoomsQuery
from tidegate.node.control.sample import Sample
from tidegate.node.control.settings import Applied, EffectiveSetting, SettingsView
from tidegate.node.control.snapshot import Connections, Load, Messages, Snapshot, Waiting
from tidegate.node.control.standing import Standing
from tidegate.node.rebalancing import Rebalanced

__all__ = [
    "METRICS",
    "Applied",
    "ConnectionRow",
    "Connections",
    "ConnectionsPage",
    "ConnectionsQuery",
    "Control",
    "Description",
    "Disconnected",
    "Distribution",
    "DrainProgress",
    "EffectiveSetting",
    "ExplainQuery",
    "ExplainRoomQuery",
    "ExplainStep",
    "Explanation",
    "FleetStats",
    "HistoryRow",
    "Kept",
    "Load",
    "Messages",
    "Metric",
    "Moved",
    "NodeRow",
    "NodesPage",
    "Ping",
    "Pinged",
    "PresenceQuery",
    "PresenceRow",
    "PresentRow",
    "Publish",
    "Published",
    "Rebalanced",
    "RefusedReason",
    "RefusedRow",
    "Revoked",
    "RoomExplanation",
    "RoomHistory",
    "RoomHistoryQuery",
    "RoomRow",
    "RoomsPage",
    "RoomsQuery",
    "Sample",
    "Scope",
    "Selector",
    "SettingsView",
    "Snapshot",
    "Standing",
    "Status",
    "UserRow",
    "UsersPage",
    "UsersQuery",
    "Waiting",
]
