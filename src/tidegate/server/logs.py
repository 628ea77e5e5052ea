"""Logs: one event a line on standard error, as key=value or as JSON.

All that a process may say goes through here: records of `logging` and structlog, Python's
warnings, and errors in threads and destructors, which Python would print by itself.

Whatever a peer sent may end up in a value, so control characters are always escaped: nobody can
start a line of his own or move the cursor of the terminal that shows it.
"""

from __future__ import annotations

import contextlib
import logging
import re
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, MutableMapping
from functools import partial
from typing import Any, Final, TextIO

import structlog

from tidegate.core.settings import LogSettings
from tidegate.server.log_writer import LogWriter, write_all

__all__ = ["render_text", "running"]

_log = logging.getLogger("tidegate")

_LAST_SECONDS: Final = 1.0

# C0, DEL and C1 controls; line and paragraph separators; marks that change the writing direction.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
_TRACEBACK: Final = "Traceback (most recent call last):\n"
_PLAIN = re.compile(r"[^\s\"=]+")


@contextlib.contextmanager
def running(
    settings: LogSettings,
    write: Callable[[bytes], object] | None = None,
    worker: int | None = None,
) -> Iterator[LogWriter]:
    """Write the log records of this process, while the context lasts.

    At its end what is queued is written, for a second at the most.

    Args:
        write: writes one line, in a thread; the default writes to standard error.
        worker: its number, which is in every line; None for what is no worker.
    """
    shared: list[Any] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    if worker is not None:
        shared.append(partial(_of_worker, worker))
    renderer: Any = render_text
    if settings.format == "json":
        renderer = structlog.processors.JSONRenderer()
    writer = LogWriter(write or write_all(sys.stderr.fileno()))
    writer.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    with _installed(writer, logging.getLevelNamesMapping()[settings.level.upper()]):
        writer.start()
        try:
            yield writer
        finally:
            writer.stop(_LAST_SECONDS)


@contextlib.contextmanager
def _installed(writer: LogWriter, level: int) -> Iterator[None]:
    """Let a handler have everything from a level on, and put back what there was."""
    root, uvicorn = logging.getLogger(), logging.getLogger("uvicorn")
    requests = logging.getLogger("httpx2")
    before = root.handlers[:], root.level, uvicorn.level, requests.level
    hooks = threading.excepthook, sys.unraisablehook, warnings.showwarning
    root.handlers[:] = [writer]
    root.setLevel(level)
    # Start and stop of the admin listener are part of ours; only its troubles are news.
    uvicorn.setLevel(max(level, logging.WARNING))
    # Each request for keys or of a webhook is no news either.
    requests.setLevel(max(level, logging.WARNING))
    threading.excepthook, sys.unraisablehook = _thread_failed, _unraisable
    warnings.showwarning = _warned
    try:
        yield
    finally:
        threading.excepthook, sys.unraisablehook, warnings.showwarning = hooks
        root.handlers[:], root_level, uvicorn_level, requests_level = before
        root.setLevel(root_level)
        uvicorn.setLevel(uvicorn_level)
        requests.setLevel(requests_level)
        structlog.reset_defaults()


def _of_worker(
    number: int, _logger: object, _name: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    event["worker"] = number
    return event


def _thread_failed(failed: threading.ExceptHookArgs) -> None:
    if failed.exc_value is not None and not issubclass(failed.exc_type, SystemExit):
        name = failed.thread.name if failed.thread else ""
        _log.error("a thread failed", exc_info=failed.exc_value, extra={"of": name})


def _unraisable(failed: sys.UnraisableHookArgs) -> None:
    # A name and no repr: that could fail, or be of any length.
    where = getattr(failed.object, "__qualname__", type(failed.object).__name__)
    text = failed.err_msg or "an exception was ignored"
    _log.error("%s in %s", text, where, exc_info=failed.exc_value)


def _warned(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,  # noqa: ARG001 - as `warnings.showwarning` has it
    line: str | None = None,  # noqa: ARG001
) -> None:
    extra = {"category": category.__name__, "at": f"{filename}:{lineno}"}
    logging.getLogger("py.warnings").warning("%s", message, extra=extra)


def render_text(_logger: object, _name: str, event: MutableMapping[str, Any]) -> str:
    """One line: time, level, what happened, then key=value pairs; a traceback follows indented.

    The last processor of a structlog chain: `event` is consumed.
    """
    time = event.pop("timestamp", "")
    level = event.pop("level", "info")
    text = str(event.pop("event", "")).rstrip("\n")  # uvicorn ends some with one
    trace = event.pop("exception", None)
    if trace is None and text.startswith(_TRACEBACK):
        # Starlette says so why an application did not start.
        text, trace = "the application failed", text
    text = _escape(text)
    pairs = "".join(f" {key}={_value(value)}" for key, value in event.items())
    line = f"{time[:19]}Z {level:<8}{text}{pairs}"
    if trace:
        line += "".join(f"\n    {_escape(part)}" for part in str(trace).split("\n"))
    return line


def _value(value: object) -> str:
    text = _escape(str(value).replace("\\", "\\\\"))
    if _PLAIN.fullmatch(text):
        return text
    return '"' + text.replace('"', '\\"') + '"'


def _escape(text: str) -> str:
    return _UNSAFE.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), text)
