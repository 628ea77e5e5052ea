"""The systemd units of the guide: systemd accepts them, and the restart does what the page says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.docs.pages import blocks
from tests.support.process import ROOT

PAGE = ROOT / "docs" / "guide" / "restart.md"
COMMAND = Path(sys.executable).with_name("tidegate")

SYSTEMCTL = """\
#!/bin/sh
echo "$@" >> "$LOG"
case "$*" in
  "-q is-active tidegate@1") exit "$FIRST_IS_IDLE";;
  start*) exit "$START_FAILS";;
esac
"""


def units() -> dict[str, str]:
    found = [block.text for block in blocks(PAGE) if block.language == "ini"]
    return {text.split("\n")[0].removeprefix("# "): text for text in found}


def test_systemd_accepts_the_units(tool: Callable[[str], str], tmp_path: Path) -> None:
    for name, text in units().items():
        (tmp_path / name).write_text(text.replace("/usr/local/bin/tidegate", str(COMMAND)))
    done = subprocess.run(
        [tool("systemd-analyze"), "verify", *sorted(units())],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=tmp_path,
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    assert sorted(units()) == ["tidegate.service", "tidegate.socket", "tidegate@.service"]


@pytest.mark.parametrize(
    ("first_is_idle", "start_fails", "asked"),
    [
        (0, 0, ["start tidegate@2", "stop --no-block tidegate@1"]),
        (1, 0, ["start tidegate@1", "stop --no-block tidegate@2"]),
        (0, 1, ["start tidegate@2"]),
    ],
)
def test_a_reload_starts_the_other_process_before_it_stops_the_one_that_runs(
    tmp_path: Path, first_is_idle: int, start_fails: int, asked: list[str]
) -> None:
    text = units()["tidegate.service"].replace("\\\n", "")
    found = re.search(r"^ExecReload=/bin/sh -ec '(.*)'$", text, re.MULTILINE)
    assert found is not None
    script = found[1].replace("$$", "$")
    (tmp_path / "systemctl").write_text(SYSTEMCTL)
    (tmp_path / "systemctl").chmod(0o755)
    log = tmp_path / "log"
    done = subprocess.run(
        ["/bin/sh", "-ec", script],
        env={
            "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}",
            "LOG": str(log),
            "FIRST_IS_IDLE": str(first_is_idle),
            "START_FAILS": str(start_fails),
        },
        timeout=20,
        check=False,
    )
    assert done.returncode == start_fails
    assert log.read_text().splitlines() == ["-q is-active tidegate@1", *asked]
