"""`tidegate explain`: how a running server would decide about an attempt, step by step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

from tidegate.cli.options import AdminUrl, ConfigFile, load_settings
from tidegate.core.codes import FLEET_DOWN

if TYPE_CHECKING:
    from tidegate.cli.admin import Admin

__all__ = ["explain"]

_TO_JOIN: Final = (
    "join",
    "members",
    "user_members",
    "user_rooms",
    "fleet_members",
    FLEET_DOWN.name,
)


def explain(
    *,
    ip: str | None = None,
    user: str | None = None,
    tier: str | None = None,
    priority: int | None = None,
    origin: str | None = None,
    host: str | None = None,
    room: str | None = None,
    claim: str | None = None,
    admin: AdminUrl = None,
    config: ConfigFile = None,
) -> int:
    """Ask a running server what its gate would decide about an attempt now. Nothing is taken.

    The exit code is 0 when the attempt would be admitted, and 1 when it would wait or be refused.

    With --room, ask what a client may do with a room: join, publish, see who is there and what was
    said. The exit code is 0 when it may join.

    Parameters
    ----------
    ip
        Address that the attempt comes from. [default: 127.0.0.1]
    user
        User in the token; without one, the attempt is anonymous.
    tier
        Tier in the token.
    priority
        Priority in the token, 0 to 100.
    origin
        Where the page comes from, as in https://app.example.com; without it, there is no page.
    host
        Host that the page asks for. [default: localhost]
    room
        Room, asked about for --user, or for a client without a token.
    claim
        Pattern of the claim `rooms` of the token, with --room.
    """
    from tidegate.cli.admin import Admin

    api = Admin(load_settings(config).settings.admin, admin)
    if room is not None:
        return _explain_room(api, {"room": room, "user": user, "claim": claim})
    given = {
        "ip": ip,
        "user": user,
        "tier": tier,
        "priority": priority,
        "origin": origin,
        "host": host,
    }
    query = _query(given)
    answer = api.ask(f"/explain?{query}" if query else "/explain")
    _print_steps(answer["steps"])
    by = f" ({answer['by']})" if answer["by"] else ""
    print(f"{answer['outcome']}{by}")
    return 0 if answer["outcome"] == "admit" else 1


def _explain_room(api: Admin, given: dict[str, str | None]) -> int:
    answer = api.ask(f"/explain/room?{_query(given)}")
    _print_steps(answer["steps"])
    joins = all(step["passed"] for step in answer["steps"] if step["name"] in _TO_JOIN)
    return 0 if joins else 1


def _query(given: Mapping[str, object]) -> str:
    return urlencode({name: value for name, value in given.items() if value is not None})


def _print_steps(steps: list[dict[str, Any]]) -> None:
    width = max(len(step["name"]) for step in steps)
    for step in steps:
        print(f"{'ok' if step['passed'] else 'NO':<3} {step['name']:<{width}}  {step['detail']}")
