"""`tidegate estimate`: what a load needs, and what ends first."""

from __future__ import annotations

import shutil
import sys
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

from cyclopts import Parameter

from tidegate.cli.options import Assignments, ConfigFile, Time, load_settings, parse_seconds
from tidegate.core.settings.quantities import examples, quantity
from tidegate.errors import UsageError

if TYPE_CHECKING:
    from tidegate.estimate.workload import Machine, Table

__all__ = ["estimate"]

_MOST: Final = 100_000_000
_WIDTHS: Final = (60, 100)
_STAY: Final = 1800.0
_DEFAULT_BANDWIDTH: Final = 1000.0

_Size = Annotated[str | None, Parameter(metavar="SIZE", allow_leading_hyphen=True)]
_Number = Annotated[float, Parameter(metavar="NUMBER", allow_leading_hyphen=True)]


def estimate(
    *,
    for_: Annotated[
        int | None,
        Parameter(name="--for", metavar="CONNECTIONS", allow_leading_hyphen=True),
    ] = None,
    messages: _Number = 0.1,
    publish: _Number = 0.0,
    size: Annotated[str, Parameter(metavar="SIZE", allow_leading_hyphen=True)] = "200",
    room: _Number = 10.0,
    tls: Annotated[float | None, Parameter(metavar="SHARE", allow_leading_hyphen=True)] = None,
    connects: Annotated[
        float | None, Parameter(metavar="NUMBER", allow_leading_hyphen=True)
    ] = None,
    storm: Annotated[str | None, Time] = None,
    costs: Annotated[Path | None, Parameter(metavar="FILE", allow_leading_hyphen=True)] = None,
    cores: Annotated[float | None, Parameter(metavar="NUMBER", allow_leading_hyphen=True)] = None,
    memory: _Size = None,
    bandwidth: Annotated[
        float | None, Parameter(metavar="MBIT/S", allow_leading_hyphen=True)
    ] = None,
    descriptors: Annotated[
        int | None, Parameter(metavar="NUMBER", allow_leading_hyphen=True)
    ] = None,
    json: Annotated[bool, Parameter(negative=())] = False,
    config: ConfigFile = None,
    set_: Assignments = (),
) -> int:
    """Calculate what a load needs: memory, CPU, bandwidth, descriptors, processes, machines.

    Shows the arithmetic, compares it with a machine, and says what ends first. It measures
    nothing: costs come from this build's benchmark or from a file.

    Parameters
    ----------
    for_
        Connections. [default: limits.connections]
    messages
        Messages a second that one connection sends; 0.1 is one every ten seconds.
    publish
        Messages a second that your backend publishes, in all rooms together.
    size
        Size of a message, such as 200 or 4KiB.
    room
        Members that get each message.
    tls
        Share of the connections whose TLS ends in Tidegate, 0 to 1. [default: 1 with
        tls.certificate, else 0]
    connects
        New connections a second. [default: each connection stays for half an hour]
    storm
        Time within which all come back at once, after a deploy say.
    costs
        Costs of another machine, a JSON file that tidegate capacity --costs wrote.
    cores
        Cores of a machine. [default: this one's]
    memory
        Memory that the server can have. [default: what is available here]
    bandwidth
        Bandwidth of a machine in each direction. [default: 1000]
    descriptors
        Limit of file descriptors of a process. [default: the hard limit here]
    json
        Print JSON.
    """
    from tidegate.estimate.bottlenecks import estimate as calculate
    from tidegate.estimate.rendering import as_json, as_lines
    from tidegate.estimate.workload import Workload

    settings = load_settings(config, set_).settings
    connections = settings.limits.connections if for_ is None else for_
    _within("--for" if for_ is not None else "limits.connections", connections, 1, _MOST)
    share = float(settings.tls.certificate is not None) if tls is None else tls
    load = Workload(
        connections=connections,
        rate=_within("--messages", messages, 0, 1e6),
        published=_within("--publish", publish, 0, 1e9),
        size=_bytes("--size", size, 0, 1 << 30),
        room=_within("--room", room, 0, _MOST),
        tls=_within("--tls", share, 0, 1),
        connects=connections / _STAY
        if connects is None
        else _within("--connects", connects, 0, 1e6),
        storm=None if storm is None else parse_seconds("--storm", storm, 1, 86_400),
        heartbeat=settings.heartbeat.interval,
        buffers=float(settings.most_kept),
    )
    machine = _machine(cores, memory, bandwidth, descriptors)
    table = _costs(costs)
    found = calculate(load, machine, table)
    if json:
        sys.stdout.write(as_json(found, table).decode())
        return 0
    low, high = _WIDTHS
    width = max(low, min(high, shutil.get_terminal_size().columns))
    for line in as_lines(found, table, width):
        print(line)
    return 0


def _machine(
    cores: float | None, memory: str | None, bandwidth: float | None, descriptors: int | None
) -> Machine:
    """What the options say, and this machine for the rest."""
    from tidegate.doctor.reading import read
    from tidegate.estimate.workload import Machine

    options = {"cores": cores, "memory": memory, "descriptors": descriptors}
    sources = {
        name: "here" if value is None else f"--{name}" for name, value in options.items()
    } | {"bandwidth": "assumed" if bandwidth is None else "--bandwidth"}
    facts = read()
    if cores is None:
        cores = min(float(facts.kernel.cpus or 1), facts.group.cpus or inf)
    if memory is None:
        left = inf if facts.memory is None else float(facts.memory.available)
        if facts.group.memory is not None:
            left = min(left, float(facts.group.memory - (facts.group.memory_used or 0)))
        if left == inf:
            raise UsageError("--memory: is needed, as this machine's cannot be read")
        room = left
    else:
        room = _bytes("--memory", memory, 1 << 20, 1 << 50)
    if descriptors is None:
        descriptors = facts.process.hard if facts.process else None
    else:
        _within("--descriptors", descriptors, 64, 1 << 30)
    line = _DEFAULT_BANDWIDTH if bandwidth is None else bandwidth
    return Machine(
        cores=_within("--cores", cores, 0.01, 4096),
        memory=room,
        bandwidth=_within("--bandwidth", line, 0.001, 1e7) * 1e6,
        descriptors=descriptors,
        sources=sources,
    )


def _costs(file: Path | None) -> Table:
    from tidegate.estimate.workload import Table

    if file is None:
        return Table()
    try:
        return Table.load(file.read_bytes(), file.name)
    except OSError as error:
        raise UsageError(f"--costs {file}: {error.strerror}") from None


def _within(option: str, value: float, low: float, high: float) -> float:
    if not low <= value <= high:
        raise UsageError(f"{option} {value:g}: must be a number from {low:,g} to {high:,.12g}")
    return value


def _bytes(option: str, text: str, low: int, high: int) -> float:
    value = quantity(text, "bytes")
    if value is None or not low <= value <= high:
        raise UsageError(
            f"{option} {text}: must be a number from {low:,} to {high:,} {examples('bytes')}"
        )
    return value
