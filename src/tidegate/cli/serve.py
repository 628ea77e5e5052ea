"""`tidegate serve`: run the server."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tidegate.cli.options import Assignments, ConfigFile, load_settings

if TYPE_CHECKING:
    from tidegate.server.config import Loaded

__all__ = ["serve"]


def serve(
    *,
    config: ConfigFile = None,
    host: str | None = None,
    port: str | None = None,
    log_level: str | None = None,
    log_format: str | None = None,
    set_: Assignments = (),
) -> None:
    """Run the server until SIGTERM, which drains it, or Ctrl-C; a second one ends it at once.

    Settings come from a TOML file, the environment (TIDEGATE_LIMITS_PER_IP=5) and the options;
    what comes later wins. `tidegate config show` prints what is in force. SIGHUP reloads those
    that can change, and certificate and keys.

    Parameters
    ----------
    host
        Address that clients connect to; the same as --set server.host=...
    port
        Port that clients connect to; the same as --set server.port=...
    log_level
        debug, info, warning or error; the same as --set log.level=...
    log_format
        text or json; the same as --set log.format=...
    """
    shortcuts = [
        (option, f"{name}={value}")
        for option, name, value in (
            ("--host", "server.host", host),
            ("--port", "server.port", port),
            ("--log-level", "log.level", log_level),
            ("--log-format", "log.format", log_format),
        )
        if value is not None
    ]

    def load() -> Loaded:
        return load_settings(config, set_, shortcuts)

    loaded = load()
    # Imported when the settings are right: the loop and the admin API take a while.
    from tidegate.server.runtime import serve as run

    run(loaded, load)
