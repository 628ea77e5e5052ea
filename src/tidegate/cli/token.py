"""`tidegate token`: tokens of users, for trying things out and for finding out what is wrong."""

from __future__ import annotations

import json
import sys
import time
from typing import Annotated

from cyclopts import App

from tidegate.cli.options import ConfigFile, Time, load_settings, parse_seconds

__all__ = ["app"]

app = App(name="token", help="Create and check tokens of users.")

_LONGEST = 100 * 365 * 86_400


@app.command
def create(
    user: str,
    *,
    tier: str | None = None,
    priority: int = 0,
    expires: Annotated[str, Time] = "1h",
    kid: str | None = None,
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
    """
    from tidegate.gate.tokens import create_token

    now = time.time()
    lifetime = parse_seconds("--expires", expires, -_LONGEST, _LONGEST)
    auth = load_settings(config).settings.auth
    print(
        create_token(
            auth,
            user=user,
            tier=tier,
            priority=priority,
            lifetime_seconds=lifetime,
            now=now,
            kid=kid,
        )
    )


@app.command
def check(token: str | None = None, /, *, config: ConfigFile = None) -> int:
    """Print what a token holds, or why it is not accepted (exit code 1).

    It is checked as the server would: with auth.secret, auth.public_key and auth.keys, from the
    file or from TIDEGATE_AUTH_SECRET, TIDEGATE_AUTH_PUBLIC_KEY and TIDEGATE_AUTH_KEYS.

    Parameters
    ----------
    token
        The token. Better without: then it is read from standard input, where neither the shell's
        history nor the list of processes shows it.
    """
    from tidegate.gate.tokens import Unauthorized, check_token

    auth = load_settings(config).settings.auth
    if token is None:
        if sys.stdin.isatty():
            print("Paste the token and press Enter:", file=sys.stderr)
        token = sys.stdin.readline()
    try:
        claims = check_token(auth, token.strip())
    except Unauthorized as error:
        detail = f": {error.detail}" if error.detail else ""
        print(f"tidegate: {error}{detail}", file=sys.stderr)
        return 1
    print(json.dumps(claims, indent=2))
    if "exp" in claims:
        print(f"valid for {claims['exp'] - time.time():.0f} s more", file=sys.stderr)
    return 0
