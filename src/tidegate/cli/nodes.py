"""`tidegate nodes`: the nodes of the fleet that a running server is part of."""

from __future__ import annotations

from time import time
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from tidegate.cli.options import AdminUrl, ConfigFile, load_settings
from tidegate.cli.tables import print_json, print_table
from tidegate.text import duration

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["nodes"]

_TITLES = (
    *("NODE", "HOST", "PID", "WORKER", "ADDRESS", "VERSION", "STATE", "ZONE"),
    *("CONNECTIONS", "CAPACITY", "RATE", "UP"),
)


def nodes(
    *,
    json: Annotated[bool, Parameter(negative=())] = False,
    admin: AdminUrl = None,
    config: ConfigFile = None,
) -> None:
    """List the nodes of the fleet: what each is, how full it is, and whether it drains.

    A server without a backplane is the only one. A node that died is listed as gone for a minute.

    Parameters
    ----------
    json
        Print JSON.
    """
    from tidegate.cli.admin import Admin

    page = Admin(load_settings(config).settings.admin, admin).ask("/nodes")
    if json:
        print_json(page)
        return
    print_table(_TITLES, [_row(node) for node in page["nodes"]])
    if len(page["nodes"]) > 1:
        print(f"{page['connections']:,} of {page['capacity']:,} connections in all")
    if not page["complete"]:
        print("The backplane cannot be reached: there may be more.")


def _row(node: Mapping[str, Any]) -> tuple[object, ...]:
    state = node["state"]
    if state == "unready":
        state = f"unready ({node['reason']})"
    elif state == "gone":
        state = f"gone for {duration(node['heard'])}"
    return (
        node["id"],
        node["host"],
        str(node["pid"]),
        "-" if node["worker"] is None else str(node["worker"]),
        ", ".join(node["addresses"]) or "-",
        node["version"],
        state,
        node["zone"],
        node["connections"],
        node["capacity"],
        f"{node['rate']:g}/s",
        duration(max(0.0, time() - node["since"])),
    )
