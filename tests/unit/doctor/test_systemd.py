"""The limits of a service, as systemctl says them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tidegate.doctor.facts import Unit
from tidegate.doctor.systemd import read_unit


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with systemd; `says` is what systemctl answers about any service."""
    (tmp_path / "run/systemd/system").mkdir(parents=True)
    program = tmp_path / "bin/systemctl"
    program.parent.mkdir()
    program.write_text(
        f'#!/bin/sh\necho "$@" > {tmp_path}/asked\n[ -e {tmp_path}/says ] && cat {tmp_path}/says\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    return tmp_path


def says(root: Path, text: str) -> None:
    (root / "says").write_text(text)


def test_the_limits_of_our_service_are_read(root: Path) -> None:
    says(root, "LoadState=loaded\nLimitNOFILE=524288\nLimitNOFILESoft=1024\n")
    assert read_unit(root, None, []) == Unit(name="tidegate.service", hard=524_288, soft=1024)
    assert (root / "asked").read_text().split()[-2:] == ["--", "tidegate.service"]


def test_no_limit_is_none(root: Path) -> None:
    says(root, "LoadState=loaded\nLimitNOFILE=infinity\nLimitNOFILESoft=infinity\n")
    assert read_unit(root, None, []) == Unit(name="tidegate.service")


def test_a_service_that_is_not_there_has_no_limits(root: Path) -> None:
    says(root, "LoadState=not-found\nLimitNOFILE=524288\n")
    assert read_unit(root, None, []) is None


@pytest.mark.parametrize(
    ("groups", "name"),
    [
        ("0::/system.slice/nginx.service\n", "nginx.service"),
        ("1:name=systemd:/system.slice/nginx.service\n0::/\n", "nginx.service"),
        ("0::/system.slice/system-tidegate.slice/tidegate@1.service\n", "tidegate@1.service"),
        ("0::/user.slice/user-0.slice/session-1.scope\n", None),
        # A user's own control group: it must not come into a line for a shell.
        ("0::/user.slice/$(reboot).service\n", None),
        ("0::/user.slice/user-0.slice/user@0.service\n", None),
    ],
)
def test_the_service_of_a_process_is_known_by_its_control_group(
    root: Path, groups: str, name: str | None
) -> None:
    says(root, "LoadState=loaded\nLimitNOFILE=9\nLimitNOFILESoft=9\n")
    path = root / "proc/7/cgroup"
    path.parent.mkdir(parents=True)
    path.write_text(groups)
    unit = read_unit(root, 7, [])
    assert (unit and unit.name) == name


def test_a_systemctl_that_fails_is_told(root: Path) -> None:
    unseen: list[str] = []
    assert read_unit(root, None, unseen) is None
    assert unseen == ["limits of tidegate.service: systemctl does not answer"]


def test_a_machine_without_systemd_is_not_asked(root: Path) -> None:
    (root / "run/systemd/system").rmdir()
    assert read_unit(root, None, []) is None
    assert not (root / "asked").exists()
