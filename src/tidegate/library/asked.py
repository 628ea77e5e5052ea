"""The functions of an `App` as the hooks of a node."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from math import ceil
from typing import TYPE_CHECKING, Any

from msgspec import Raw, json

from tidegate.core.admission.attempt import Identity, Reject
from tidegate.core.codes import HOOK_FAILED, REASONS, REFUSED, UNANSWERED, Fault
from tidegate.errors import Refused
from tidegate.gate.refused import reject_of
from tidegate.library.calls import FAILED, Calls
from tidegate.library.identify import check_identity
from tidegate.library.request import Request
from tidegate.node.asked_identity import AskedIdentifier
from tidegate.node.hooks import Hooks, JoinAnswered, PublishAnswered
from tidegate.node.native.application import NativeApplication
from tidegate.node.values import encode_json

if TYPE_CHECKING:
    from collections import Counter

    from tidegate.core.messaging.publication import Publication
    from tidegate.core.settings import Settings
    from tidegate.engine.connection import Connection
    from tidegate.gate.decision import OpeningRequest
    from tidegate.gate.identity import Found, Identifier
    from tidegate.node.services import Services

__all__ = ["Asked", "Client"]


@dataclass(frozen=True, slots=True)
class Client:
    """A client that a function is asked or told about, as it was then.

    Attributes:
        id: the id of its connection.
        user: its user, None for an anonymous one.
        tier: the tier that its connection counts in, None for none.
        address: its IP address, as far as trusted proxies tell.
        rooms: the rooms that it is in.
    """

    id: str
    user: str | None
    tier: str | None
    address: str
    rooms: tuple[str, ...]


class Asked(Hooks):
    """Asks and tells the functions of an application.

    Args:
        functions: by name, such as `on_join`.
    """

    _counts: Counter[str]

    def __init__(self, functions: Mapping[str, Callable[..., Any]], settings: Settings) -> None:
        self._functions = functions
        self._max_data = settings.messages.max_size
        self._query_token = settings.auth.query_token
        self._allows = settings.hooks.on_failure == "allow"
        self._calls = Calls(settings.hooks.timeout, settings.hooks.max_asked)
        self.asks_join = "on_join" in functions
        self.asks_publish = "on_publish" in functions

    def application(self, services: Services) -> NativeApplication:
        """Make the application of the node whose hooks these are."""
        self._counts = services.stats.hooks
        return NativeApplication(services, self)

    def identifier(self, tokens: Callable[[], Identifier]) -> Identifier | None:
        """Return what asks about attempts, None if nothing is asked.

        Args:
            tokens: returns what identifies by tokens.
        """
        return AskedIdentifier(self._connect, tokens) if "on_connect" in self._functions else None

    def stop(self) -> None:
        """Cancel the functions that are at work."""
        self._calls.stop()

    # Questions.

    async def _connect(self, opening: OpeningRequest, identity: Identity) -> Found:
        request = Request(
            "GET",
            opening.path,
            opening.query,
            opening.headers or {},
            opening.address,
            query_token=self._query_token,
        )
        answer = await self._calls.ask(
            "on_connect", self._functions["on_connect"], request, identity
        )
        if answer is not FAILED:
            try:
                return self._found(answer, identity)
            except Exception as error:
                self._calls.failed("on_connect", error)
        self._counts["failed"] += 1
        return identity if self._allows else Reject(HOOK_FAILED, HOOK_FAILED.retry_after)

    def _found(self, answer: object, identity: Identity) -> Found:
        if isinstance(answer, Refused):
            found = reject_of(answer)
            self._counts["refused"] += 1
            return found
        if answer is None:
            answer = identity
        elif isinstance(answer, str):
            answer = replace(identity, user=answer)
        elif not isinstance(answer, Identity):
            raise TypeError(
                "on_connect must return None, the name of a user, an Identity or refuse(...),"
                f" not {type(answer).__name__}"
            )
        check_identity(answer)
        self._counts["allowed"] += 1
        return answer

    def join(self, connection: Connection, room: str, done: JoinAnswered) -> None:
        """Ask `on_join`."""

        def answered(answer: object) -> None:
            if answer is not None and answer is not FAILED and not isinstance(answer, Refused):
                self._wrong("on_join", answer, "None or refuse(...)")
                answer = FAILED
            done(self._fault(answer))

        function = self._functions["on_join"]
        self._calls.call("on_join", function, answered, client_of(connection), room)

    def publish(
        self, connection: Connection, publication: Publication, done: PublishAnswered
    ) -> None:
        """Ask `on_publish`."""
        self._calls.call(
            "on_publish",
            self._functions["on_publish"],
            partial(self._published, publication, done),
            client_of(connection),
            publication.room,
            json.decode(publication.data),
        )

    def _published(self, publication: Publication, done: PublishAnswered, answer: object) -> None:
        if answer is not None and answer is not FAILED and not isinstance(answer, Refused):
            try:
                data = encode_json(answer)
            except Exception as error:
                self._calls.failed("on_publish", error)
                answer = FAILED
            else:
                if len(data) <= self._max_data:
                    answer = None
                    publication = replace(publication, data=Raw(data), packed=None)
                else:
                    self._wrong("on_publish", answer, f"data of at most {self._max_data} bytes")
                    answer = FAILED
        done(self._fault(answer) or publication)

    def _fault(self, answer: object) -> Fault | None:
        """Why something is refused; None where it is allowed."""
        if answer is FAILED:
            self._counts["failed"] += 1
            return None if self._allows else UNANSWERED
        if isinstance(answer, Refused):
            self._counts["refused"] += 1
            return _fault_of(answer)
        self._counts["allowed"] += 1
        return None

    def _wrong(self, name: str, answer: object, wanted: str) -> None:
        self._calls.failed(
            name, TypeError(f"{name} must return {wanted}, not {type(answer).__name__}")
        )

    # Facts.

    def disconnected(self, connection: Connection, code: int, text: str) -> None:
        """Tell `on_disconnect`."""
        function = self._functions.get("on_disconnect")
        if function is not None:
            client = client_of(connection)
            self._calls.call("on_disconnect", function, _ignore, client, code, text)


def client_of(connection: Connection) -> Client:
    """Return what functions see of a connection."""
    return Client(
        connection.id,
        connection.user,
        connection.tier,
        connection.address,
        connection.rooms,
    )


def _fault_of(refusal: Refused) -> Fault:
    """Return the error that a client gets for a refusal, with its delay."""
    row = REASONS.get(refusal.reason)
    fault = row if isinstance(row, Fault) else REFUSED
    delay = refusal.retry_after
    return replace(fault, retry_after=None if delay is None else ceil(delay))


def _ignore(_: object) -> None:
    """Take what a function returns that is told of something."""
