"""One ``okasie up`` for the tests that only need a running system, with an account for each kind of trouble."""

from __future__ import annotations

import contextlib
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from okasie_tasks.sandbox import Key, Sandbox
from okasie_tasks.sandbox.sample import cars, write_csv
from tests.support import Place, Up

CARS = 12
READ_ONLY = ("read:listings", "read:locations")
ACCOUNTS = (
    "good", "missing", "encoding", "quoting", "columns", "html", "duplicate", "wrong_key", "no_scope",
    "api_500", "api_truncated", "api_html", "api_data", "writes_500", "writes_refused", "second_up", "by_hand",
    "by_client", "folded", "guarded", "empty", "foreign", "forgotten", "moved",
    "interrupted", "pushed", "pushed_wrong_key", "pushed_500", "many", "sold", "beside",
    "watched", "explained", "refused", "measured",
    "approved", "outdated", "dropped", "paused", "cancelled", "stopped",
    "told", "told_failed", "drawn", "node", "django",
)  # fmt: skip


def secret(name: str) -> str:
    """An API key that no other text holds, so that finding it means that it leaked."""
    return f"SECRET-{name}-4b1d5e"


class Fleet(NamedTuple):
    place: Place
    up: Up
    sandbox: Sandbox

    @property
    def flower_url(self) -> str:
        (found,) = re.findall(r"Flower at (http://127\.0\.0\.1:\d+)", self.up.said())
        return str(found)


@pytest.fixture(scope="session")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A running system with all `ACCOUNTS`, each with its own feed of a dozen cars; Flower's usual port is taken."""
    place = Place(tmp_path_factory.mktemp("fleet"))
    keys = [Key(secret(n), n, scopes=READ_ONLY) if n == "no_scope" else Key(secret(n), n) for n in ACCOUNTS]
    with Sandbox(keys) as sandbox, socket.socket() as squatter:
        for name in ACCOUNTS:
            write_csv(place.folder / f"{name}.csv", cars(CARS, seed=1))
            place.env[f"KEY_{name}"] = f"SECRET-nobody-{name}-4b1d5e" if "wrong_key" in name else secret(name)
            place.account(name, feed=f"{name}.csv", base_url=sandbox.base_url, key=f"env:KEY_{name}")
        squatter.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        _take(squatter)
        with Up(place) as up:
            yield Fleet(place, up, sandbox)


def _take(squatter: socket.socket) -> None:
    """Take Flower's port, unless somebody else on this machine has it already: taken it is either way."""
    with contextlib.suppress(OSError):
        squatter.bind(("127.0.0.1", 5555))
        squatter.listen()


def feed(place: Place, name: str) -> Path:
    return place.folder / f"{name}.csv"
