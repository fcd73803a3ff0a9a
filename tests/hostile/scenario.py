"""A dealer whose feed or table is mangled, a marketplace whose answers are, and an account that works between them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any, Final
from uuid import uuid4

from okasie_tasks.core.listing import bulk_item
from okasie_tasks.errors import OkasieError, RetryLater
from okasie_tasks.reports.runs import run_document
from okasie_tasks.services import Services, current_run
from okasie_tasks.settings import load_settings
from okasie_tasks.sources.mapping import RowMapping
from okasie_tasks.store.records import Run
from okasie_tasks.urgent import accept
from okasie_tasks.urgent.sender import Sender
from tests.hostile.clock import ClockedRedis, WaitingClock
from tests.hostile.feed import Feed
from tests.sync.driver import finish
from tests.sync.http_scenario import ACCOUNT, HttpScenario, Row

MOST_WAITS: Final = 1_000
"""Of one run: a run that waits longer than this for anything does not end."""
_TABLE: Final = f'\n[accounts.{ACCOUNT}.source.write_back]\ntable = "cars"\n'


class HostileScenario(HttpScenario):
    """``conflict``: the account's policy; with ``table`` the stock is a table that edits are written back to."""

    def __init__(
        self, folder: Path, redis_url: str, *, rows: list[Row], rng: Random, guarded: bool, conflict: str, table: bool
    ) -> None:
        super().__init__(folder, redis_url, rows=[], guarded=guarded, account=f'conflict = "{conflict}"\n')
        self.clock: WaitingClock = WaitingClock()
        self.sandbox.clock = self.sandbox.api._clock = self.clock
        config = folder / "okasie.toml"
        if table:
            text = config.read_text(encoding="utf-8").replace('type = "csv"', 'type = "sql"')
            text = text.replace(
                'url = "feed.csv"', f'url = "sqlite:///{folder}/stock.db"\nquery = "SELECT * FROM cars"'
            )
            config.write_text(text.replace('delimiter = ";"\n', "") + _TABLE, encoding="utf-8")
        self.services.redis.close()
        self.services = Services(load_settings(config, environ={}))
        self.services.__dict__["redis"] = ClockedRedis.at(redis_url, self.clock)
        self.ctx = self.services.context(ACCOUNT)._replace(source=self._source)
        self.ctx.market._max_wait_seconds = 0.0  # type: ignore[attr-defined]
        self.feed = Feed(folder / ("stock.db" if table else "feed.csv"), rows, self.clock, rng)
        self.clock.on_step = self._step
        self._luck = Random(0)
        """The product's own, so that what happens does not depend on how often it waits."""
        self.reading: list[Callable[[], None]] = []
        """What happens in the middle of the next reads of the source, one at a time."""
        self.between: dict[int, Callable[[], None]] = {}
        """What happens before a part of the run, by its number."""
        self.ends_at = 0.0
        """When the faults end by themselves."""

    # -- what happens ----------------------------------------------------------------------------------------------

    def play(self, mode: str) -> Run:
        """A run to its end; time is stepped where a worker would wait."""
        asked, _ = self.ctx.runs.request(ACCOUNT, mode)
        assert self.ctx.runs.begin(ACCOUNT) == asked, "another run is at work"
        token, self._parts, self._waits = current_run.set(asked), 0, 0
        try:
            return finish(self.ctx, asked, wait=self._wait, rng=self._luck, before=self._before)
        finally:
            current_run.reset(token)

    def document(self, run: Run) -> dict[str, Any]:
        return run_document(self.ctx.runs, run)

    def push(self, references: list[str]) -> str:
        return self._accepted(lambda name: accept.accept_push(self.ctx, name, references=references))

    def push_listings(self, listings: list[dict[str, Any]]) -> str:
        return self._accepted(lambda name: accept.accept_push(self.ctx, name, listings=listings))

    def sell(self, reference: str) -> str:
        return self._accepted(lambda name: accept.accept_sell(self.ctx, name, references=[reference]))

    def send(self, patience: int) -> None:
        """The sender's turns, at most so many."""
        for number in range(patience):
            try:
                Sender(self.ctx, f"sender-{number}", rng=self._luck, sleep=self.clock.wait).run()
            except RetryLater as later:
                self.clock.wait(max(later.seconds, 0.05))
            except OkasieError:
                self.clock.wait(60)
            if not self.ctx.urgent_queue.count():
                return

    def faults(self, *rules: dict[str, Any], seconds: float = 0.0) -> None:
        """Add rules, until so many seconds have passed on the stepped clock."""
        self._post("faults", list(rules))
        self.ends_at = self.clock() + seconds

    def no_faults(self) -> None:
        self.sandbox.faults._rules.clear()

    def bodies(self, rows: dict[str, Row]) -> dict[str, dict[str, Any]]:
        """What the marketplace should hold of these rows, by reference."""
        mapping = RowMapping(
            self.services.account(ACCOUNT), columns=self.feed.columns, current_year=datetime.now(UTC).year
        )
        found = {}
        for name, row in rows.items():
            listing = mapping.row(row, 1, "").listing
            assert listing is not None, row
            found[name] = json.loads(bulk_item(listing))
            del found[name]["externalReference"]
        return found

    # -- parts -----------------------------------------------------------------------------------------------------

    def _accepted(self, ask: Callable[[str], None]) -> str:
        name = uuid4().hex
        with suppress(OkasieError):  # reported to the caller: the source could not be read
            ask(name)
        return name

    def _wait(self, seconds: float) -> None:
        self._waits += 1
        assert self._waits < MOST_WAITS, "the run waits for ever"
        self.clock.wait(max(seconds, 0.02))

    def _before(self) -> None:
        self._parts += 1
        if happens := self.between.pop(self._parts, None):
            happens()

    def _step(self) -> None:
        self.feed.step()
        if self.ends_at <= self.clock():
            self.no_faults()

    def _source(self) -> Any:
        """The source, in the middle of whose reads something may happen."""
        source: Any = self.services.source(ACCOUNT)
        rows = source.rows

        def watched(*args: Any, **more: Any) -> Iterator[Any]:
            for number, row in enumerate(rows(*args, **more)):
                if number == 3 and self.reading:
                    self.reading.pop(0)()
                yield row

        source.rows = watched
        return source

    def _write_feed(self) -> None:
        """`HttpScenario` writes its own; here the feed is what `Feed` makes of it."""
