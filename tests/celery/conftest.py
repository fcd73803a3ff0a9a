from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from okasie_tasks.sandbox import Key, Sandbox
from okasie_tasks.sandbox.sample import cars, config_text, write_csv
from tests.celery.scenario import KEY, Scenario


@pytest.fixture(scope="session")
def scenario() -> Iterator[Scenario]:
    """One for all tests of this folder, because starting the workers takes most of their time."""
    # The kernel limits a socket's path, and pytest's folders are longer.
    folder = Path(tempfile.mkdtemp(prefix="ot-"))
    with Sandbox([Key(KEY, "dex")]) as sandbox:
        scenario = Scenario(folder)
        try:
            write_csv(folder / "feed.csv", cars(5, seed=1))
            scenario.configure(config_text(feed="feed.csv", base_url=sandbox.base_url, key="env:KEY", account="dex"))
            scenario.start()
            yield scenario
        finally:
            scenario.stop()
            shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(autouse=True)
def nothing_is_left(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "scenario" in request.fixturenames:
        request.getfixturevalue("scenario").notes.flushdb()
