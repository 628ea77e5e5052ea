"""Logs: one event a line on standard error, as key=value or as JSON.

Whatever a peer sent may end up in a value, so control characters are always escaped: nobody can
start a line of his own or move the cursor of the terminal that shows it.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any, Literal, TextIO

import structlog

__all__ = ["LogFormat", "configure", "render_text"]

LogFormat = Literal["text", "json"]

# C0, DEL and C1 controls; line and paragraph separators; marks that change the writing direction.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
_PLAIN = re.compile(r"[^\s\"=]+")


def configure(log_format: LogFormat = "text", stream: TextIO | None = None) -> None:
    """Send every log record of this process, also those of the standard library, to `stream`.

    `stream` defaults to standard error. Calling it again replaces the earlier set-up.
    """
    shared: list[Any] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    renderer: Any = render_text
    if log_format == "json":
        renderer = structlog.processors.JSONRenderer()
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
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    # Start and stop of the admin listener are part of ours; only its troubles are news.
    logging.getLogger("uvicorn").setLevel(logging.WARNING)


def render_text(_logger: object, _name: str, event: MutableMapping[str, Any]) -> str:
    """One line: time, level, what happened, then key=value pairs; a traceback follows indented.

    The last processor of a structlog chain: `event` is consumed.
    """
    time = event.pop("timestamp", "")
    level = event.pop("level", "info")
    text = _escape(str(event.pop("event", "")))
    trace = event.pop("exception", None)
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
