"""`tidegate deploy`: the configuration of what stands around Tidegate."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

from cyclopts import Parameter

from tidegate.cli.options import Assignments, ConfigFile, load_settings
from tidegate.errors import TidegateError, UsageError

__all__ = ["deploy"]

if TYPE_CHECKING:
    from tidegate.deploy import Plan

_MOST: Final = 10_000_000
_PORT: Final = 8000  # where server.port takes a free one
_FILE: Final = re.compile(r"/[\w./@+-]+")


def deploy(
    target: Literal[
        "sysctl",
        "limits",
        "systemd",
        "docker",
        "kubernetes",
        "haproxy",
        "nginx",
        "prometheus",
        "grafana",
    ],
    /,
    *,
    out: Annotated[Path | None, Parameter(metavar="DIR")] = None,
    for_: Annotated[int | None, Parameter(name="--for", metavar="CONNECTIONS")] = None,
    node: Annotated[
        tuple[str, ...], Parameter(metavar="[ROUTE=]HOST:PORT", negative=(), show_default=False)
    ] = (),
    tls: Annotated[str, Parameter(metavar="FILE", show_default=False)] = "",
    install: Annotated[bool, Parameter(negative=(), show_default=False)] = False,
    yes: Annotated[bool, Parameter(negative=(), show_default=False)] = False,
    config: ConfigFile = None,
    set_: Assignments = (),
) -> int:
    """Print the configuration of what stands around Tidegate, for the settings that are in force.

    - `sysctl`: kernel settings
    - `limits`: file descriptors of users who log in
    - `systemd`: units, a socket and two hardened processes that take turns
    - `docker`: an image, and Compose with HAProxy, Prometheus and Grafana
    - `kubernetes`: manifests and a Helm chart
    - `haproxy`, `nginx`: a proxy in front of several nodes
    - `prometheus`: what to scrape, and alerts
    - `grafana`: a dashboard

    Comments in the files say why each line is there and how to check and load them. Nothing on
    this machine changes, unless you ask for --install.

    Parameters
    ----------
    target
        What to write.
    out
        Write the files to this folder, and print their names.
    for_
        Connections that each node is to hold. [default: limits.connections]
    node
        Where a node listens for clients; once for each node. ROUTE is its server.route, with which
        clients come back to it. [default: this machine, server.port]
    tls
        PEM file with certificate chain and key, with which HAProxy or nginx speak TLS to clients.
    install
        Write the files to where they belong below /etc, as root. It shows them first and asks;
        what is there is kept beside them.
    yes
        Do not ask.
    """
    from tidegate.deploy import TARGETS, changes
    from tidegate.deploy import install as write

    if out is not None and install:
        raise UsageError("--install: the files go below /etc or to --out, not to both")
    if yes and not install:
        raise UsageError("--yes: it is for --install")
    chosen = TARGETS[target]
    plan = _plan(config, set_, for_, node, tls)
    files = chosen.files(plan)
    if install and not all(file.path for file in files):
        raise UsageError(f"--install: files for {target} belong to no machine; use --out DIR")
    for note in filter(None, (about(plan) for about in chosen.notes)):
        print(f"note: {note}", file=sys.stderr)
    if out is None and not install:
        for file in files:
            if len(files) > 1:
                print(f"# ==> {file.name} <==")
            print(file.text, end="\n" if len(files) > 1 else "")
        return 0
    pending = changes(files, out)
    if install and pending and not yes and not _agreed([str(change) for change in pending]):
        raise TidegateError("nothing was changed")
    for change in pending:
        write(change, keep=install)
        print(f"wrote {change.path}")
    if not pending:
        print("nothing to change: all files are there")
    elif install:
        for command in chosen.then:
            print(f"next: {command}")
    return 0


def _plan(
    config: Path | None,
    assignments: Sequence[str],
    connections: int | None,
    nodes: Sequence[str],
    tls: str,
) -> Plan:
    from tidegate.deploy import Plan, parse_nodes

    settings = load_settings(config, assignments).settings
    port = settings.server.port or _PORT
    if tls and not _FILE.fullmatch(tls):
        raise UsageError(f"--tls {tls!r}: must be the absolute path of a PEM file, without spaces")
    plan = Plan(
        settings,
        parse_nodes(nodes or ("127.0.0.1",), port),
        version("tidegate"),
        _program(),
        tls,
    )
    if connections is None or connections == plan.connections:
        return plan
    if not 1 <= connections <= _MOST:
        raise UsageError(f"--for {connections}: must be a whole number from 1 to {_MOST:,}")
    plan = plan.holding(connections)
    print(f"note: set limits.connections = {plan.limit} in your settings", file=sys.stderr)
    return plan


def _program() -> str:
    """Where `tidegate` is: beside this Python, or on the PATH."""
    beside = Path(sys.executable).with_name("tidegate")
    return str(beside) if beside.exists() else shutil.which("tidegate") or "/usr/bin/tidegate"


def _agreed(lines: list[str]) -> bool:
    """Ask on the terminal whether these files may be written."""
    print("These files will be written:", *(f"  {line}" for line in lines), sep="\n")
    if not sys.stdin.isatty():
        raise UsageError("--install: nobody can be asked here; --yes goes on without asking")
    return input("Go on? [y/N] ").strip().lower() in ("y", "yes")
