"""The thread that writes the log: what it does when nothing reads, and when errors repeat."""

from __future__ import annotations

import errno
import logging
import os
import threading
from collections.abc import Callable, Iterator
from time import monotonic

import pytest

from tests.support.net import wait_until
from tidegate.server.log_repeats import Repeats
from tidegate.server.log_writer import LogWriter, write_all


class Gate:
    """Writes lines into a list, unless it is shut: then the write waits, as one to a full pipe."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.open = threading.Event()
        self.open.set()
        self.problem: OSError | None = None

    def __call__(self, line: bytes) -> None:
        self.open.wait(20)
        if self.problem is not None:
            raise self.problem
        self.lines.append(line.decode().rstrip("\n"))


Log = Callable[..., None]


@pytest.fixture
def gate() -> Gate:
    return Gate()


@pytest.fixture
def writer(gate: Gate) -> Iterator[LogWriter]:
    writer = LogWriter(gate, most=1000)
    writer.setFormatter(logging.Formatter("%(message)s"))
    writer.start()
    yield writer
    gate.open.set()
    gate.problem = None
    writer.stop(20)


def say(writer: LogWriter, text: str, *args: object, **extra: object) -> None:
    record = logging.getLogger("x").makeRecord(
        "x", logging.INFO, "f.py", 1, text, args, None, extra=extra
    )
    writer.handle(record)


def fail(writer: LogWriter, error: type[Exception] = ValueError) -> None:
    try:
        raise error("no")
    except error as caught:
        info = (error, caught, caught.__traceback__)
    record = logging.getLogger("x").makeRecord("x", logging.ERROR, "f.py", 1, "it failed", (), info)
    writer.handle(record)


def test_lines_are_written_in_order(writer: LogWriter, gate: Gate) -> None:
    for number in range(50):
        say(writer, "line %d", number)
    writer.stop(20)
    assert gate.lines == [f"line {number}" for number in range(50)]
    assert writer.lost == 0


def test_a_write_that_waits_blocks_nobody_and_lost_lines_are_told(
    writer: LogWriter, gate: Gate
) -> None:
    gate.open.clear()
    began = monotonic()
    for number in range(1000):
        say(writer, "line %06d", number)  # 12 bytes each
    assert monotonic() - began < 10
    kept = 1000 - writer.lost
    assert 80 <= kept <= 84
    gate.open.set()
    wait_until(lambda: len(gate.lines) == kept + 1, 20, "all is written")
    assert gate.lines[:kept] == [f"line {number:06d}" for number in range(kept)]
    assert gate.lines[kept] == "log lines were lost"
    say(writer, "after")
    writer.stop(20)
    assert gate.lines[kept + 1 :] == ["after"]
    assert writer.lost == 1000 - kept


def test_stopping_waits_no_longer_than_it_may(writer: LogWriter, gate: Gate) -> None:
    gate.open.clear()
    say(writer, "a")
    began = monotonic()
    writer.stop(0.05)
    assert monotonic() - began < 10
    assert gate.lines == []


def test_a_disk_that_is_full_loses_lines_and_says_so_later(writer: LogWriter, gate: Gate) -> None:
    gate.problem = OSError(errno.ENOSPC, "no space")
    say(writer, "a")
    wait_until(lambda: writer.lost == 1, 20, "it is lost")
    say(writer, "b")
    assert writer.lost == 2
    gate.problem = None
    wait_until(lambda: gate.lines == ["log lines were lost"], 20, "it is said")
    say(writer, "c")
    writer.stop(20)
    assert gate.lines == ["log lines were lost", "c"]


def test_a_disk_that_stays_full_holds_up_no_stop(writer: LogWriter, gate: Gate) -> None:
    gate.problem = OSError(errno.ENOSPC, "no space")
    say(writer, "a")
    writer.stop(20)
    assert not any(thread.name == "tidegate-log" for thread in threading.enumerate())


def test_a_line_of_any_length_is_cut(gate: Gate) -> None:
    writer = LogWriter(gate)
    writer.start()
    say(writer, "x" * 1_000_000)
    writer.stop(20)
    assert gate.lines == ["x" * 65536 + " ... (cut)"]


def test_a_record_that_cannot_be_formatted_is_a_line_and_no_error(
    writer: LogWriter, gate: Gate
) -> None:
    say(writer, "%d pieces", "three")
    say(writer, "half a pair \ud800")
    writer.stop(20)
    assert gate.lines == ["a log record cannot be written", r"half a pair \ud800"]


def test_the_same_error_again_is_counted(writer: LogWriter, gate: Gate) -> None:
    for _ in range(76):
        fail(writer)
    fail(writer, KeyError)
    writer.stop(20)
    traces = [line for line in gate.lines if "Traceback" in line]
    assert len(traces) == 2
    assert gate.lines[-1] == "an error came again"


def test_a_pipe_that_is_full_and_does_not_block_is_waited_for() -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    writer = LogWriter(write_all(writing))
    writer.start()
    for _ in range(10):
        say(writer, "x" * 60_000)
    text = b""
    while len(text) < 10 * 60_001:
        text += os.read(reading, 65536)
    writer.stop(20)
    assert text == (b"x" * 60_000 + b"\n") * 10
    assert writer.lost == 0
    os.close(reading)
    os.close(writing)


# Which errors are the same one.


def record(
    error: type[Exception] | None = ValueError, level: int = logging.ERROR, line: int = 1
) -> logging.LogRecord:
    info = None
    if error is not None:
        try:
            raise error("no")
        except error as caught:
            info = (error, caught, caught.__traceback__)
    return logging.LogRecord("x", level, "f.py", line, "it %s", ("failed",), info)


@pytest.mark.parametrize(
    ("options", "hidden"),
    [
        ({}, True),
        ({"error": KeyError}, False),
        ({"line": 2}, False),
        ({"error": None}, False),
        ({"level": logging.WARNING}, False),
    ],
)
def test_the_same_error_is_one_of_the_same_kind_and_lines(
    options: dict[str, object], hidden: bool
) -> None:
    repeats = Repeats()
    assert not repeats.hides(record(), 0.0)
    assert repeats.hides(record(**options), 1.0) is hidden  # type: ignore[arg-type]


def test_repeats_are_told_after_ten_seconds_and_then_begin_anew() -> None:
    repeats = Repeats()
    assert not repeats.hides(record(), 0.0)
    assert repeats.next_due(0.0) is None
    assert repeats.hides(record(), 4.0)
    assert repeats.hides(record(), 9.0)
    assert repeats.next_due(9.0) == pytest.approx(1.0)
    assert list(repeats.due(9.9)) == []
    assert list(repeats.due(10.0)) == [("it failed (ValueError)", 2)]
    assert repeats.next_due(10.0) is None
    assert not repeats.hides(record(), 10.1)


def test_an_error_that_came_once_is_forgotten() -> None:
    repeats = Repeats()
    assert not repeats.hides(record(), 0.0)
    assert not repeats.hides(record(), 10.0)


def test_what_is_remembered_is_bounded() -> None:
    repeats = Repeats()
    for line in range(10_000):
        repeats.hides(record(line=line), 0.0)
    assert len(repeats._seen) <= 256
    assert not repeats.hides(record(line=20_000), 11.0)
    assert repeats.hides(record(line=20_000), 11.0)
