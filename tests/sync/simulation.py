"""A dealer, a marketplace and an account in one thread, with everything that people and accidents do to them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from random import Random
from typing import Any, Final

import redis

from okasie_tasks.errors import RetryLater, SourceError
from okasie_tasks.store.chunk_steps import ChunkSteps
from okasie_tasks.store.controls import HeldPlans
from okasie_tasks.store.history import History
from okasie_tasks.store.records import Run
from okasie_tasks.store.requests import Requests
from okasie_tasks.store.runs import Runs
from okasie_tasks.store.urgent_queue import UrgentQueue
from okasie_tasks.store.write_locks import WriteLocks
from okasie_tasks.sync import phases, watchdog
from okasie_tasks.sync.context import AccountContext, Part
from okasie_tasks.sync.spool import changes_of
from okasie_tasks.urgent import accept
from okasie_tasks.urgent.sender import Sender
from tests.sync.driver import _one as do_part
from tests.sync.driver import drive, finish
from tests.sync.fake_marketplace import FakeMarketplace, Row
from tests.sync.model import Model
from tests.sync.model_cars import Bench, Policy, Running, Said, Stamp
from tests.sync.small import ACCOUNT, ANCHOR, SmallLedger, account_policy
from tests.sync.stock import SOLD, Clock, Inventory, Reading, content_of, raw_car
from tests.sync.support import Killed, SteppingRedis

_PREFIX: Final = "okasie:"
_HARMLESS: Final = frozenset({"", "429", "no permit"})


class Simulation(Bench):
    """``crashed``: the run whose worker died, until it is recovered or given up."""

    def __init__(
        self,
        plain: redis.Redis,
        *,
        policy: Policy,
        missing_reads: int,
        block_rows: int,
        versioned: bool,
        page_size: int,
    ) -> None:
        plain.flushdb()
        plain.hset(f"{_PREFIX}account:{ACCOUNT}", "rows", 1)  # so that a run of few cars has one partition
        plain.hset(f"{_PREFIX}account:{ACCOUNT}", "take_over", "decided")  # a story of its own: `test_guards`
        self.redis, self.clock, self.versioned = plain, Clock(), versioned
        self.model = Model(self, policy=policy, missing_reads=missing_reads)
        self.market = FakeMarketplace(self.clock, self.model, page_size=page_size)
        self.inventory = Inventory(self.clock, self._opened, block_rows=block_rows)
        stepping: Any = SteppingRedis(plain, self.clock)  # type: ignore[arg-type]
        self.policy = account_policy(policy, missing_reads)
        self.ctx, self.plain = self._ctx(stepping), self._ctx(plain)
        self.crashed: str | None = None
        self._run = ""
        self._messages = 0
        self.redelivered: Callable[[], None] | None = None
        """The last message, for once more."""
        self.put(ANCHOR, raw_car(ANCHOR, 1, "Anchor", "GENT", 0))

    def _ctx(self, client: redis.Redis) -> AccountContext:
        runs, ledger = Runs(client, prefix=_PREFIX), SmallLedger(client, prefix=_PREFIX, account=ACCOUNT)
        queue, locks = (
            UrgentQueue(client, prefix=_PREFIX, account=ACCOUNT),
            WriteLocks(client, prefix=_PREFIX, account=ACCOUNT),
        )
        history = History(client, prefix=_PREFIX, account=ACCOUNT)
        return AccountContext(
            policy=self.policy, runs=runs, ledger=ledger, market=self.market, source=self.inventory.open,
            urgent_queue=queue, pushes=Requests(client, prefix=_PREFIX), locks=locks,
            plans=HeldPlans(client, prefix=_PREFIX), write_back=lambda: None, history=history,
            chunks=ChunkSteps(client, parts=runs.parts, ledger=ledger, locks=locks, urgent_queue=queue, history=history),
        )  # fmt: skip

    # -- what the model asks ---------------------------------------------------------------------------------------

    def running(self) -> Running:
        record = self.plain.runs.get(self._run)
        if record is None:
            return Running("", 0, 0, False, {})
        planned = changes_of(self.plain, self._run, phases.blocks_of(self.plain.runs.get(self._run)))
        plan = {change.reference: change.action for change in planned if change.reason}
        full = record.fact("walked_all") == 1
        return Running(record.id, record.started_ms, record.fact("source_began_ms"), full, plan)

    def planned(self) -> list[str]:
        """What the last look found to do."""
        return list(self.running().plan)

    def waiting(self, reference: str) -> Stamp | None:
        change = self.plain.urgent_queue.waiting([reference]).get(reference)
        return change and Stamp(change.own, change.seen_ms)

    def _opened(self, reading: Reading) -> None:
        record = self.plain.runs.get(self._run)
        if record is not None and record.open and record.stage == "load":
            self.model.loaded(reading)

    # -- the dealer ------------------------------------------------------------------------------------------------

    def put(self, reference: str, *rows: str) -> None:
        """These rows are all that the source has of the reference now."""
        self.inventory.rows[reference] = list(rows)
        self.inventory.versions[reference] = self.clock.now_ms if self.versioned else 0

    def remove(self, reference: str) -> None:
        self.inventory.rows.pop(reference, None)

    # -- the marketplace's own people ------------------------------------------------------------------------------

    def edit(self, reference: str, kind: str, **changes: Any) -> None:
        row = self.market.rows[reference]
        self.market.rows[reference] = Row(row.identity, row.body | changes, self.clock.now_ms, row.provider)
        self.model.edited(reference, kind, self.clock.now_ms)

    # -- runs ------------------------------------------------------------------------------------------------------

    def run(self, mode: str, *, plan_only: bool = False) -> Run | None:
        """One run, to its end or to its death; what was crashed before is recovered first."""
        while self.crashed:
            self.recover()
        self.model.began()
        missed = {name: car.missed for name, car in self.model.cars.items()}
        asked, _ = self.plain.runs.request(ACCOUNT, mode, plan_only=plan_only)
        self._run = asked
        faults, broken, writes = list(self.market.faults), self.inventory.broken, self.market.writes
        record = self._work(lambda: drive(self.ctx, mode, plan_only=plan_only, wait=self.clock.sleep))
        if plan_only:
            assert self.market.writes == writes, "a look at the plan writes nothing"
            for name, car in self.model.cars.items():
                car.missed = missed.get(name, 0)
            self.model.loads.clear()
        if record is None:
            return None
        met = faults[: len(faults) - len(self.market.faults)]
        clean = record.state == "done" and _HARMLESS.issuperset(met) and not broken
        if not plan_only:
            self.model.ended(self.market.rows, clean=clean, full=record.fact("walked_all") == 1)
        return record

    def _work(self, work: Callable[[], Run]) -> Run | None:
        self.model.written.clear()
        try:
            return work()
        except Killed:
            self.model.died()
            self.crashed = self.plain.runs.active(ACCOUNT) or self.plain.runs.waiting(ACCOUNT)
            return None
        finally:
            self.clock.revive()

    def recover(self) -> Run | None:
        """The leases run out, the watchdog finds what was lost, and the run goes on to its end."""
        run, self.crashed = self.crashed, None
        if run is None:
            return None
        self.clock.sleep(310)
        record = self._work(lambda: self._finish_run(run))
        if record is not None and not record.plan_only:
            self.model.ended(self.market.rows, clean=False)
        return record

    def _finish_run(self, run: str) -> Run:
        begun = self.plain.runs.begin(ACCOUNT)
        assert begun in (None, run)
        for _, stage, parts in list(watchdog.look(self.ctx, ACCOUNT)):
            for number in parts:
                do_part(self.ctx, Part(run, stage, number, f"again-{number}"), Random(0), self.clock.sleep)
                phases.advance(self.ctx, run)
        return finish(self.ctx, run, wait=self.clock.sleep)

    def give_up(self) -> None:
        """Somebody ends the run whose worker died."""
        self.plain.runs.begin(ACCOUNT)
        record = self.plain.runs.get(self.crashed or "")
        self.crashed = None
        if record is not None:
            self.plain.runs.end(record, "failed")
            self.model.ended(self.market.rows, clean=False)

    # -- the urgent lane -------------------------------------------------------------------------------------------

    def push_rows(self, references: Sequence[str]) -> None:
        """``okasie.push`` with references: the source is read."""
        name = self._message()

        def deliver() -> None:
            reads: list[Reading] = []
            opened, self.inventory._opened = self.inventory._opened, reads.append
            try:
                self._accept(lambda: accept.accept_push(self.ctx, name, references=list(references)))
            finally:
                self.inventory._opened = opened
                for reading in reads:
                    self._tell(reading, references)

        self._deliver(deliver)

    def _tell(self, reading: Reading, references: Sequence[str]) -> None:
        for reference in references:
            content = reading.says.get(reference)
            if content and content != "invalid":
                stamp = Stamp(reading.versions.get(reference, 0), reading.opened_ms)
                sold = json.loads(content)["status"] == SOLD
                self.model.said(reference, Said(None if sold else content, stamp))

    def push_listings(self, cars: dict[str, str], version: int) -> None:
        """``okasie.push`` with listings."""
        name = self._message()
        rows = [json.loads(car) for car in cars.values()]

        def deliver() -> None:
            self._accept(lambda: accept.accept_push(self.ctx, name, listings=rows, version=version))
            stamp = Stamp(version, self.plain.pushes.get(name).at_ms)
            for reference, car in cars.items():
                self.model.said(reference, Said(content_of(car), stamp, given=True))

        self._deliver(deliver)

    def sell(self, references: Sequence[str]) -> None:
        name = self._message()

        def deliver() -> None:
            self._accept(lambda: accept.accept_sell(self.ctx, name, references=list(references)))
            for reference in references:
                self.model.said(reference, Said(None, Stamp(0, self.plain.pushes.get(name).at_ms)))

        self._deliver(deliver)

    def _message(self) -> str:
        self._messages += 1
        return f"push-{self._messages}"

    def _deliver(self, deliver: Callable[[], None]) -> None:
        self.redelivered = deliver
        self.model.calm = False
        deliver()

    def _accept(self, accept: Callable[[], None]) -> None:
        try:
            accept()
        except Killed:
            self.clock.revive()
            self._accept(accept)  # the broker delivers it again
        except SourceError:
            pass  # told to the caller; it came to nothing

    def send(self, patience: int) -> None:
        """The sender's turns. ``patience``: how often it comes again when it has to wait."""
        self.model.written.clear()
        while True:
            self._messages += 1
            try:
                Sender(self.ctx, f"sender-{self._messages}", rng=Random(0), sleep=self.clock.sleep).run()
            except RetryLater as later:
                if not patience:
                    return
                patience -= 1
                self.clock.sleep(max(later.seconds, 0.05))
            except Killed:
                self.model.died()
                self.clock.revive()
                return
            else:
                return

    # -- the end of the world --------------------------------------------------------------------------------------

    def flush(self) -> None:
        """Redis loses everything."""
        self.redis.flushdb()
        self.redis.hset(f"{_PREFIX}account:{ACCOUNT}", "take_over", "decided")
        self.crashed = self.redelivered = None
        self.model.flushed()
        self.model.began()

    def heal(self) -> None:
        """Nothing goes wrong any more, and everything that waits is done."""
        self.market.faults.clear()
        self.inventory.broken = self.inventory.unreadable = 0
        self.market.refused_prices.clear()
        self.market.refused_dealers.clear()
        self.clock.revive()
        self.recover()
        self.clock.sleep(60)
        self.send(patience=50)
        assert not self.plain.urgent_queue.count(), "a change waits for ever"
