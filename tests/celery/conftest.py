from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from okasie_tasks.sandbox import Key, Sandbox
from okasie_tasks.sandbox.sample import cars, config_text, write_csv
from tests.celery.world import KEY, World


@pytest.fixture(scope="session")
def world() -> Iterator[World]:
    """One for all tests of this folder, because starting the workers takes most of their time."""
    # The kernel limits a socket's path, and pytest's folders are longer.
    folder = Path(tempfile.mkdtemp(prefix="ot-"))
    with Sandbox([Key(KEY, "dex")]) as sandbox:
        world = World(folder)
        try:
            write_csv(folder / "feed.csv", cars(5, seed=1))
            world.configure(config_text(feed="feed.csv", base_url=sandbox.base_url, key="env:KEY", account="dex"))
            world.start()
            yield world
        finally:
            world.stop()
            shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(autouse=True)
def nothing_is_left(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "world" in request.fixturenames:
        request.getfixturevalue("world").notes.flushdb()
