from __future__ import annotations

import os
import resource
import socket
from types import SimpleNamespace

import pytest

from tidegate.node.pressure import descriptors
from tidegate.node.pressure.descriptors import (
    descriptor_limit,
    descriptors_open,
    descriptors_used_ratio,
    raise_descriptor_limit,
)

UNLIMITED = resource.RLIM_INFINITY


class Kernel:
    """The limit as a system keeps it; `most` is the highest soft limit that it lets one set."""

    def __init__(self, soft: int, hard: int, most: int) -> None:
        self.soft, self.hard, self.most = soft, hard, most

    def getrlimit(self, which: int) -> tuple[int, int]:
        assert which == resource.RLIMIT_NOFILE
        return self.soft, self.hard

    def setrlimit(self, which: int, values: tuple[int, int]) -> None:
        soft, hard = values
        assert hard == self.hard
        if soft == UNLIMITED or soft > self.most:
            raise ValueError("not allowed to raise maximum limit")
        self.soft = soft


@pytest.mark.parametrize(
    ("soft", "hard", "most", "expected"),
    [
        (1024, 1024, 1024, 1024),
        (1024, 4096, 4096, 4096),
        (1024, 1 << 30, 1 << 30, 1 << 30),
        # The hard limit is above what the kernel lets one process have.
        (256, UNLIMITED, 245_760, 1 << 16),
        (256, UNLIMITED, 10_240, 10_240),
        (256, UNLIMITED, 61_440, 61_440),
        (256, 1 << 40, 300_000, 1 << 18),
        # Nothing can be done.
        (256, UNLIMITED, 256, 256),
        # Never lower.
        (200_000, UNLIMITED, 100_000, 200_000),
        (UNLIMITED, UNLIMITED, 1024, None),
    ],
)
def test_the_soft_limit_is_raised_as_far_as_it_goes(
    monkeypatch: pytest.MonkeyPatch, soft: int, hard: int, most: int, expected: int | None
) -> None:
    kernel = Kernel(soft, hard, most)
    fake = SimpleNamespace(
        RLIM_INFINITY=UNLIMITED,
        RLIMIT_NOFILE=resource.RLIMIT_NOFILE,
        getrlimit=kernel.getrlimit,
        setrlimit=kernel.setrlimit,
    )
    monkeypatch.setattr(descriptors, "resource", fake)
    assert raise_descriptor_limit() == expected
    assert descriptor_limit() == expected
    assert kernel.soft == (UNLIMITED if expected is None else expected)


def test_open_descriptors_are_counted() -> None:
    before = descriptors_open()
    assert before is not None
    pairs = [socket.socketpair() for _ in range(5)]
    assert descriptors_open() == before + 10
    for pair in pairs:
        for sock in pair:
            sock.close()
    assert descriptors_open() == before


@pytest.mark.parametrize(
    ("platform", "directory"), [("linux", "/proc/self/fd"), ("darwin", "/dev/fd")]
)
def test_the_directory_is_listed_where_a_stat_does_not_tell(
    monkeypatch: pytest.MonkeyPatch, platform: str, directory: str
) -> None:
    listing = {directory: ["0", "1", "2", "3"]}
    fake = SimpleNamespace(stat=lambda _: SimpleNamespace(st_size=0), listdir=listing.__getitem__)
    monkeypatch.setattr(descriptors, "os", fake)
    monkeypatch.setattr(descriptors, "sys", SimpleNamespace(platform=platform))
    assert descriptors_open() == 3


def test_no_free_descriptor_for_the_listing_means_that_all_are_in_use(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(path: str) -> list[str]:
        raise OSError(24, os.strerror(24))

    monkeypatch.setattr(descriptors, "sys", SimpleNamespace(platform="darwin"))
    monkeypatch.setattr(descriptors, "os", SimpleNamespace(listdir=fail))
    assert descriptors_used_ratio() == 1.0


@pytest.mark.parametrize("platform", ["linux", "darwin"])
def test_where_there_is_no_such_directory_nothing_is_known(
    monkeypatch: pytest.MonkeyPatch, platform: str
) -> None:
    def fail(path: str) -> list[str]:
        raise FileNotFoundError(path)

    monkeypatch.setattr(descriptors, "sys", SimpleNamespace(platform=platform))
    monkeypatch.setattr(descriptors, "os", SimpleNamespace(stat=fail, listdir=fail))
    assert descriptors_open() is None
    assert descriptors_used_ratio() is None


@pytest.mark.parametrize(
    ("used", "limit", "expected"),
    # Of 1,024 connections may have 832.
    [(0, 1024, 0.0), (416, 1024, 0.5), (1000, 1024, 1.0), (5, 10, 1.0), (5, None, 0.0)],
)
def test_the_ratio(
    monkeypatch: pytest.MonkeyPatch, used: int, limit: int | None, expected: float
) -> None:
    monkeypatch.setattr(descriptors, "descriptors_open", lambda: used)
    monkeypatch.setattr(descriptors, "descriptor_limit", lambda: limit)
    assert descriptors_used_ratio() == expected
