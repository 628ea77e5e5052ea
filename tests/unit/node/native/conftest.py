"""What tests of the native protocol share."""

from __future__ import annotations

import pytest

from tests.unit.node.native.native_world import World


@pytest.fixture
def world() -> World:
    return World()
