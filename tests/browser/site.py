"""A running system with the console, and a browser: for the tests, and for the screenshots of the docs."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from okasie_tasks.sandbox import Key, Sandbox
from okasie_tasks.sandbox.sample import cars, write_csv
from tests.support import Place, Up, poll

CARS = 12
MANY = 700
"""Cars of the account whose run is watched: seven bulk calls, one a second."""
SLOW = "watched"
"""The account with a small quota."""
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Site(NamedTuple):
    place: Place
    sandbox: Sandbox
    address: str
    """The printed one, which signs in."""

    @property
    def origin(self) -> str:
        parts = urlsplit(self.address)
        return f"{parts.scheme}://{parts.netloc}"

    def feed(self, account: str) -> Path:
        return self.place.folder / f"{account}.csv"

    def synced(self, account: str, count: int = CARS) -> list[dict[str, str]]:
        """Put the account's cars online once; returns the rows of its feed."""
        rows = cars(count, seed=1)
        write_csv(self.feed(account), rows)
        assert self.place.sync(account, "--full")[0] == 0
        return rows


@contextmanager
def running(folder: Path, accounts: Sequence[str]) -> Iterator[Site]:
    """Start ``okasie up`` with these accounts, each with its own feed of a dozen cars."""
    place = Place(folder)
    with Sandbox([Key(f"key-{name}", name) for name in accounts]) as sandbox:
        for name in accounts:
            write_csv(place.folder / f"{name}.csv", cars(CARS, seed=1))
            slow = "requests_per_minute = 60\nburst_per_second = 1\n" if name == SLOW else ""
            place.account(name, feed=f"{name}.csv", base_url=sandbox.base_url, key=f"key-{name}", extra=slow)
        with Up(place) as up:
            found = poll(lambda: re.search(r"http://127\.0\.0\.1:\d+/\?token=[\w-]+", up.said()), what="the address")
            yield Site(place, sandbox, found[0])
