"""The native application among its real neighbours, and peers that talk to it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any, cast

from tidegate.core.admission.attempt import ANONYMOUS, Identity, Lease
from tidegate.core.admission.tracker import ConnectionTracker
from tidegate.core.codes import REASONS
from tidegate.core.messaging.rooms import Rooms
from tidegate.core.settings import Settings
from tidegate.core.stats import Stats
from tidegate.node.auth import Authenticator, create_token
from tidegate.node.dispatch import NativeApplication
from tidegate.node.users import Users
from tidegate.wire.frames import TEXT, Reader

SECRET = "a secret of thirty-two bytes, or more"
NOW = time.time()


class Peer:
    """A connection that keeps what it is sent."""

    def __init__(self, number: int, lease: Lease, pending_auth: bool) -> None:
        self.id = f"n-{number}"
        self.lease = lease
        self.pending_auth = pending_auth
        self.rooms: tuple[str, ...] = ()
        self.sent: list[dict[str, Any]] = []
        self.ended: tuple[int, str, str] | None = None
        self.on_send: Callable[[], None] = lambda: None
        self.next_join = 0.0
        self.refusals_left = 20

    @property
    def user(self) -> str | None:
        return self.lease.user

    @property
    def open(self) -> bool:
        return self.ended is None

    def send(self, message: str | bytes) -> None:
        assert isinstance(message, str)
        if self.open:
            self.sent.append(json.loads(message))
            self.on_send()

    def close(self, code: int = 1000, reason: str = "", cause: str = "normal") -> None:
        if self.open:
            self.ended = (code, reason, cause)

    def join_delay(self) -> float:
        return self.next_join

    def refused_too_often(self) -> bool:
        self.refusals_left -= 1
        return self.refusals_left < 0

    def take(self) -> list[dict[str, Any]]:
        """What was sent since the last look."""
        taken, self.sent = self.sent, []
        return taken


class InstantFanout:
    """Sends at once, and keeps when it was told of joins and leaves."""

    def __init__(self, rooms: Rooms[Any]) -> None:
        self.rooms = rooms
        self.full = False
        self.frames: list[bytes] = []
        self.events: list[tuple[str, str, int]] = []

    def publish(
        self, room: str, members: Collection[Any], frame: bytes, exclude: Any = None
    ) -> bool:
        if self.full:
            return False
        self.frames.append(frame)
        reader = Reader(1 << 20, 1, masked=False)
        reader.feed(frame)
        item = reader.next()
        assert item is not None
        assert item[0] == TEXT
        for member in list(members):
            if member is not exclude:
                member.send(item[1])
        return True

    def before_join(self, room: str) -> None:
        self.events.append(("before_join", room, self.rooms.count(room)))

    def on_leave(self, room: str, connection: Any) -> None:
        self.events.append(("on_leave", room, self.rooms.count(room)))


class Node:
    """One node, with as many peers as a test opens."""

    def __init__(self, **sections: Mapping[str, object]) -> None:
        values: dict[str, Mapping[str, object]] = {"auth": {"secret": SECRET}, **sections}
        self.settings = Settings.from_mapping(values)
        self.tracker = ConnectionTracker(self.settings.limits, self.settings.tiers)
        limits = self.settings.limits
        self.rooms: Rooms[Any] = Rooms(limits.per_room, limits.rooms_per_connection)
        self.users = Users()
        self.fanout = InstantFanout(self.rooms)
        self.stats = Stats()
        self.app = NativeApplication(
            self.settings,
            self.tracker,
            self.rooms,
            self.users,
            cast(Any, self.fanout),
            self.stats,
            Authenticator(self.settings.auth),
        )
        self.count = 0

    def open(self, user: str | None = None, *, pending: bool = False) -> Peer:
        lease = self.tracker.acquire("192.0.2.1", Identity(user) if user else ANONYMOUS)
        assert isinstance(lease, Lease)
        self.count += 1
        peer = Peer(self.count, lease, pending)
        self.app.connect(cast(Any, peer), None)
        return peer

    def member(self, room: str, user: str | None = None) -> Peer:
        peer = self.open(user)
        self.say(peer, type="join", room=room)
        peer.take()
        return peer

    def say(self, peer: Peer, **message: Any) -> list[dict[str, Any]]:
        return self.give(peer, json.dumps(message))

    def give(self, peer: Peer, data: str | bytes) -> list[dict[str, Any]]:
        self.app.message(cast(Any, peer), data)
        return peer.take()

    def leave(self, peer: Peer) -> None:
        peer.close()
        self.tracker.release(peer.lease)
        self.app.close(cast(Any, peer), 1000, "")

    def token(self, user: str = "ann", tier: str | None = None, now: float = NOW) -> str:
        return create_token(
            self.settings.auth, user=user, tier=tier, priority=0, lifetime_seconds=60, now=now
        )


def error(code: str, **more: Any) -> dict[str, Any]:
    return {"type": "error", "code": code, "message": REASONS[code].message, **more}
