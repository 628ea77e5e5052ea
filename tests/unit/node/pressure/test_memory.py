from __future__ import annotations

import shutil
from pathlib import Path

import psutil
import pytest

from tidegate.node.pressure.memory import Memory

CGROUPS = Path(__file__).parent / "cgroups"
GIB = 1 << 30


def memory(root: Path, resident: int = GIB) -> Memory:
    """On a machine with 8 GiB, of which this process has one."""
    return Memory(root, lambda: resident, 8 * GIB)


@pytest.mark.parametrize(
    ("case", "share"),
    [
        ("v2_container", 0.5),  # 384 of 512 MiB, of which the kernel can drop 128
        ("v2_service", 0.9),  # the slice above it is nearer to its limit
        ("v2_other_namespace", 0.9),
        ("v1_container", 0.6),  # 0.8, of which the kernel can drop 0.2
        ("v1_nested", 0.95),
        ("v1_odd_mount_point", 0.5),
        # No limit: the process's own share of the machine.
        ("v2_unlimited", 1 / 8),
        ("v1_unlimited", 1 / 8),
        ("there is no such case", 1 / 8),
    ],
)
def test_the_share_in_use(case: str, share: float) -> None:
    assert memory(CGROUPS / case).share() == pytest.approx(share, rel=1e-6)


@pytest.fixture
def group(tmp_path: Path) -> Path:
    """The files of a container, to be written to."""
    shutil.copytree(CGROUPS / "v2_container", tmp_path / "root")
    return tmp_path / "root" / "sys/fs/cgroup"


@pytest.mark.parametrize(
    ("name", "text", "share"),
    [
        ("memory.current", "536870912", 0.75),
        ("memory.current", "900000000", 1.0),
        ("memory.current", "1000", 0.0),  # less than may be dropped: they are not read at once
        ("memory.current", "", 1 / 8),
        ("memory.max", "1073741824", 0.25),
        ("memory.max", "max", 1 / 8),
        ("memory.max", str(8 * GIB), 1 / 8),
        ("memory.max", "0", 1 / 8),
        ("memory.stat", "anon 5\n", 0.75),
        ("memory.stat", "inactive_file ?\n", 0.75),
    ],
)
def test_every_reading_is_a_new_one(group: Path, name: str, text: str, share: float) -> None:
    reading = memory(group.parents[2])
    assert reading.share() == 0.5
    (group / name).write_text(text)
    assert reading.share() == pytest.approx(share, rel=1e-6)


@pytest.mark.parametrize("name", ["memory.current", "memory.max", "memory.stat"])
def test_files_that_vanish_raise_nothing(group: Path, name: str) -> None:
    reading = memory(group.parents[2])
    (group / name).unlink()
    share = reading.share()
    assert share is not None
    assert 0.0 < share <= 1.0


def test_this_machine() -> None:
    share = Memory().share()
    assert share is not None
    assert 0.0 < share < 1.0


def test_the_resident_memory_is_that_of_this_process() -> None:
    total = psutil.virtual_memory().total
    there_is_nothing = CGROUPS / "there is no such case"
    expected = psutil.Process().memory_info().rss / total
    assert Memory(there_is_nothing).share() == pytest.approx(expected, rel=0.2)
