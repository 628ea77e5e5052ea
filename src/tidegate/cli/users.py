"""`tidegate users`: who has a connection to a running server."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlencode

from cyclopts import Parameter

from tidegate.cli.options import AdminUrl, ConfigFile, OfFleet, load_settings
from tidegate.cli.rooms import connection_rows
from tidegate.cli.tables import print_counts, print_json, print_missing

__all__ = ["users"]


def users(
    user: str | None = None,
    /,
    *,
    search: str | None = None,
    after: str | None = None,
    limit: int = 20,
    fleet: OfFleet = False,
    json: Annotated[bool, Parameter(negative=())] = False,
    admin: AdminUrl = None,
    config: ConfigFile = None,
) -> None:
    """List the users of a running server by name, or the connections of one of them.

    Parameters
    ----------
    user
        Name of the user whose connections are listed.
    search
        List only users whose names contain this.
    after
        Begin behind this name: `next` of the page before.
    limit
        How many are listed, from 1 to 1,000.
    json
        Print JSON.
    """
    from tidegate.cli.admin import Admin

    api = Admin(load_settings(config).settings.admin, admin)
    given = {"user": user, "search": search, "after": after, "limit": limit}
    if fleet:
        given["scope"] = "fleet"
    query = urlencode({name: value for name, value in given.items() if value is not None})
    page = api.ask(f"/{'users' if user is None else 'connections'}?{query}")
    if json:
        print_json(page)
        return
    if user is not None:
        connection_rows(page["connections"])
    else:
        rows = [(one["user"], one["connections"], one.get("nodes")) for one in page["users"]]
        print_counts(("USER", "CONNECTIONS"), rows)
        if page["next"] is not None:
            print(f"{len(rows):,} of {page['total']:,} users")
    print_missing(page)
