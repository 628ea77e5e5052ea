"""The limits of a room and of its users, with what counts in them, for people."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, TypeVar

from tidegate.core.admission.attempt import Step
from tidegate.core.messaging.rooms import Count, Member

if TYPE_CHECKING:
    from tidegate.core.messaging.room_rates import RoomRates
    from tidegate.core.messaging.rooms import Rooms
    from tidegate.core.messaging.rules import Rules

__all__ = ["explain_limits"]

M = TypeVar("M", bound=Member)


def explain_limits(
    rooms: Rooms[M],
    rates: RoomRates,
    rules: Rules,
    room: str,
    devices: Collection[M],
    now: float,
) -> tuple[Step, ...]:
    """Return whether one more join and one more message to a room would keep the limits now.

    The steps are `members`, `user_members`, `user_rooms` and `publish_rate`. Nothing is counted.

    Args:
        devices: all members of the user that asks.
        now: in monotonic seconds.
    """
    members, user_members, user_rooms = rooms.counts(room, devices)
    return (
        _step("members", members, "members"),
        _step("user_members", user_members, "members of the user"),
        _step("user_rooms", user_rooms, "other rooms of the user"),
        _rate(rates, rules, room, now),
    )


def _step(name: str, count: Count, what: str) -> Step:
    now, most = count
    if most is None:
        return Step(name, True, f"{now:,} {what}; there is no limit", {"count": now})
    return Step(name, now < most, f"{now:,} of {most:,} {what}", {"count": now, "limit": most})


def _rate(rates: RoomRates, rules: Rules, room: str, now: float) -> Step:
    rule = rules.of(room)
    rate, burst = rule.publish_per_second, rule.publish_burst
    if not rate:
        return Step("publish_rate", True, "there is no limit", {})
    delay = rates.delay(room, now)
    next_one = f"in {delay:.1f} s" if delay else "now"
    return Step(
        "publish_rate",
        not delay,
        f"{rate:g} messages a second, {burst:,} at once: the next one may come {next_one}",
        {"rate": rate, "burst": burst, "delay": round(delay, 3)},
    )
