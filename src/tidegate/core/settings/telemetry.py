"""What is told to systems that observe this one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tidegate.core.settings.fields import Section, setting

__all__ = ["TelemetrySettings"]


@dataclass(frozen=True, slots=True)
class TelemetrySettings(Section):
    """Traces with OpenTelemetry; its own environment variables (OTEL_*) say where they go."""

    section: ClassVar[str] = "telemetry"
    traces: bool = setting(
        False, "Whether attempts and publications are traced; needs the extra tidegate[otel]."
    )
    sample: float = setting(
        1.0,
        "Share of them that is traced; what a client's own trace leaves out is left out.",
        low=0,
        high=1,
    )
