"""`tidegate rooms`: the rooms of a running server, and what is in one of them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlencode

from cyclopts import Parameter

from tidegate.cli.options import AdminUrl, ConfigFile, load_settings
from tidegate.cli.tables import print_json, print_table
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
        _show(api, room, limit, json)
        return
    query: dict[str, object] = {"limit": limit}
    if search is not None:
        query["search"] = search
    page = api.ask(f"/rooms?{urlencode(query)}")
    if json:
        print_json(page)
        return
    print_table(("ROOM", "MEMBERS"), [(one["name"], one["members"]) for one in page["rooms"]])
    if len(page["rooms"]) < page["total"]:
        print(f"{len(page['rooms']):,} of {page['total']:,} rooms")


def connection_rows(connections: list[dict[str, Any]]) -> None:
    """Print connections as a table."""
    print_table(
        ("ID", "USER", "ADDRESS", "ROOMS", "AGE", "IDLE"),
        [
            (
                one["id"],
                one["user"],
                one["address"],
                one["roomCount"],
                duration(one["age"]),
                duration(one["idle"]),
            )
            for one in connections
        ],
    )


def _show(api: Admin, room: str, limit: int, as_json: bool) -> None:
    query = urlencode({"room": room, "limit": limit})
    page = api.ask(f"/connections?{query}")
    present = _where_kept(api, f"/presence?{urlencode({'room': room})}")
    said = _where_kept(api, f"/history?{query}")
    if as_json:
        print_json({"connections": page["connections"], "presence": present, "history": said})
        return
    more = "" if page["next"] is None else ", and more"
    print(f"members: {len(page['connections']):,}{more}")
    if page["connections"]:
        connection_rows(page["connections"])
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
