"""One ``okasie up`` for the tests that only need a running system, with an account for each kind of trouble."""

from __future__ import annotations

import os
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
    "approved", "outdated", "outdated_updates", "rekeyed", "dropped", "paused", "cancelled", "stopped",
    "told", "told_failed", "drawn", "node", "django", "rewritten", "other", "odd", "escaped",
    "firewall", "culprit", "bodiless",
    "calm", "priced", "warned", "awaited", "over_http", "compared", "followed", "newer", "newer_phase",
)  # fmt: skip


CANARIES = ("canary_feed", "canary_sql", "canary_load", "canary_read")
"""Accounts whose sources hold secrets and fail: a feed that refuses its password, a database that is not there, a plugin
that raises with its password in the text, when it is loaded or when it is read."""
DRIPPING = "dripping"
"""An account whose source yields a row now and then, as long as the file ``dripping.held`` exists. It writes a line to
``dripping.reads`` for each read."""
_PLUGINS = """\
import os, pathlib, time


class Dripping:
    def __init__(self, account):
        self.folder = pathlib.Path(os.environ["DRIPPING_FOLDER"])

    def read(self):
        with (self.folder / "dripping.reads").open("a") as log:
            log.write("read\\n")
        yield {"stock_no": "DRIP"}
        while (self.folder / "dripping.held").exists():
            time.sleep(0.02)
            yield {"stock_no": "DRIP"}


def load(account):
    print("loading with", account.source.password.reveal())
    raise RuntimeError(f"no login with {account.source.password.reveal()}")


class Reader:
    def __init__(self, account):
        self.password = account.source.password.reveal()

    def read(self):
        try:
            raise KeyError(self.password)
        except KeyError as error:
            raise RuntimeError(f"no login with {self.password}") from error
"""


def secret(name: str) -> str:
    """An API key that no other text holds, so that finding it means that it leaked."""
    return f"SECRET-{name}-4b1d5e"


_PATIENT = "read_timeout = 300\nwrite_timeout = 600\n"
"""For accounts whose requests a test holds: none of them is sent again."""


class Fleet(NamedTuple):
    place: Place
    up: Up
    sandbox: Sandbox

    @property
    def flower_url(self) -> str:
        return self.up.flower_url


@pytest.fixture(scope="session")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A running system with all `ACCOUNTS`, each with its own feed of a dozen cars."""
    place = Place(tmp_path_factory.mktemp("fleet"))
    names = (*ACCOUNTS, *CANARIES, DRIPPING)
    keys = [Key(secret(n), n, scopes=READ_ONLY) if n == "no_scope" else Key(secret(n), n) for n in names]
    with Sandbox(keys) as sandbox:
        for name in ACCOUNTS:
            write_csv(place.folder / f"{name}.csv", cars(CARS, seed=1))
            place.env[f"KEY_{name}"] = f"SECRET-nobody-{name}-4b1d5e" if "wrong_key" in name else secret(name)
            if name != "priced":  # most tests change a price to any other one
                place.env[f"OKASIE_ACCOUNTS__{name.upper()}__GUARD__MAX_PRICE_CHANGE_PERCENT"] = "off"
            extra = _PATIENT if name in ("interrupted", "watched", "stopped") else ""
            place.account(name, feed=f"{name}.csv", base_url=sandbox.base_url, key=f"env:KEY_{name}", extra=extra)
        _canaries(place, sandbox)
        url = 'url = "rewritten.csv"\n'
        place.config.write_text(place.config.read_text().replace(url, f"{url}settle_seconds = 60\n"))
        with Up(place) as up:
            up.wait_for_flower()
            yield Fleet(place, up, sandbox)


def _canaries(place: Place, sandbox: Sandbox) -> None:
    host = sandbox.base_url.removeprefix("http://")
    place.env |= {
        "FEED_URL": f"http://me:{secret('feed_url')}@{host}/feed.csv?token={secret('feed_token')}",
        "FEED_HEADER": f"Bearer {secret('feed_header')}",
        "SQL_URL": f"postgresql://me:{secret('sql_url')}@127.0.0.1:1/cars",
        "PLUGIN_PASSWORD": secret("plugin"),
        "DRIPPING_FOLDER": str(place.folder),
    }
    sources = {
        "canary_feed": 'type = "csv"\nurl = "env:FEED_URL"\nheaders = { X-Token = "env:FEED_HEADER" }',
        "canary_sql": 'type = "sql"\nurl = "env:SQL_URL"\nquery = "select 1"',
        "canary_load": 'type = "python:canary_load"\npassword = "env:PLUGIN_PASSWORD"',
        DRIPPING: 'type = "python:dripping"\npush_read_seconds = 280',
        "canary_read": 'type = "python:canary_read"\npassword = "env:PLUGIN_PASSWORD"',
    }
    with place.config.open("a") as config:
        for name, source in sources.items():
            place.env[f"KEY_{name}"] = secret(name)
            config.write(
                f'[accounts.{name}]\napi_key = "env:KEY_{name}"\nbase_url = "{sandbox.base_url}"\n'
                f'incremental_every = "off"\nfull_at = "off"\n'
                f'[accounts.{name}.source]\nreference = "stock_no"\n{source}\n\n'
            )
    # As pip would leave a package that brings two sources.
    plugins = place.folder / "plugins"
    metadata = plugins / "canary_plugins-1.dist-info"
    metadata.mkdir(parents=True)
    (plugins / "canary_plugins.py").write_text(_PLUGINS)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: canary-plugins\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text(
        "[okasie_tasks.sources]\ncanary_load = canary_plugins:load\ncanary_read = canary_plugins:Reader\n"
        "dripping = canary_plugins:Dripping\n"
    )
    place.env["PYTHONPATH"] = os.pathsep.join(filter(None, (str(plugins), os.environ.get("PYTHONPATH", ""))))


def feed(place: Place, name: str) -> Path:
    return place.folder / f"{name}.csv"
