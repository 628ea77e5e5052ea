"""`tidegate serve`: run the server."""

from __future__ import annotations

from typing import Literal

from tidegate.cli.options import Assignments, ConfigFile, load_settings

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
    loaded = load_settings(config, set_, shortcuts)
    # Imported when the settings are right: the loop and the admin API take a while.
    from tidegate.server.runtime import serve as run

    run(loaded.settings, log_format)
