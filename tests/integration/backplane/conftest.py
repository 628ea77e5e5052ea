"""The servers that the tests of every backplane run with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.between import STARTING, Server


@pytest.fixture(scope="module", params=STARTING)
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """One that is there all the time."""
    with STARTING[request.param](tmp_path_factory.mktemp("server")) as started:
        yield started


@pytest.fixture(params=STARTING)
def own(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    """One that the test may kill."""
    with STARTING[request.param](tmp_path) as started:
        yield started
