"""What tests of the gate share."""

from __future__ import annotations

from datetime import datetime, tzinfo
from typing import Self

import pytest

from tests.unit.gate.gate_world import WALL


class _StandingClock(datetime):
    @classmethod
    def now(cls, tz: tzinfo | None = None) -> Self:
        return cls.fromtimestamp(WALL, tz)


@pytest.fixture
def clock_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tokens are checked at the time that the tests make them for, however late those run."""
    monkeypatch.setattr("jwt.api_jwt.datetime", _StandingClock)
