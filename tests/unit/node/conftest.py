"""What tests of the node share."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _leave_the_collector_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tuning it takes time, and is for a process that does nothing but serve."""
    monkeypatch.setattr("tidegate.engine.engine._tune_collector", lambda: None)
