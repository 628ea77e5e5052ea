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
from typing import Any, TypeVar, cast, get_args

import msgspec

from tidegate.cli.main import app
from tidegate.core.codes import REASONS, USUAL_DELAYS, Close, Fault, Reason, Refusal
from tidegate.core.settings import Setting, Settings
from tidegate.core.settings.fields import settings_of
from tidegate.deploy import Node, Plan
from tidegate.deploy.docker import dockerfile_from_source
from tidegate.doctor.checks import CHECKS
from tidegate.engine import states as connection_states
from tidegate.node.control import METRICS
from tidegate.server.admin_requests import REQUEST_SECONDS, REQUESTS
from tidegate.server.config_text import section_doc, toml_value
from tidegate.server.environment import environment_name
from tidegate.server.metrics import PROCESS_COUNTERS
from tidegate.wire import schema
from tidegate.wire.codecs import JSON_V1
from tidegate.wire.formats import PROTOBUF_V1
from tidegate.wire.messages import ClientMessage, ServerMessage
from tidegate.wire.packed import MSGPACK_V1

__all__ = ["FILES", "PAGES", "main"]

_ROOT = Path(__file__).resolve().parent.parent
_NOTE = "<!-- Written by tools/generate.py from the code: change it there. -->"
_SCHEMAS = "#/components/schemas/{name}"
_CHANNEL = {"$ref": "#/channels/connection"}
_PROTO_HEAD = """\
// The messages of Tidegate's native protocol, version 1, for the subprotocol `tidegate.v1.proto`.
// Written by tools/generate.py from the message types. docs/protocol.md says what happens when.
//
// A client sends `ClientMessage`, the server sends `ServerMessage`: one of them in each binary
// message of the WebSocket, without a length before it.
//
// - A message may have an id, a number (up to 2^53 - 1) or a text of 1 to 64 characters. The answer
//   has the same one.
// - `data` is a JSON value, as text in UTF-8. `binary` is any bytes, such as a message of your own;
//   clients that speak JSON get it in base64.
// - Times are in seconds. `sender` is what is called `from` in JSON.
// - Ignore fields that you do not know, and a `ServerMessage` without a message that you know:
//   later versions add some. Numbers are never changed or used again.

syntax = "proto3";

package {package};
"""

_PROTO_DOCS = {
    "ClientMessage": "What a client sends.",
    "ServerMessage": "What the server sends.",
}


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


def codes_for_typescript() -> str:
    """The usual delay of each close code, for the TypeScript client; from 4500 on it is never."""
    delays = {code: delay for code, delay in USUAL_DELAYS.items() if code < 4500}
    return "\n".join(
        (
            "// Written by tools/generate.py from the table of codes: change it there.",
            "",
            "/** Seconds after which to come back, by close code; null for not at all. */",
            "export const CODES: ReadonlyMap<number, number | null> = new Map([",
            *(
                f"  [{code}, {'null' if delay is None else delay}],"
                for code, delay in sorted(delays.items())
            ),
            "]);",
            "",
        )
    )


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
    rows += [
        (f"`{REQUESTS[0]}`", "counter", "`route`, `status`", REQUESTS[1]),
        (f"`{REQUEST_SECONDS[0]}`", "histogram", "`route`", REQUEST_SECONDS[1]),
    ]
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


def asyncapi() -> str:
    """The native protocol as an AsyncAPI document: what the server receives and sends."""
    received = _kinds(ClientMessage)
    sent = _kinds(ServerMessage)
    kinds = (*received, *sent)
    _, schemas = msgspec.json.schema_components(kinds, ref_template=_SCHEMAS)
    document = {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Tidegate native protocol",
            "version": "1",
            "description": "Written by tools/generate.py from the message types."
            " Keys that are not here are ignored. docs/protocol.md says what happens when.",
            "license": {"name": "MIT"},
        },
        "defaultContentType": "application/json",
        "servers": {
            "local": {
                "host": f"localhost:{Settings().server.port}",
                "protocol": "ws",
                "description": "A server that `tidegate serve` has started.",
            }
        },
        "channels": {
            "connection": {
                "address": Settings().server.path,
                "description": f"One WebSocket with the subprotocol `{JSON_V1}` (text),"
                f" `{MSGPACK_V1}` (binary): the same messages in MessagePack, or"
                f" `{PROTOBUF_V1}` (binary): the same messages in Protobuf, by the schema in"
                " tidegate_v1.proto.",
                "messages": {
                    kind.__name__: {"$ref": f"#/components/messages/{kind.__name__}"}
                    for kind in kinds
                },
                "bindings": {"ws": {"bindingVersion": "0.1.0", "method": "GET"}},
            }
        },
        "operations": {
            **{f"receive{kind.__name__}": _operation("receive", kind) for kind in received},
            **{f"send{kind.__name__}": _operation("send", kind) for kind in sent},
        },
        "components": {
            "messages": {kind.__name__: _message(kind) for kind in kinds},
            "schemas": {name: _schema(schema) for name, schema in sorted(schemas.items())},
        },
    }
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def proto() -> str:
    """The native protocol as a `.proto` file, for the compilers of clients."""
    known = schema.kinds()
    # What is sent comes first, then what it holds.
    ordered = [known[name] for name in _PROTO_DOCS]
    ordered += [kind for name, kind in known.items() if name not in _PROTO_DOCS]
    head = _PROTO_HEAD.format(package=schema.PACKAGE)
    return "\n".join([head, *(_proto_message(kind) for kind in ordered)])


PAGES: Mapping[str, Callable[[], str]] = {
    "settings.md": settings,
    "codes.md": codes,
    "codes.json": codes_for_clients,
    "states.md": states,
    "metrics.md": metrics,
    "findings.md": findings,
    "cli.md": commands,
    "asyncapi.json": asyncapi,
    "tidegate_v1.proto": proto,
}
"""The files of docs/reference, and what writes each."""

FILES: Mapping[str, Callable[[], str]] = {
    **{f"docs/reference/{name}": write for name, write in PAGES.items()},
    "Dockerfile": image,
    "clients/js/src/codes.ts": codes_for_typescript,
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


def _kinds(union: object) -> tuple[type[msgspec.Struct], ...]:
    return get_args(union)


def _operation(action: str, kind: type[msgspec.Struct]) -> dict[str, object]:
    # The actions are those of the server, which the document describes.
    return {
        "action": action,
        "channel": _CHANNEL,
        "summary": _summary(kind),
        "messages": [{"$ref": f"#/channels/connection/messages/{kind.__name__}"}],
    }


def _message(kind: type[msgspec.Struct]) -> dict[str, object]:
    return {
        "name": kind.__struct_config__.tag,
        "title": kind.__name__,
        "summary": _summary(kind),
        "payload": {"$ref": _SCHEMAS.format(name=kind.__name__)},
    }


def _summary(kind: type[msgspec.Struct]) -> str:
    return inspect.cleandoc(kind.__doc__ or "").split("\n\n")[0].replace("\n", " ")


def _schema(schema: dict[str, Any]) -> dict[str, Any]:
    clean = dict(schema)
    if "description" in clean:
        clean["description"] = inspect.cleandoc(cast(str, clean["description"]))
    return clean


def _proto_message(kind: schema.Kind) -> str:
    doc = _PROTO_DOCS.get(kind.name) or kind.doc.replace("None", "absent")
    lines = [f"// {line}".rstrip() for line in doc.splitlines()]
    if not kind.fields:
        return "\n".join([*lines, f"message {kind.name} {{}}", ""])
    lines.append(f"message {kind.name} {{")
    group = ""
    for field in kind.fields:
        if field.group != group:
            lines += _closed(group)
            lines += [f"  oneof {field.group} {{"] if field.group else []
            group = field.group
        lines.append(f"{'    ' if group else '  '}{_proto_field(field)}")
    return "\n".join([*lines, *_closed(group), "}", ""])


def _closed(group: str) -> Iterable[str]:
    return ["  }"] if group else []


def _proto_field(field: schema.Field) -> str:
    label = "repeated " if field.repeated else "optional " if field.optional else ""
    return f"{label}{field.type} {field.name} = {field.number};"


def _page(lines: Sequence[str]) -> str:
    return "\n".join([_NOTE, "", *lines]) + "\n"


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    cells = [header, ["---"] * len(header), *rows]
    return [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in cells]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
