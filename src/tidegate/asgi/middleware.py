"""The gate in front of an ASGI application that runs on somebody else's server.

lifespan   the pressure is sampled while the application runs; at its end all are closed
websocket  decided about before the application is called; the lease is given back at every end
http       `health_path`, `ready_path`, `metrics_path`; all else is the application's
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from http import HTTPStatus
from itertools import count
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from tidegate.asgi.answers import Answer, answer, metrics_of, ready
from tidegate.asgi.asking import Found
from tidegate.asgi.local import LocalGate
from tidegate.asgi.quiet import after_a_refusal
from tidegate.asgi.session import ClientDisconnected
from tidegate.asgi.visit import DENIAL, Visit, close
from tidegate.core.admission.attempt import ANONYMOUS, Identity, Reject
from tidegate.core.codes import (
    DECISION_TIMEOUT,
    DRAINED,
    FORBIDDEN,
    INTERNAL_ERROR,
    NOT_FOUND,
    REASONS,
    UNAUTHORIZED,
    WAITING,
    Refusal,
    close_text,
)
from tidegate.errors import Refused
from tidegate.gate.decision import Admit, Away, Wait
from tidegate.node.health import HEALTHY
from tidegate.wire.codecs import JSON_V1, NEUTRAL_V1

if TYPE_CHECKING:
    from tidegate.asgi.types import AsgiApp, Message, Receive, Scope, Send
    from tidegate.core.settings import Settings

__all__ = ["GateMiddleware", "Who"]

_log = logging.getLogger("tidegate")

_OWN: Final = "tidegate"
_CLOSING_SECONDS: Final = 1.0
_BY_STATUS: Final = {reason.status: reason for reason in (UNAUTHORIZED, FORBIDDEN, NOT_FOUND)}

Who: TypeAlias = Callable[["Scope"], Awaitable[Identity | str | None]]
"""Says who an attempt belongs to: an `Identity`, the name of a user, or None for nobody.

It refuses by raising `Refused`, or an `HTTPException` of Starlette or FastAPI.
"""


class GateMiddleware:
    """Puts the gate around an ASGI application, under any server.

    Under `tidegate run` the server's gate has decided already: without `settings` and `gate` the
    middleware does nothing then, with them it decides once more by its own.

    Args:
        app: the application, ASGI 3.
        settings: a `Settings`, or a mapping of sections as in a settings file; the defaults
            otherwise.
        gate: a gate to share with other parts of the process, in place of `settings`.
        identify: says who an attempt belongs to; by default its token does. It is called after
            the checks that are cheaper, such as the limit of the address.
        subprotocols: those that the application speaks. A client that offers one of them, or
            `tidegate.v1`, is told a refusal by a close frame, which a browser shows its page.
        health_path: answered with 200 while the process is alive; None for not at all.
        ready_path: answered with 200, or with 503 while no connections are wanted.
        metrics_path: answered with the counters for Prometheus. Anybody may ask who reaches the
            application, so keep the path from the public, at the proxy. It needs prometheus-client.

    Raises:
        ConfigError: a setting is wrong, or a key cannot be used.
    """

    def __init__(
        self,
        app: AsgiApp,
        settings: Settings | Mapping[str, Mapping[str, object]] | None = None,
        *,
        gate: LocalGate | None = None,
        identify: Who | None = None,
        subprotocols: Sequence[str] = (),
        health_path: str | None = None,
        ready_path: str | None = None,
        metrics_path: str | None = None,
    ) -> None:
        self._app = app
        self._decides_always = settings is not None or gate is not None
        self.gate = LocalGate(settings) if gate is None else gate
        """The gate, with its counts."""
        self._identify = identify
        self._subprotocols = (*subprotocols, JSON_V1, NEUTRAL_V1)
        self._answers: dict[str, Callable[[Scope], Answer]] = {}
        if health_path is not None:
            self._answers[health_path] = lambda _: Answer(HTTPStatus.OK, HEALTHY)
        if ready_path is not None:
            self._answers[ready_path] = lambda _: ready(self.gate)
        if metrics_path is not None:
            self._answers[metrics_path] = metrics_of(self.gate)
        self._visits: set[Visit] = set()
        self._prefix, self._numbers = secrets.token_hex(4), count(1)
        self._warned = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection of the server, or its lifespan."""
        kind = scope["type"]
        if kind == "websocket":
            if self._decides_always or _OWN not in _extensions(scope):
                self.gate.start()
                await self._decide(scope, receive, send)
                return
        elif kind == "lifespan":
            await self._live(scope, receive, send)
            return
        elif kind == "http" and scope["path"] in self._answers:
            await answer(scope, send, self._answers[scope["path"]](scope))
            return
        await self._app(scope, receive, send)

    async def drain(self, window: float | None = None) -> None:
        """Admit nobody any more, and close all WebSockets with 1012, spread over a window.

        Most servers close what is open before they tell the application that they stop, so call
        this before the server is told to: from a preStop hook, say.

        Args:
            window: seconds; `drain.window` when None, 0 for all at once.
        """
        self.gate.begin_drain()
        visits = list(self._visits)
        if window is None:
            window = self.gate.settings.drain.window
        closing = []
        for visit in visits:
            closing.append(asyncio.ensure_future(visit.end(DRAINED)))
            if window:
                await asyncio.sleep(window / len(visits))
        if closing:
            # A client that takes nothing holds nobody up, nor does a server that has stopped.
            _, late = await asyncio.wait(closing, timeout=_CLOSING_SECONDS)
            for task in late:
                task.cancel()

    # WebSockets.

    async def _decide(self, scope: Scope, receive: Receive, send: Send) -> None:
        if (await receive())["type"] != "websocket.connect":
            return
        gate, identify = self.gate, self._identify
        request = gate.request(scope)
        try:
            decision = await gate.decide(
                request, None if identify is None else lambda: _found(identify, scope)
            )
        except Exception as error:
            _log.error("an attempt could not be decided", exc_info=error)
            gate.refusals.count(INTERNAL_ERROR)
            decision = Reject(INTERNAL_ERROR, INTERNAL_ERROR.retry_after)
        if isinstance(decision, Admit):
            await self._serve(decision, scope, receive, send)
        else:
            await self._refuse(decision, scope, send)

    async def _serve(self, admit: Admit, scope: Scope, receive: Receive, send: Send) -> None:
        # ASGI leaves both of them out where they are empty.
        scope = {"subprotocols": (), **scope, "extensions": _extensions(scope)}
        visit = Visit(self.gate, admit, scope, receive, send)
        self._visits.add(visit)
        try:
            refusal = await self._run(visit, scope)
            if visit.undecided:
                await self._refuse(Reject(refusal, refusal.retry_after), scope, send)
        finally:
            self._visits.discard(visit)
            visit.finish()

    async def _run(self, visit: Visit, scope: Scope) -> Refusal:
        """Run the application; return how a client is refused for whom it did nothing."""
        patience = self.gate.settings.server.handshake_timeout
        deadline = asyncio.timeout(patience)
        try:
            async with deadline:
                visit.begin(deadline)
                await self._app(self._scope(scope, visit), visit.receive, visit.send)
        except ClientDisconnected:
            await visit.conclude(failed=False)
            return INTERNAL_ERROR
        except Exception as error:
            if not (isinstance(error, TimeoutError) and deadline.expired()):
                await visit.conclude(failed=True)
                raise
            if visit.undecided:
                _log.error("the application accepted no WebSocket in %g s; cancelled", patience)
            else:
                _log.warning("a WebSocket of the application went on after its client; cancelled")
            return DECISION_TIMEOUT
        except BaseException:
            visit.failed()
            raise
        await visit.conclude(failed=False)
        if visit.undecided:
            _log.error("the application returned without accepting or refusing a WebSocket")
        return INTERNAL_ERROR

    def _scope(self, scope: Scope, visit: Visit) -> Scope:
        lease = visit.lease
        own = {
            "id": f"{self._prefix}-{next(self._numbers)}",
            "user": lease.user,
            "tier": lease.tier,
            "priority": lease.priority,
            "zone": self.gate.shedder.zone.label,
            "gate": self.gate,
            "visit": visit,
            "server": _extensions(scope).get(_OWN),  # of our own engine, with its connection
        }
        return {**scope, "extensions": {**_extensions(scope), _OWN: own}}

    async def _refuse(self, decision: Reject | Wait, scope: Scope, send: Send) -> None:
        offered = scope.get("subprotocols", ())
        subprotocol = next((name for name in self._subprotocols if name in offered), None)
        if self.gate.settings.server.refuse != "in-band":
            subprotocol = None
        with contextlib.suppress(OSError):  # the client is gone (ASGI WebSocket 2.4)
            if subprotocol is not None:
                reason, retry_after = _reason(decision)
                await send({"type": "websocket.accept", "subprotocol": subprotocol})
                await close(send, reason.code, close_text(reason, retry_after))
            elif DENIAL in _extensions(scope):
                await self._respond(decision, send)
            else:
                self._warn_once()
                await send({"type": "websocket.close"})

    async def _respond(self, decision: Reject | Wait, send: Send) -> None:
        status, headers, body = self.gate.response(decision)
        fields = [(name.lower().encode(), value.encode()) for name, value in headers]
        fields.append((b"content-length", b"%d" % len(body)))
        await send({"type": f"{DENIAL}.start", "status": status, "headers": fields})
        await send({"type": f"{DENIAL}.body", "body": body})
        after_a_refusal()

    def _warn_once(self) -> None:
        if not self._warned:
            self._warned = True
            _log.warning(
                "this server cannot send a response that refuses: clients see 403, without the "
                "reason and the delay, unless they offer the subprotocol %s",
                NEUTRAL_V1,
            )

    # The rest.

    async def _live(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def receiving() -> Message:
            event = await receive()
            if event["type"] == "lifespan.startup":
                self.gate.start()
                _log.info(
                    "the gate is a middleware: here attempts do not wait in the kernel's queue, "
                    "heartbeats are the server's, and a drain is to be called before its end"
                )
                if not self._decides_always:
                    _log.info("the gate of this process has the default settings")
            elif event["type"] == "lifespan.shutdown":
                await self.drain(0.0)
            return event

        try:
            await self._app(scope, receiving, send)
        finally:
            await self.gate.close()


async def _found(identify: Who, scope: Scope) -> Found:
    """Return what an application's function says, as the gate wants it."""
    try:
        who = await identify(scope)
    except Refused as refused:
        reason = REASONS.get(refused.reason)
        return reason if isinstance(reason, Refusal) else FORBIDDEN
    except Exception as error:
        # Not imported: Starlette need not be there.
        status: Any = getattr(error, "status_code", None)
        if not isinstance(status, int):
            raise
        return _BY_STATUS.get(status, FORBIDDEN)
    if who is None:
        return ANONYMOUS
    return Identity(who) if isinstance(who, str) else who


def _reason(decision: Reject | Wait) -> tuple[Refusal, float | None]:
    if isinstance(decision, Reject):
        return decision.reason, decision.retry_after
    assert isinstance(decision.position, Away)
    return WAITING, decision.position.retry_after


def _extensions(scope: Scope) -> Mapping[str, Any]:
    return scope.get("extensions") or {}
