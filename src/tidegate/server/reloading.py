"""Settings and files that change while `tidegate serve` runs: SIGHUP, and a look at the files.

SIGHUP reads the settings from where they came at the start, and certificate and keys with them. A
certificate that was renewed is taken up without a signal too.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, TypeAlias

import structlog

from tidegate.core.settings.changes import values_of
from tidegate.errors import ConfigError
from tidegate.node import systemd

if TYPE_CHECKING:
    from tidegate.core.settings import Settings
    from tidegate.node.node import Node

__all__ = ["Reloading"]

_log = structlog.get_logger("tidegate")

LOOK_SECONDS: Final = 5.0

_Signature: TypeAlias = tuple[tuple[int, int, int] | None, ...]


class Reloading:
    """Takes over what has changed. What is wrong is logged, and what was in force stays so.

    Args:
        load: reads the settings anew; None where they do not come from a file or the environment.
    """

    def __init__(self, node: Node, load: Callable[[], Settings] | None = None) -> None:
        self._node = node
        self._load = load
        self._seen = self._signature()

    def reload(self) -> None:
        """Take over the settings that can change, and the files."""
        with systemd.reloading(os.environ):
            self._reload()

    def _reload(self) -> None:
        try:
            if self._load is not None:
                self._take_settings(self._load())
        except ConfigError as error:
            _log.error("the settings were not reloaded", error=str(error))
        try:
            self._take_files()
        except ConfigError as error:
            _log.error("certificate and keys were not reloaded", error=str(error))

    async def watch(self) -> None:
        """Take over files that were replaced; for ever."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            self.look()

    def look(self) -> None:
        """Take over files that were replaced since the last look."""
        if self._signature() != self._seen:
            try:
                self._take_files()
            except ConfigError as error:
                # Certificate and key are replaced one after the other: the next look may like them.
                _log.warning("a certificate or key was replaced but not taken", error=str(error))

    def _take_settings(self, new: Settings) -> None:
        gone = [f"tiers.{name}" for name in self._node.settings.tiers if name not in new.tiers]
        applied, restart = self._node.apply(values_of(new))
        if restart or gone:
            names = ", ".join((*restart, *gone))
            _log.warning("these settings need a restart to change", settings=names)
        _log.info("settings reloaded", changed=len(applied))

    def _take_files(self) -> None:
        self._seen = self._signature()
        self._node.reload_files()
        if any(self._seen):
            _log.info("certificate and keys reloaded")

    def _signature(self) -> _Signature:
        tls, auth = self._node.settings.tls, self._node.settings.auth
        keys = [key.public_key for key in auth.keys]
        return tuple(map(_stat, (tls.certificate, tls.key, auth.public_key, *keys)))


def _stat(path: str | None) -> tuple[int, int, int] | None:
    """What changes with a file: its time, size and number. None where there is none."""
    try:
        found = None if path is None else os.stat(path)
    except (OSError, ValueError):  # a key may stand in the settings itself
        return None
    return None if found is None else (found.st_mtime_ns, found.st_size, found.st_ino)
