"""`tidegate serve`: run the server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from tidegate.cli.options import Assignments, ConfigFile, load_settings

if TYPE_CHECKING:
    from tidegate.core.settings import Settings

__all__ = ["serve"]


def serve(
    *,
    config: ConfigFile = None,
    host: str | None = None,
    port: str | None = None,
    set_: Assignments = (),
    log_format: Literal["text", "json"] = "text",
) -> None:
    """Run the server until SIGTERM, which drains it, or Ctrl-C; a second one ends it at once.

    SIGHUP reloads the settings that can change, and certificate and keys.

    Parameters
    ----------
    host
        Address that clients connect to; the same as --set server.host=...
    port
        Port that clients connect to; the same as --set server.port=...
    log_format
        How events are written to standard error.
    """
    shortcuts = []
    if host is not None:
        shortcuts.append(("--host", f"server.host={host}"))
    if port is not None:
        shortcuts.append(("--port", f"server.port={port}"))

    def load() -> Settings:
        return load_settings(config, set_, shortcuts).settings

    settings = load()
    # Imported when the settings are right: the loop and the admin API take a while.
    from tidegate.server.runtime import serve as run

    run(settings, log_format, load)
