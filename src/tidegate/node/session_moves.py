"""Sessions that move to this node with their client, from another one.

The node that has a session is asked for it: it ends it there and says what it was. One that does
not answer has died: then what it had written of the session is taken from the backplane, and the
direct messages that it had kept are lost, which the client is told.

    arrival: asked for -> given -> the client is admitted -> taken up
                  |          |
                  |          +-> it does not come in time: dropped
                  +-> there is none: the attempt is a new one

Direct messages that come to this node in the meantime are kept for it; what the other node gives
too is not told twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final

from msgspec import DecodeError, Struct, msgpack

from tidegate.backplane.envelopes import open_direct, pack_direct
from tidegate.core.messaging.publication import Direct

if TYPE_CHECKING:
    from tidegate.backplane.base import Orders, SessionStore
    from tidegate.core.messaging.sessions import Shown
    from tidegate.node.delivery import Delivery

__all__ = ["MOVE", "Arrival", "Given", "Move", "SessionMoves", "packed_directs"]

MOVE: Final = "session"
"""The kind of the order that asks for one."""

_SECONDS: Final = 1.0  # in which the other node must answer
_MOST_KEPT: Final = 1000
_TOGETHER: Final = 500  # sessions that are written in a tick


class Move(Struct, array_like=True, frozen=True):
    """Asks for a session, for a client that has seen the direct messages up to `seq`."""

    id: str
    generation: int
    seq: int


class Given(Struct, array_like=True, frozen=True):
    """What a session was at another node."""

    id: str
    user: str | None
    generation: int
    rooms: list[str]
    watched: list[str]
    """The rooms of which it was told who is there."""
    seq: int = 0
    """The number of the last direct message."""
    directs: list[tuple[int, bytes]] = []
    """Those that the client has not seen, with their numbers."""
    complete: bool = False
    """Whether these are all of them."""


def packed_directs(directs: Iterable[tuple[int, Direct]]) -> list[tuple[int, bytes]]:
    """Encode direct messages for another node."""
    return [(seq, pack_direct(*(one.origin or ("", 0)), one)) for seq, one in directs]


class _Attempt:
    """An attempt that waits for its session (gate.resumption.Fetching)."""

    __slots__ = ("_arrival", "_ready")

    def __init__(self, arrival: Arrival) -> None:
        self._arrival = arrival
        self._ready: Callable[[], None] | None = None

    def then(self, ready: Callable[[], None], /) -> None:
        """Call `ready` when it is known what became of the session."""
        self._ready = ready
        if self._arrival.over:
            self.known()

    def cancel(self) -> None:
        """The client has left; it may ask again, so what is given is kept for a while."""
        self._ready = None

    def known(self) -> None:
        """Go on, with the session or without it."""
        ready, self._ready = self._ready, None
        if ready is not None:
            ready()


class Arrival:
    """A session that was asked for."""

    def __init__(self, shown: Shown, ends: float) -> None:
        self.shown = shown
        self.given: Given | None = None
        self.over = False
        self.ends = ends
        self._attempts: list[_Attempt] = []
        self._came: list[Direct] = []
        self._lost = False

    def attempt(self) -> _Attempt:
        """Return what an attempt waits for."""
        attempt = _Attempt(self)
        self._attempts.append(attempt)
        return attempt

    def known(self, given: Given | None) -> None:
        """The session is here, or there is none."""
        self.given, self.over = given, True
        attempts, self._attempts = self._attempts, []
        for attempt in attempts:
            attempt.known()

    # Direct messages.

    def hear(self, message: Direct) -> None:
        """Keep a direct message that may be for its client."""
        if self.given is not None and message.user != self.given.user:
            return
        if len(self._came) < _MOST_KEPT:
            self._came.append(message)
        else:
            self._lost = True

    def directs(self) -> tuple[list[tuple[int, Direct]], list[Direct], bool]:
        """Return what its client has not seen: with numbers, without, and whether that is all."""
        given = self.given
        assert given is not None
        numbered: list[tuple[int, Direct]] = []
        for seq, packed in given.directs:
            _, message = open_direct(packed)
            assert isinstance(message, Direct)
            numbered.append((seq, message))
        known = {message.origin for _, message in numbered}
        came = [one for one in self._came if one.user == given.user and one.origin not in known]
        return numbered, came, given.complete and not self._lost


class SessionMoves:
    """Gets sessions from other nodes, and writes those of this node for the case that it dies.

    Args:
        node: the name of this node.
        orders: reach the other nodes.
        store: has what nodes have written.
        delivery: delivers direct messages.
        clock: the time in monotonic seconds.
    """

    def __init__(
        self,
        node: str,
        orders: Orders,
        store: SessionStore,
        delivery: Delivery,
        clock: Callable[[], float],
    ) -> None:
        self.node = node
        self.store = store
        self._orders = orders
        self._delivery = delivery
        self._clock = clock
        self._arrivals: dict[str, Arrival] = {}
        self._work: set[asyncio.Task[None]] = set()
        self._changed: dict[str, None] = {}
        self._gone: dict[str, None] = {}

    # Sessions of other nodes.

    def fetch(self, shown: Shown, ttl: float) -> _Attempt | None:
        """Ask another node for a session; None when there is none to ask for."""
        if shown.node is None or shown.node == self.node:
            return None
        arrival = self._arrivals.get(shown.id)
        if arrival is not None:
            return None if arrival.over else arrival.attempt()
        arrival = self._arrivals[shown.id] = Arrival(shown, self._clock() + ttl)
        self._delivery.arriving[shown.id] = arrival.hear
        task = asyncio.get_running_loop().create_task(self._ask(shown.node, arrival))
        self._work.add(task)
        task.add_done_callback(self._work.discard)
        return arrival.attempt()

    def arrived(self, shown: Shown, user: str | None) -> Arrival | None:
        """Return a session that is here and waits for its client, if that is its user's."""
        arrival = self._arrivals.get(shown.id)
        if arrival is None or arrival.given is None or arrival.given.user != user:
            return None
        return arrival if arrival.shown.mac == shown.mac else None

    def take_up(self, arrival: Arrival) -> bool:
        """Take a session up for a connection; False when another one was quicker."""
        if self._arrivals.get(arrival.shown.id) is not arrival:
            return False
        self._drop(arrival.shown.id)
        return True

    async def _ask(self, node: str, arrival: Arrival) -> None:
        shown = arrival.shown
        given: Given | None = None
        try:
            body = msgpack.encode(Move(shown.id, shown.generation, shown.seq))
            answers = await self._orders.ask_one(node, MOVE, body, _SECONDS)
            if answers.bodies:
                given = msgpack.decode(answers.bodies[0], type=Given | None)
            else:
                given = await self._take(node, shown)
        except DecodeError:
            given = None
        finally:
            if given is None:
                self._drop(shown.id)
            arrival.known(given)

    async def _take(self, node: str, shown: Shown) -> Given | None:
        """Take what a node that does not answer has written."""
        taken: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()

        def done(kept: bytes | None) -> None:
            if not taken.done():
                taken.set_result(kept)

        self.store.take(node, shown.id, done)
        kept = await taken
        given = None if kept is None else msgpack.decode(kept, type=Given)
        return None if given is None or given.generation != shown.generation else given

    def _drop(self, id_: str) -> None:
        self._arrivals.pop(id_, None)
        self._delivery.arriving.pop(id_, None)

    # Sessions of this node.

    def touch(self, id_: str) -> None:
        """A session has changed: it is written again."""
        self._gone.pop(id_, None)
        self._changed[id_] = None

    def forget(self, id_: str) -> None:
        """A session has ended."""
        self._changed.pop(id_, None)
        self._gone[id_] = None

    def tick(self, now: float, state: Callable[[str], Given | None]) -> None:
        """Write what has changed; drop sessions whose client has not come in time."""
        if self._changed:
            some = [id_ for id_, _ in zip(self._changed, range(_TOGETHER), strict=False)]
            states = [(id_, state(id_)) for id_ in some]
            for id_ in some:
                del self._changed[id_]
            self.keep(states)
        if self._gone:
            gone, self._gone = list(self._gone), {}
            self.store.drop(gone)
        for id_ in [id_ for id_, one in self._arrivals.items() if one.ends <= now]:
            self._drop(id_)

    def keep(self, states: Iterable[tuple[str, Given | None]]) -> None:
        """Write sessions."""
        packed = [(id_, msgpack.encode(one)) for id_, one in states if one is not None]
        if packed:
            self.store.keep(packed)
