"""File descriptors: how many this process may have, and how many it has."""

from __future__ import annotations

import os
import resource
import sys

from tidegate.engine.descriptors import Shares

__all__ = [
    "descriptor_limit",
    "descriptors_open",
    "descriptors_used_ratio",
    "raise_descriptor_limit",
]

# macOS reports a hard limit of "unlimited" and then refuses to set it: the kernel's own maximum
# for one process applies, so the next best of these is taken.
_STEPS = (1 << 20, 1 << 18, 1 << 16, 61_440, 10_240)


def descriptor_limit() -> int | None:
    """How many descriptors this process may hold open (the soft limit); None is no limit."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if soft == resource.RLIM_INFINITY else soft


def raise_descriptor_limit() -> int | None:
    """Raise the soft limit to the hard one, as far as the system lets us.

    Returns the limit then in force; None is no limit. Never lowers it and never raises.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft in (hard, resource.RLIM_INFINITY):
        return descriptor_limit()
    unlimited = hard == resource.RLIM_INFINITY
    for wanted in (hard, *(step for step in _STEPS if step > soft and (unlimited or step < hard))):
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (ValueError, OSError):
            continue
        break
    return descriptor_limit()


def descriptors_open() -> int | None:
    """How many descriptors are open now, or None where the system does not say.

    On Linux 6.2 and later one stat call answers, however many there are; elsewhere the directory
    is listed.
    """
    if sys.platform == "linux":
        directory = "/proc/self/fd"
        try:
            if size := os.stat(directory).st_size:
                return size
        except OSError:
            return None
    else:
        directory = "/dev/fd"
    try:
        return len(os.listdir(directory)) - 1  # the listing holds one descriptor itself
    except FileNotFoundError:
        return None
    except OSError:
        # Listing needs a free descriptor. That there is none is the answer.
        return descriptor_limit()


def descriptors_used_ratio() -> float | None:
    """How many are in use of those that connections may have, 0 to 1; None if it is not known."""
    used, limit = descriptors_open(), descriptor_limit()
    if used is None:
        return None
    return 0.0 if limit is None else min(1.0, used / max(1, Shares.of(limit).connections))
