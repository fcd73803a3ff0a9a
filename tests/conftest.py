"""A real Redis for every test that wants one: started here, on a unix socket, with nothing in it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from hypothesis import HealthCheck, settings

from okasie_tasks.adapters.embedded import EmbeddedRedis
from okasie_tasks.adapters.supervisor import Supervisor

# The same examples each time, and no verdict by the clock; `--hypothesis-profile explore` looks for new ones.
settings.register_profile("house", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("explore", max_examples=2_000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("house")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Side by side (``pytest -n 2 --dist loadgroup``) one process takes all tests that start a whole group.

    They share one that runs, and look for free ports: two groups that start at the same moment may find the same.
    """
    for item in items:
        if "fleet" in getattr(item, "fixturenames", ()) or hasattr(getattr(item, "module", None), "Up"):
            item.add_marker(pytest.mark.xdist_group("up"))


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """A server of our own for the whole session."""
    # A socket's path is short by law of the kernel; pytest's folders are not.
    folder = Path(tempfile.mkdtemp(prefix="ot-"))
    server, supervisor = EmbeddedRedis(folder), Supervisor(print)
    try:
        server.wait(supervisor.add(server.child()))
        yield server.url
    finally:
        supervisor.stop(5)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    """A client to an empty server."""
    with redis.Redis.from_url(redis_url, socket_timeout=5) as found:
        found.flushall()
        yield found
