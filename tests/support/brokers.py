"""A backplane that is late, loses and repeats, on a clock of steps."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count
from typing import Any

from tidegate.backplane.base import Done, HistoryQuery, Receiver
from tidegate.core.codes import NO_HISTORY, Fault
from tidegate.core.messaging.history import History, Page
from tidegate.core.messaging.publication import Direct, Publication

__all__ = ["ToyBroker"]


def never(number: int) -> bool:
    return False


class ToyBroker:
    """The broker of one node; those that are made `beside` it are of the same backplane.

    Nothing happens until `step` is called. A subscription takes effect when half of the time until
    its answer has passed, so publications may come before it is confirmed. What is on its way when
    the node unsubscribes is delivered all the same.

    Args:
        late: how many steps an answer or a delivery takes. With 0, `step` is not needed.
        lose: whether the publication of this number, from 1, is delivered to no node.
        repeat: whether it is delivered once more, three steps later.
        history: what keeps the last `keep` messages of every room, at the time of publishing.
    """

    def __init__(
        self,
        late: int = 1,
        lose: Callable[[int], bool] = never,
        repeat: Callable[[int], bool] = never,
        beside: ToyBroker | None = None,
        history: History | None = None,
        keep: int = 0,
    ) -> None:
        self.late = late
        self.lose = lose
        self.repeat = repeat
        self.subscribed: set[str] = set()
        """Rooms whose publications are delivered."""
        self.wanted: set[str] = set()
        """Rooms that the node subscribed to, confirmed or not."""
        self.faults: dict[str, Fault] = {}
        """Why a room cannot be subscribed to."""
        self.log: list[Any] = []
        """Publications as they are delivered, and `(room, fault)` for answered subscriptions."""
        self.stopped = False
        self._receiver: Receiver | None = None
        self._unconfirmed: set[str] = set()
        self._number = 0
        self._now = 0
        self._due: list[tuple[int, int, Callable[[], None]]] = []
        self._order = count()
        self._nodes: list[ToyBroker] = beside._nodes if beside is not None else []
        self._nodes.append(self)
        self.kept: History | None = beside.kept if beside is not None else history
        self._keep = keep

    # The clock.

    def step(self) -> None:
        """Do what is due next."""
        self._now += 1
        while self._due and self._due[0][0] <= self._now:
            heappop(self._due)[2]()

    def settle(self) -> None:
        """Do all that is to be done."""
        while self._due:
            self.step()

    def _later(self, steps: int, do: Callable[[], None]) -> None:
        if steps:
            heappush(self._due, (self._now + steps, next(self._order), do))
        else:
            do()

    # What a node calls.

    async def start(self, receiver: Receiver, /) -> None:
        self._receiver = receiver

    async def stop(self) -> None:
        self.stopped = True
        self._due.clear()

    def subscribe(self, room: str, done: Done, /) -> None:
        assert room not in self.wanted, f"{room} is subscribed to already"
        self.wanted.add(room)
        self._unconfirmed.add(room)
        self._later(self.late // 2, lambda: self.subscribed.add(room))
        self._later(self.late, lambda: self._answer(room, done))

    def unsubscribe(self, room: str, /) -> None:
        assert room in self.wanted, f"{room} is not subscribed to"
        assert room not in self._unconfirmed, f"{room} is not confirmed yet"
        self.wanted.remove(room)
        self._later(self.late // 2, lambda: self.subscribed.discard(room))

    def publish(self, publication: Publication, done: Done, /) -> None:
        self._number += 1
        if self.kept is not None:
            publication.epoch, publication.offset = self.kept.next(publication.room)
            self.kept.add(publication, self._keep, 1e9, 0.0)
        if not self.lose(self._number):
            for node in self._nodes:
                node._carry(publication, self.repeat(self._number))
        self._later(self.late, lambda: done(None))

    def history(
        self, room: str, query: HistoryQuery, done: Callable[[Page | Fault], None], /
    ) -> None:
        def read() -> None:
            if self.kept is None:
                page: Page | Fault = NO_HISTORY
            elif query.since is None:
                page = self.kept.last(room, query.limit, 0.0)
            else:
                page = self.kept.since(room, query.since, query.limit, 0.0)
            self._later(self.late - self.late // 2, lambda: done(page))

        # It is read on half of the way.
        self._later(self.late // 2, read)

    def send(self, message: Direct, done: Callable[[int], None], /) -> None:
        def deliver() -> None:
            done(sum(node._receive().deliver_to_user(message) for node in self._nodes))

        self._later(self.late, deliver)

    def to_all(self, message: Publication, done: Callable[[int], None], /) -> None:
        def deliver() -> None:
            done(sum(node._receive().deliver_to_all(message) for node in self._nodes))

        self._later(self.late, deliver)

    # What comes of it.

    def _carry(self, publication: Publication, twice: bool) -> None:
        if publication.room in self.subscribed:
            self._later(self.late, lambda: self._deliver(publication))
            if twice:
                self._later(self.late + 3, lambda: self._deliver(publication))

    def _deliver(self, publication: Publication) -> None:
        self.log.append(publication)
        self._receive().deliver(publication)

    def _answer(self, room: str, done: Done) -> None:
        self._unconfirmed.remove(room)
        fault = self.faults.get(room)
        if fault is not None:
            self.wanted.remove(room)
            self.subscribed.remove(room)
        self.log.append((room, fault))
        done(fault)

    def _receive(self) -> Receiver:
        assert self._receiver is not None, "the broker was not started"
        return self._receiver
