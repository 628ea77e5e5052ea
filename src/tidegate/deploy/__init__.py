"""The configuration of what stands around Tidegate, from the settings that are in force.

Nothing here changes a machine but `install`.
"""

from tidegate.deploy.installing import Change, changes, install
from tidegate.deploy.plan import File, Node, Plan, parse_node, parse_nodes
from tidegate.deploy.targets import TARGETS, Target

__all__ = [
    "TARGETS",
    "Change",
    "File",
    "Node",
    "Plan",
    "Target",
    "changes",
    "install",
    "parse_node",
    "parse_nodes",
]
