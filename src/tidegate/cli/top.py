"""`tidegate top`: a live view of the server, and of every port of this machine."""

from __future__ import annotations

import shutil
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from tidegate.cli.options import AdminUrl, ConfigFile, Time, load_settings, parse_seconds
from tidegate.errors import TidegateError, UsageError

if TYPE_CHECKING:
    from tidegate.cli.admin import Admin
    from tidegate.top.kernel import KernelWatch
    from tidegate.top.sample import Sample
    from tidegate.top.server import ServerWatch
    from tidegate.top.session import Session

__all__ = ["top"]

_LEAST_COLUMNS = 40
_MOST_PORT = 65_535


def top(
    *,
    once: Annotated[bool, Parameter(negative=())] = False,
    json: Annotated[bool, Parameter(negative=())] = False,
    interval: Annotated[str, Time] = "2s",
    port: Annotated[tuple[int, ...], Parameter(negative=(), show_default=False)] = (),
    sort: str = "buffered",
    filter_: Annotated[str, Parameter(name="--filter", show_default=False)] = "",
    admin: AdminUrl = None,
    config: ConfigFile = None,
) -> int:
    """Show what goes on: connections, rates, refusals, pressure, and who is slow.

    Asks the admin API of a running server, and the kernel about every port of this machine, so it
    works with other servers too. Needs no root, and says what it cannot see. In the view, s
    sorts, / filters, x closes a connection after a question, and q quits.

    Parameters
    ----------
    once
        Print one table and end; it takes one interval, for the rates.
    json
        Print a line of JSON for each interval, until Ctrl-C; one line with --once.
    interval
        Time between two looks, from 0.2s to 1h.
    port
        Port to look at; may be given several times. [default: all that somebody listens on]
    sort
        Field by which connections are sorted: buffered, idle, age, user or address.
    filter_
        Which connections to list: a text, user=NAME, ip=ADDRESS or NETWORK, room=NAME.
    """
    from tidegate.cli.admin import Admin
    from tidegate.top.kernel import KernelWatch
    from tidegate.top.server import ServerWatch
    from tidegate.top.session import SORTS, Session, parse_filter

    seconds = parse_seconds("--interval", interval, 0.2, 3600)
    for number in port:
        if not 0 < number <= _MOST_PORT:
            raise UsageError(f"--port {number}: must be from 1 to {_MOST_PORT}")
    if sort not in SORTS:
        raise UsageError(f"--sort {sort}: must be one of {', '.join(SORTS)}")
    parse_filter(filter_)
    session = Session(sort=sort, filter=filter_)
    api = Admin(load_settings(config).settings.admin, admin)
    view = _View(api, ServerWatch(api.url, api.ask, api.text), KernelWatch(port), session)
    if once or json:
        return _print(view, seconds, once=once, json=json)
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError("the view needs a terminal; --once prints a table, --json lines of JSON")
    return _live(view, api, seconds)


class _View:
    """All that is looked at."""

    def __init__(
        self, api: Admin, server: ServerWatch, kernel: KernelWatch, session: Session
    ) -> None:
        self.api = api
        self.server = server
        self.session = session
        self._kernel = kernel

    def sample(self) -> Sample:
        """Look once."""
        from tidegate.top.sample import Sample

        unseen = []
        server = None
        try:
            server = self.server.read(self.session.query, self.session.sort)
            self.session.show(server.rows)
        except TidegateError as error:
            unseen.append(f"the server: {error}")
        kernel = self._kernel.read()
        if kernel is None:
            unseen.append("connections of other servers: there is no /proc/net/tcp")
        elif any(each.states and not each.owner for each in kernel.ports):
            unseen.append("programs of other users: only root can")
        return Sample(time.time(), server, kernel, tuple(unseen))


def _print(view: _View, seconds: float, *, once: bool, json: bool) -> int:
    import msgspec
    from rich.console import Console

    from tidegate.top.screen import draw

    console = Console(highlight=False, soft_wrap=True)
    view.sample()  # rates are from one look to the next
    while True:
        try:
            time.sleep(seconds)
            sample = view.sample()
        except KeyboardInterrupt:
            return 0
        if json:
            print(msgspec.json.encode(sample).decode(), flush=True)
        else:
            width = max(_LEAST_COLUMNS, shutil.get_terminal_size().columns)
            for line in draw(sample, width):
                console.print(line)
        if once:
            return 0 if sample.server or sample.kernel else 1


def _live(view: _View, api: Admin, seconds: float) -> int:
    from rich.console import Console, Group
    from rich.live import Live

    from tidegate.top.keyboard import Keyboard
    from tidegate.top.screen import draw

    console = Console(highlight=False)
    session = view.session
    with (
        suppress(KeyboardInterrupt),
        Keyboard() as keyboard,
        Live(console=console, screen=True, auto_refresh=False) as live,
    ):
        while not session.ended:
            sample = view.sample()
            due = time.monotonic() + seconds
            while not session.ended:
                width, height = console.size
                lines = draw(sample, max(_LEAST_COLUMNS, width), session, height)
                live.update(Group(*lines), refresh=True)
                key = keyboard.read(due - time.monotonic())
                if key is None:
                    break
                before = (session.sort, session.filter)
                kick = session.key(key)
                if kick is not None:
                    session.message = _closed(api, kick.selector)
                if kick is not None or before != (session.sort, session.filter):
                    view.server.forget_pages()
                    break
    return 0


def _closed(api: Admin, selector: dict[str, str]) -> str:
    try:
        count = api.ask("/disconnect", "POST", selector)["count"]
    except TidegateError as error:
        return str(error)
    return f"closed {count:,} connections"
