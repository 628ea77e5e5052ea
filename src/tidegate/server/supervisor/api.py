"""The admin API of all workers: what is asked of the supervisor is asked of them, and merged.

The table `answers` says for each path of a worker's API what becomes of it here.
"""

from __future__ import annotations

from http import HTTPStatus
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

from msgspec import Struct, json
from msgspec.structs import replace
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Route

from tidegate.core.settings import DrainSettings
from tidegate.node import health
from tidegate.node.control import Snapshot
from tidegate.node.control.adding import fleet_stats
from tidegate.node.control.settings import settings_view
from tidegate.server.admin import FAILURES
from tidegate.server.admin_requests import AdminRequests, Counted
from tidegate.server.bodies import DrainQuery, SettingsQuery, StatsQuery, TimelineQuery
from tidegate.server.dashboard.pages import Dashboard
from tidegate.server.dashboard.sessions import Sessions
from tidegate.server.guard import Guard, is_operator
from tidegate.server.metrics import exposition
from tidegate.server.openapi import document
from tidegate.server.requests import MAX_BODY, decode_body, read_query, receive_body
from tidegate.server.supervisor.asking import Question, ask_all, decoded
from tidegate.server.supervisor.draining import progress
from tidegate.server.supervisor.exposition import Page
from tidegate.server.supervisor.forwarding import Forwarding

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request
    from starlette.types import ASGIApp

    from tidegate.server.supervisor.process import Worker
    from tidegate.server.supervisor.supervisor import Supervisor
    from tidegate.server.supervisor.totals import Totals
    from tidegate.server.timeline import Timeline

__all__ = ["WorkerRow", "supervisor_app"]

_VERSION: Final = version("tidegate")


class WorkerRow(Struct, frozen=True, rename="camel"):
    """One worker."""

    number: int
    pid: int
    state: str
    """`starting`, `serving` or `draining`."""
    uptime: float
    """Seconds since its process was started."""
    connections: int
    memory: int
    """In bytes."""
    deaths: int
    """How many with this number have died."""


def supervisor_app(
    supervisor: Supervisor,
    totals: Totals,
    timeline: Timeline,
    sources: Mapping[str, str],
) -> ASGIApp:
    """The admin API of all workers, and the dashboard, as an ASGI application.

    Args:
        totals: adds them up.
        timeline: has what the charts show.
        sources: where settings come from, by full name.
    """
    settings = supervisor.settings
    requests = AdminRequests()
    to = Forwarding(supervisor)
    own = _Api(supervisor, to, totals, timeline, sources, requests)
    sessions = Sessions(settings.admin.token)
    dashboard = Dashboard(sessions, settings, lambda: supervisor.addresses)
    app = Starlette(
        routes=[
            Route("/metrics", own.metrics),
            Route("/stats", own.stats),
            Route("/nodes", to.nodes),
            Route("/timeline", own.timeline),
            Route("/connections", to.connections),
            Route("/rooms", to.rooms),
            Route("/rooms/join", to.move, methods=["POST"]),
            Route("/rooms/leave", to.move, methods=["POST"]),
            Route("/users", to.users),
            Route("/presence", to.presence),
            Route("/history", to.history),
            Route("/publish", to.publish, methods=["POST"]),
            Route("/publish/batch", to.batch, methods=["POST"]),
            Route("/ping", to.ping, methods=["POST"]),
            Route("/disconnect", to.disconnect, methods=["POST"]),
            Route("/revoke", to.revoke, methods=["POST"]),
            Route("/drain", own.drain, methods=["GET", "POST"]),
            Route("/rebalance", to.rebalance, methods=["GET", "POST"]),
            Route("/explain", to.explain),
            Route("/explain/room", to.explain_room),
            Route("/refusals", to.refusals),
            Route("/settings", own.settings, methods=["GET", "PATCH"]),
            Route("/openapi.json", own.openapi),
            Route("/health", own.health),
            Route("/ready", own.ready),
            *(dashboard.routes if settings.admin.dashboard else ()),
        ],
        exception_handlers=FAILURES,
    )
    guard = Guard(app, settings.admin.token, settings.server.hosts, sessions.knows)
    return Counted(guard, app.routes, requests)


class _Api:
    """What is the supervisor's own."""

    def __init__(
        self,
        supervisor: Supervisor,
        to: Forwarding,
        totals: Totals,
        timeline: Timeline,
        sources: Mapping[str, str],
        requests: AdminRequests,
    ) -> None:
        self._requests = requests
        self._supervisor = supervisor
        self._to = to
        self._totals = totals
        self._timeline = timeline
        self._sources = dict(sources)

    async def metrics(self, request: Request) -> Response:
        answers = await ask_all(self._supervisor.workers(), Question("/metrics"))
        texts = {worker: answer.body.decode() for worker, answer in answers if answer.good}
        accepted = ",".join(request.headers.getlist("accept"))
        # What the workers were asked was asked by the supervisor.
        own = {metric.name: metric for metric in self._requests.collect()}
        body, kind = exposition(Page({**self._totals.metrics(texts), **own}), accepted)
        return Response(body, headers={"Content-Type": kind})

    async def stats(self, request: Request) -> Response:
        query = read_query(request.query_params, StatsQuery)
        if query.scope == "fleet" and self._supervisor.orders:
            return await self._to.fleet(request)
        snapshot = await self._snapshot()
        if snapshot is None:
            raise HTTPException(HTTPStatus.SERVICE_UNAVAILABLE, "no worker answers")
        if query.scope == "node":
            return _json(snapshot)
        fleet = fleet_stats([snapshot], len(list(self._supervisor.workers())))
        return _json(replace(fleet, complete=not self._supervisor.shares))

    async def timeline(self, request: Request) -> Response:
        query = read_query(request.query_params, TimelineQuery)
        return _json(self._timeline.since(query.since))

    async def drain(self, request: Request) -> Response:
        if request.method == "POST":
            window = read_query(request.query_params, DrainQuery).window
            if window is not None:
                window = DrainSettings(window=window).window
            self._supervisor.begin_drain(window)
            return _json(await progress(self._supervisor), HTTPStatus.ACCEPTED)
        if not self._supervisor.draining:
            return _json({"draining": False})
        return _json(await progress(self._supervisor))

    async def settings(self, request: Request) -> Response:
        if request.method == "GET":
            view = settings_view(self._supervisor.settings).settings
            return _json({"settings": view, "sources": self._sources})
        body = await receive_body(request, MAX_BODY)
        changes = decode_body(body, dict[str, Any])
        # With the scope `fleet`, each of them has all do it: what is the same twice is no change.
        query = urlencode({"scope": read_query(request.query_params, SettingsQuery).scope})
        question = Question(f"/settings?{query}", "PATCH", body)
        for _, answer in await ask_all(self._supervisor.workers(), question):
            if answer.good:
                applied = json.decode(answer.body)["applied"]
                self._supervisor.apply(changes)
                self._sources.update(dict.fromkeys(applied, "PATCH /settings"))
            return Response(answer.body, answer.status, media_type="application/json")
        raise HTTPException(HTTPStatus.SERVICE_UNAVAILABLE, "no worker answers")

    async def openapi(self, _request: Request) -> Response:
        return Response(document(_VERSION), media_type="application/json")

    async def health(self, request: Request) -> Response:
        if not is_operator(request.scope):
            return Response(health.HEALTHY, media_type="application/json")
        status = self._supervisor.status()
        return _json(
            {
                "status": "ok",
                "version": status.version,
                "uptime": round(status.uptime, 3),
                "ready": status.ready,
                "reason": status.reason,
                "down": status.down,
                "stats": await self._snapshot(),
                "workers": _rows(self._supervisor),
            }
        )

    async def ready(self, _request: Request) -> Response:
        status, body = health.ready_body(self._supervisor)
        return _json(body, status)

    async def _snapshot(self) -> Snapshot | None:
        answers = await ask_all(self._supervisor.workers(), Question("/stats"))
        good = [(worker, answer) for worker, answer in answers if answer.good]
        found: dict[Worker, Snapshot] = dict(
            zip((worker for worker, _ in good), decoded(good, Snapshot), strict=True)
        )
        return self._totals.snapshot(found)


def _rows(supervisor: Supervisor) -> list[WorkerRow]:
    return [
        WorkerRow(
            worker.number,
            worker.pid,
            worker.state,
            round(worker.age, 3),
            0 if worker.beat is None else worker.beat.sample.connections,
            0 if worker.beat is None else worker.beat.memory,
            keeper.deaths,
        )
        for keeper in supervisor.keepers
        for worker in keeper.workers
    ]


def _json(value: object, status: int = 200) -> Response:
    return Response(json.encode(value), status, media_type="application/json")
