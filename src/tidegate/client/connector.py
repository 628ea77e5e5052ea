"""Keeps a connection: connects, waits, comes back, gives up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from tidegate.client.clock import Clock, sleep
from tidegate.client.codec import Codec
from tidegate.client.errors import ClientClosed, ClientError
from tidegate.client.link import Link, LostError, Network
from tidegate.client.messages import Connected, QueueStatus, Settings, Shutdown, StateChange, read
from tidegate.client.requests import Calls, Message, outcome
from tidegate.client.retry import Again, Backoff, Loss, delay_after, next_after, seconds
from tidegate.client.states import MOVES, Move, State
from tidegate.client.tokens import Tokens, is_offerable
from tidegate.client.url import with_route
from tidegate.core import codes
from tidegate.wire.codecs import SESSION_PREFIX, TOKEN_PREFIX

__all__ = ["Connector", "Manners", "Owner"]


@dataclass(frozen=True, slots=True)
class Manners:
    """When it gives up an attempt, and how soon it comes back; as in `Client`."""

    connect_timeout: float
    backoff: Backoff
    stable_after: float


class Owner(Calls, Protocol):
    """What a connection is kept for."""

    def tell(self, event: object) -> None:
        """Something has happened that the application may want to know."""
        ...

    def receive(self, message: Message) -> None:
        """A message has come on a connection that is ready."""
        ...

    def connected(self, rooms: Sequence[str] | None) -> None:
        """A connection is ready; it was resumed if there are rooms, which it is in."""
        ...

    def writable(self) -> None:
        """More can be sent now."""
        ...

    def lost(self) -> None:
        """There is no connection any more."""
        ...

    def stopped(self, why: ClientClosed) -> None:
        """There will be none, unless it is started again."""
        ...


class Connector:
    """One connection after the other, never two at once."""

    def __init__(
        self,
        url: str,
        network: Network,
        codec: Codec,
        clock: Clock,
        tokens: Tokens,
        manners: Manners,
        owner: Owner,
    ) -> None:
        """Nothing happens before `start`."""
        self._url = url
        self._network = network
        self._codec = codec
        self._clock = clock
        self._tokens = tokens
        self._manners = manners
        self._owner = owner
        self.state = State.CLOSED
        """What it is doing."""
        self.number = 0
        """How many connections there were, this one included."""
        self.info: Connected | None = None
        """What the server said last when a connection was ready."""
        self.settings: Settings | None = None
        """What the client may do, as the server has said last."""
        self.seq = 0
        """The last direct message that was seen."""
        self._route: str | None = None
        self._session: str | None = None
        self._link: Link | None = None
        self._failures = 0
        self._opened_at = 0.0
        self._slot_at = 0.0
        self._cancel: Callable[[], object] = lambda: None
        self._refreshing: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def connection(self) -> int | None:
        """The number of the connection that is ready, which grows; None while there is none."""
        return self.number if self.state is State.OPEN and self._link is not None else None

    def start(self) -> None:
        """Connect, and stay connected until `stop`."""
        if self.state is State.CLOSED:
            self._failures, self._slot_at = 0, 0.0
            self._tokens.forget()
            self._move(Move.START)
            self._open()

    def stop(self) -> None:
        """Close the connection, and do not come back."""
        if self._link is not None:
            self._link.close()
        self._session = None
        self._stop(None)

    async def wait_ended(self) -> None:
        """Wait until all that was begun has ended; bounded by the time to close a connection."""
        while tasks := self._tasks - {asyncio.current_task()}:
            await asyncio.wait(tasks)

    def send(self, data: str | bytes, urgent: bool) -> bool:
        """Send data if the connection is ready; says whether it went, as in `Link.send`."""
        link = self._link
        return link is not None and self.state is State.OPEN and link.send(data, urgent)

    def apply(self, settings: Settings) -> None:
        """Take what the client may do now."""
        self.settings = settings
        if self._link is not None:
            self._link.watch(seconds(settings.ping_interval) or None)

    def move_on(self, shutdown: Shutdown) -> None:
        """The server goes away; come back after its delay, and not before."""
        self._slot_at = self._clock.time() + (seconds(shutdown.reconnect_delay) or 0.0)
        if shutdown.route is not None:
            self._route = shutdown.route or None

    def refresh(self) -> None:
        """Get a new token, and show it on the open connection."""
        if self._tokens.renewable and self._refreshing is None:
            self._refreshing = self._spawn(self._refresh())

    # An attempt.

    def _open(self) -> None:
        # A listener may have closed the client, or even connected it again.
        if self.state is not State.CONNECTING or self._link is not None:
            return
        self.number += 1
        link = self._link = Link(
            with_route(self._url, self._route),
            self._network,
            self._codec,
            self._clock,
            spawn=self._spawn,
            offer=self._offer,
            received=self._receive,
            writable=self._owner.writable,
            lost=self._lost,
        )
        self._wait(self._manners.connect_timeout, lambda: link.fail("timeout"))

    async def _offer(self) -> list[str]:
        """The subprotocols to offer: the codec, the token, the session to resume."""
        try:
            token = await self._tokens.get()
        except Exception as error:
            self._owner.tell(_token_failed(error))
            raise LostError(Loss(error="token_failed", detail=str(error))) from error
        offered = [self._codec.protocol]
        if token is None and self._tokens.renewed:
            raise LostError(Loss(codes.UNAUTHORIZED.code, codes.UNAUTHORIZED.name))
        if token is not None:
            if not is_offerable(token):
                text = "The token has characters that cannot be sent"
                raise LostError(Loss(error="unsupported", detail=text, for_good=True))
            offered.append(f"{TOKEN_PREFIX}{token}")
        if self._session is not None and is_offerable(self._session):
            offered.append(f"{SESSION_PREFIX}{self._session}.{self.seq}")
        return offered

    def _receive(self, message: dict[str, Any]) -> None:
        match message["type"]:
            case "connected":
                self._connected(message)
            case "queue_status":
                if self.state is not State.OPEN:
                    self._cancel()
                    self._move(Move.QUEUED)
                    self._owner.tell(read(QueueStatus, message))
            case _:
                if self.state is State.OPEN:
                    self._owner.receive(message)

    def _connected(self, message: dict[str, Any]) -> None:
        if self.state is State.OPEN:
            return
        self._cancel()
        self._opened_at = self._clock.time()
        self._tokens.renewed = False
        connected = self.info = read(Connected, message)
        self._session = connected.session
        if connected.route is not None:
            self._route = connected.route
        if not connected.resumed:
            self.seq = 0
        self.apply(connected.settings)
        self._move(Move.CONNECTED)
        self._owner.tell(connected)
        if self._link is None:
            return  # a listener has closed the client
        rooms = message.get("rooms", [])
        if connected.resumed and not isinstance(rooms, list):
            raise ValueError("rooms: not a list")
        self._owner.connected(connected.rooms if connected.resumed else None)

    # Its end.

    def _lost(self, loss: Loss) -> None:
        self._detach()
        held = self._clock.time() - self._opened_at
        if self.state is State.OPEN and held >= self._manners.stable_after:
            self._failures = 0
        following = next_after(loss)
        if following == "token" and self._tokens.renewable and not self._tokens.renewed:
            self._tokens.renew()
            following = Again(0.0)
        if not isinstance(following, Again):
            self._stop(loss)
            return
        random = self._clock.random()
        delay = max(
            delay_after(following, self._failures, random, self._manners.backoff),
            self._slot_at - self._clock.time(),
        )
        self._failures += 1
        self._slot_at = 0.0
        self._move(Move.LOST, loss, delay)
        if self.state is State.BACKOFF and self._link is None:
            self._wait(delay, self._due)

    def _due(self) -> None:
        self._move(Move.DUE)
        self._open()

    def _stop(self, loss: Loss | None) -> None:
        self._detach()
        if self._refreshing is not None:
            self._refreshing.cancel()
        self._tokens.forget()
        self._move(Move.STOPPED, loss)
        self._owner.stopped(ClientClosed(loss))

    def _detach(self) -> None:
        self._cancel()
        self._link = None
        self._owner.lost()

    # Tokens.

    async def _refresh(self) -> None:
        await asyncio.sleep(0)  # as in `Link`
        number = self.number
        try:
            token = await self._tokens.ask()
            message = {"type": "auth", "token": token}
            # A connection that was lost comes back with the new token.
            while token is not None and number == self.number and self.state is State.OPEN:
                try:
                    await outcome(lambda done: self._owner.call(message, done, urgent=True))
                    return
                except ClientError as error:
                    if error.retry_after is None:
                        raise
                    await sleep(self._clock, error.retry_after)
        except Exception as error:
            if not isinstance(error, ClientError) or error.code != "connection_lost":
                self._owner.tell(_token_failed(error))
        finally:
            self._refreshing = None

    # Helpers.

    def _move(self, move: Move, loss: Loss | None = None, delay: float | None = None) -> None:
        previous = self.state
        state = MOVES[previous].get(move)
        if state is not None:
            self.state = state
            self._owner.tell(StateChange(state, previous, loss, delay))

    def _wait(self, delay: float, call: Callable[[], object]) -> None:
        self._cancel()
        self._cancel = self._clock.call_later(delay, call)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _token_failed(error: Exception) -> ClientError:
    return ClientError("token_failed", str(error) or type(error).__name__)
