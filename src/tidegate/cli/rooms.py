"""`tidegate rooms`: the rooms of a running server, and what is in one of them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlencode

from cyclopts import Parameter

from tidegate.cli.options import AdminUrl, ConfigFile, OfFleet, load_settings
from tidegate.cli.tables import print_counts, print_json, print_missing, print_table
from tidegate.text import clean, duration

if TYPE_CHECKING:
    from tidegate.cli.admin import Admin

__all__ = ["connection_rows", "rooms"]


def rooms(
    room: str | None = None,
    /,
    *,
    search: str | None = None,
    limit: int = 20,
    fleet: OfFleet = False,
    json: Annotated[bool, Parameter(negative=())] = False,
    admin: AdminUrl = None,
    config: ConfigFile = None,
) -> None:
    """List the rooms of a running server, the largest first, or show one of them.

    Of one room it shows the members, who is there (where the room's rule has presence) and the
    last messages (where it has history).

    Parameters
    ----------
    room
        Name of the room to show.
    search
        List only rooms whose names contain this.
    limit
        How many rooms, members and messages are shown, from 1 to 1,000.
    json
        Print JSON.
    """
    from tidegate.cli.admin import Admin

    api = Admin(load_settings(config).settings.admin, admin)
    if room is not None:
        _show(api, room, limit, fleet, json)
        return
    query: dict[str, object] = {"limit": limit, **_scope(fleet)}
    if search is not None:
        query["search"] = search
    page = api.ask(f"/rooms?{urlencode(query)}")
    if json:
        print_json(page)
        return
    rows = [(one["name"], one["members"], one.get("nodes")) for one in page["rooms"]]
    print_counts(("ROOM", "MEMBERS"), rows)
    if len(rows) < page["total"]:
        print(f"{len(rows):,} of {page['total']:,} rooms")
    print_missing(page)


def connection_rows(connections: list[dict[str, Any]]) -> None:
    """Print connections as a table, with their nodes where they say them."""
    titles = ("ID", "USER", "ADDRESS", "ROOMS", "AGE", "IDLE")
    rows = [
        (
            one["id"],
            one["user"],
            one["address"],
            one["roomCount"],
            duration(one["age"]),
            duration(one["idle"]),
            *((one["node"],) if "node" in one else ()),
        )
        for one in connections
    ]
    print_table((*titles, "NODE") if rows and len(rows[0]) > len(titles) else titles, rows)


def _scope(fleet: bool) -> dict[str, str]:
    return {"scope": "fleet"} if fleet else {}


def _show(api: Admin, room: str, limit: int, fleet: bool, as_json: bool) -> None:
    given = {"room": room, "limit": limit}
    query = urlencode(given)
    page = api.ask(f"/connections?{urlencode({**given, **_scope(fleet)})}")
    present = _where_kept(api, f"/presence?{urlencode({'room': room})}")
    said = _where_kept(api, f"/history?{query}")
    if as_json:
        shown = {"connections": page["connections"], "presence": present, "history": said}
        print_json({**shown, "complete": page["complete"]} if fleet else shown)
        return
    more = "" if page["next"] is None else ", and more"
    print(f"members: {len(page['connections']):,}{more}")
    if page["connections"]:
        connection_rows(page["connections"])
    print_missing(page)
    _show_presence(present)
    _show_history(said)


def _show_presence(present: dict[str, Any] | None) -> None:
    if present is None:
        print("presence: off")
        return
    print(f"presence: {present['count']:,} users")
    users = present.get("users")
    if users:
        print_table(
            ("USER", "DEVICES", "INFO"),
            [(one["user"], one["devices"], _short(one.get("info"))) for one in users],
        )


def _show_history(said: dict[str, Any] | None) -> None:
    if said is None:
        print("history: off")
        return
    print(f"history: epoch {said['epoch']}, offset {said['offset']}")
    if said["messages"]:
        print_table(
            ("OFFSET", "FROM", "DATA"),
            [(one["offset"], one["from"], _short(one["data"])) for one in said["messages"]],
        )


def _short(value: object) -> str:
    if value is None:
        return ""
    text = clean(json.dumps(value, ensure_ascii=False))
    return text if len(text) <= 80 else f"{text[:79]}…"


def _where_kept(api: Admin, path: str) -> dict[str, Any] | None:
    """The answer, None where the room's rule has no such thing."""
    from tidegate.cli.admin import RefusedError

    try:
        return api.ask(path)
    except RefusedError as error:
        if error.reason in ("no_presence", "no_history"):
            return None
        raise
