"""The limits that systemd gives a service."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Final

from tidegate.doctor.facts import Unit

__all__ = ["read_unit"]

_DEFAULT: Final = "tidegate.service"
_SECONDS: Final = 3.0
# What a name may have (systemd.unit(5)). Users may make control groups with other names, and the
# name comes into a line that is pasted into a shell. Only systemd's own escapes have a backslash.
_UNIT: Final = re.compile(r"/([\w:.@-]+\.service)$", re.MULTILINE | re.ASCII)


def read_unit(root: Path, pid: int | None, unseen: list[str]) -> Unit | None:
    """Read the limits of the service that a process belongs to, or of `tidegate.service`.

    None where there is no such service, or no systemd.
    """
    if not (root / "run/systemd/system").is_dir():
        return None
    name = _DEFAULT if pid is None else _of(root, pid)
    if name is None:
        return None
    wanted = "LoadState,LimitNOFILE,LimitNOFILESoft"
    try:
        done = subprocess.run(  # noqa: S603 - the name is one argument, and no option
            ["systemctl", "show", "--property", wanted, "--", name],  # noqa: S607
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        unseen.append(f"limits of {name}: systemctl does not answer")
        return None
    values = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
    if values.get("LoadState") != "loaded":
        return None
    return Unit(
        name=name,
        hard=_limit(values.get("LimitNOFILE")),
        soft=_limit(values.get("LimitNOFILESoft")),
    )


def _of(root: Path, pid: int) -> str | None:
    """The service of a process, by its control group."""
    try:
        found = _UNIT.search((root / f"proc/{pid}/cgroup").read_text())
    except OSError:
        return None
    # A login has its shell below user@1000.service: it is no service of its own.
    return found[1] if found and not found[1].startswith("user@") else None


def _limit(text: str | None) -> int | None:
    return int(text) if text and text.isdigit() else None
