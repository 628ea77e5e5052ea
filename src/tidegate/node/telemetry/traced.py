"""The parts of a node that are traced, as they stand in place of those that are not."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any

from tidegate.engine.connection import Connection
from tidegate.engine.door import Grant
from tidegate.gate.decision import Admit, Reject, Wait
from tidegate.gate.waiting import WaitingClients
from tidegate.node.delivery import Delivery
from tidegate.node.door import GateDoor
from tidegate.node.telemetry.attempts import Attempts, bounded

if TYPE_CHECKING:
    from opentelemetry.trace import Span

    from tidegate.backplane.base import Done
    from tidegate.core.admission.attempt import Lease
    from tidegate.core.codes import Fault, Refusal
    from tidegate.core.messaging.publication import Publication
    from tidegate.engine.door import Undecided
    from tidegate.gate.decision import Decision, Held, Pending
    from tidegate.node.rendering import Terms
    from tidegate.node.telemetry.traces import Traces
    from tidegate.wire.handshake import Request

__all__ = ["TracedDelivery", "TracedDoor", "TracedWaiting"]


class TracedDoor(GateDoor):
    """A door that makes a span of each attempt."""

    def __init__(self, attempts: Attempts, *args: Any) -> None:
        super().__init__(*args)
        self._attempts = attempts

    def render(
        self, decision: Decision | Pending, terms: Terms, wall: float
    ) -> Grant | bytes | Undecided:
        """Return a decision as the engine wants it."""
        answer = super().render(decision, terms, wall)
        if not isinstance(answer, Grant | bytes):
            return _Watched(answer, self._attempts, terms, decision)
        # An admission that ends in a refusal has failed, and that has its span already.
        if isinstance(decision, Reject | Wait) or isinstance(answer, Grant):
            assert isinstance(decision, Admit | Reject | Wait)
            self._attempts.decided(terms, decision)
        return answer

    def undecidable(self, error: Exception, terms: Terms) -> bytes:
        """Log why a decision failed, and return the refusal."""
        self._attempts.failed(terms, error)
        return super().undecidable(error, terms)

    def given_up(self, terms: Terms, reason: Refusal) -> bytes:
        """Return the refusal of an attempt that was not decided about in time."""
        self._attempts.given_up(terms, reason)
        return super().given_up(terms, reason)

    def _note(
        self, reason: Refusal, peer: str, request: Request | None = None, detail: str = ""
    ) -> None:
        super()._note(reason, peer, request, detail)
        if request is None:
            self._attempts.refused(reason, peer, "", None)
        else:
            address = self.client(request, peer)
            self._attempts.refused(reason, address, request.path, request.headers)


class _Watched:
    """An attempt that is not decided about yet, or that the application has not answered."""

    __slots__ = ("_admitted", "_attempts", "_inner", "_terms")

    def __init__(
        self, inner: Undecided, attempts: Attempts, terms: Terms, decision: Decision | Pending
    ) -> None:
        self._inner = inner
        self._attempts = attempts
        self._terms = terms
        self._admitted = decision if isinstance(decision, Admit) else None

    @property
    def address(self) -> str:
        """The client's own address, behind any proxy."""
        return self._inner.address

    def then(self, ready: Callable[[], None], /) -> None:
        """Call `ready` when `decide` has something to say."""
        self._inner.then(ready)

    def decide(self, now: float, /) -> Grant | bytes | Undecided:
        """Return what `Door.decide` returns."""
        answer = self._inner.decide(now)
        # What was pending is rendered by the door, which makes its span.
        if self._admitted is not None:
            if isinstance(answer, Grant):
                self._attempts.decided(self._terms, self._admitted)
            else:
                self._attempts.denied(self._terms)
        return answer

    def refuse(self, reason: Refusal, /) -> bytes:
        """Give up, and return the response that says why."""
        return self._inner.refuse(reason)

    def cancel(self) -> None:
        """Give up, because the client has left."""
        self._attempts.abandoned(self._terms)
        self._inner.cancel()


class TracedWaiting(WaitingClients[Connection]):
    """The waiting room, where the span of an attempt ends with its wait."""

    def __init__(self, attempts: Attempts, *args: Any) -> None:
        super().__init__(*args)
        self._attempts = attempts

    def gone(self, client: Connection, now: float) -> None:
        """A connection without a lease has ended: its position is free."""
        held = self._seated.get(client)
        super().gone(client, now)
        if held is not None:
            self._attempts.left(held)

    def _admit(self, held: Held, lease: Lease, now: float) -> None:
        super()._admit(held, lease, now)
        self._attempts.promoted(held, lease)

    def _end(self, held: Held, reject: Reject, how: str) -> None:
        super()._end(held, reject, how)
        self._attempts.turned_away(held, reject)


class TracedDelivery(Delivery):
    """A delivery that makes a span of each publication, on the node where it is published."""

    def __init__(self, traces: Traces, *args: Any) -> None:
        super().__init__(*args)
        self._traces = traces

    def publish(
        self, publication: Publication, done: Done, origin: Connection | None = None
    ) -> None:
        """Send a publication to the members of its room, on all nodes. HOT."""
        span = self._traces.message("publish")
        if not span.is_recording():
            super().publish(publication, done, origin)
            return
        members = self._rooms.members(publication.room)
        left_out = origin is not None and not publication.echo and origin in members
        count = len(members)

        def answered(fault: Fault | None) -> None:
            self._end(span, publication, count, count - left_out, fault)
            done(fault)

        super().publish(publication, answered, origin)

    def broadcast(
        self,
        publication: Publication,
        members: Collection[Connection],
        exclude: Connection | None = None,
    ) -> Fault | None:
        """Send a publication to these connections of this node; why not, if it was dropped."""
        span = self._traces.message("broadcast")
        fault = super().broadcast(publication, members, exclude)
        if span.is_recording():
            count = len(members)
            self._end(span, publication, count, count - (exclude in members), fault)
        return fault

    def _end(
        self,
        span: Span,
        publication: Publication,
        members: int,
        deliveries: int,
        fault: Fault | None,
    ) -> None:
        sender = publication.sender
        self._traces.end(
            span,
            {
                "messaging.system": "tidegate",
                "messaging.operation.type": "send",
                "messaging.operation.name": "publish",
                "messaging.destination.name": bounded(publication.room),
                "messaging.message.body.size": len(publication.data),
                "messaging.client.id": publication.connection,
                "user.id": None if sender is None else bounded(sender),
                "tidegate.members": members,
                "tidegate.deliveries": deliveries if fault is None else 0,
                "tidegate.reason": None if fault is None else fault.name,
            },
            None if fault is None else fault.name,
        )
