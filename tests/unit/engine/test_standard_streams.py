"""`/dev/null` takes the standard descriptors that are closed; the others stay as they are."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from itertools import chain, combinations

import pytest

CLOSINGS = list(chain.from_iterable(combinations((0, 1, 2), count) for count in range(4)))

PROGRAM = """
import json, os, sys
from tidegate.engine.standard_streams import open_missing_descriptors, open_missing_streams
open_missing_streams()
open_missing_streams()
open_missing_descriptors()
null = os.stat(os.devnull).st_rdev
print("printed")
print("an error", file=sys.stderr, flush=True)
facts = {
    "null": [number for number in range(3) if os.fstat(number).st_rdev == null],
    "read": sys.stdin.read(),
    "numbers": [sys.stdin.fileno(), sys.stdout.fileno(), sys.stderr.fileno()],
    "inherited": [os.get_inheritable(number) for number in range(3)],
    "next": os.dup(0),
}
os.write(int(sys.argv[1]), json.dumps(facts).encode())
"""


@pytest.mark.parametrize("closed", CLOSINGS)
def test_open_missing_streams_opens_what_is_closed_and_no_more(closed: tuple[int, ...]) -> None:
    reading, writing = os.pipe()
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(writing)],
        input="line",
        capture_output=True,
        text=True,
        pass_fds=[writing],
        preexec_fn=lambda: list(map(os.close, closed)),
        timeout=20,
    )
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        facts = json.load(pipe)
    assert facts["null"] == list(closed)
    assert facts["numbers"] == [0, 1, 2]
    assert facts["inherited"] == [True] * 3
    assert facts["next"] > 2
    assert facts["read"] == ("" if 0 in closed else "line")
    assert result.stdout == ("" if 1 in closed else "printed\n")
    assert result.stderr == ("" if 2 in closed else "an error\n")
