"""The two seams above the engine: who speaks a protocol, and who owns the engine.

An `Application` is the only way to speak a protocol. It is given to the engine when that is made,
and nothing is overwritten afterwards. A new protocol is a new class here and no change below:

    class Shout(Application[Connection]):
        subprotocols = ("shout",)

        def message(self, connection, message):
            connection.send(message.upper())

A `Host` is what the engine's owner does for it: leases, errors, deadlines of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, Protocol, TypeVar

if TYPE_CHECKING:
    import asyncio

    from tidegate.core.admission.attempt import Lease
    from tidegate.core.admission.positions import Status
    from tidegate.core.admission.shedding import Profile, Zone
    from tidegate.core.codes import Close, Fault, Refusal
    from tidegate.core.messaging.history import Position
    from tidegate.core.messaging.publication import Direct, Publication
    from tidegate.engine.chain import DeltaFrame
    from tidegate.engine.door import Grant
    from tidegate.wire.handshake import Request

__all__ = ["BLOCKED_SECONDS", "Accepted", "Application", "Host", "HttpServer", "Negotiation"]

BLOCKED_SECONDS = 0.1
"""What takes a plain method so long is told by `Application.blocked`: people notice it."""

C = TypeVar("C", contravariant=True)


class Accepted(NamedTuple):
    """The answer to an attempt that becomes a connection."""

    subprotocol: str | None
    headers: Iterable[tuple[str, str]] = ()


class Negotiation(Protocol):
    """What an application says of one attempt. It ends with one `answer` or one `cancel`.

    The engine keeps it as `Connection.context` when the attempt becomes a connection.
    """

    def then(self, ready: Callable[[], None], /) -> None:
        """Call `ready` once, in the loop's thread, when `answer` has something to say."""

    def answer(self) -> Accepted | bytes:
        """Return what is agreed, or the whole HTTP response that refuses."""

    def cancel(self) -> None:
        """The client has left, or nobody waits any longer."""


class HttpServer(Protocol):
    """What serves connections that ask for no WebSocket."""

    def protocol(self) -> asyncio.Protocol:
        """Return what serves a new connection."""

    def idle(self, protocol: Any, /) -> bool:
        """Whether a connection has no request under way, by its protocol."""


class Application(Generic[C]):
    """Speaks a protocol over the connections of one node. Inherit from it; override what you use.

    `opened`, `message`, `admitted` and `closed` may return an awaitable. Those of one connection
    are called one at a time and in order, and nothing is read from it while one is at work. What
    they raise closes the connection and is logged. All others are plain and must not raise.
    """

    subprotocols: Sequence[str] = ()
    """What it speaks, the preferred one first."""
    in_band: frozenset[str] = frozenset()
    """The subprotocols whose clients may say who they are in a first message, and may wait."""
    holds_waiting: bool = False
    """Whether clients of those subprotocols may wait on their connection; it is told by `waiting`.
    Others are sent away with a ticket."""
    refuses_early: bool = False
    """Whether a message that comes too early is given to `too_early`. If not, the next ones are
    read later, and nothing is lost."""
    cancels: bool = False
    """Whether the method at work is cancelled when the client closes its connection or is lost. If
    not, it goes on, and the messages that the client sent before are handled too."""
    max_message: int | None = None
    """The largest message in bytes that is read; None for `messages.max_size`."""
    http_server: HttpServer | None = None
    """Serves connections that ask for no WebSocket; None where `respond` will do."""
    has_events: bool = False
    """Whether it speaks on streams of events too, where the subprotocol is `EVENTS_V1`."""
    negotiates: bool = False
    """Whether `negotiate` is asked about every attempt that the gate admits."""

    def serves(self, path: str, configured: str, /) -> bool:
        """Whether there is something at a path; `configured` is `server.path`, empty for any."""
        return not configured or path == configured

    def negotiate(self, request: Request, lease: Lease, subprotocol: str | None, /) -> Negotiation:
        """Say what an attempt that was admitted is answered. The lease is held already."""
        raise NotImplementedError("this application does not negotiate")

    def opened(self, connection: C, request: Request, /) -> Any:
        """A connection was admitted; what a plain method sends goes out with the 101."""

    def message(self, connection: C, message: str | bytes, /) -> Any:
        """A message came. The next one of this connection comes when this one is done. HOT."""

    def blocked(self, seconds: float, /) -> None:
        """The messages of one connection took this long, in which all others had to wait."""

    def too_early(self, connection: C, message: str | bytes, delay: float, /) -> None:
        """A message came that the rates do not allow for `delay` seconds yet; it is dropped."""

    def waiting(self, connection: C, status: Status[Any], /) -> None:
        """A connection waits to be admitted, at this position. Called again when that changes."""

    def admitted(self, connection: C, /) -> Any:
        """A connection that waited is admitted now."""

    def profile_changed(self, zone: Zone, profile: Profile, degraded: bool, /) -> None:
        """What connections may do has changed: it is in force from now on."""

    def tell_profile(self, connection: C, /) -> None:
        """Tell a connection what it may do now. Called for each, spread over some seconds."""

    def expiring(self, connection: C, seconds: float, /) -> None:
        """The token of a connection ends in so many seconds, and the connection with it."""

    def leaving(self, connection: C, delay: float, /) -> None:
        """The server drains, and closes this connection in `delay` seconds."""

    def moving(self, connection: C, delay: float, route: str, /) -> None:  # noqa: ARG002
        """Another server has more room; this connection is closed in `delay` seconds.

        `route` is the `server.route` to come back with, empty for any server.
        """
        self.leaving(connection, delay)

    def closed(self, connection: C, code: int, text: str, /) -> Any:
        """A connection ended. Called once, after its other methods are done."""

    def respond(self, request: Request, address: str, /) -> bytes | None:  # noqa: ARG002 - see the text
        """Answer a request that opens no WebSocket: a whole response, or None to refuse it.

        `address` is the client's own, behind trusted proxies.
        """
        return None

    def frame(self, publication: Publication, subprotocol: str | None, /) -> bytes:
        """Encode a publication as one frame for connections of this subprotocol.

        One to all connections has no room.
        """
        raise NotImplementedError("this application has no rooms")

    def delta(self, step: Any, subprotocol: str | None, /) -> DeltaFrame:
        """Encode a publication for connections of a subprotocol that asked for deltas.

        `step` is a `Step` of `node.deltas`.
        """
        raise NotImplementedError("this application sends no deltas")

    def presence(self, room: str, told: Any, subprotocol: str | None, /) -> bytes:
        """Encode who is in a room, or what has changed there, as frames for a subprotocol.

        `told` is a `State` of `node.presence` or a `Change` of `core.messaging.presence`.
        """
        raise NotImplementedError("this application shows no presence")

    @property
    def moved(self) -> Callable[[C, str, bool], None] | None:
        """What is told of connections that join a room (True) or leave it (False); None: nothing.

        It must not raise.
        """
        return None

    def direct(self, connection: C, message: Direct, /) -> None:
        """Send a message to one of its user's connections."""

    def placed(self, connection: C, room: str, position: Position | None, /) -> None:
        """The server has put a connection into a room; its position, if it keeps a history."""

    def removed(self, connection: C, room: str, reason: Fault, /) -> None:
        """The server has taken a connection out of a room, or could not put it there."""

    def measured(self, connection: C, seconds: float, /) -> None:
        """A connection has answered a ping after so many seconds."""

    def gaps(self, connection: C, rooms: Collection[str], /) -> None:
        """A slow connection did not get everything of these rooms, and can take more again."""

    def drained(self, connection: C, /) -> None:
        """A connection has taken all that waited for it, or has ended."""

    def stopping(self) -> None:
        """The engine stops: HTTP connections are to end."""


class Host(Protocol[C]):
    """The owner of an engine. Each method is called in the loop's thread and returns at once."""

    def granted(self, connection: C, grant: Grant, /) -> None:
        """A grant was taken up; nothing was sent yet."""

    def waits(self, connection: C, /) -> None:
        """A connection that waits is open: tell it its position."""

    def gone(self, connection: C, reason: Refusal | Close, /) -> None:
        """The socket is closed: give its lease back, now."""

    def measured(self, connection: C, seconds: float, /) -> None:
        """A connection has answered a ping after so many seconds."""

    def failed(self, connection: C, error: Exception, /) -> None:
        """The application raised in a method for this connection."""

    def tick(self, now: float, /) -> None:
        """Called ten times a second, for deadlines of the host's own."""

    def warn(self, text: str, /) -> None:
        """Something the operator should know; may be called often."""
