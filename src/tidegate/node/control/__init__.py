"""Control by value: what everything above a node sees of it, and what it does to it.

`Control` has the calls; the rest are their arguments and results.
"""

from __future__ import annotations

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
    ExplainStep,
    Explanation,
    RefusedReason,
    RefusedRow,
)
from tidegate.node.control.figures import METRICS, Description, Distribution, Metric
from tidegate.node.control.rooms import RoomRow, RoomsPage, RoomsQuery
from tidegate.node.control.sample import Sample
from tidegate.node.control.settings import Applied, EffectiveSetting, SettingsView
from tidegate.node.control.snapshot import Connections, Load, Messages, Snapshot, Waiting

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
    "ExplainStep",
    "Explanation",
    "Load",
    "Messages",
    "Metric",
    "RefusedReason",
    "RefusedRow",
    "RoomRow",
    "RoomsPage",
    "RoomsQuery",
    "Sample",
    "Selector",
    "SettingsView",
    "Snapshot",
    "Status",
    "Waiting",
]
