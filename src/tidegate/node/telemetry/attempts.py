"""A span for each attempt: from the request to the decision, the wait in between included."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from time import time
from typing import TYPE_CHECKING, Any, Final

from tidegate.core.codes import INTERNAL_ERROR
from tidegate.gate.decision import Admit, Held, Reject, Wait
from tidegate.text import clean

if TYPE_CHECKING:
    from opentelemetry.trace import Span

    from tidegate.core.admission.attempt import Identity, Lease
    from tidegate.core.codes import Refusal
    from tidegate.gate.decision import Decision
    from tidegate.node.rendering import Terms
    from tidegate.node.telemetry.traces import Traces

__all__ = ["Attempts", "bounded"]

_LONGEST: Final = 200


class Attempts:
    """Makes the spans of the attempts on one node.

    Args:
        zone: the name of the zone that the node is in.
    """

    def __init__(self, traces: Traces, zone: Callable[[], str]) -> None:
        self._traces = traces
        self._zone = zone
        # Those who wait on their connection, and since when; as many as the waiting room has.
        self._held: dict[Held, tuple[Span, float]] = {}
        self._failed: Terms | None = None

    def decided(self, terms: Terms, decision: Decision) -> None:
        """The gate has decided; a client that is held goes on waiting."""
        span = self._begin(terms)
        if not span.is_recording():
            return
        if isinstance(decision, Reject):
            self._rejected(span, terms.since, decision)
        elif isinstance(decision, Admit):
            self._admitted(span, terms.since, decision.attempt.identity)
        elif isinstance(decision.position, Held):
            self._held[decision.position] = span, terms.since
        else:
            self._wait(span, terms.since, decision)

    def denied(self, terms: Terms) -> None:
        """The application has refused an attempt that the gate had admitted, or failed to."""
        if terms is not self._failed:
            attributes = {"tidegate.reason": "application"}
            self._end(self._begin(terms), terms.since, "reject", attributes)

    def given_up(self, terms: Terms, reason: Refusal) -> None:
        """An attempt was not decided about in time."""
        self._rejected(self._begin(terms), terms.since, Reject(reason, reason.retry_after))

    def abandoned(self, terms: Terms) -> None:
        """The client left before there was a decision."""
        self._end(self._begin(terms), terms.since, "abandoned", {})

    def failed(self, terms: Terms, error: Exception) -> None:
        """A decision raised."""
        self._failed = terms
        self._end(
            self._begin(terms),
            terms.since,
            "reject",
            {"tidegate.reason": INTERNAL_ERROR.name},
            type(error).__name__,
        )

    def refused(
        self, reason: Refusal, address: str, path: str, headers: Mapping[str, str] | None
    ) -> None:
        """A request was refused before it was an attempt that the gate is asked about."""
        since = time()
        span = self._traces.attempt(headers, since)
        if span.is_recording():
            span.set_attributes(_request(address, path, headers))
            error = reason.name if reason is INTERNAL_ERROR else None
            self._end(span, since, "reject", {"tidegate.reason": reason.name}, error)

    # Those who wait on their connection.

    def promoted(self, held: Held, lease: Lease) -> None:
        """A client that waited has its lease, or was gone when its turn came."""
        waited = self._held.pop(held, None)
        if waited is None:
            return
        if lease.held:
            self._admitted(*waited, held.attempt.identity)
        else:
            self._end(*waited, "abandoned", {})

    def turned_away(self, held: Held, reject: Reject) -> None:
        """A client that waited is refused after all."""
        if (waited := self._held.pop(held, None)) is not None:
            self._rejected(*waited, reject)

    def left(self, held: Held) -> None:
        """A client that waited has left."""
        if (waited := self._held.pop(held, None)) is not None:
            self._end(*waited, "abandoned", {})

    # Spans.

    def _begin(self, terms: Terms) -> Span:
        request = terms.attempt
        span = self._traces.attempt(request.headers, terms.since)
        if span.is_recording():
            span.set_attributes(_request(request.address, request.path, request.headers))
            span.set_attribute("url.scheme", "wss" if request.secure else "ws")
            if terms.subprotocol is not None:
                span.set_attribute("tidegate.subprotocol", terms.subprotocol)
        return span

    def _admitted(self, span: Span, since: float, identity: Identity) -> None:
        self._end(
            span,
            since,
            "admit",
            {
                "user.id": None if identity.user is None else bounded(identity.user),
                "tidegate.tier": None if identity.tier is None else bounded(identity.tier),
            },
        )

    def _rejected(self, span: Span, since: float, reject: Reject) -> None:
        reason, retry_after, limit = reject
        self._end(
            span,
            since,
            "reject",
            {
                "tidegate.reason": reason.name,
                "tidegate.retry_after": retry_after,
                "tidegate.limit": limit,
            },
        )

    def _wait(self, span: Span, since: float, wait: Wait) -> None:
        assert not isinstance(wait.position, Held)
        _, position, retry_after = wait.position
        attributes = {"tidegate.position": position, "tidegate.retry_after": retry_after}
        self._end(span, since, "wait", attributes)

    def _end(
        self,
        span: Span,
        since: float,
        decision: str,
        attributes: Mapping[str, Any],
        error: str | None = None,
    ) -> None:
        if not span.is_recording():
            return
        decided = {
            "tidegate.decision": decision,
            "tidegate.zone": self._zone(),
            "tidegate.waited": round(max(0.0, time() - since), 6),
        }
        self._traces.end(span, {**decided, **attributes}, error)


def _request(address: str, path: str, headers: Mapping[str, str] | None) -> dict[str, str]:
    """What the semantic conventions have for a request; a path has no query."""
    found = {
        "network.protocol.name": "websocket",
        "client.address": bounded(address),
        "url.path": bounded(path),
    }
    agent = None if headers is None else headers.get("user-agent")
    if agent is not None:
        found["user_agent.original"] = bounded(agent)
    return found


def bounded(text: str) -> str:
    """Return a text of a peer's as it may stand in a span: printable, 200 characters at most."""
    return clean(text[:_LONGEST])
