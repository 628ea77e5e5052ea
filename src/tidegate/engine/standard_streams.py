"""Standard input, output and error of a process that was started without them (`>&-`).

The kernel gives a new descriptor the lowest number that is free (POSIX, section 2.6). Where 1 or 2
is free, the socket of a client may get it, and what a library prints would go to that client. And
libuv, below uvloop, ends a process in which it has to close one of these numbers. So `/dev/null`
takes them before anything else can.
"""

from __future__ import annotations

import os
import sys
from typing import Final

__all__ = ["open_missing_descriptors", "open_missing_streams"]

_STREAMS: Final = (("stdin", "r"), ("stdout", "w"), ("stderr", "w"))


def open_missing_descriptors() -> None:
    """Open `/dev/null` on each of the descriptors 0, 1 and 2 that is closed.

    Reading there meets the end at once, and what is written is gone.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != number:  # another thread was faster
                os.dup2(opened, number)
                os.close(opened)
            os.set_inheritable(number, True)  # as standard streams are


def open_missing_streams() -> None:
    """Do the same for the process and its `sys.stdin`, `sys.stdout` and `sys.stderr`.

    To be called before anything else: Python has None for each that is missing at its start.
    """
    open_missing_descriptors()
    for number, (name, mode) in enumerate(_STREAMS):
        if getattr(sys, name) is None:
            stream = open(  # noqa: SIM115 - it lasts as long as the process
                number, mode, encoding="utf-8", errors="backslashreplace", closefd=False
            )
            setattr(sys, name, stream)
