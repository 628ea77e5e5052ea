"""The policies on their own, for a server that you cannot change.

Put them around `websockets`, aiohttp, tornado or any other server: they need no engine. Each reads
the real clock unless you give it another, and says which threads may use it. What refuses raises
`Refused`, which has the reason, the delay, the HTTP status and the close code.

    tracker = ConnectionTracker(connections=1000, per_ip=20)

    async def handler(websocket):
        with tracker.acquire(websocket.remote_address[0]):
            ...
"""

from __future__ import annotations

from tidegate.core.admission.shedding import Change, Zone
from tidegate.core.settings import Tier
from tidegate.errors import Refused
from tidegate.policies.breaker import CircuitBreaker
from tidegate.policies.heartbeat import HeartbeatManager
from tidegate.policies.pacer import Pacer
from tidegate.policies.rates import RateLimiter
from tidegate.policies.registry import ConnectionRegistry
from tidegate.policies.rooms import Rooms
from tidegate.policies.shedder import LoadShedder
from tidegate.policies.tracker import ConnectionTracker, Lease
from tidegate.policies.waiting_room import Position, WaitingRoom

__all__ = [
    "Change",
    "CircuitBreaker",
    "ConnectionRegistry",
    "ConnectionTracker",
    "HeartbeatManager",
    "Lease",
    "LoadShedder",
    "Pacer",
    "Position",
    "RateLimiter",
    "Refused",
    "Rooms",
    "Tier",
    "WaitingRoom",
    "Zone",
]
