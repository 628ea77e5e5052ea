"""How many messages there are: few in `make test`, FUZZ_MESSAGES in each format in `make fuzz`."""

from __future__ import annotations

import os
from random import Random
from typing import Any, Final

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

__all__ = ["MESSAGES", "TOGETHER", "batches", "fuzzing"]

MESSAGES: Final = int(os.environ.get("FUZZ_MESSAGES", "1500"))
"""How many messages in each format."""
TOGETHER: Final = 25
"""How many of them come one behind the other."""

_MANY: Final = 10_000

fuzzing: Final = settings(
    max_examples=max(1, MESSAGES // TOGETHER),
    database=None,
    suppress_health_check=list(HealthCheck),
)
"""The settings of a test that sends `TOGETHER` messages in each example."""


class _Seeded(Random):
    """A generator that shows what it began with."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.began = seed

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(f"Random({self.began})")


def batches() -> st.SearchStrategy[Random]:
    """What chooses the messages of an example.

    Hypothesis chooses each part of few messages, so that it can show the smallest ones that fail.
    Of many it chooses the seed only, which it shows as well: that is many times as fast.
    """
    if MESSAGES < _MANY:
        return st.randoms(note_method_calls=False, use_true_random=False)
    return st.integers(0, 2**64 - 1).map(_Seeded)
