"""`tidegate kick`: close connections of a running server."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlencode

from cyclopts import Parameter

from tidegate.cli.options import AdminUrl, ConfigFile, load_settings
from tidegate.errors import UsageError

if TYPE_CHECKING:
    from tidegate.cli.admin import Admin

__all__ = ["kick"]


def kick(
    user: str | None = None,
    /,
    *,
    ip: str | None = None,
    room: str | None = None,
    connection: Annotated[str | None, Parameter(name="--id")] = None,
    reason: str = "",
    yes: Annotated[bool, Parameter(negative=())] = False,
    admin: AdminUrl = None,
    config: ConfigFile = None,
) -> int:
    """Close the connections of a user, an address, a room or an id.

    Where several are given, all of them have to apply. The clients do not come back by themselves;
    `tidegate token revoke` also refuses the tokens of a user.

    Parameters
    ----------
    user
        Name of the user.
    ip
        Address, or a network such as 2001:db8::/64.
    room
        Name of a room: its members.
    connection
        Id of one connection.
    reason
        What the clients are told beside the reason.
    yes
        Do not ask.
    """
    from tidegate.cli.admin import Admin

    given = {"user": user, "ip": ip, "room": room, "id": connection}
    chosen = {name: value for name, value in given.items() if value is not None}
    if not chosen:
        raise UsageError("give a USER, --ip, --room or --id")
    api = Admin(load_settings(config).settings.admin, admin)
    if not yes and not _agreed(api, chosen):
        print("nothing was closed")
        return 1
    done = api.ask("/disconnect", "POST", {**chosen, "detail": reason})
    print(f"closed {done['count']:,} connections")
    return 0


def _agreed(api: Admin, chosen: dict[str, str]) -> bool:
    if not sys.stdin.isatty():
        raise UsageError("nobody can be asked here; --yes goes on without asking")
    count = "1"
    if "id" not in chosen:
        # Those of all nodes, because all of them are closed.
        page = api.ask(f"/connections?{urlencode({**chosen, 'limit': 1000, 'scope': 'fleet'})}")
        more = page["next"] or not page["complete"]
        count = f"{len(page['connections']):,}" + (" or more" if more else "")
    whose = ", ".join(f"{name} {value}" for name, value in chosen.items())
    return input(f"Close {count} connections ({whose})? [y/N] ").strip().lower() in ("y", "yes")
