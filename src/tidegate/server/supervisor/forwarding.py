"""Requests that workers answer: some are for one of them, others for all.

Where all have answered, the answers are merged. What a worker refuses, such as a parameter that
does not exist, all refuse: the first refusal is passed on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from http import HTTPStatus
from itertools import count
from time import time
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import urlencode

from msgspec import Struct, json
from msgspec.structs import replace
from starlette.exceptions import HTTPException
from starlette.responses import Response

from tidegate.node.control import (
    ConnectionsPage,
    ConnectionsQuery,
    Disconnected,
    Explanation,
    HistoryRow,
    Moved,
    NodesPage,
    Pinged,
    PresenceRow,
    RefusedReason,
    RefusedRow,
    Revoked,
    RoomsPage,
    RoomsQuery,
    UsersPage,
    UsersQuery,
    merging,
)
from tidegate.node.control.lists import MOST
from tidegate.server.bodies import Revoke
from tidegate.server.messages_api import MAX_PUBLISH
from tidegate.server.requests import MAX_BODY, decode_body, read_query, receive_body
from tidegate.server.supervisor import pages, talk
from tidegate.server.supervisor.asking import Answer, Question, ask, ask_all, decoded

if TYPE_CHECKING:
    from starlette.requests import Request

    from tidegate.server.supervisor.supervisor import Supervisor

__all__ = ["Forwarding"]

_T = TypeVar("_T")
_S = TypeVar("_S", bound=Struct)
_REFUSALS: Final = 200
_PASSED: Final[Sequence[str]] = ("retry-after", "idempotency-replayed")
_OUTCOMES: Final = ("admit", "wait", "reject")


class Refusals(Struct, frozen=True):
    """The last refused attempts, the newest first, and all of them by reason."""

    refusals: list[RefusedRow]
    reasons: dict[str, RefusedReason]


class Forwarding:
    """What each path does."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._turns = count()

    # What is read of all.

    async def connections(self, request: Request) -> Response:
        """A page of the connections of all workers, or of all nodes."""
        query = read_query(request.query_params, ConnectionsQuery)
        return await self._listed(
            _asked(request),
            query,
            ConnectionsPage,
            lambda own: merging.connections(own, query.limit),
        )

    async def users(self, request: Request) -> Response:
        """A page of the users of all workers, or of all nodes."""
        query = read_query(request.query_params, UsersQuery)
        return await self._listed(
            _asked(request), query, UsersPage, lambda own: merging.users(own, query.limit)
        )

    async def rooms(self, request: Request) -> Response:
        """A page of the rooms of all workers, or of all nodes."""
        query = read_query(request.query_params, RoomsQuery)
        question = _asked(request)
        asks_all = query.scope == "fleet" and self._supervisor.orders
        if query.after is None and query.name is None and not asks_all:
            # A room that is small in one worker may be large in all.
            wide = {"limit": MOST, "search": query.search, "scope": query.scope}
            question = Question(f"/rooms?{urlencode(wide)}")
        return await self._listed(question, query, RoomsPage, lambda own: merging.rooms(own, query))

    async def presence(self, request: Request) -> Response:
        """Who is in a room, in all workers."""
        if self._supervisor.shares:
            return await self._one(_asked(request))
        return await self._merged(_asked(request), PresenceRow, talk.presence)

    async def history(self, request: Request) -> Response:
        """What was said in a room."""
        if self._supervisor.shares:
            return await self._one(_asked(request))
        return await self._merged(_asked(request), HistoryRow, talk.history)

    async def rebalance(self, request: Request) -> Response:
        """Move connections between the nodes of a fleet; workers alone share one port."""
        return await self._one(_asked(request))

    async def nodes(self, request: Request) -> Response:
        """The nodes of the fleet: the workers, and those of other machines."""
        if self._supervisor.orders:
            return await self._one(_asked(request))
        return await self._merged(_asked(request), NodesPage, pages.nodes)

    async def fleet(self, request: Request) -> Response:
        """What one worker knows of the whole fleet."""
        return await self._one(_asked(request))

    async def explain(self, request: Request) -> Response:
        """What would be decided about an attempt, where that is worst."""

        def worst(own: Sequence[Explanation]) -> Explanation:
            return max(own, key=lambda one: _OUTCOMES.index(one.outcome))

        return await self._merged(_asked(request), Explanation, worst)

    async def explain_room(self, request: Request) -> Response:
        """What a client may do with a room."""
        return await self._one(_asked(request))

    async def refusals(self, request: Request) -> Response:
        """The refused attempts of all workers."""

        def merge(own: Sequence[Refusals]) -> Refusals:
            return Refusals(
                pages.refusals((one.refusals for one in own), _REFUSALS),
                pages.reasons(one.reasons for one in own),
            )

        return await self._merged(_asked(request), Refusals, merge)

    # What is done in all.

    async def disconnect(self, request: Request) -> Response:
        """End connections, in whichever worker they are."""
        question = await _sent(request, MAX_BODY)
        return await self._ordered(
            question, Disconnected, lambda own: Disconnected(sum(one.count for one in own))
        )

    async def move(self, request: Request) -> Response:
        """Put connections into a room, or take them out of it."""
        question = await _sent(request, MAX_BODY)
        return await self._ordered(
            question, Moved, lambda own: Moved(own[0].room, sum(one.count for one in own))
        )

    async def revoke(self, request: Request) -> Response:
        """Revoke the tokens of a user in all workers, those from before the same time."""
        body = decode_body(await receive_body(request, MAX_BODY), Revoke)
        if body.before is None:
            body.before = time()
        return await self._ordered(
            Question("/revoke", "POST", json.encode(body)),
            Revoked,
            lambda own: Revoked(own[0].user, own[0].before, sum(one.closed for one in own)),
        )

    async def ping(self, request: Request) -> Response:
        """Ping a user in all workers; the first answer counts."""

        def merge(own: Sequence[Pinged]) -> Pinged:
            latencies = [one.latency for one in own if one.latency is not None]
            connections = sum(one.connections for one in own)
            return Pinged(own[0].user, connections, min(latencies, default=None))

        return await self._ordered(await _sent(request, MAX_BODY), Pinged, merge)

    async def publish(self, request: Request) -> Response:
        """Carry a message: through one worker where they share what was said, else in each."""
        return await self._published(request, talk.published)

    async def batch(self, request: Request) -> Response:
        """Carry several messages."""
        return await self._published(request, talk.batch)

    async def _published(
        self, request: Request, merge: Callable[[Sequence[dict[str, Any]]], dict[str, Any]]
    ) -> Response:
        question = await _sent(request, MAX_PUBLISH)
        if self._supervisor.shares:
            return await self._one(question, request.headers.get("idempotency-key", ""))
        return await self._merged(question, dict[str, Any], merge)

    # How.

    async def _one(self, question: Question, key: str = "") -> Response:
        """Ask one worker after the other, or with a key always the same one, until one answers."""
        workers = [one for one in self._supervisor.workers() if not one.leaving]
        workers = workers or list(self._supervisor.workers())
        first = hash(key) if key else next(self._turns)
        for number in range(len(workers)):
            answer = await ask(workers[(first + number) % len(workers)], question)
            if answer is not None:
                return _passed(answer)
        raise _nobody()

    async def _ordered(
        self, question: Question, into: type[_S], merge: Callable[[Sequence[_S]], _S]
    ) -> Response:
        """Have all workers do something; where they are of a fleet, one of them tells the rest."""
        if self._supervisor.orders:
            return await self._one(question)
        if not self._supervisor.shares:
            return await self._merged(question, into, merge)
        # They are of a fleet, and its other nodes are not told.
        return await self._merged(question, into, lambda own: replace(merge(own), complete=False))

    async def _listed(
        self,
        question: Question,
        query: ConnectionsQuery | UsersQuery | RoomsQuery,
        into: type[_T],
        merge: Callable[[Sequence[_T]], object],
    ) -> Response:
        """Ask all workers for a list; where they are of a fleet, one of them asks all nodes."""
        if query.scope == "fleet" and self._supervisor.orders:
            return await self._one(question)
        return await self._merged(question, into, merge)

    async def _merged(
        self, question: Question, into: type[_T], merge: Callable[[Sequence[_T]], object]
    ) -> Response:
        answers = await ask_all(self._supervisor.workers(), question)
        if not answers:
            raise _nobody()
        values = decoded(answers, into)
        if not values:
            return _passed(answers[0][1])
        return Response(json.encode(merge(values)), media_type="application/json")


def _asked(request: Request) -> Question:
    query = request.scope["query_string"].decode("latin-1")
    return Question(f"{request.url.path}?{query}" if query else request.url.path)


async def _sent(request: Request, most: int) -> Question:
    key = request.headers.get("idempotency-key")
    headers = () if key is None else (("Idempotency-Key", key),)
    body = await receive_body(request, most)
    return Question(request.url.path, request.method, body or b" ", headers)


def _passed(answer: Answer) -> Response:
    headers = {name: answer.headers[name] for name in _PASSED if name in answer.headers}
    return Response(answer.body, answer.status, headers, media_type="application/json")


def _nobody() -> HTTPException:
    return HTTPException(HTTPStatus.SERVICE_UNAVAILABLE, "no worker answers")
