"""Being a member of a room: joining, coming back, and getting what was missed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Protocol

from tidegate.client.clock import Clock
from tidegate.client.errors import ClientError
from tidegate.client.messages import Gap, Joined, Left, Publication, read
from tidegate.client.requests import Calls, Done, Message
from tidegate.client.track import Track

__all__ = ["Host", "Membership"]

BETWEEN: Final = 1.0
"""Seconds between two recoveries at least, so that a wrong server is not asked in a tight loop."""


class Host(Calls, Protocol):
    """What a room needs of its client."""

    @property
    def clock(self) -> Clock:
        """Time and chance."""
        ...

    @property
    def connection(self) -> int | None:
        """Grows with each connection; None while there is none."""
        ...

    def check(self) -> None:
        """Raise `ClientClosed` if the client is closed."""
        ...

    def hold(self, room: str) -> None:
        """Keep a room that is joined."""
        ...

    def release(self, room: str) -> None:
        """Forget a room that was left, when nobody else has it any more."""
        ...


class Membership:
    """One room's part in what comes over the connection.

    It tells of `Joined`, `Left`, `Publication`, `Gap`, and of a `ClientError` if it was not joined.
    """

    def __init__(self, name: str, host: Host, tell: Callable[[Any], None]) -> None:
        """Not a member."""
        self._name = name
        self._host = host
        self._tell = tell
        self.history = 0
        """How many messages the next join asks for."""
        self.presence = False
        """Whether the next join asks to be told who is there."""
        self.members = 0
        """How many connections are members, as of the last join."""
        self.joined = False
        """Whether the client is a member now."""
        self.refused = False
        """Whether the server did not let it in. It is tried again with the next connection."""
        self.track = Track()
        """Where the client is in the room's history."""
        # Why the client is to be a member: it has asked for it, or the server has put it there.
        self._asked = self._put = False
        self._before = False
        self._recovering = False
        self._recovered_at = -BETWEEN
        self._cancel: Callable[[], object] = lambda: None

    @property
    def wanted(self) -> bool:
        """Whether the client is to be a member."""
        return self._asked or self._put

    def join(self) -> None:
        """Become a member, now or with the next connection."""
        self._asked = True
        self.refused = False
        if self._host.connection is not None and not self._recovering:
            self._enter()

    def leave(self, done: Done | None = None) -> bool:
        """Stop being a member; says whether the server is asked, so that `done` is called."""
        was = self.joined
        self._forget()
        if was:
            self._exit(done)
        return was

    def receive(self, message: Message) -> None:
        """Take a message of the server for this room."""
        match message["type"]:
            case "room_message":
                self._publication(message)
            case "gap":
                if self.track.position is None:
                    self._tell(Gap(self._name))
                else:
                    self._recover()
            case "joined":
                self.joined = True
                self._put = not self._asked
                if self.track.is_at(message.get("offset")):
                    self._settle(message, recovered=True)
                else:
                    self._recover()
            case "left":
                self._forget()
                self._tell(Left(self._name, str(message.get("reason"))))

    def connected(self, resumed: bool) -> None:
        """The client is connected, perhaps as a member already."""
        if not resumed:
            if self._asked:
                self._enter()
        elif not self.wanted:
            # It was left while there was no connection.
            self._exit()
        else:
            self.joined = True
            if self.track.position is not None or self.presence:
                self._enter()
            else:
                self._announce(recovered=True)

    def lost(self) -> None:
        """The connection was lost."""
        self.joined = self._recovering = False
        self.track.lost()
        self._cancel()

    def _publication(self, message: Message) -> None:
        if self._recovering:
            return  # it comes again behind the answer
        if self.track.take(message.get("offset")):
            self._tell(read(Publication, message))
        else:
            self._recover()

    def _recover(self) -> None:
        """Join again to get what was missed."""
        if self._recovering:
            return
        self._recovering = True
        wait = self._recovered_at + BETWEEN - self._host.clock.time()
        if wait > 0:
            self._later(wait)
        else:
            self._enter()

    def _later(self, delay: float) -> None:
        self._cancel()
        self._cancel = self._host.clock.call_later(delay, self._enter)

    def _enter(self) -> None:
        """Send `join`, and again when the server asks for that."""
        self._cancel()
        connection = self._host.connection
        since = self.track.position
        self._recovering = since is not None
        self._recovered_at = self._host.clock.time()
        message: dict[str, Any] = {"type": "join", "room": self._name}
        if self.history:
            message["history"] = self.history
        if self.presence:
            message["presence"] = True
        if since is not None:
            message["since"] = since

        def done(result: Message | ClientError | None) -> None:
            # After a loss it is joined with the next connection.
            if self._host.connection != connection:
                return
            if isinstance(result, ClientError):
                self._not_joined(result)
            elif not self.wanted:
                # It was left before the answer came.
                self._recovering = False
                self._exit()
            else:
                answer = result or {}
                missed = self._before and not self.joined
                recovered = not missed if since is None else answer.get("recovered") is True
                self._settle(answer, recovered=recovered)

        self._host.call(message, done, urgent=True)

    def _not_joined(self, error: ClientError) -> None:
        if error.retry_after is not None:
            if self.wanted:
                self._later(error.retry_after + self._host.clock.random())
            return
        self._recovering = False
        self.refused = True
        self._tell(error)

    def _settle(self, answer: Message, *, recovered: bool) -> None:
        self.joined = True
        members = answer.get("members")
        self.members = members if isinstance(members, int) else self.members
        self.track.place(
            answer.get("epoch"), answer.get("offset"), history=self.history, recovered=recovered
        )
        self._recovering = self.refused = False
        self._announce(recovered=recovered)

    def _announce(self, *, recovered: bool) -> None:
        joined = Joined(self._name, again=self._before, recovered=recovered, members=self.members)
        self._before = True
        self._tell(joined)

    def _exit(self, done: Done | None = None) -> None:
        message = {"type": "leave", "room": self._name}
        self._host.call(message, done or (lambda _: None), urgent=True)

    def _forget(self) -> None:
        self.joined = self.refused = self._before = self._asked = self._put = False
        self.track.forget()
        self._cancel()
