"""Write the files that follow from the code; with --check, only compare them.

Usage: python tools/generate.py [--check]
"""

from __future__ import annotations

import difflib
import inspect
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TypeVar

from tidegate.cli.main import app
from tidegate.core.codes import REASONS, Close, Fault, Reason, Refusal
from tidegate.core.settings import Setting, Settings
from tidegate.core.settings.fields import settings_of
from tidegate.deploy import Node, Plan
from tidegate.deploy.docker import dockerfile_from_source
from tidegate.doctor.checks import CHECKS
from tidegate.engine import states as connection_states
from tidegate.node.control import METRICS
from tidegate.server.config_text import section_doc, toml_value
from tidegate.server.environment import environment_name
from tidegate.server.metrics import PROCESS_COUNTERS

__all__ = ["FILES", "PAGES", "main"]

_ROOT = Path(__file__).resolve().parent.parent
_NOTE = "<!-- Written by tools/generate.py from the code: change it there. -->"


def settings() -> str:
    """Every setting, by section."""
    lines = [
        "# Settings",
        "",
        "From a TOML file, the environment and the command line; what comes later in this list",
        "wins. `limits.per_ip` is:",
        "",
        "- in the file: `per_ip = 5` below `[limits]`",
        f"- in the environment: `{environment_name('limits.per_ip')}=5`. `PORT` sets `server.port`",
        "  where `TIDEGATE_SERVER_PORT` does not.",
        "- on the command line: `--set limits.per_ip=5`",
        "",
        "The file is the one that `--config` or `TIDEGATE_CONFIG` names, or else `tidegate.toml`",
        "in the working directory, if there is one.",
        "",
        "In the environment and in `--set`:",
        "",
        "- Lists have commas between the items (`TIDEGATE_SHEDDING_CPU=0.5,0.9`) or are JSON; `[]`",
        "  is the empty list.",
        "- `true`, `yes`, `on` and `1` are true; `false`, `no`, `off` and `0` are false.",
        "- An empty variable is not set.",
        "",
        "Times are in seconds (s), sizes in bytes. Everywhere a text with a unit may stand",
        'for them: `"500ms"`, `"30s"`, `"5m"`, `"1h"` or `"1d"`; `"64KB"` (64,000 bytes) or',
        '`"1MiB"` (1,048,576 bytes).',
        "",
        "A variable that begins with `TIDEGATE_` and is no setting stops the start, with the names",
        "that may have been meant. Those that Kubernetes and Docker make for a service called",
        "`tidegate`, or `tidegate-` and more, are left alone: `TIDEGATE_SERVICE_HOST`,",
        "`TIDEGATE_PORT=tcp://10.96.0.7:8000`, `TIDEGATE_ENV_…` and the like.",
        "",
        "`tidegate init` writes a file to start from, `tidegate config default` prints all",
        "settings, `tidegate config show` what is in force and where it comes from.",
        "",
        "Settings marked *live* can change while the server runs, with",
        "`tidegate config apply tidegate.toml` or `PATCH /settings`",
        "([how](../guide/operations.md#change-settings-while-it-runs)). The others need a restart.",
    ]
    sections = dict.fromkeys(known.section for known in Settings.fields())
    for section in sections:
        title = section.replace("*", "NAME")
        own = [known for known in Settings.fields() if known.section == section]
        lines += ["", f"## `[{title}]`", "", section_doc(section), "", *_settings_table(own)]
        for known in own:
            if known.sections:
                doc = " ".join((known.kind.__doc__ or "").split())
                lines += ["", f"### `[[{known.name}]]`", "", doc, ""]
                lines += _settings_table(settings_of(known.kind))
    return _page(lines)


def _settings_table(settings: Iterable[Setting]) -> list[str]:
    rows = []
    for known in settings:
        default = f"`{toml_value(known.default)}`" if known.default not in (None, "") else "not set"
        unit = f" ({known.unit})" if known.unit else ""
        live = "yes" if known.live else ""
        rows.append((f"`{known.key}`", default, known.allowed + unit, live, known.doc))
    return _table(("setting", "default", "allowed", "live", "what it is"), rows)


def codes() -> str:
    """The table of reasons, a section for each kind."""
    lines = [
        "# Reasons and codes",
        "",
        "Why an attempt is refused, a connection is closed or a message gets an error. The same",
        "tables for programs are in [codes.json](codes.json).",
        "",
        "## What a client does next",
        "",
        "A reason with a delay is temporary: the client may come back after that time. Where",
        '"come back after" is empty, the client must not come back by itself. A response or a',
        "close frame often has a more exact delay, and that one counts.",
        "",
        "A client that reads no reasons can go by the close code:",
        "",
        *_table(
            ("close code", "the client"),
            (
                ("4000 to 4499", "may come back"),
                ("4500 to 4999", "must not come back by itself"),
                ("1001, 1012, 1013", "may come back"),
            ),
        ),
        "",
        "## Refusals",
        "",
        "An attempt does not become a connection. Over HTTP, the response has the status, the body",
        '`{"error": reason, "message": message, "retryAfter": seconds}`, and the headers',
        "`X-Rejection-Reason` and, where there is a delay, `Retry-After`. Clients of the native",
        "subprotocols get the close code instead, because a browser cannot read the status of a",
        "refused upgrade. The text of the close frame is",
        '`{"error": reason, "retryAfter": seconds}`.',
        "",
        *_table(
            ("reason", "HTTP status", "close code", "come back after", "message"),
            (
                (f"`{row.name}`", str(row.status), str(row.code), _delay(row), row.message)
                for row in _rows(Refusal)
            ),
        ),
        "",
        "## Closes",
        "",
        "A connection ends. The text of the close frame is",
        '`{"error": reason, "retryAfter": seconds}`, with a `detail` where there is more to say.',
        "1006 is never sent: it is what a client sees of a connection that ends without a close",
        "frame.",
        "",
        *_table(
            ("reason", "close code", "come back after", "message"),
            ((f"`{row.name}`", str(row.code), _delay(row), row.message) for row in _rows(Close)),
        ),
        "",
        "## Errors",
        "",
        "A message is not taken. The connection stays open, and its client gets an",
        "[`error`](../protocol.md#error). A delay says when to send the message again.",
        "",
        *_table(
            ("reason", "send again after", "message"),
            ((f"`{row.name}`", _delay(row), row.message) for row in _rows(Fault)),
        ),
    ]
    return _page(lines)


def codes_for_clients() -> str:
    """The table of reasons as JSON; `retryAfter` null is for not coming back by itself."""
    kinds = {"refusals": Refusal, "closes": Close, "faults": Fault}
    rows = {name: [_plain(row) for row in _rows(kind)] for name, kind in kinds.items()}
    return json.dumps(rows, indent=2) + "\n"


def states() -> str:
    """The states of a connection, as a diagram and as a table."""
    moves = [
        (old.value, new.value, cause)
        for old, following in connection_states.MOVES.items()
        for new, cause in following.items()
    ]
    ends = [old.value for old, following in connection_states.MOVES.items() if not following]
    lines = [
        "# States of a connection",
        "",
        *(connection_states.__doc__ or "").strip().splitlines()[2:],
        "",
        "```mermaid",
        "stateDiagram-v2",
        f"    [*] --> {connection_states.OPEN.value}",
        *(f"    {old} --> {new}" for old, new, _ in moves),
        *(f"    {end} --> [*]" for end in ends),
        "```",
        "",
        *_table(
            ("from", "to", "cause"),
            ((f"`{old}`", f"`{new}`", cause) for old, new, cause in moves),
        ),
    ]
    return _page(lines)


def metrics() -> str:
    """Every metric of the admin listener."""
    lines = [
        "# Metrics",
        "",
        "At `/metrics` of the admin listener, in the text format of Prometheus or as OpenMetrics.",
        "Values of labels come from Tidegate's own lists: what peers send never makes a new one.",
        "",
    ]
    rows = [
        (f"`{metric.name}`", metric.kind, metric.label and f"`{metric.label}`", metric.text)
        for metric in METRICS
    ]
    rows += [(f"`{name}`", "counter", "", text) for name, text in PROCESS_COUNTERS]
    lines += _table(("metric", "type", "label", "what it is"), rows)
    lines += [
        "",
        "Beside these there are `process_*` (memory, processor time, descriptors, start time; on "
        "Linux) and",
        "`python_info`, as in other programs that use Prometheus' client for Python.",
    ]
    return _page(lines)


def findings() -> str:
    """Everything that the doctor may find."""
    lines = [
        "# Findings of the doctor",
        "",
        "What [`tidegate doctor`](../guide/doctor.md) may find, by the id that it prints in",
        "brackets. Ids stay as they are.",
    ]
    for name, check in CHECKS.items():
        lines += ["", f"## {name}", "", *inspect.cleandoc(check.__doc__ or "").splitlines()]
    return _page(lines)


def commands() -> str:
    """The command line."""
    return _page(app.generate_docs().rstrip().splitlines())


def image() -> str:
    """The Dockerfile of the repository, from the template of `tidegate deploy docker`."""
    return dockerfile_from_source(Plan(Settings(), (Node("127.0.0.1", 8000),), version="source"))


PAGES: Mapping[str, Callable[[], str]] = {
    "settings.md": settings,
    "codes.md": codes,
    "codes.json": codes_for_clients,
    "states.md": states,
    "metrics.md": metrics,
    "findings.md": findings,
    "cli.md": commands,
}
"""The files of docs/reference, and what writes each."""

FILES: Mapping[str, Callable[[], str]] = {
    **{f"docs/reference/{name}": write for name, write in PAGES.items()},
    "Dockerfile": image,
}
"""All files that are written, by their paths in the repository."""


def main(arguments: Sequence[str]) -> int:
    """Write the pages, or compare them and print the differences. Returns the exit code."""
    check = "--check" in arguments
    stale = []
    for name, write in FILES.items():
        path = _ROOT / name
        old = path.read_text(encoding="utf-8") if path.exists() else ""
        new = write()
        if old == new:
            continue
        stale.append(name)
        if check:
            sys.stdout.writelines(
                difflib.unified_diff(
                    old.splitlines(keepends=True),
                    new.splitlines(keepends=True),
                    name,
                    f"{name} as the code has it",
                )
            )
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(new, encoding="utf-8")
            print(f"wrote {name}")
    if check and stale:
        print(f"out of date: {', '.join(stale)}; run python tools/generate.py", file=sys.stderr)
    return int(check and bool(stale))


_R = TypeVar("_R", Refusal, Close, Fault)


def _rows(kind: type[_R]) -> list[_R]:
    return [reason for reason in REASONS.values() if isinstance(reason, kind)]


def _delay(reason: Reason) -> str:
    return "" if reason.retry_after is None else f"{reason.retry_after} s"


def _plain(reason: Reason) -> dict[str, object]:
    values = asdict(reason)
    return {"retryAfter" if key == "retry_after" else key: values[key] for key in values}


def _page(lines: Sequence[str]) -> str:
    return "\n".join([_NOTE, "", *lines]) + "\n"


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    cells = [header, ["---"] * len(header), *rows]
    return [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in cells]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
