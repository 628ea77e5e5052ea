"""What the gate would decide about an attempt, and the attempts that it refused."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Annotated

from msgspec import Meta, Struct
from msgspec.structs import force_setattr

from tidegate.core.admission.admission import outcome
from tidegate.core.admission.attempt import Attempt, Claims, Identity, Step
from tidegate.core.codes import ORIGIN
from tidegate.core.room_limits import explain_limits
from tidegate.gate.pages import Pages
from tidegate.gate.tokens import MAX_PRIORITY
from tidegate.node.control.connections import counted_ip
from tidegate.node.control.fleet_steps import attempt_steps, room_steps
from tidegate.wire.messages import MAX_ROOM, MAX_USER

if TYPE_CHECKING:
    from tidegate.gate.refusals import Refused
    from tidegate.node.control.parts import Parts

__all__ = [
    "ExplainQuery",
    "ExplainRoomQuery",
    "ExplainStep",
    "Explanation",
    "RefusedReason",
    "RefusedRow",
    "RoomExplanation",
    "explain",
    "explain_room",
    "refused_reasons",
    "refused_row",
]


class ExplainQuery(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """An attempt: where it comes from, what its token says (anonymous without a user), its page.

    Raises:
        UsageError: `ip` is no IP address.
    """

    ip: str = "127.0.0.1"
    user: str | None = None
    tier: str | None = None
    priority: Annotated[int, Meta(ge=0, le=MAX_PRIORITY)] = 0
    origin: str | None = None
    """Where the page comes from that opens the WebSocket; none for a client that is no browser."""
    host: str = "localhost"
    """The host that it asks for, which is that of the page where they are of the same origin."""

    def __post_init__(self) -> None:
        force_setattr(self, "ip", counted_ip(self.ip))


class ExplainStep(Struct, frozen=True, rename="camel"):
    """What one policy says of the attempt, why, and the numbers that it looked at."""

    name: str
    passed: bool
    detail: str
    numbers: dict[str, int | float | str | None]


class Explanation(Struct, frozen=True, rename="camel"):
    """What the gate would decide about an attempt."""

    outcome: str
    """`admit`, `wait` or `reject`."""
    by: str | None
    """The first step that the attempt does not pass."""
    attempt: ExplainQuery
    steps: list[ExplainStep]


class ExplainRoomQuery(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """A room, and who asks: a user, anonymous without one.

    `claim` is a pattern of the claim `rooms` of its token.
    """

    room: Annotated[str, Meta(min_length=1, max_length=MAX_ROOM)]
    user: Annotated[str, Meta(min_length=1, max_length=MAX_USER)] | None = None
    claim: Annotated[str, Meta(min_length=1, max_length=MAX_ROOM)] | None = None


class RoomExplanation(Struct, frozen=True, rename="camel"):
    """What a client may do with a room, and what the room keeps and shows."""

    room: str
    user: str | None
    steps: list[ExplainStep]
    """`join`, `publish`, `presence`, `history` by the rule, whose pattern is in their numbers; then
    the limits with what counts in them: `members`, `user_members`, `user_rooms`, `publish_rate`,
    and `fleet_members` where the limits of rooms hold over several nodes."""


class RefusedRow(Struct, frozen=True, rename="camel"):
    """One refused attempt. `at` is in Unix seconds, `retry_after` in seconds."""

    at: float
    ip: str
    user: str | None
    tier: str | None
    reason: str
    message: str
    retry_after: float | None
    limit: int | None
    """The limit that was reached, None when the reason is no limit."""
    path: str
    """What the request said is cut to 200 characters, tokens are masked in it, and what it did not
    say is empty."""
    host: str
    origin: str
    subprotocols: str
    """Those that were offered."""
    user_agent: str
    detail: str
    """What exactly was wrong, where the reason alone does not say so."""


class RefusedReason(Struct, frozen=True, rename="camel"):
    """How many attempts were refused for one reason, and the last of them."""

    count: int
    last: RefusedRow


async def explain(node: Parts, query: ExplainQuery) -> Explanation:
    """Return what the gate would say of an attempt now. Nothing is taken."""
    identity = Identity(query.user, query.tier, query.priority)
    attempt = Attempt(query.ip, node.settings.server.path, identity)
    steps = [
        _page_step(node, query),
        *node.admission.explain(attempt, monotonic()),
        *await attempt_steps(node, query.ip, identity),
    ]
    return Explanation(
        outcome=outcome(steps),
        by=next((step.name for step in steps if not step.passed), None),
        attempt=query,
        steps=[
            ExplainStep(step.name, step.passed, step.detail, dict(step.numbers)) for step in steps
        ],
    )


async def explain_room(node: Parts, query: ExplainRoomQuery) -> RoomExplanation:
    """Return what a client may do with a room, by the rules as they are now."""
    claims = None if query.claim is None else Claims(rooms=(query.claim,))
    room, user = query.room, query.user
    devices = () if user is None else node.users.of_user(user)
    steps = (
        *node.access.explain(room, user, claims),
        *explain_limits(node.rooms, node.room_rates, node.rules, room, devices, monotonic()),
        *await room_steps(node, room),
    )
    return RoomExplanation(
        room,
        user,
        [ExplainStep(step.name, step.passed, step.detail, dict(step.numbers)) for step in steps],
    )


def _page_step(node: Parts, query: ExplainQuery) -> Step:
    settings, origin = node.settings, query.origin
    if origin is None:
        return Step(ORIGIN.name, True, "there is no page: the request has no Origin", {})
    secure = settings.tls.certificate is not None
    problem = Pages(settings.server).problem(origin, query.host, query.ip, secure=secure)
    detail = problem or "pages of this origin may connect"
    return Step(ORIGIN.name, problem is None, detail, {"origin": origin, "host": query.host})


def refused_reasons(node: Parts) -> dict[str, RefusedReason]:
    """Return the reasons for which attempts were refused."""
    return {
        last.reason.name: RefusedReason(node.stats.rejected[last.reason.name], refused_row(last))
        for last in node.refusals.reasons()
    }


def refused_row(refused: Refused) -> RefusedRow:
    """Return a refused attempt with the text of its reason."""
    return RefusedRow(
        at=round(refused.at, 3),
        ip=refused.address,
        user=refused.user,
        tier=refused.tier,
        reason=refused.reason.name,
        message=refused.reason.message,
        retry_after=refused.retry_after,
        limit=refused.limit,
        path=refused.path,
        host=refused.host,
        origin=refused.origin,
        subprotocols=refused.subprotocols,
        user_agent=refused.user_agent,
        detail=refused.detail,
    )
