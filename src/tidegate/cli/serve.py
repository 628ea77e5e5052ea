"""`tidegate serve`: run the server."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tidegate.cli.options import Assignments, ConfigFile, load_settings
from tidegate.errors import ConfigError

if TYPE_CHECKING:
    from tidegate.library.app import App
    from tidegate.server.config import Loaded

__all__ = ["serve"]


def serve(
    *,
    config: ConfigFile = None,
    app: str | None = None,
    app_dir: str = ".",
    host: str | None = None,
    port: str | None = None,
    workers: str | None = None,
    log_level: str | None = None,
    log_format: str | None = None,
    set_: Assignments = (),
) -> None:
    """Run the server until SIGTERM, which drains it, or Ctrl-C; a second one ends it at once.

    Settings come from a TOML file, the environment (TIDEGATE_LIMITS_PER_IP=5) and the options;
    what comes later wins. `tidegate config show` prints what is in force. SIGHUP reloads those
    that can change, and certificate and keys; with several workers it replaces them one by one.

    Parameters
    ----------
    app
        Where a tidegate.App is whose functions are asked: MODULE:NAME.
    app_dir
        Where its module is looked for first.
    host
        Address that clients connect to; the same as --set server.host=...
    port
        Port that clients connect to; the same as --set server.port=...
    workers
        How many processes share the port, or auto for one for each core; the same as --set
        server.workers=...
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
            ("--workers", "server.workers", "0" if workers == "auto" else workers),
            ("--log-level", "log.level", log_level),
            ("--log-format", "log.format", log_format),
        )
        if value is not None
    ]

    def load() -> Loaded:
        return load_settings(config, set_, shortcuts)

    loaded = load()
    # Imported when the settings are right: the loop and the admin API take a while.
    if loaded.settings.server.workers != 1:
        from tidegate.server.supervisor.cores import workers_of

        if workers_of(loaded.settings.server.workers) > 1:
            if app is not None:
                raise ConfigError("server.workers: must be 1 with --app, which runs in one process")
            from tidegate.server.supervisor.running import supervise

            supervise(loaded, load)
            return
    from tidegate.server.runtime import serve as run

    run(loaded, load, None if app is None else _import_app(app, app_dir))


def _import_app(name: str, directory: str) -> App:
    from tidegate.asgi.importing import import_object
    from tidegate.library.app import App

    found = import_object(name, directory)
    if not isinstance(found, App):
        raise ConfigError(f"--app {name}: it must be a tidegate.App, not {type(found).__name__}")
    return found
