"""Whether there are traces: OpenTelemetry is imported only where they are on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tidegate.errors import ConfigError

if TYPE_CHECKING:
    from tidegate.core.settings import Settings
    from tidegate.node.telemetry.traces import Traces

__all__ = ["traces_of"]


def traces_of(settings: Settings) -> Traces | None:
    """Return what the settings ask for; None where they ask for no traces.

    Raises:
        ConfigError: traces are on, and OpenTelemetry is not installed.
    """
    if not settings.telemetry.traces:
        return None
    try:
        from tidegate.node.telemetry.traces import Traces
    except ImportError as error:
        raise ConfigError(
            f"telemetry.traces = true: needs OpenTelemetry ({error.name} is not installed): "
            "pip install 'tidegate[otel]'"
        ) from error
    return Traces.start(settings.telemetry.sample)
