"""A dealer's feed, a real sandbox over HTTP and a real Redis, wired as production wires them, without Celery.

`HttpScenario.run` drives a whole run in this thread, in some tenths of a second.
"""

from __future__ import annotations

import csv
import json
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any, Final
from uuid import uuid4

import redis
import requests

from okasie_tasks.core.listing import bulk_item
from okasie_tasks.reports.runs import run_document
from okasie_tasks.sandbox import Key, Sandbox
from okasie_tasks.sandbox.api import Write
from okasie_tasks.sandbox.rendering import Quirks
from okasie_tasks.sandbox.sample import COLUMNS, cars, config_text
from okasie_tasks.services import Services, current_run
from okasie_tasks.settings import load_settings
from okasie_tasks.store.records import Run
from tests.sync.driver import finish

ACCOUNT: Final = "dex"
SECRET: Final = "http-world-secret"
OVERLAP_SECONDS: Final = 120
"""The account's ``overlap``, as it is when nothing is said."""

_FAST: Final = "requests_per_minute = 1000000\nburst_per_second = 100000\n"
_NO_GUARD: Final = f"""
[accounts.{ACCOUNT}.guard]
max_sold_percent = 100
max_sold_count = 1000000
free_sold_count = 1000000
max_source_shrink_percent = 100
first_full_sells = "allow"
max_changed_percent = 100
max_field_loss_percent = 100
max_price_change_percent = "off"
"""
_FEATURES: Final = (
    "comfort:elektrische ramen", "comfort:airco", "technology:Apple CarPlay", "safety:ABS", "exterior:trekhaak",
    "interior:zetelverwarming", "stuurbekrachtiging", "technology:gps-navigatie",
)  # fmt: skip
_NOTES: Final = (
    "",
    "  Eerste eigenaar. ",
    "Volledig  onderhouden;  met Car-Pass.",
    "\tNieuw binnen, nog te poetsen.  ",
)

Row = dict[str, str]


def varied(count: int, *, seed: int, first: int = 1) -> list[Row]:
    """Sample cars with what a marketplace likes to render anew: features, odd powers, untrimmed text."""
    rows = cars(count, seed=seed, first=first)
    for row in rows:
        rng = Random(f"{seed}:{row['stock_no']}")
        row["features"] = "|".join(rng.sample(_FEATURES, rng.randint(0, 5)))
        row["kw"] = rng.choice(("85", "51.5", "77", "110.3", "81", "135"))
        row["notes"] = rng.choice(_NOTES)
        row["colour"] = rng.choice((f" {row['colour']}", f"donker-{row['colour']}", row["colour"]))
    return rows


class SteppedClock:
    """The sandbox's clock: goes on by itself, and jumps when told."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


class HttpScenario:
    """Use as a context manager. ``rows`` is the feed: change it in place, `run` writes it anew."""

    def __init__(
        self, folder: Path, redis_url: str, *, rows: Sequence[Row], quirks: Mapping[str, Any] | None = None,
        guarded: bool = False, guard: str = "", account: str = "", more: str = "",
        environ: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        self.rows = list(rows)
        self.clock = SteppedClock()
        self.sandbox = Sandbox([Key(SECRET, ACCOUNT)], limit=0, burst_per_second=1_000_000, clock=self.clock)
        self._feed = folder / "feed.csv"
        self._redis_url, self.prefix = redis_url, f"world-{uuid4().hex[:12]}:"
        # Most tests change a price to any other one: only those of its own guard leave this guard on.
        guard += "" if "max_price_change" in guard else '\nmax_price_change_percent = "off"'
        extra = _FAST + account + (f"[accounts.{ACCOUNT}.guard]\n{guard}\n" if guarded else _NO_GUARD)
        text = config_text(
            feed=self._feed.name, base_url=self.sandbox.base_url, key=SECRET, account=ACCOUNT, extra=extra
        )
        text += more
        self.folder = folder
        config = folder / "okasie.toml"
        config.write_text(f'[redis]\nurl = "{redis_url}"\nkey_prefix = "{self.prefix}"\n\n{text}', encoding="utf-8")
        self.services = Services(load_settings(config, environ=environ or {}))
        self.services.check_layout()
        self.ctx = self.services.context(ACCOUNT)
        self._first_quirks = quirks or {}

    def __enter__(self) -> HttpScenario:
        self.sandbox.__enter__()
        self.quirks(**self._first_quirks)
        return self

    def __exit__(self, *_: object) -> None:
        self.ctx.market.connections.close()  # type: ignore[attr-defined]
        self.services.redis.close()
        self.sandbox.stop()

    # -- what happens ----------------------------------------------------------------------------------------------

    def run(self, mode: str = "full", *, step: bool = True, **ask: Any) -> Run:
        """Write the feed and play a run of it to its end. ``step``: what was written before is no news any more.

        ``ask``: what else `Runs.request` takes.
        """
        if step:
            self.clock.ahead += OVERLAP_SECONDS * 5
        self._write_feed()
        asked, _ = self.ctx.runs.request(ACCOUNT, mode, **ask)
        assert self.ctx.runs.begin(ACCOUNT) == asked, "another run is at work"
        token = current_run.set(asked)
        try:
            return finish(self.ctx, asked)
        finally:
            current_run.reset(token)

    def good_run(self, mode: str = "full", *, step: bool = True) -> dict[str, Any]:
        """A run that must succeed; its document."""
        run = self.run(mode, step=step)
        document = run_document(self.ctx.runs, run)
        assert (run.state, document["error"]) == ("done", None), document
        return document

    def quirks(self, **wanted: Any) -> None:
        self._post("quirks", wanted)

    def edit(self, *edits: dict[str, Any]) -> None:
        """Edits on the marketplace's side."""
        self._post("listings", {"key": ACCOUNT, "edits": list(edits)})

    def lose_redis(self) -> None:
        """Everything that this world has in Redis is gone."""
        with redis.Redis.from_url(self._redis_url) as client:
            for key in client.scan_iter(f"{self.prefix}*", count=1000):
                client.delete(key)

    # -- what can be seen ------------------------------------------------------------------------------------------

    @property
    def writes(self) -> list[Write]:
        """Every listing that was to be written so far, as the sandbox saw it."""
        return list(self.sandbox.api.writes[ACCOUNT])

    def requests(self, since: int = 0) -> list[str]:
        """The kinds of the requests that the sandbox saw, from the ``since``-th on."""
        return [str(request["kind"]) for request in list(self.sandbox.meters[ACCOUNT].requests)[since:]]

    def stored(self) -> list[dict[str, Any]]:
        """Every listing that the sandbox holds."""
        answer = requests.get(f"{self.sandbox.admin_url}/listings", params={"key": ACCOUNT}, timeout=60)
        return [json.loads(line) for line in answer.iter_lines()]

    def shown(self) -> list[dict[str, Any]]:
        """What the marketplace returns now: the first 200 live listings."""
        answer = requests.get(
            f"{self.sandbox.base_url}/listings", params={"pageSize": 200}, headers={"X-API-Key": SECRET}, timeout=60
        )
        found: list[dict[str, Any]] = answer.json()["data"]
        return found

    def standing(self) -> dict[str, dict[str, Any]]:
        """The bodies of the listings that are live and not somebody else's, by reference."""
        return {
            row["externalReference"]: row["body"]
            for row in self.stored()
            if row["status"] != "sold" and row["externalProvider"] != "somebody-else"
        }

    def wanted(self) -> dict[str, dict[str, Any]]:
        """What should stand: the body of every valid row of the feed, by reference."""
        self._write_feed()
        found = {}
        for row in self.ctx.source().rows():
            if row.listing is not None:
                body = json.loads(bulk_item(row.listing))
                found[body.pop("externalReference")] = body
        return found

    # -- small parts -----------------------------------------------------------------------------------------------

    def _write_feed(self) -> None:
        part = self._feed.with_suffix(".part")
        with part.open("w", encoding="utf-8", newline="") as file:
            columns = dict.fromkeys((*COLUMNS, "features", *(self.rows[0] if self.rows else ())))
            writer = csv.DictWriter(file, columns, delimiter=";")
            writer.writeheader()
            writer.writerows(self.rows)
        written = time.time() - 10  # a run reads it at once
        os.utime(part, (written, written))
        part.replace(self._feed)

    def _post(self, what: str, body: dict[str, Any] | list[dict[str, Any]]) -> None:
        requests.post(f"{self.sandbox.admin_url}/{what}", json=body, timeout=60).raise_for_status()


RENDERING: Final = {"round_power": True, "trim_text": True, "respell": True, "reorder_features": True}
assert set(RENDERING) <= set(Quirks.__struct_fields__)
