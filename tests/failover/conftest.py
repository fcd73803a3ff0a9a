from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.failover.group import SentinelGroup, sentinel_group


@pytest.fixture(scope="session")
def group() -> Iterator[SentinelGroup]:
    """A whole group. A test that breaks it makes it whole again."""
    with sentinel_group() as found:
        yield found
