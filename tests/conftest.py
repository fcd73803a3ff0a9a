"""A real Redis for every test that wants one: started here, on a unix socket, with nothing in it."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, settings
from xdist.scheduler import LoadScopeScheduling

from okasie_tasks import masking
from okasie_tasks.local.embedded_redis import EmbeddedRedis
from okasie_tasks.local.supervisor import Supervisor

ROOT = Path(__file__).parents[1]

# Side by side, pytest's processes have it: commands would print for a terminal of 80 columns instead of for a pipe.
os.environ.pop("COLUMNS", None)

# The same examples each time, and no verdict by the clock; `--hypothesis-profile explore` looks for new ones.
settings.register_profile("house", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("explore", max_examples=2_000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("house")


class SideBySide(LoadScopeScheduling):
    """Under ``pytest -n 2`` tests that share what takes long to set up stay in one process; every other test goes to any.

    (xdist's own groups do not work with this pytest: it no longer lets a plugin change a test's id.)
    """

    def _split_scope(self, nodeid: str) -> str:
        return _shared(nodeid.split("::", maxsplit=1)[0]) or nodeid


@cache
def _shared(file: str) -> str:
    """What takes long to set up and is shared by the tests of this file; empty for nothing."""
    if file.startswith("tests/celery/"):
        return "five workers"
    if file in _on_fleets():
        # Two fleets: the tests of one would take longer than all the others together.
        return f"fleet {_on_fleets().index(file) % 2}"
    return file if 'scope="module"' in (ROOT / file).read_text(encoding="utf-8") else ""


@cache
def _on_fleets() -> list[str]:
    """The files whose tests share a running fleet."""
    files = sorted((ROOT / "tests" / "system").glob("test_*.py"))
    return [str(f.relative_to(ROOT)) for f in files if re.search(r"\bFleet\b", f.read_text(encoding="utf-8"))]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest begins first, so that no process has it left over at the end."""
    items.sort(key=lambda item: [item.get_closest_marker(name) is None for name in ("slow", "system")])


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> SideBySide:
    return SideBySide(config, log)


@pytest.fixture(scope="session", autouse=True)
def patient() -> Iterator[None]:
    """A busy machine may take a permit's lifetime to come from the permit to the request; a worker would come again."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("okasie_tasks.marketplace.client._FRESH_SECONDS", 50.0)
        patch.setattr("okasie_tasks.marketplace.client.LATE_SECONDS", 50.0)
        yield


@pytest.fixture(autouse=True)
def _forgotten_secrets() -> Iterator[None]:
    """Forget after each test the secrets that it registered: one may be a word of another test's messages."""
    before = masking._known
    yield
    masking._known = before


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
    with redis.Redis.from_url(redis_url, socket_timeout=60) as found:
        found.flushall()
        yield found
