"""The native application among its real neighbours, and peers that talk to it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Mapping
from types import SimpleNamespace
from typing import Any, cast

from tests.support.aio import run
from tests.support.members import at_once, make_fanout
from tidegate.backplane.memory import MemoryBroker
from tidegate.core.access import Access
from tidegate.core.admission.attempt import ANONYMOUS, Claims, Identity, Lease
from tidegate.core.admission.tracker import ConnectionTracker
from tidegate.core.codes import NORMAL, REASONS, Close, Refusal, close_text
from tidegate.core.messaging.history import History
from tidegate.core.messaging.room_rates import RoomRates
from tidegate.core.messaging.rooms import Rooms
from tidegate.core.messaging.rules import Rules
from tidegate.core.settings import OutboxSettings, Settings
from tidegate.core.stats import Stats
from tidegate.engine.chain import ChainFrames, Link
from tidegate.engine.states import Admission
from tidegate.gate.tokens import Authenticator, create_token
from tidegate.node.delivery import Delivery
from tidegate.node.identities import Identities
from tidegate.node.native.application import NativeApplication
from tidegate.node.presence import RoomPresence
from tidegate.node.services import Services
from tidegate.node.users import Users
from tidegate.wire.codecs import JSON_V1
from tidegate.wire.frames import TEXT
from tidegate.wire.reader import Reader

SECRET = "a secret of thirty-two bytes, or more"
ADDRESS = "192.0.2.1"


class Peer:
    """A connection that keeps what it is sent."""

    def __init__(self, number: int, lease: Lease, admission: Admission) -> None:
        self.id = f"n-{number}"
        self.subprotocol = JSON_V1
        self.lease = lease
        self.admission = admission
        self.rooms: tuple[str, ...] = ()
        self.sent: list[dict[str, Any]] = []
        self.ends: list[tuple[int, str, str]] = []
        """Code, text and reason of every call of `end`, of which only the first has an effect."""
        self.on_send: Callable[[], None] = lambda: None
        self.next_join = 0.0
        self.shared: Any = SimpleNamespace(
            outbox=OutboxSettings(), poller=SimpleNamespace(now=0.0), stats=Stats()
        )
        self.refusals_left = 20
        self.sink = _Sink(self)

    @property
    def user(self) -> str | None:
        return self.lease.user

    @property
    def open(self) -> bool:
        return not self.ends

    def send(self, message: str | bytes) -> None:
        assert isinstance(message, str)
        if self.open:
            self.sent.append(json.loads(message))
            self.on_send()

    def transmit(self, frame: bytes) -> None:
        """Take frames that come one behind the other."""
        reader = Reader(1 << 20, 1, masked=False)
        reader.feed(frame)
        while (item := reader.next()) is not None:
            self.send(str(item[1]))

    def end(
        self, reason: Refusal | Close, retry_after: float | None = None, detail: str = ""
    ) -> None:
        delay = reason.retry_after if retry_after is None else retry_after
        self.ends.append((reason.code, close_text(reason, delay, detail), reason.name))

    def join_delay(self) -> float:
        return self.next_join

    def refused_too_often(self) -> bool:
        self.refusals_left -= 1
        return self.refusals_left < 0

    def take(self) -> list[dict[str, Any]]:
        """What was sent since the last look."""
        taken, self.sent = self.sent, []
        return taken


class _Sink:
    """Where the real fan-out writes what a peer gets."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer

    def send(self, data: bytes) -> int:
        self._peer.transmit(data)
        return len(data)


class InstantFanout:
    """Sends at once, and keeps when it was told of joins and leaves."""

    def __init__(self, rooms: Rooms[Any]) -> None:
        self.rooms = rooms
        self.full = False
        self.stats = Stats()
        self.frames: list[bytes] = []
        """Every frame that was encoded."""
        self.events: list[tuple[str, str, int]] = []
        """What it was told of a room, and how many members that had."""

    def publish(
        self,
        room: str,
        members: Collection[Any],
        encode: Callable[[str | None], bytes] | Link,
        size: int,
        exclude: Collection[Any] = (),
    ) -> bool:
        assert size > 0
        if self.full:
            return False
        if isinstance(encode, Link):
            chain = ChainFrames(room, encode.chain, self.crashed)
            chain.links.append(encode)
            rest = [member for member in members if member not in exclude]
            members = chain.serve(rest, {}, self.stats)
            encode = encode.encode
        encoded: dict[str | None, bytes] = {}
        for member in list(members):
            if member in exclude:
                continue
            if member.subprotocol not in encoded:
                self.frames.append(encode(member.subprotocol))
                encoded[member.subprotocol] = self.frames[-1]
            member.transmit(encoded[member.subprotocol])
        return True

    def crashed(self, error: Exception, entry: None) -> None:
        raise error

    def before_join(self, room: str) -> None:
        self.events.append(("before_join", room, self.rooms.count(room)))

    def on_leave(self, room: str, connection: Any) -> None:
        self.events.append(("on_leave", room, self.rooms.count(room)))


class Health:
    """What health checks ask a node."""

    def __init__(self) -> None:
        self.ready = True
        self.reason = ""

    down = ()

    def status(self) -> Health:
        return self


class World:
    """One node without an engine, with as many peers as a test opens.

    Args:
        queued: whether fan-out is the real one: it sends when a test calls its `step`.
    """

    def __init__(self, *, queued: bool = False, **sections: Mapping[str, object]) -> None:
        values: dict[str, Mapping[str, object]] = {"auth": {"secret": SECRET}, **sections}
        settings = self.settings = Settings.from_mapping(values)
        self.stats = Stats()
        self.tracker = ConnectionTracker(settings.limits, settings.tiers)
        self.rules = Rules(settings.rooms.rules)
        self.rooms: Rooms[Any] = Rooms(
            settings.limits.per_room,
            settings.limits.rooms_per_connection,
            self.rules,
            settings.limits.rooms_per_user,
        )
        self.room_rates = RoomRates(self.rules)
        self.history = History(settings.rooms, "n")
        self.access = Access(settings, self.rules)
        self.users: Users[Any] = Users()
        self.fanout = cast(Any, make_fanout() if queued else InstantFanout(self.rooms))
        self.now = 0.0
        self.presence = RoomPresence(self.rules, self.fanout, lambda: self.now)
        self.delivery = Delivery(
            self.rooms,
            self.users,
            self.fanout,
            MemoryBroker(self.rules, self.history),
            self.presence,
        )
        self.identities = Identities(
            settings, self.tracker, self.users, Authenticator(settings.auth, settings.tiers)
        )
        self.health = Health()
        self.app = NativeApplication(
            Services(
                settings,
                self.stats,
                self.tracker,
                self.rooms,
                self.room_rates,
                self.rules,
                self.access,
                self.users,
                self.delivery,
                self.presence,
                None,
                self.identities.identify,
                self.identities.extend,
                cast(Any, self.health),
            )
        )
        self.presence.start(self.app.presence)
        self.peers: list[Any] = []
        run(
            self.delivery.start(
                self.app.frame,
                self.app.delta,
                self.app.direct,
                everyone=lambda: self.peers,
            )
        )
        self.count = 0

    def open(
        self,
        user: str | None = None,
        *,
        unidentified: bool = False,
        claims: Claims | None = None,
    ) -> Peer:
        """A connection that holds a lease, as the engine and the node open one."""
        identity = Identity(user, claims=claims) if user else ANONYMOUS
        lease = self.tracker.acquire(ADDRESS, identity)
        assert isinstance(lease, Lease)
        peer = self._peer(lease, Admission.UNIDENTIFIED if unidentified else Admission.ADMITTED)
        self.identities.admitted(cast(Any, peer), None)
        self.app.opened(cast(Any, peer), cast(Any, None))
        return peer

    def wait(self, user: str | None = None) -> Peer:
        """A connection that waits to be admitted: it holds no lease, and was told nothing yet."""
        return self._peer(Lease.unheld(ADDRESS, user, None, 0), Admission.WAITING)

    def admit(self, peer: Peer, claims: Claims | None = None) -> None:
        """Admit a connection that waits."""
        lease = self.tracker.acquire(ADDRESS, Identity(peer.user, claims=claims))
        assert isinstance(lease, Lease)
        peer.lease = lease
        peer.admission = Admission.ADMITTED
        self.identities.admitted(cast(Any, peer), None)
        self.app.admitted(cast(Any, peer))

    def member(self, room: str, user: str | None = None) -> Peer:
        """A connection in a room that has read all it was told so far."""
        peer = self.open(user)
        self.say(peer, type="join", room=room)
        peer.take()
        return peer

    def say(self, peer: Peer, **message: Any) -> list[dict[str, Any]]:
        """Give a message to the application; what its sender is sent."""
        return self.give(peer, json.dumps(message))

    def give(self, peer: Peer, data: str | bytes) -> list[dict[str, Any]]:
        self.app.message(cast(Any, peer), data)
        return peer.take()

    def leave(self, peer: Peer) -> None:
        """End a connection, and do what the node does then."""
        peer.end(NORMAL)
        self.delivery.gone(cast(Any, peer))
        self.tracker.release(peer.lease)
        self.identities.gone(cast(Any, peer))
        self.app.closed(cast(Any, peer), NORMAL.code, "")

    def pass_time(self, now: float) -> None:
        """Do what the node does at a time in monotonic seconds."""
        self.identities.tick(now, at_once, cast(Any, self.app.expiring))

    def token(self, user: str = "ann", tier: str | None = None, age: float = 0.0) -> str:
        """A token that was good for a minute, made so many seconds ago."""
        return create_token(
            self.settings.auth,
            user=user,
            tier=tier,
            priority=0,
            lifetime_seconds=60,
            now=time.time() - age,
        )

    def _peer(self, lease: Lease, admission: Admission) -> Peer:
        self.count += 1
        peer = Peer(self.count, lease, admission)
        self.peers.append(peer)
        return peer


def text_of(frame: bytes) -> str:
    """The text of a frame that holds exactly one message."""
    reader = Reader(1 << 20, 1, masked=False)
    reader.feed(frame)
    item = reader.next()
    assert item is not None
    opcode, text = item
    assert opcode == TEXT
    assert isinstance(text, str)
    assert reader.next() is None
    assert reader.idle
    return text


def error(code: str, **more: Any) -> dict[str, Any]:
    return {"type": "error", "code": code, "message": REASONS[code].message, **more}
