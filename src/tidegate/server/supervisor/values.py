"""What a supervisor and a worker tell each other. Each value is one line of JSON."""

from __future__ import annotations

from typing import Any, TypeAlias

from msgspec import Struct

from tidegate.node.control import DrainProgress, Sample, Snapshot

__all__ = ["Beat", "Drain", "Failed", "Last", "Order", "Program", "Report", "Spec", "Stop"]


# From the supervisor.


class Program(Struct, frozen=True):
    """An ASGI application, and the options that it is run with, as `asgi.Options` has them."""

    app: str
    options: dict[str, Any]


class Spec(Struct, frozen=True):
    """What a worker is: the first line that it gets."""

    number: int
    settings: dict[str, dict[str, Any]]
    """All of them, with secrets; the admin API is the worker's own."""
    sockets: list[int]
    """Numbers of the descriptors to accept from."""
    folder: str
    """The private folder, to be removed when the supervisor is gone."""
    program: Program | None = None


class Drain(Struct, frozen=True, tag="drain"):
    """Drain, over `drain.window` unless another is given."""

    window: float | None
    pass_on: bool
    """Whether another worker accepts from the same sockets."""


class Stop(Struct, frozen=True, tag="stop"):
    """Stop at once."""


Order: TypeAlias = Drain | Stop


# From a worker.


class Beat(Struct, frozen=True, tag="beat"):
    """How a worker is: the first says that it serves, and others come every second."""

    ready: bool
    reason: str
    """Why it should get no new connections; empty when it should."""
    draining: bool
    memory: int
    """In bytes."""
    sample: Sample
    down: tuple[str, ...] = ()
    """What it cannot reach."""


class Failed(Struct, frozen=True, tag="failed"):
    """Why it does not start; `wrong` is whether a setting or the usage is."""

    text: str
    wrong: bool


class Last(Struct, frozen=True, tag="last"):
    """What a worker has counted when it ends."""

    snapshot: Snapshot
    metrics: str
    """In the text format of Prometheus."""
    drain: DrainProgress | None


Report: TypeAlias = Beat | Failed | Last
