"""How real clients come back: the default delays of each library, as its source has them.

A delay follows a failure. `failures` counts those in a row before it, from 0. `given` is what the
server asked for, in seconds, as far as the client can see it: a browser shows its page no status
and no header of a failed upgrade, so only clients that speak our protocol know it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

__all__ = ["BEHAVIOURS", "BROKEN", "Behaviour", "Told"]


class Told(NamedTuple):
    """What the server asked of a client: seconds, and whether they are a slot of its own."""

    delay: float
    slot: bool


Delay = Callable[[int, Told | None, Callable[[], float]], float]


@dataclass(frozen=True, slots=True)
class Behaviour:
    """How one kind of client comes back.

    `timeout` is how long it waits for a connection to open, in seconds. One that is `in_band` is
    told things in our protocol: why it is refused, when to return, its position.
    """

    name: str
    timeout: float
    in_band: bool
    delay: Delay


def _tidegate(failures: int, told: Told | None, random: Callable[[], float]) -> float:
    """clients/js/src/retry.ts, `delay`, with `base` 1 s and `cap` 30 s."""
    given, slot = told or (0.0, False)
    jitter = max(0.1, random() * min(30.0, 2.0 ** min(failures, 10)))
    if not slot:
        return given + jitter
    return max(given, 0.0 if given >= 1.0 else jitter if failures else 0.1)


def _centrifuge(failures: int, _told: Told | None, random: Callable[[], float]) -> float:
    """centrifuge 5.8.0, `backoff`: minReconnectDelay 500 ms, maxReconnectDelay 20 s."""
    return min(20.0, 0.5 + random() * min(20.0, 0.5 * 2.0 ** min(failures, 31)))


def _socketio(failures: int, _told: Told | None, random: Callable[[], float]) -> float:
    """socket.io-client 4.8.4, contrib/backo2: 1 s to 5 s, randomizationFactor 0.5."""
    delay: float = 2.0 ** min(failures, 10)
    return min(5.0, delay * (0.5 + random()))


def _reconnecting(failures: int, _told: Told | None, random: Callable[[], float]) -> float:
    """reconnecting-websocket 4.4.0, `_getNextDelay`: 1 to 5 s, growing by 1.3, to 10 s."""
    return min(10.0, (1.0 + random() * 4.0) * 1.3 ** min(failures, 20))


def _second(_failures: int, _told: Told | None, _random: Callable[[], float]) -> float:
    """pusher-js 8.6.0, connection_manager.ts, `retryIn(1000)`; and `setTimeout(connect, 1000)`."""
    return 1.0


_PHOENIX: Final = (0.01, 0.05, 0.1, 0.15, 0.2, 0.25, 0.5, 1.0, 2.0)


def _phoenix(failures: int, _told: Told | None, _random: Callable[[], float]) -> float:
    """phoenix 1.8.16, socket.js, `reconnectAfterMs`: steps without jitter, then 5 s."""
    return _PHOENIX[failures] if failures < len(_PHOENIX) else 5.0


def _broken(_failures: int, _told: Told | None, _random: Callable[[], float]) -> float:
    return 0.1


def _obedient(_failures: int, told: Told | None, _random: Callable[[], float]) -> float:
    """No client of anybody: the load generator of our benchmarks (bench/herd.c)."""
    return 0.0 if told is None else told.delay


# Where a library sets no time limit, browsers give up after a minute or more; servers and load
# balancers do so sooner.
_BROWSER_TIMEOUT: Final = 60.0

BEHAVIOURS: Final[Mapping[str, Behaviour]] = {
    each.name: each
    for each in (
        Behaviour("tidegate", 15.0, in_band=True, delay=_tidegate),
        Behaviour("centrifuge-js", 5.0, in_band=False, delay=_centrifuge),
        Behaviour("socket.io-client", 20.0, in_band=False, delay=_socketio),
        Behaviour("reconnecting-websocket", 4.0, in_band=False, delay=_reconnecting),
        Behaviour("pusher-js", 10.0, in_band=False, delay=_second),
        Behaviour("phoenix", _BROWSER_TIMEOUT, in_band=False, delay=_phoenix),
        Behaviour("obedient", _BROWSER_TIMEOUT, in_band=True, delay=_obedient),
        Behaviour("browser", _BROWSER_TIMEOUT, in_band=False, delay=_second),
    )
}
"""By name."""

BROKEN: Final = Behaviour("broken", 4.0, in_band=False, delay=_broken)
"""A version of a client that comes back ten times a second, whatever it is told."""
