"""Publishes the records of one source to their rooms.

A record is done when the backplane has taken it; only then is the source told. So after a failure
some come again, and none is lost: at least once. Records of one room go one after another, in their
order; those of different rooms at the same time. One that cannot be published now is tried again,
and what is behind it in its room waits; one that never can is counted, logged and left out.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from functools import partial
from random import random
from time import monotonic
from typing import TYPE_CHECKING, Final

from tidegate.server.ingest.base import Record, Source
from tidegate.server.ingest.rule import BadRecordError, Rule

if TYPE_CHECKING:
    from tidegate.backplane.base import Done
    from tidegate.core.codes import Fault
    from tidegate.core.messaging.publication import Publication
    from tidegate.core.settings import IngestSource
    from tidegate.core.stats import Ingested

__all__ = ["Pump"]

_log = logging.getLogger("tidegate")

_COMMIT_SECONDS: Final = 0.5
_LAG_SECONDS: Final = 5.0
_LOG_SECONDS: Final = 10.0
_STOP_SECONDS: Final = 5.0
_FIRST_DELAY: Final = 0.1
_MOST_DELAY: Final = 10.0
_MOST_AGAIN: Final = 2.0


class _Lane:
    """The records of one room that are not done, the first of them on its way."""

    __slots__ = ("busy", "delay", "waiting")

    def __init__(self) -> None:
        self.waiting: deque[tuple[Record, Publication]] = deque()
        self.delay = _FIRST_DELAY
        self.busy = False


class _Answer:
    """What a broker says to a publication: before `publish` has returned, or later to `then`."""

    __slots__ = ("_then", "fault", "there")

    def __init__(self) -> None:
        self.fault: Fault | None = None
        self.there = False
        self._then: Callable[[Fault | None], None] | None = None

    def afterwards(self, then: Callable[[Fault | None], None]) -> None:
        """What comes now goes there."""
        self._then = then

    def told(self, fault: Fault | None) -> None:
        if self._then is not None:
            self._then(fault)
        else:
            self.fault, self.there = fault, True


class Pump:
    """Reads one source, and publishes what it has.

    Args:
        settings: of this source.
        make: returns the source, not connected.
        publish: publishes, and tells how it went.
        counts: of this source.
    """

    def __init__(
        self,
        settings: IngestSource,
        make: Callable[[], Source],
        publish: Callable[[Publication, Done], None],
        counts: Ingested,
    ) -> None:
        self._settings = settings
        self._make = make
        self._publish = publish
        self._counts = counts
        self._rule = Rule(settings)
        self._lanes: dict[str, _Lane] = {}
        self._source: Source | None = None
        self._moved = asyncio.Event()
        self._stopping = asyncio.Event()
        self._bad = 0
        self._bad_logged = -_LOG_SECONDS

    async def run(self) -> None:
        """Read until `stop`; connect again when that fails."""
        delay, failed = _FIRST_DELAY, ""
        while not self._stopping.is_set():
            source = self._make()
            began = monotonic()
            try:
                await source.open()
                _log.info("ingest %s: connected", self._settings.name)
                failed = ""
                self._source = source
                await self._read(source)
            except Exception as error:
                self._counts.failures += 1
                problem = str(error) or type(error).__name__
                if problem != failed:
                    _log.warning("ingest %s: %s; trying again", self._settings.name, problem)
                failed = problem
            finally:
                self._source = None
                self._lanes.clear()  # what is not done comes again
                self._counts.in_flight = 0
                await _closed(source)
            if monotonic() - began > _MOST_DELAY:
                delay = _FIRST_DELAY
            if not self._stopping.is_set():
                await _wait(self._stopping, delay * (0.5 + random() / 2))  # noqa: S311 - spreads
                delay = min(delay * 2, _MOST_DELAY)

    def stop(self) -> None:
        """Read no more; `run` returns when what is on its way is done, or after 5 seconds."""
        self._stopping.set()
        self._moved.set()

    async def _read(self, source: Source) -> None:
        committed, looked = monotonic(), -_LAG_SECONDS
        while not self._stopping.is_set():
            free = self._settings.max_in_flight - self._counts.in_flight
            if free > 0:
                for record in await source.read(free):
                    self._take(source, record)
            else:
                self._moved.clear()
                await _wait(self._moved, _COMMIT_SECONDS)
            now = monotonic()
            if now - committed >= _COMMIT_SECONDS:
                await source.commit()
                committed = now
            if now - looked >= _LAG_SECONDS:
                self._counts.lag = await source.lag()
                looked = now
        end = monotonic() + _STOP_SECONDS
        while self._counts.in_flight and monotonic() < end:
            self._moved.clear()
            await _wait(self._moved, end - monotonic())
        await source.commit()

    def _take(self, source: Source, record: Record) -> None:
        self._counts.bytes += len(record.value)
        try:
            publication = self._rule.publication(record)
        except BadRecordError as error:
            self._leave_out(record, str(error))
            source.done(record)
            return
        room = publication.room
        lane = self._lanes.get(room)
        if lane is None:
            lane = self._lanes[room] = _Lane()
        lane.waiting.append((record, publication))
        self._counts.in_flight += 1
        if not lane.busy:
            self._advance(room, lane)

    def _advance(self, room: str, lane: _Lane) -> None:
        """Publish the records of a room, one after another. Those that are taken at once, in turn.

        A broker may answer before `publish` returns, so this is a loop, and no recursion.
        """
        lane.busy = True
        while lane.waiting and self._lanes.get(room) is lane:
            record, publication = lane.waiting[0]
            answer = _Answer()
            self._publish(publication, answer.told)
            if not answer.there:
                answer.afterwards(partial(self._answered, room, lane, record))
                return
            if not self._settle(lane, record, answer.fault):
                return
        lane.busy = False
        if self._lanes.get(room) is lane:
            del self._lanes[room]

    def _answered(self, room: str, lane: _Lane, record: Record, fault: Fault | None) -> None:
        if self._lanes.get(room) is lane and self._settle(lane, record, fault):
            self._advance(room, lane)

    def _settle(self, lane: _Lane, record: Record, fault: Fault | None) -> bool:
        """A record was published or not; whether the lane goes on with the next one now."""
        if fault is not None and fault.retry_after is not None:
            self._counts.retries += 1
            room = lane.waiting[0][1].room
            loop = asyncio.get_running_loop()
            loop.call_later(lane.delay, partial(self._again, room, lane))
            lane.delay = min(lane.delay * 2, _MOST_AGAIN)
            return False
        lane.delay = _FIRST_DELAY
        lane.waiting.popleft()
        self._counts.in_flight -= 1
        self._moved.set()
        if fault is None:
            self._counts.records += 1
        else:
            self._leave_out(record, fault.message)
        if self._source is not None:
            self._source.done(record)
        return True

    def _again(self, room: str, lane: _Lane) -> None:
        if self._lanes.get(room) is lane:
            self._advance(room, lane)

    def _leave_out(self, record: Record, problem: str) -> None:
        """Count a record that is not published. The log has a line in ten seconds at most."""
        self._counts.skipped += 1
        self._bad += 1
        now = monotonic()
        if now - self._bad_logged >= _LOG_SECONDS:
            _log.warning(
                "ingest %s: left out %d records; the last was %s: %s",
                self._settings.name,
                self._bad,
                record.place,
                problem,
            )
            self._bad, self._bad_logged = 0, now


async def _closed(source: Source) -> None:
    try:
        async with asyncio.timeout(_STOP_SECONDS):
            await source.close()
    except Exception as error:
        _log.debug("ingest: a source did not end well: %s", error)


async def _wait(event: asyncio.Event, seconds: float) -> None:
    try:
        await asyncio.wait_for(event.wait(), max(0.0, seconds))
    except TimeoutError:
        return
