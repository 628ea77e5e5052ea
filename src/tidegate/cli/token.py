"""`tidegate token`: tokens of users, for trying things out and for finding out what is wrong."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Annotated, Any, TypeAlias

from cyclopts import App, Parameter

from tidegate.cli.options import AdminUrl, ConfigFile, Time, load_settings, parse_seconds
from tidegate.errors import UsageError

__all__ = ["app"]

app = App(name="token", help="Create and check tokens of users.")

Patterns: TypeAlias = Annotated[tuple[str, ...], Parameter(negative=(), show_default=False)]

_LONGEST = 100 * 365 * 86_400


@app.command
def create(
    user: str,
    *,
    tier: str | None = None,
    priority: int = 0,
    expires: Annotated[str, Time] = "1h",
    kid: str | None = None,
    rooms: Patterns = (),
    join: Patterns = (),
    info: str | None = None,
    operator: Annotated[bool, Parameter(negative=())] = False,
    config: ConfigFile = None,
) -> None:
    """Print a token for a user, as in `tidegate token create ann`.

    It is signed with auth.secret, from the file or from TIDEGATE_AUTH_SECRET, or else with the
    first secret of auth.keys.

    Parameters
    ----------
    user
        Name of the user (`sub`).
    tier
        Tier of the user, as in `[tiers.free]`.
    priority
        0 to 100; more is more important.
    expires
        When it ends, such as 90s, 15m, 1h or 7d from now. A time in the past, such as -5m, makes a
        token that has expired, to try out what a client does then.
    kid
        Name of the key in auth.keys to sign with.
    rooms
        Rooms that it may join where the room's rule asks the token, by name or pattern, as in
        "chat:*". Give it several times for more.
    join
        Room that the server joins its connections to. Give it several times for more.
    info
        What others see of the user where a room shows who is there: a JSON object.
    operator
        Let it send to everybody.
    """
    from tidegate.gate.tokens import create_token

    now = time.time()
    lifetime = parse_seconds("--expires", expires, -_LONGEST, _LONGEST)
    auth = load_settings(config).settings.auth
    claims = {
        "rooms": list(rooms),
        "join": list(join),
        "info": None if info is None else _object("--info", info),
        "operator": operator,
    }
    print(
        create_token(
            auth,
            user=user,
            tier=tier,
            priority=priority,
            lifetime_seconds=lifetime,
            now=now,
            kid=kid,
            more={name: value for name, value in claims.items() if value},
        )
    )


def _object(option: str, text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise UsageError(f'{option}: must be a JSON object, such as {{"name": "Ann"}}')
    return value


@app.command
def check(token: str | None = None, /, *, config: ConfigFile = None) -> int:
    """Print what a token holds, or why it is not accepted (exit code 1).

    It is checked as the server would, by the settings of the section auth: from the file or from
    TIDEGATE_AUTH_SECRET, TIDEGATE_AUTH_PUBLIC_KEY, TIDEGATE_AUTH_KEYS and TIDEGATE_AUTH_ISSUERS.
    Keys that an issuer publishes at a URL are fetched. Which users' tokens are revoked is known to
    the server alone.

    Parameters
    ----------
    token
        The token. Better without: then it is read from standard input, where neither the shell's
        history nor the list of processes shows it.
    """
    from tidegate.gate.jwks import KeysUnavailable
    from tidegate.gate.tokens import Unauthorized
    from tidegate.node.fetching import check_token

    auth = load_settings(config).settings.auth
    if token is None:
        if sys.stdin.isatty():
            print("Paste the token and press Enter:", file=sys.stderr)
        token = sys.stdin.readline()
    try:
        checked = asyncio.run(check_token(auth, token.strip()))
    except Unauthorized as error:
        detail = f": {error.detail}" if error.detail else ""
        print(f"tidegate: {error}{detail}", file=sys.stderr)
        return 1
    except KeysUnavailable as error:
        print(f"tidegate: {error}", file=sys.stderr)
        return 1
    print(json.dumps(checked.claims, indent=2))
    of = "" if checked.issuer is None else f" of {checked.issuer} (auth.issuers)"
    print(f"signed with {checked.key}{of}", file=sys.stderr)
    if "exp" in checked.claims:
        print(f"valid for {checked.claims['exp'] - time.time():.0f} s more", file=sys.stderr)
    return 0


@app.command
def revoke(user: str, /, *, admin: AdminUrl = None, config: ConfigFile = None) -> None:
    """Make a running server accept no token of a user any more that was issued before now.

    Connections of the user are closed with 4501. A token that is issued later is accepted. The
    server keeps this for `auth.revocation_ttl`, until it stops; each server has to be told.

    Parameters
    ----------
    user
        Name of the user (`sub`).
    """
    from tidegate.cli.admin import Admin

    api = Admin(load_settings(config).settings.admin, admin)
    done = api.ask("/revoke", "POST", {"user": user})
    print(f"revoked the tokens of {user}, and closed {done['closed']} connections")
