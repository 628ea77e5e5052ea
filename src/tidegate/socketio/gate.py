"""The gate between Engine.IO and Socket.IO.

Engine.IO has the transports and calls three handlers, which are those of Socket.IO. The gate stands
between the two, so the handlers of the application are called as before, and for admitted clients
only:

connect     a session begins: it has to ask for a namespace soon
message     the first that asks for a namespace is decided about; all are paced
disconnect  the session is over: the lease is given back
"""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from functools import partial
from time import time
from typing import Any, Final, TypeAlias

import socketio
from socketio import packet
from socketio.exceptions import ConnectionRefusedError as RefusedByApplication

from tidegate.asgi.asking import Found
from tidegate.asgi.local import LocalGate
from tidegate.asgi.shortcuts import settings_of
from tidegate.core.admission.attempt import ANONYMOUS, Identity, Reject
from tidegate.core.codes import (
    DRAINED,
    FORBIDDEN,
    HANDSHAKE_TIMEOUT,
    INTERNAL_ERROR,
    PENDING_LIMIT,
    PROTOCOL_ERROR,
    REASONS,
    TOKEN_EXPIRED,
    WAITING,
    Close,
    Refusal,
)
from tidegate.core.settings import Settings
from tidegate.errors import Refused, UsageError
from tidegate.gate.decision import Admit, Away, Wait
from tidegate.socketio.session import Session

__all__ = ["Gate", "Who", "guard"]

_log = logging.getLogger("tidegate")

# The official client closes a refused session by itself, as soon as it has read why.
_LINGER_SECONDS: Final = 5.0
_UNDECIDED_PER_ADDRESS: Final = 32
_FAILED: Final = Reject(INTERNAL_ERROR, INTERNAL_ERROR.retry_after)

Who: TypeAlias = Callable[
    [dict[str, Any], Any], Awaitable[Identity | str | None] | Identity | str | None
]
"""Says who a client is, from `environ` and its `auth`: an `Identity`, a user's name, or None.

It refuses by raising `Refused`, or python-socketio's `ConnectionRefusedError`.
"""


def guard(
    sio: Any,
    settings: Settings | Mapping[str, Mapping[str, object]] | None = None,
    *,
    gate: LocalGate | None = None,
    identify: Who | None = None,
    polling: bool = False,
    connections: int | None = None,
    per_ip: int | None = None,
    per_user: int | None = None,
    backplane: str | None = None,
) -> Gate:
    """Put the gate in front of a Socket.IO server.

    Args:
        sio: a `socketio.AsyncServer(async_mode="asgi")` that serves nobody yet. Handlers may be
            added before and after.
        settings: a `Settings`, or a mapping of sections as in a settings file.
        gate: a gate to share with other parts of the process, in place of `settings`.
        identify: says who a client is; by default the token in its `auth` does, as in
            `io({auth: {token}})`. It may be async, and is called after the checks that cost less.
        polling: allow HTTP long-polling beside WebSockets. It needs sticky sessions as soon as
            there is more than one process.
        connections: the most connections, in place of `limits.connections`.
        per_ip: the most connections of one address, in place of `limits.per_ip`.
        per_user: the most connections of one user, in place of `limits.per_user`.
        backplane: a URL of Valkey or Redis that all processes share, in place of `backplane.url`:
            their limits hold together then.

    Returns:
        The gate, with its counts and `drain`.

    Raises:
        ConfigError: a setting is wrong.
        UsageError: this server cannot be guarded; the text says why.
    """
    if not isinstance(sio, socketio.AsyncServer):
        raise UsageError(f"guard needs a socketio.AsyncServer, not a {type(sio).__name__}")
    if sio.async_mode != "asgi":
        raise UsageError(
            f"guard needs socketio.AsyncServer(async_mode='asgi'), not {sio.async_mode!r}"
        )
    if isinstance(getattr(sio.eio.handlers["connect"], "__self__", None), Gate):
        raise UsageError("this Socket.IO server is guarded already")
    if gate is not None:
        if settings is not None or (connections, per_ip, per_user, backplane) != (None,) * 4:
            raise UsageError("give either gate=, which has its settings, or settings and limits")
    else:
        limits = {"connections": connections, "per_ip": per_ip, "per_user": per_user}
        gate = LocalGate(settings_of(settings, backplane, **limits))
    if not polling:
        if "websocket" not in sio.eio.transports:
            raise UsageError("this Socket.IO server has transports=['polling']: give polling=True")
        sio.eio.transports = ["websocket"]
    # What the client is told at the start, and what ends a connection that sends more.
    sio.eio.max_http_buffer_size = min(
        sio.eio.max_http_buffer_size, gate.settings.messages.max_size
    )
    return Gate(sio, gate, identify)


class Gate:
    """The gate of a Socket.IO server; `guard` makes it.

    Attributes:
        local: the gate of the process, with its counts.
    """

    def __init__(self, sio: Any, local: LocalGate, identify: Who | None) -> None:
        self.local = local
        self._sio, self._eio = sio, sio.eio
        self._identify = identify
        self._sessions: dict[str, Session] = {}
        self._undecided: Counter[str] = Counter()
        self._empty = asyncio.Event()
        self._empty.set()
        handlers = sio.eio.handlers
        self._begin, self._take = handlers["connect"], handlers["message"]
        self._finish = handlers["disconnect"]
        sio.eio.on("connect", self._connected)
        sio.eio.on("message", self._message)
        sio.eio.on("disconnect", self._disconnected)

    @asynccontextmanager
    async def lifespan(self, app: Any = None) -> AsyncIterator[None]:  # noqa: ARG002 - it is given
        """Watch the load while the block runs, and close what is open at its end.

        It fits `FastAPI(lifespan=gate.lifespan)` and Starlette's.
        """
        async with self.local.running():
            yield
            await self.drain(0.0)

    async def drain(self, window: float | None = None) -> None:
        """Admit nobody any more, and close all connections with 1012, spread over a window.

        The official client reconnects by itself then, and is not told to stay away. Returns when
        all have left, or `server.shutdown_timeout` seconds after the last was closed.

        Args:
            window: seconds; `drain.window` when None, 0 for all at once.
        """
        self.local.begin_drain()
        settings = self.local.settings
        if window is None:
            window = settings.drain.window
        sessions = list(self._sessions.values())
        for session in sessions:
            self._end(session, DRAINED, DRAINED.retry_after)
            if window:
                await asyncio.sleep(window / len(sessions))
        with suppress(TimeoutError):
            await asyncio.wait_for(self._empty.wait(), settings.server.shutdown_timeout)

    # What Engine.IO calls.

    async def _connected(self, sid: str, environ: dict[str, Any]) -> Any:
        self.local.start()
        request = self.local.request(environ["asgi.scope"])
        settings = self.local.settings
        of_address = self._undecided[request.address]
        if self._undecided.total() >= settings.server.max_pending or of_address >= max(
            settings.limits.per_ip, _UNDECIDED_PER_ADDRESS
        ):
            self.local.refusals.count(PENDING_LIMIT)
            return PENDING_LIMIT.name
        session = self._sessions[sid] = Session(sid, request, environ)
        self._empty.clear()
        self._undecided[request.address] += 1
        self._expect(session, settings.server.handshake_timeout, HANDSHAKE_TIMEOUT, None)
        return await self._begin(sid, environ)

    async def _message(self, sid: str, data: Any) -> None:
        session = self._sessions.get(sid)
        if session is None:
            return  # it is over
        if not isinstance(
            data, str | bytes
        ):  # Engine.IO has read JSON, which Socket.IO never sends
            self._end(session, PROTOCOL_ERROR, None)
            return
        await session.pace(self.local, len(data))
        if session.lease is None:
            await self._first(session, data)
        else:
            await self._take(sid, data)

    async def _disconnected(self, sid: str, reason: str) -> None:
        session = self._sessions.pop(sid, None)
        if session is not None:
            session.over = True
            session.stop_timer()
            if session.lease is None:
                self._decided(session)
            else:
                self.local.release(session.lease, session.ended(reason))
            if not self._sessions:
                self._empty.set()
        socket = self._eio.sockets.get(sid)
        if socket is not None and reason != self._eio.reason.SERVER_DISCONNECT:
            # Engine.IO would keep a poll that waits, or the WebSocket of a client that does not
            # close it, for as long as its pings take.
            socket.queue.put_nowait(None)
        await self._finish(sid, reason)

    # The decision.

    async def _first(self, session: Session, data: str | bytes) -> None:
        """Take a message of a session that has no lease: it has to ask for a namespace."""
        try:
            asked = self._sio.packet_class(encoded_packet=data)
        except Exception:
            self._end(session, PROTOCOL_ERROR, None)
            return
        if asked.packet_type != packet.CONNECT:
            return
        namespace = asked.namespace or "/"
        async with session.lock:
            refusal = None if session.lease else await self._decide(session, asked.data)
        if refusal is not None:
            await self._refuse(session, namespace, refusal)
        elif not session.over:
            await self._open(session, namespace, data)

    async def _decide(self, session: Session, auth: Any) -> dict[str, Any] | None:
        """Admit a session, or return what its client is told."""
        session.stop_timer()  # the gate has its own deadline
        local, request = self.local, session.request
        if isinstance(auth, dict):
            shown = {name: auth[name] for name in ("token", "ticket") if name in auth}
            if all(isinstance(value, str) for value in shown.values()):
                request = replace(request, **shown)
        identify = None
        if self._identify is not None:
            identify = partial(_found, self._identify, session.environ, auth)
        try:
            decision = await local.decide(request, identify)
        except RefusedByApplication as refused:
            local.refusals.count(FORBIDDEN)
            self._linger(session, FORBIDDEN, None)
            return dict(refused.error_args)
        except Exception as error:
            _log.error("an attempt could not be decided", exc_info=error)
            local.refusals.count(INTERNAL_ERROR)
            decision = _FAILED
        if not isinstance(decision, Admit):
            told = self._told(decision)
            reason = decision.reason if isinstance(decision, Reject) else WAITING
            self._linger(session, reason, told["data"]["retryAfter"])
            return told
        if session.over:
            local.give_back(decision.lease)
        else:
            self._admit(session, decision)
        return None

    def _admit(self, session: Session, admit: Admit) -> None:
        lease, identity = admit.lease, admit.attempt.identity
        session.lease = lease
        self._decided(session)
        session.environ["tidegate"] = {
            "user": lease.user,
            "tier": lease.tier,
            "priority": lease.priority,
            "zone": self.local.shedder.zone.label,
        }
        if identity.expires_at is not None:
            self._expect(session, identity.expires_at - time(), TOKEN_EXPIRED, None)

    async def _open(self, session: Session, namespace: str, data: str | bytes) -> None:
        """Let Socket.IO open the namespace; the application may refuse the client now."""
        manager, failed = self._sio.manager, False
        try:
            await self._take(session.id, data)
        except Exception as error:
            # Without this, python-socketio would leave the client waiting.
            _log.error("the connect handler of %r failed", namespace, exc_info=error)
            failed = True
            refused = manager.sid_from_eio_sid(session.id, namespace)
            if refused is not None:
                await manager.disconnect(refused, namespace, ignore_queue=True)
        names = list(manager.get_namespaces())
        inside = any(manager.sid_from_eio_sid(session.id, name) is not None for name in names)
        if session.lease is not None and not session.over and not inside:
            self.local.give_back(session.lease)
            session.lease = None
            self._undecided[session.request.address] += 1
            self._linger(session, FORBIDDEN, None)
        if failed:
            await self._refuse(session, namespace, self._told(_FAILED))

    def _told(self, decision: Reject | Wait) -> dict[str, Any]:
        """Return what a client is told: the fields of an HTTP refusal."""
        _, _, body = self.local.response(decision)
        data = json.loads(body)
        if isinstance(decision, Wait) and isinstance(decision.position, Away):
            data |= {"ticket": decision.position.ticket, "position": decision.position.position}
        return {"message": data["message"], "data": data}

    async def _refuse(self, session: Session, namespace: str, told: dict[str, Any]) -> None:
        answer = self._sio.packet_class(packet.CONNECT_ERROR, data=told, namespace=namespace)
        await self._eio.send(session.id, answer.encode())

    # Ends.

    def _decided(self, session: Session) -> None:
        address = session.request.address
        self._undecided[address] -= 1
        if not self._undecided[address]:
            del self._undecided[address]

    def _linger(self, session: Session, reason: Refusal, retry_after: float | None) -> None:
        """End a refused session soon, if the client does not."""
        session.stop_timer()
        if not session.over:
            self._expect(session, _LINGER_SECONDS, reason, retry_after)

    def _expect(
        self, session: Session, seconds: float, reason: Refusal | Close, retry_after: float | None
    ) -> None:
        loop = asyncio.get_running_loop()
        session.timer = loop.call_later(seconds, self._end, session, reason, retry_after)

    def _end(self, session: Session, reason: Refusal | Close, retry_after: float | None) -> None:
        """Close a session from this side: after what was sent to it before."""
        socket = self._eio.sockets.get(session.id)
        if socket is None or socket.closed:
            return
        session.stop_timer()
        session.ends(reason, retry_after)
        if socket.upgraded:
            # Engine.IO's own message for this is ignored by clients on WebSockets; None makes its
            # writer close the WebSocket.
            socket.queue.put_nowait(None)
        else:
            self.local.keep(asyncio.get_running_loop().create_task(self._end_polling(session)))

    async def _end_polling(self, session: Session) -> None:
        # It waits for a client that may never ask again.
        with suppress(TimeoutError):
            await asyncio.wait_for(self._eio.disconnect(session.id), _LINGER_SECONDS)


async def _found(identify: Who, environ: dict[str, Any], auth: Any) -> Found:
    """Return what an application's function says, as the gate wants it."""
    try:
        found = identify(environ, auth)
        who = await found if inspect.isawaitable(found) else found
    except Refused as refused:
        reason = REASONS.get(refused.reason)
        return reason if isinstance(reason, Refusal) else FORBIDDEN
    if who is None:
        return ANONYMOUS
    return Identity(who) if isinstance(who, str) else who
