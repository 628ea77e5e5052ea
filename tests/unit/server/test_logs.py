from __future__ import annotations

import contextlib
import gc
import json
import logging
import re
import sys
import warnings
from collections.abc import Iterator
from threading import Thread
from typing import Any

import pytest
import structlog

from tidegate.core.settings import LogSettings
from tidegate.server import logs


class Written:
    """Collects what a log writes."""

    def __init__(self) -> None:
        self.text = ""

    def __call__(self, line: bytes) -> None:
        self.text += line.decode()

    @property
    def lines(self) -> list[str]:
        """What was written, without the times."""
        return [
            re.sub(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ ", "", line)
            for line in self.text.split("\n")[:-1]
        ]


@contextlib.contextmanager
def logging_as(log_format: str = "text", level: str = "info") -> Iterator[Written]:
    """What is logged in this context is there after it."""
    written = Written()
    with logs.running(LogSettings(level=level, format=log_format), written):
        yield written


def test_text_is_one_line_of_pairs() -> None:
    with logging_as() as log:
        structlog.get_logger("a").info("stopped", connections=0, url="ws://[::1]:8000/ws")
        logging.getLogger("b").warning("%d more", 3, extra={"why": 'a "b" c'})
    assert log.lines == [
        "info    stopped connections=0 url=ws://[::1]:8000/ws",
        'warning 3 more why="a \\"b\\" c"',
    ]


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("plain", "plain"),
        ("", '""'),
        ("a b", '"a b"'),
        ("a=b", '"a=b"'),
        ("x\ninfo    forged", r'"x\ninfo    forged"'),
        ("\r\x00\x1b[2J\x7f\x9b", r"\r\x00\x1b[2J\x7f\x9b"),
        ("\u2028\u202e\u2066", r"\u2028\u202e\u2066"),
        ("\\n", "\\\\n"),
        ("grüße", "grüße"),
        (None, "None"),
    ],
)
def test_no_value_can_start_a_line_or_steer_the_terminal(value: object, written: str) -> None:
    with logging_as() as log:
        structlog.get_logger("a").info("event", value=value)
    assert log.lines == [f"info    event value={written}"]


def test_nor_can_the_text_of_the_event() -> None:
    with logging_as() as log:
        logging.getLogger("b").info("said %s", "x\n\x1b[31my")
    assert log.lines == [r"info    said x\n\x1b[31my"]


def test_tracebacks_follow_indented() -> None:
    with logging_as() as log:
        try:
            raise ValueError("x\n2030-01-01T00:00:00Z info    forged\x1b")
        except ValueError:
            logging.getLogger("b").exception("a handler failed", extra={"connection": "c1"})
    first, *rest = log.lines
    assert first == "error   a handler failed connection=c1"
    assert rest[0] == "    Traceback (most recent call last):"
    assert rest[-1] == r"    2030-01-01T00:00:00Z info    forged\x1b"
    assert all(line.startswith("    ") for line in rest)


def test_json_is_one_object_a_line() -> None:
    with logging_as("json") as log:
        structlog.get_logger("a").info("started", url="ws://x/ws", odd="a\nb\x1b")
        try:
            raise ValueError("no")
        except ValueError:
            logging.getLogger("b").exception("failed")
    found: list[dict[str, Any]] = [json.loads(line) for line in log.lines]
    assert len(found) == 2
    assert found[0].pop("timestamp").endswith("Z")
    assert found[0] == {"event": "started", "level": "info", "url": "ws://x/ws", "odd": "a\nb\x1b"}
    assert found[1]["exception"].endswith("ValueError: no")
    assert "\x1b" not in log.text


@pytest.mark.parametrize(
    ("level", "logged"),
    [
        ("debug", ["debug", "info", "warning", "error"]),
        ("warning", ["warning", "error"]),
        ("error", ["error"]),
    ],
)
def test_a_level_leaves_out_what_is_less_important(level: str, logged: list[str]) -> None:
    with logging_as(level=level) as log:
        for name in ("debug", "info", "warning", "error"):
            getattr(structlog.get_logger("a"), name)("event")
            logging.getLogger("b").log(logging.getLevelNamesMapping()[name.upper()], "event")
        logging.getLogger("uvicorn").info("chatter")
    assert [line.split()[0] for line in log.lines] == [name for name in logged for _ in range(2)]


def test_debug_and_uvicorn_s_chatter_are_left_out() -> None:
    with logging_as() as log:
        structlog.get_logger("a").debug("detail")
        logging.getLogger("uvicorn.error").info("Started server process")
        logging.getLogger("uvicorn.error").error("trouble")
    assert log.lines == ["error   trouble"]


def test_what_was_there_before_is_put_back() -> None:
    root = logging.getLogger()
    before = root.handlers[:], root.level, warnings.showwarning, sys.unraisablehook
    with logging_as():
        assert root.handlers != before[0]
    assert (root.handlers[:], root.level, warnings.showwarning, sys.unraisablehook) == before


def test_warnings_of_python_are_lines_of_the_log() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        with logging_as() as log:
            warnings.warn("old\nname", DeprecationWarning, stacklevel=1)
    assert re.fullmatch(
        r'warning "?old\\nname"? category=DeprecationWarning at=\S+test_logs.py:\d+', log.lines[0]
    )
    assert len(log.lines) == 1


def test_errors_in_threads_and_destructors_are_in_the_log() -> None:
    class Breaks:
        def __del__(self) -> None:
            raise ValueError("no")

    def fail() -> None:
        raise LookupError("in a thread")

    with logging_as() as log:
        thread = Thread(target=fail, name="t1")
        thread.start()
        thread.join()
        Breaks()
        gc.collect()
    assert log.lines[0] == "error   a thread failed of=t1"
    assert "    LookupError: in a thread" in log.lines
    assert log.lines[-1] == "    ValueError: no"
    assert any(re.match("error   an exception was ignored in .*__del__$", x) for x in log.lines)
