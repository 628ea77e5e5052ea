"""How fast clients may publish in a room, all of them together."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from tidegate.core.messaging.rules import Rules
    from tidegate.core.settings.rooms import RoomRule

__all__ = ["RoomRates"]

# No clock is finer, and sums of floats are not exact.
_INSTANT: Final = 1e-7
_SWEPT: Final = 2  # rooms that are forgotten for one that is added


class RoomRates:
    """The rates of the rooms whose rule has `publish_per_second`.

    A room is one number, as in `core/timing/rates.py`: the theoretical arrival time of the generic
    cell rate algorithm (ITU-T I.371, annex A). It is forgotten when it says nothing any more, also
    when the room has no members: who leaves and joins again has not gained anything.

    Args:
        rules: those of the rooms, as they are in force; other rates hold at once.
    """

    __slots__ = ("_full", "_rules", "refused")

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._full: OrderedDict[str, float] = OrderedDict()  # by room, the last used one at the end
        self.refused = 0
        """How many messages came too early."""

    def take(self, room: str, now: float) -> float:
        """Count a message to a room: 0.0, or the seconds to wait, and then none is counted. HOT.

        Args:
            now: in monotonic seconds.
        """
        if not self._rules.some:
            return 0.0
        rule = self._rules.of(room)
        rate = rule.publish_per_second
        if not rate:
            return 0.0
        full = max(self._full.get(room, 0.0), now)
        delay = _delay(rule, full, now)
        if delay:
            self.refused += 1
            return delay
        self._full[room] = full + 1 / rate
        self._full.move_to_end(room)
        self._forget(now)
        return 0.0

    def delay(self, room: str, now: float) -> float:
        """The seconds until a message may come, 0.0 for now. None is counted."""
        rule = self._rules.of(room)
        if not rule.publish_per_second:
            return 0.0
        return _delay(rule, max(self._full.get(room, 0.0), now), now)

    def __len__(self) -> int:
        """How many rooms are remembered."""
        return len(self._full)

    def _forget(self, now: float) -> None:
        for _ in range(_SWEPT):
            room = next(iter(self._full))
            if self._full[room] > now:
                return
            del self._full[room]


def _delay(rule: RoomRule, full: float, now: float) -> float:
    slack = (rule.publish_burst - 1) / rule.publish_per_second + _INSTANT
    return max(0.0, full - slack - now)
