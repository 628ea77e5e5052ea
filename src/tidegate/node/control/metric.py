"""What a metric is, and its values as plain data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

from msgspec import Struct

if TYPE_CHECKING:
    from tidegate.core.stats import Histogram
    from tidegate.node.control.parts import Parts

__all__ = ["Description", "Distribution", "Metric", "Number"]

Number: TypeAlias = "float | Histogram"


class Distribution(Struct, frozen=True, rename="camel"):
    """How many values fell into each range, and their sum.

    `bounds` are the upper ends, in rising order and included in their range. `counts` has one
    more number than there are bounds, for what lies above the last.
    """

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    sum: float


class Metric(Struct, frozen=True, rename="camel"):
    """The values of one metric by the value of its label; by `""` where it has none.

    What is not known on this system has no value.
    """

    name: str
    values: dict[str, float | Distribution]


class Description(NamedTuple):
    """What one metric is, and how it is read.

    `label` is empty, or the name of the one label whose values are the keys that `read` returns.
    They come from this program's own lists, never from what a peer sent. `read` returns None for
    what is not known on this system.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    label: str
    text: str
    read: Callable[[Parts], Number | Mapping[str, Number] | Mapping[str, int] | None]
