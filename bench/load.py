"""The load generators, from Python: one method for each command of load.c."""

from __future__ import annotations

import json
import select
from collections.abc import Sequence
from typing import IO, Any

from bench.process import BUILD, LOAD_CORE, BenchError, Process

__all__ = ["Answer", "Generator", "Load"]

Answer = dict[str, Any]


class Generator(Process):
    """A load generator: it answers each command with a line of JSON."""

    def __init__(self, name: str, *arguments: object) -> None:
        command = [str(BUILD / name), *map(str, arguments)]
        super().__init__(name, command, LOAD_CORE, pipes=True)

    def _ask(
        self,
        name: str,
        limit: float,
        heads: Sequence[str] = (),
        protocols: Sequence[str] = (),
        **fields: object,
    ) -> Answer:
        told: IO[bytes] | None = self.child.stdin
        heard: IO[bytes] | None = self.child.stdout
        assert told is not None
        assert heard is not None
        parts = [name, f"t={limit}", *(f"head={head}" for head in heads)]
        parts += [f"protocol={protocol}" for protocol in protocols]
        parts += [f"{key}={value}" for key, value in fields.items() if value is not None]
        try:
            told.write(("\t".join(parts) + "\n").encode())
            told.flush()
        except BrokenPipeError:
            self.check()
        # It keeps its own limits; this one is for when it hangs.
        if not select.select([heard], [], [], limit + 10)[0]:
            raise BenchError(f"the load generator did not answer {name!r}")
        line = heard.readline()
        if not line:
            self.child.wait(5)
            self.check()
        answer: Answer = json.loads(line)
        return answer


class Load(Generator):
    """A load generator that connects to `port` and holds its connections until it ends."""

    def __init__(self, port: int, sources: int = 8) -> None:
        super().__init__("load", port, sources)

    def __enter__(self) -> Load:
        return self

    def open(
        self,
        n: int,
        path: str,
        *,
        concurrency: int = 128,
        heads: Sequence[str] = (),
        protocols: Sequence[str] = (),
        tokens: str | None = None,
        first: str | None = None,
        answers: int = 0,
        limit: float = 30.0,
    ) -> Answer:
        """Open a group of `n` connections; BenchError when not every one of them opens."""
        answer = self._ask(
            "open",
            limit,
            heads,
            protocols,
            n=n,
            c=concurrency,
            path=path,
            tokens=tokens,
            first=first,
            answers=answers,
        )
        if answer["opened"] != n:
            raise BenchError(f"{answer['opened']} of {n} connections opened: {answer['note']}")
        return answer

    def visit(self, n: int, path: str, concurrency: int = 128) -> Answer:
        """Make `n` connections that end as soon as they are accepted."""
        answer = self._ask("visit", 30, n=n, c=concurrency, path=path)
        if answer["failed"]:
            raise BenchError(f"{answer['failed']} of {n} attempts failed: {answer['note']}")
        return answer

    def refuse(
        self, n: int, path: str, heads: Sequence[str] = (), concurrency: int = 128
    ) -> Answer:
        """Make `n` attempts that should all be refused."""
        return self._ask("refuse", 15, heads, n=n, c=concurrency, path=path)

    def fan(self, group: int, text: str, frames: int) -> Answer:
        """Publish `frames` messages in one write; BenchError unless all get exactly these."""
        answer = self._ask("fan", 20, group=group, frames=frames, text=text)
        if answer["wrong"] or answer["delivered"] != answer["expected"]:
            raise BenchError(
                f"{answer['delivered']} of {answer['expected']} messages delivered, "
                f"{answer['wrong']} members got a wrong number: {answer['note']}"
            )
        return answer

    def echo(self, group: int, size: int, seconds: float) -> Answer:
        """Send and await echoes of `size` bytes on all connections of a group."""
        answer = self._ask("echo", seconds + 5, group=group, size=size, seconds=seconds)
        if answer["wrong"] or not answer["echoes"]:
            raise BenchError(f"{answer['wrong']} wrong echoes: {answer['note']}")
        return answer

    def reset(self, group: int) -> Answer:
        """Reset all connections of a group at once."""
        return self._ask("close", 10, group=group)

    def stat(self) -> Answer:
        """Return how many connections are open, pings answered and unexpected closes so far."""
        return self._ask("stat", 10)
