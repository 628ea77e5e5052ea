"""`tidegate rebalance`: move clients from the fullest nodes of a fleet to the others."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Annotated, Any, Final

from cyclopts import Parameter

from tidegate.cli.options import AdminUrl, ConfigFile, load_settings
from tidegate.errors import TidegateError, UsageError

__all__ = ["rebalance"]

_LOOKS_SECONDS: Final = 1.0
_FASTEST: Final = 10_000


def rebalance(
    *,
    rate: Annotated[float | None, Parameter(show_default=False)] = None,
    stop: Annotated[bool, Parameter(negative=(), show_default=False)] = False,
    wait: Annotated[bool, Parameter(negative="--no-wait", show_default=False)] = True,
    admin: AdminUrl = None,
    config: ConfigFile = None,
) -> None:
    """Move clients from the fullest nodes of a fleet to the others, slowly, and watch it.

    Every node with more than its share, by capacity, asks some of its clients to come back
    elsewhere, as after a drain. It ends when all have their share. Nobody is asked within a minute
    after connecting, so nobody is moved twice in that time. Nodes in the critical zone neither
    give nor get any. Ctrl-C stops only the watching.

    Parameters
    ----------
    rate
        Connections a second that each of these nodes moves. [default: rebalance.rate of the server,
        or 10]
    stop
        End it: those that were asked already still move.
    wait
        Whether to wait until it is over. [default: --wait]
    """
    if stop and rate is not None:
        raise UsageError("--stop: moves nobody, so that there is no --rate")
    if rate is not None and not 0 < rate <= _FASTEST:
        raise UsageError(f"--rate {rate:g}: must be above 0, and at most {_FASTEST:,}")
    from tidegate.cli.admin import Admin

    api = Admin(load_settings(config).settings.admin, admin)
    given = 0.0 if stop else rate
    seen = api.ask("/rebalance" if given is None else f"/rebalance?rate={given!r}", "POST")
    if not seen["complete"]:
        print("not all nodes have answered: some may be of an older version, or away")
    if stop:
        print(f"ended: {seen['moved']:,} connections were asked to move")
        return
    if seen["members"] <= 1:
        print("there is one node only that takes connections: nothing to balance")
        return
    if not seen["active"]:
        print("balanced: no node has more than its share")
        return
    try:
        while wait and seen["active"]:
            print(_text(seen), flush=True)
            time.sleep(_LOOKS_SECONDS)
            seen = api.ask("/rebalance")
    except KeyboardInterrupt:
        raise TidegateError(f"it goes on: {_text(seen)}") from None
    print(_text(seen) if seen["active"] else f"balanced: {seen['moved']:,} connections moved")


def _text(seen: Mapping[str, Any]) -> str:
    return f"{seen['moved']:,} connections moved, {seen['left']:,} above the shares of their nodes"
