"""Tests of one checkout that run at the same time, and those that measure and run alone."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager

from tests.support.process import ROOT

__all__ = ["among_others", "by_itself"]

# Locks on folders leave no file behind and end with their process, whatever ends it.
_RUNNING = ROOT / "tests"
_NEXT = ROOT / "tests" / "support"


@contextmanager
def among_others() -> Iterator[None]:
    """While this runs, other processes may run tests too, except for those by themselves."""
    with _locked(fcntl.LOCK_SH):
        yield


@contextmanager
def by_itself() -> Iterator[None]:
    """Wait until no other process runs a test, and let none begin one until this ends."""
    with _locked(fcntl.LOCK_EX):
        yield


@contextmanager
def _locked(kind: int) -> Iterator[None]:
    running = os.open(_RUNNING, os.O_RDONLY)
    try:
        # One at a time asks, so that a test by itself does not wait for ever behind short ones.
        asking = os.open(_NEXT, os.O_RDONLY)
        try:
            fcntl.flock(asking, fcntl.LOCK_EX)
            fcntl.flock(running, kind)
        finally:
            os.close(asking)
        yield
        fcntl.flock(running, fcntl.LOCK_UN)  # children that were forked may hold a copy
    finally:
        os.close(running)
