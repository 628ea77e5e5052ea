"""`tidegate run`: run an ASGI application."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from tidegate.cli.options import Assignments, ConfigFile, load_settings
from tidegate.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from tidegate.server.config import Loaded

__all__ = ["run"]

_ANYBODY = ["0.0.0.0/0", "::/0"]
_THIS_MACHINE = ["127.0.0.1", "::1"]


def run(
    app: str,
    /,
    *,
    config: ConfigFile = None,
    host: str | None = None,
    port: str | None = None,
    uds: str | None = None,
    fd: int | None = None,
    factory: Annotated[bool, Parameter(negative=())] = False,
    app_dir: str = ".",
    workers: str | None = None,
    reload: Annotated[bool, Parameter(negative=())] = False,
    reload_dir: tuple[str, ...] = (),
    root_path: str = "",
    lifespan: Literal["auto", "on", "off"] = "auto",
    env_file: Path | None = None,
    ssl_keyfile: str | None = None,
    ssl_certfile: str | None = None,
    ssl_keyfile_password: str | None = None,
    proxy_headers: bool | None = None,
    forwarded_allow_ips: str | None = None,
    timeout_keep_alive: int = 5,
    access_log: bool = True,
    log_level: str | None = None,
    log_format: str | None = None,
    set_: Assignments = (),
) -> None:
    """Run an ASGI application behind the gate, where you would type `uvicorn main:app`.

    WebSockets are counted, limited and kept alive by Tidegate; HTTP is served by uvicorn's own
    protocol. SIGTERM drains both, Ctrl-C stops; a second one ends the process at once. Settings
    come from a TOML file, the environment (TIDEGATE_LIMITS_PER_IP=5) and the options; what comes
    later wins. SIGHUP reloads those that can change, and certificate and keys.

    Parameters
    ----------
    app
        Where the application is: MODULE:NAME.
    host
        Address that clients connect to; the same as --set server.host=...
    port
        Port that clients connect to; the same as --set server.port=...
    uds
        Path of a Unix socket to listen on; the same as --set server.host=unix:...
    fd
        Number of a listening socket to use, of the process that starts this one.
    factory
        The application is a function that makes it.
    app_dir
        Where the module is looked for first.
    workers
        How many processes share the port, or auto for one for each core; the same as --set
        server.workers=...
    reload
        Start anew when a Python file changes.
    reload_dir
        What is watched; may be given several times. [default: --app-dir]
    root_path
        Where the application is mounted, for its links.
    lifespan
        Whether the application has one; auto finds out.
    env_file
        File with environment variables, for the application and for settings.
    ssl_keyfile
        Private key; the same as --set tls.key=...
    ssl_certfile
        Certificate; the same as --set tls.certificate=...
    ssl_keyfile_password
        Password of the private key; the same as --set tls.key_password=...
    proxy_headers
        Believe what a proxy on this machine says of the client's address; off, unless proxies are
        trusted by --forwarded-allow-ips or proxies.trusted.
    forwarded_allow_ips
        Addresses of the proxies to believe, with commas, * for all; the same as --set
        proxies.trusted=...
    timeout_keep_alive
        Seconds for which an HTTP connection without a request stays open.
    access_log
        Log each HTTP request.
    log_level
        debug, info, warning or error; the same as --set log.level=...
    log_format
        text or json; the same as --set log.format=...
    """
    if uds is not None and host is not None:
        raise UsageError("give --host or --uds, not both")
    if fd is not None and reload:
        raise UsageError("--fd does not work with --reload: the server is another process then")
    if workers not in (None, "1") and reload:
        raise UsageError("--reload is for development, with one process: leave --workers out")
    if timeout_keep_alive < 0:
        raise UsageError("--timeout-keep-alive must be 0 or more seconds")
    if env_file is not None:
        _read_environment(env_file)
    if reload:
        from tidegate.server.reloader import reload_on_change

        reload_on_change(sys.argv[1:], reload_dir or (app_dir,))
        return
    shortcuts = [
        (option, f"{name}={value}")
        for option, name, value in (
            ("--host", "server.host", host),
            ("--uds", "server.host", None if uds is None else f"unix:{Path(uds).absolute()}"),
            ("--port", "server.port", port),
            ("--workers", "server.workers", "0" if workers == "auto" else workers),
            ("--ssl-keyfile", "tls.key", ssl_keyfile),
            ("--ssl-certfile", "tls.certificate", ssl_certfile),
            ("--ssl-keyfile-password", "tls.key_password", ssl_keyfile_password),
            (
                "--forwarded-allow-ips",
                "proxies.trusted",
                _trusted(proxy_headers, forwarded_allow_ips),
            ),
            ("--log-level", "log.level", log_level),
            ("--log-format", "log.format", log_format),
        )
        if value is not None
    ]

    def load() -> Loaded:
        return load_settings(config, set_, shortcuts)

    loaded = load()
    # Imported when the settings are right: the loop and the admin API take a while.
    from tidegate.server.asgi import Options, serve_application, supervise_application

    options = Options(
        factory=factory,
        app_dir=str(Path(app_dir).absolute()),
        root_path=root_path,
        lifespan=lifespan,
        access_log=access_log,
        keep_alive=timeout_keep_alive,
        descriptor=fd,
    )
    if loaded.settings.server.workers == 1:
        serve_application(app, loaded, load, options)
    else:
        supervise_application(app, loaded, load, options)


def _trusted(proxy_headers: bool | None, addresses: str | None) -> str | None:
    """The value of `proxies.trusted`; None to leave it as it is."""
    if proxy_headers is False:
        return "[]"
    if addresses is not None:
        return ",".join(_ANYBODY) if addresses.strip() == "*" else addresses
    return ",".join(_THIS_MACHINE) if proxy_headers else None


def _read_environment(path: Path) -> None:
    try:
        from dotenv import load_dotenv
    except ImportError:
        raise ConfigError("--env-file needs python-dotenv: pip install 'tidegate[asgi]'") from None
    if not path.is_file():
        raise ConfigError(f"--env-file {path}: there is no such file")
    load_dotenv(path)
