"""What the server API answers, as values. Times are in seconds; keys that a newer server adds are
left out."""

from __future__ import annotations

from typing import Any

from msgspec import Struct, field

__all__ = [
    "Applied",
    "ConnectionsPage",
    "Disconnected",
    "DrainProgress",
    "ExplainQuery",
    "ExplainStep",
    "Explanation",
    "Health",
    "HistoryMessage",
    "HistoryPage",
    "KeptHistory",
    "Latency",
    "Moved",
    "OneConnection",
    "OneRoom",
    "OneSetting",
    "OneUser",
    "Outcome",
    "Outcomes",
    "Position",
    "Presence",
    "PresentUser",
    "Published",
    "Readiness",
    "Rebalanced",
    "Refusals",
    "RefusedAttempt",
    "RefusedReason",
    "Revoked",
    "RoomExplanation",
    "RoomsPage",
    "SettingsView",
    "UsersPage",
]


class Position(Struct, frozen=True):
    """Where a room's history is: the number of a message, in an epoch of the room."""

    epoch: str
    offset: int


class Published(Struct, frozen=True):
    """What became of a message."""

    delivered: int | None = None
    """To how many connections it goes: of a user, or all; None for a message to a room."""
    members: int | None = None
    """How many members the room has on the node that was asked; None for other messages."""
    epoch: str | None = None
    offset: int | None = None

    @property
    def position(self) -> Position | None:
        """The position of the message, where the room keeps a history."""
        if self.epoch is None or self.offset is None:
            return None
        return Position(self.epoch, self.offset)


class Outcome(Published, frozen=True):
    """What became of one message of a batch: `error` and `message` where it was not taken."""

    error: str | None = None
    """The name in the table of reasons."""
    message: str | None = None
    """The same for people."""
    field: str | None = None
    """What is wrong with the message, such as "room"."""


class Outcomes(Struct, frozen=True):
    """What became of each message of a batch, in their order."""

    results: list[Outcome]


class KeptHistory(Struct, frozen=True):
    """What a room keeps: the offset of its last message, and how many messages and bytes."""

    epoch: str
    offset: int
    messages: int
    bytes: int


class OneRoom(Struct, frozen=True):
    """A room. A very long name is cut; `history` is None where nothing is kept."""

    name: str
    members: int
    history: KeptHistory | None = None
    nodes: dict[str, int] = {}
    """How many members are on each node, by its id, where those of the fleet were asked for."""


class RoomsPage(Struct, frozen=True):
    """Some rooms, how many there are in all, and what is `after` of the next page.

    Of the fleet, `total` counts a room of several nodes once if it is on this page.
    """

    rooms: list[OneRoom]
    total: int
    next: str | None
    complete: bool = True
    """Whether all nodes have answered."""


class Moved(Struct, frozen=True):
    """How many connections were put into a room, or taken out of it."""

    room: str
    count: int
    complete: bool | None = None
    """Whether all nodes of the fleet have done it; None where there is one node."""


class PresentUser(Struct, frozen=True):
    """A user in a room, with how many connections, and the `info` of its token."""

    user: str
    devices: int
    info: Any = None


class Presence(Struct, frozen=True):
    """Who is in a room; `users` is None where they are more than the room's rule shows."""

    room: str
    count: int
    users: list[PresentUser] | None = None


class HistoryMessage(Struct, frozen=True, rename="camel"):
    """One message of a room's history. `sender` is None for a message of the server's own."""

    offset: int
    data: Any
    sender: str | None = field(name="from")
    connection_id: str | None
    timestamp: float | None = None


class HistoryPage(Struct, frozen=True):
    """Messages of a room, the oldest first, and the room's position.

    `recovered` is whether nothing is missing between the position that was asked for and the first.
    """

    room: str
    messages: list[HistoryMessage]
    epoch: str
    offset: int
    recovered: bool

    @property
    def position(self) -> Position:
        """The position of the last message here, or of the room where there is none."""
        return Position(self.epoch, self.messages[-1].offset if self.messages else self.offset)


class OneUser(Struct, frozen=True):
    """A user, and how many connections it has."""

    user: str
    connections: int
    nodes: dict[str, int] = {}
    """How many it has on each node, by its id, where those of the fleet were asked for."""


class UsersPage(Struct, frozen=True):
    """Some users, how many there are in all, and what is `after` of the next page.

    Of the fleet, `total` counts a user of several nodes once if it is on this page.
    """

    users: list[OneUser]
    total: int
    next: str | None
    complete: bool = True
    """Whether all nodes have answered."""


class Latency(Struct, frozen=True):
    """How many connections a user has, and the seconds until the first answered, or None."""

    user: str
    connections: int
    latency: float | None
    complete: bool | None = None
    """Whether all nodes of the fleet have answered; None where there is one node."""


class OneConnection(Struct, frozen=True, rename="camel"):
    """What is known of one connection."""

    id: str
    number: int
    user: str | None
    tier: str | None
    address: str
    transport: str
    """`websocket`, or `sse` for one that has taken the fallback."""
    rooms: tuple[str, ...]
    """The first of them, where they have very long names."""
    room_count: int
    age: float
    idle: float
    """Time since its last message."""
    buffered: int
    """Bytes that it has not taken yet."""
    node: str | None = None
    """The id of its node, where those of the fleet were asked for."""


class ConnectionsPage(Struct, frozen=True):
    """Some connections, and what is `after` of the next page."""

    connections: list[OneConnection]
    next: int | str | None
    complete: bool = True
    """Whether all nodes have answered."""


class Disconnected(Struct, frozen=True):
    """How many connections were closed."""

    count: int
    complete: bool | None = None
    """Whether all nodes of the fleet have done it; None where there is one node."""


class Revoked(Struct, frozen=True):
    """Tokens that were issued before `before` (Unix seconds) are refused; `closed` connections."""

    user: str
    before: float
    closed: int
    complete: bool | None = None
    """Whether all nodes of the fleet have done it; None where there is one node."""


class ExplainQuery(Struct, frozen=True):
    """The attempt that is explained."""

    ip: str
    user: str | None
    tier: str | None
    priority: int
    origin: str | None
    host: str


class ExplainStep(Struct, frozen=True):
    """What one policy says, why, and the numbers that it looked at."""

    name: str
    passed: bool
    detail: str
    numbers: dict[str, int | float | str | None]


class Explanation(Struct, frozen=True):
    """What the gate would decide about an attempt."""

    outcome: str
    """`admit`, `wait` or `reject`."""
    by: str | None
    """The first step that the attempt does not pass."""
    attempt: ExplainQuery
    steps: list[ExplainStep]


class RoomExplanation(Struct, frozen=True):
    """What a client may do with a room: the steps `join`, `publish`, `presence`, `history`."""

    room: str
    user: str | None
    steps: list[ExplainStep]


class RefusedAttempt(Struct, frozen=True, rename="camel"):
    """One refused attempt. `at` is in Unix seconds."""

    at: float
    ip: str
    user: str | None
    tier: str | None
    reason: str
    message: str
    retry_after: float | None
    limit: int | None
    path: str
    host: str
    origin: str
    subprotocols: str
    user_agent: str
    detail: str


class RefusedReason(Struct, frozen=True):
    """How many attempts were refused for one reason, and the last of them."""

    count: int
    last: RefusedAttempt


class Refusals(Struct, frozen=True):
    """The last refused attempts, the newest first, and all of them by reason."""

    refusals: list[RefusedAttempt]
    reasons: dict[str, RefusedReason]


class OneSetting(Struct, frozen=True):
    """One setting: its value (a secret is masked), and whether it can change at run time."""

    value: Any
    live: bool


class SettingsView(Struct, frozen=True):
    """All settings as they are in force, by full name, and where they come from."""

    settings: dict[str, OneSetting]
    sources: dict[str, str]


class Applied(Struct, frozen=True):
    """The full names of settings that have changed, and of those that need a restart to change."""

    applied: list[str]
    restart: list[str]
    complete: bool | None = None
    """Whether all nodes of the fleet have done it; None where there is one node."""


class Rebalanced(Struct, frozen=True, rename="camel"):
    """How far rebalancing is, of all nodes that have answered."""

    nodes: int
    """Nodes that have answered."""
    members: int
    """Machines with nodes that take connections, as the first node knows them."""
    active: int
    """Nodes that move connections, or wait for those that they have moved."""
    moved: int
    """Connections that were asked to move since it began."""
    left: int
    """Connections above the shares of their nodes."""
    complete: bool = True
    """Whether all nodes have answered."""


class DrainProgress(Struct, frozen=True):
    """How far a drain is. Counts are of the connections at its start."""

    draining: bool
    over: bool = False
    total: int = 0
    told: int = 0
    closed: int = 0
    open: int = 0
    window: float = 0.0
    elapsed: float = 0.0
    left: float = 0.0


class Health(Struct, frozen=True):
    """That the server lives; the rest is None for those without its token."""

    status: str
    version: str | None = None
    uptime: float | None = None
    ready: bool | None = None
    """As `/ready` says."""
    reason: str | None = None
    down: list[str] = []
    """What the server needs and cannot reach: "backplane"."""


class Readiness(Struct, frozen=True):
    """Whether the server should get new connections, and why not."""

    ready: bool
    reason: str = ""
    down: list[str] = []
    """What the server needs and cannot reach: "backplane"."""
