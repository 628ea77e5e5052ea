"""`tidegate explain`: how a running server would decide about an attempt, step by step."""

from __future__ import annotations

from urllib.parse import urlencode

from tidegate.cli.options import AdminUrl, ConfigFile, load_settings

__all__ = ["explain"]


def explain(
    *,
    ip: str | None = None,
    user: str | None = None,
    tier: str | None = None,
    priority: int | None = None,
    origin: str | None = None,
    host: str | None = None,
    admin: AdminUrl = None,
    config: ConfigFile = None,
) -> int:
    """Ask a running server what its gate would decide about an attempt now. Nothing is taken.

    The exit code is 0 when the attempt would be admitted, and 1 when it would wait or be refused.

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
    """
    from tidegate.cli.admin import Admin

    api = Admin(load_settings(config).settings.admin, admin)
    given = {
        "ip": ip,
        "user": user,
        "tier": tier,
        "priority": priority,
        "origin": origin,
        "host": host,
    }
    query = urlencode({name: value for name, value in given.items() if value is not None})
    answer = api.ask(f"/explain?{query}" if query else "/explain")
    width = max(len(step["name"]) for step in answer["steps"])
    for step in answer["steps"]:
        print(f"{'ok' if step['passed'] else 'NO':<3} {step['name']:<{width}}  {step['detail']}")
    by = f" ({answer['by']})" if answer["by"] else ""
    print(f"{answer['outcome']}{by}")
    return 0 if answer["outcome"] == "admit" else 1
