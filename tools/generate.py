"""Write the reference pages that follow from the code; with --check, only compare them.

Usage: python tools/generate.py [--check]
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from tidegate.cli.main import app
from tidegate.core.codes import REASONS
from tidegate.core.settings import Settings
from tidegate.server.config import environment_name
from tidegate.server.config_text import section_doc, toml_value
from tidegate.server.metrics import METRICS

__all__ = ["PAGES", "main"]

_REFERENCE = Path(__file__).resolve().parent.parent / "docs" / "reference"
_NOTE = "<!-- Written by tools/generate.py from the code: change it there. -->"


def settings() -> str:
    """Every setting, by section."""
    lines = [
        "# Settings",
        "",
        "From a TOML file (`tidegate serve --config tidegate.toml`), the environment and the",
        "command line; what comes later in this list wins. `limits.per_ip` is:",
        "",
        "- in the file: `per_ip = 5` below `[limits]`",
        f"- in the environment: `{environment_name('limits.per_ip')}=5`; lists as JSON or with",
        "  commas. `PORT` sets `server.port` where `TIDEGATE_SERVER_PORT` does not.",
        "- on the command line: `--set limits.per_ip=5`",
        "",
        "`tidegate config default` prints a file to start from, `tidegate config show` what is in",
        "force and where it comes from. Durations are in seconds (s).",
    ]
    sections = dict.fromkeys(known.section for known in Settings.fields())
    for section in sections:
        title = section.replace("*", "NAME")
        lines += ["", f"## `[{title}]`", "", section_doc(section), ""]
        rows = []
        for known in Settings.fields():
            if known.section == section:
                default = "not set" if known.default is None else f"`{toml_value(known.default)}`"
                unit = f" ({known.unit})" if known.unit else ""
                rows.append((f"`{known.key}`", default, known.allowed + unit, known.doc))
        lines += _table(("setting", "default", "allowed", "what it is"), rows)
    return _page(lines)


def codes() -> str:
    """The table of reasons."""
    lines = [
        "# Reasons and codes",
        "",
        "Why an attempt is refused, a connection ends or a message is not taken. A refusal over",
        "HTTP has the status and the body",
        '`{"error": reason, "message": text, "retryAfter": seconds}`, and headers:',
        "`X-Rejection-Reason`, and `Retry-After` where there is a delay. A refusal in-band (for",
        "clients of the native subprotocol) is the close code, with",
        '`{"error": reason, "retryAfter": seconds}` as the reason of the close frame. Where the',
        "delay is empty, the client should not come back by itself. A close code of 1006 is never",
        "sent; it is what the other end sees of a connection that just ends. Reasons with neither",
        "status nor code are errors in-band: the connection stays open.",
        "",
    ]
    rows = [
        (
            f"`{reason.name}`",
            *("" if number is None else str(number) for number in (reason.http, reason.close)),
            "" if reason.retry_after is None else f"{reason.retry_after} s",
            reason.message,
        )
        for reason in REASONS.values()
    ]
    lines += _table(("reason", "HTTP status", "close code", "come back after", "message"), rows)
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
    lines += _table(("metric", "type", "label", "what it is"), rows)
    return _page(lines)


def commands() -> str:
    """The command line."""
    return _page(app.generate_docs().rstrip().splitlines())


PAGES: Mapping[str, Callable[[], str]] = {
    "settings.md": settings,
    "codes.md": codes,
    "metrics.md": metrics,
    "cli.md": commands,
}
"""The pages of docs/reference, and what writes each."""


def main(arguments: Sequence[str]) -> int:
    """Write the pages, or compare them and print the differences. Returns the exit code."""
    check = "--check" in arguments
    stale = []
    for name, write in PAGES.items():
        path = _REFERENCE / name
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
                    f"docs/reference/{name}",
                    f"{name} as the code has it",
                )
            )
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(new, encoding="utf-8")
            print(f"wrote docs/reference/{name}")
    if check and stale:
        print(f"out of date: {', '.join(stale)}; run python tools/generate.py", file=sys.stderr)
    return int(check and bool(stale))


def _page(lines: Sequence[str]) -> str:
    return "\n".join([_NOTE, "", *lines]) + "\n"


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    cells = [header, ["---"] * len(header), *rows]
    return [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in cells]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
