from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from tidegate.server import logs


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    uvicorn = logging.getLogger("uvicorn")
    yield io.StringIO()
    root.handlers[:] = handlers
    root.setLevel(level)
    uvicorn.setLevel(logging.NOTSET)
    structlog.reset_defaults()


def lines(stream: io.StringIO) -> list[str]:
    """What was written, without the times."""
    return [
        re.sub(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ ", "", line)
        for line in stream.getvalue().split("\n")[:-1]
    ]


def test_text_is_one_line_of_pairs(stream: io.StringIO) -> None:
    logs.configure("text", stream)
    structlog.get_logger("a").info("stopped", connections=0, url="ws://[::1]:8000/ws")
    logging.getLogger("b").warning("%d more", 3, extra={"why": 'a "b" c'})
    assert lines(stream) == [
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
def test_no_value_can_start_a_line_or_steer_the_terminal(
    stream: io.StringIO, value: object, written: str
) -> None:
    logs.configure("text", stream)
    structlog.get_logger("a").info("event", value=value)
    assert lines(stream) == [f"info    event value={written}"]


def test_nor_can_the_text_of_the_event(stream: io.StringIO) -> None:
    logs.configure("text", stream)
    logging.getLogger("b").info("said %s", "x\n\x1b[31my")
    assert lines(stream) == [r"info    said x\n\x1b[31my"]


def test_tracebacks_follow_indented(stream: io.StringIO) -> None:
    logs.configure("text", stream)
    try:
        raise ValueError("x\n2030-01-01T00:00:00Z info    forged\x1b")
    except ValueError:
        logging.getLogger("b").exception("a handler failed", extra={"connection": "c1"})
    first, *rest = lines(stream)
    assert first == "error   a handler failed connection=c1"
    assert rest[0] == "    Traceback (most recent call last):"
    assert rest[-1] == r"    2030-01-01T00:00:00Z info    forged\x1b"
    assert all(line.startswith("    ") for line in rest)


def test_json_is_one_object_a_line(stream: io.StringIO) -> None:
    logs.configure("json", stream)
    structlog.get_logger("a").info("started", url="ws://x/ws", odd="a\nb\x1b")
    try:
        raise ValueError("no")
    except ValueError:
        logging.getLogger("b").exception("failed")
    found: list[dict[str, Any]] = [json.loads(line) for line in lines(stream)]
    assert len(found) == 2
    assert found[0].pop("timestamp").endswith("Z")
    assert found[0] == {"event": "started", "level": "info", "url": "ws://x/ws", "odd": "a\nb\x1b"}
    assert found[1]["exception"].endswith("ValueError: no")
    assert "\x1b" not in stream.getvalue()


def test_debug_and_uvicorn_s_chatter_are_left_out(stream: io.StringIO) -> None:
    logs.configure("text", stream)
    structlog.get_logger("a").debug("detail")
    logging.getLogger("uvicorn.error").info("Started server process")
    logging.getLogger("uvicorn.error").error("trouble")
    assert lines(stream) == ["error   trouble"]


def test_configuring_again_replaces(stream: io.StringIO) -> None:
    logs.configure("text", stream)
    again = io.StringIO()
    logs.configure("json", again)
    logging.getLogger("b").info("x")
    assert stream.getvalue() == ""
    assert json.loads(again.getvalue())["event"] == "x"
