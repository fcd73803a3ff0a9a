"""One round: a dealer, a marketplace, a run's workers, pushers and sellers, and everything they said."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from random import Random
from typing import Final, NamedTuple

import redis

from okasie_tasks.core.guards import Limits
from okasie_tasks.errors import RetryLater
from okasie_tasks.store.chunk_steps import ChunkSteps
from okasie_tasks.store.controls import HeldPlans
from okasie_tasks.store.history import History
from okasie_tasks.store.ledger import Ledger
from okasie_tasks.store.requests import Requests
from okasie_tasks.store.runs import Runs
from okasie_tasks.store.urgent_queue import UrgentQueue
from okasie_tasks.store.write_locks import WriteLocks
from okasie_tasks.sync import phases, watchdog
from okasie_tasks.sync.context import AccountContext, AccountPolicy, Part
from okasie_tasks.sync.executor import perform
from okasie_tasks.urgent import accept
from okasie_tasks.urgent.sender import Sender
from tests.sync.market import FakeMarket, Inventory, raw_listing
from tests.sync.oracle import Statement
from tests.sync.support import Actor, Scheduler, SteppingRedis

ACCOUNT: Final = "dex"
ANCHOR: Final = "ANCHOR"
"""A car that nobody touches: an empty source sells nothing."""
_PREFIX: Final = "okasie:"
_POLICY: Final = AccountPolicy(
    account=ACCOUNT, market="fake", overlap_seconds=60, conflict="local", missing_reads=1, sells=True,
    limits=Limits(
        max_sold_percent=100, max_sold_count=1000, free_sold_count=1000, max_source_shrink_percent=100,
        max_changed_percent=100, free_changed_count=1000, max_field_loss_percent=100, free_field_loss_count=1000,
    ),
)  # fmt: skip


class Message(NamedTuple):
    """One ``okasie.push`` or ``okasie.sell``; ``prices`` are handed in, else the source is read."""

    id: str
    kind: str
    references: tuple[str, ...]
    prices: tuple[int, ...] = ()


class Scenario:
    def __init__(self, plain: redis.Redis, seed: int, *, versioned: bool = False) -> None:
        plain.flushall()
        self.rng = Random(seed)
        self.references = [f"R{number}" for number in range(self.rng.randint(2, 5))]
        self.scheduler = Scheduler(Random(self.rng.random()))
        self.inventory = Inventory(
            self.scheduler, references=[*self.references, ANCHOR],
            lazy=self.rng.random() < 0.5, block_rows=2 if self.rng.random() < 0.5 else 5_000, versioned=versioned,
        )  # fmt: skip
        self.market = FakeMarket(self.scheduler, page_size=self.rng.choice((2, 200)))
        self.ctx = self._ctx(SteppingRedis(plain, self.scheduler))
        self.plain = self._ctx(plain)
        self.messages: list[Message] = []
        self.runs: list[str] = []
        self.quiet_runs: set[str] = set()
        self.deaths = 0
        """Processes that are still to die."""
        self._died: set[str] = set()
        self._at_work: dict[str, list[Message]] = {}
        self._queue: list[tuple[str, str, int]] = []
        self._names = self._price = 0
        self.scheduler.may_die = self._may_die

    def _ctx(self, client: redis.Redis) -> AccountContext:
        runs, ledger = Runs(client, prefix=_PREFIX), Ledger(client, prefix=_PREFIX, account=ACCOUNT)
        queue, locks = (
            UrgentQueue(client, prefix=_PREFIX, account=ACCOUNT),
            WriteLocks(client, prefix=_PREFIX, account=ACCOUNT),
        )
        history = History(client, prefix=_PREFIX, account=ACCOUNT)
        return AccountContext(
            policy=_POLICY, runs=runs, ledger=ledger, market=self.market, source=self.inventory.open,
            urgent_queue=queue, pushes=Requests(client, prefix=_PREFIX), locks=locks,
            plans=HeldPlans(client, prefix=_PREFIX), write_back=lambda: None, history=history,
            chunks=ChunkSteps(client, parts=runs.parts, ledger=ledger, locks=locks, urgent_queue=queue, history=history),
        )  # fmt: skip

    # -- what happens ----------------------------------------------------------------------------------------------

    def play(self) -> None:
        """Run every actor that was added, with workers and a watchdog beside them, until nothing is left to do."""
        for _ in range(2):
            self._add_worker()
        self.scheduler.add(self._name("watchdog"), self._watch, daemon=True)
        self.scheduler.run(self._settled)

    def quiet_run(self) -> None:
        """A full run beside which nothing else happens."""
        known = len(self.runs)
        self.market.losses = self.market.refusals = self.deaths = 0
        self.scheduler.add("runner", self._request_run)
        self.play()
        self.quiet_runs.update(self.runs[known:])

    def new_price(self) -> int:
        self._price += 1
        return 10_000 + self._price

    def add_dealer(self, changes: int) -> None:
        rng = Random(self.rng.random())

        def deal() -> None:
            for _ in range(changes):
                self._idle(rng)
                self.change(rng)

        self.scheduler.add(self._name("dealer"), deal)

    def change(self, rng: Random) -> None:
        reference = rng.choice(self.references)
        if self.inventory.versioned:
            self.inventory.prices[reference] = self.inventory.prices.get(reference, 10_000) + rng.randint(1, 5_000)
        elif reference in self.inventory.prices and rng.random() < 0.4:
            del self.inventory.prices[reference]
        else:
            self.inventory.prices[reference] = self.new_price()

    def add_runner(self, count: int) -> None:
        rng = Random(self.rng.random())

        def run() -> None:
            for _ in range(count):
                self._idle(rng)
                self._request_run()

        self.scheduler.add(self._name("runner"), run)

    def add_pusher(self, kinds: Sequence[str]) -> None:
        messages = [self._message(kind) for kind in kinds]
        self.messages += messages
        self._deliver(messages)

    def _message(self, kind: str) -> Message:
        references = tuple(self.rng.sample(self.references, self.rng.randint(1, min(3, len(self.references)))))
        prices = tuple(self.new_price() for _ in references) if kind == "given" else ()
        if prices and self.inventory.versioned:
            prices = (self.rng.randint(10_001, 20_000),) * len(references)
        return Message(f"push-{len(self.messages)}-{self.rng.randrange(10**9)}", kind, references, prices)

    # -- the actors ------------------------------------------------------------------------------------------------

    def _idle(self, rng: Random) -> None:
        for _ in range(rng.choice((0, 0, 5, 40))):
            self.scheduler.step()

    def _deliver(self, messages: list[Message]) -> None:
        name, rng = self._name("pusher"), Random(self.rng.random())
        self._at_work[name] = messages

        def work() -> None:
            while messages:
                self._idle(rng)
                message = messages[0]
                self.inventory.labels[name] = ("push", message.id)
                self._accept(message)
                self._send(message.id, rng)
                del messages[0]

        self.scheduler.add(name, work)

    def _accept(self, message: Message) -> None:
        references = list(message.references)
        if message.kind == "sell":
            accept.accept_sell(self.ctx, message.id, references=references)
        elif message.kind == "read":
            accept.accept_push(self.ctx, message.id, references=references)
        else:
            rows = [raw_listing(name, price) for name, price in zip(references, message.prices, strict=True)]
            version = message.prices[0] if self.inventory.versioned else 0
            accept.accept_push(self.ctx, message.id, listings=rows, version=version)

    def _send(self, token: str, rng: Random) -> None:
        while True:
            try:
                Sender(self.ctx, token, rng=rng, sleep=self.scheduler.sleep).run()
            except RetryLater as later:
                self.scheduler.sleep(max(later.seconds, 0.3))
            else:
                return

    def _request_run(self) -> None:
        self.ctx.runs.request(ACCOUNT, "full")
        self._begin()

    def _begin(self) -> None:
        run = self.ctx.runs.begin(ACCOUNT)
        if run is not None:
            self.runs.append(run)
            self._publish(run)

    def _publish(self, run: str) -> None:
        record = self.ctx.runs.get(run)
        if record is not None and record.state == "running":
            for stage, parts in phases.windows(self.ctx, run, record.stage):
                self._queue += [(run, stage, number) for number in parts]

    def _add_worker(self) -> None:
        name, rng = self._name("worker"), Random(self.rng.random())

        def work() -> None:
            while True:
                self.scheduler.wait(until=lambda: self._queue)
                if self._queue:
                    self._part(name, self._queue.pop(rng.randrange(len(self._queue))), rng)

        self.scheduler.add(name, work, daemon=True)

    def _part(self, name: str, message: tuple[str, str, int], rng: Random) -> None:
        run, stage, number = message
        self._names += 1
        token = f"task-{self._names}"
        while True:
            self.inventory.labels[name] = (run, stage)
            try:
                effect = perform(self.ctx, Part(run, stage, number, token), rng=rng)
            except RetryLater as later:
                self.scheduler.sleep(max(later.seconds, 0.3))
            else:
                break
        if effect == "closed" and phases.advance(self.ctx, run) is None:
            self._publish(run)
        elif effect != "nothing":
            self._begin()

    def _watch(self) -> None:
        while True:
            self.scheduler.sleep(10)
            for run, stage, parts in watchdog.look(self.ctx, ACCOUNT):
                self._queue += [(run, stage, number) for number in parts]
            if watchdog.may_begin(self.ctx, ACCOUNT):
                self._begin()
            if self.ctx.urgent_queue.unattended(self.scheduler.now_ms):
                name, rng = self._name("urgent"), Random(self.rng.random())
                self.scheduler.add(name, lambda name=name, rng=rng: self._send(name, rng))

    def _may_die(self, actor: Actor) -> bool:
        kind = actor.name.split("-")[0]
        if not self.deaths or kind not in ("worker", "pusher") or self.scheduler.rng.random() > 0.004:
            return False
        self.deaths -= 1
        self._died.add(actor.name)
        if kind == "worker":
            self._add_worker()  # its message is lost, for the watchdog to find
        else:
            self._deliver(list(self._at_work[actor.name]))  # the broker delivers it again
        return True

    def _name(self, kind: str) -> str:
        self._names += 1
        return f"{kind}-{self._names}"

    def _settled(self) -> bool:
        runs = self.plain.runs
        return not (self._queue or runs.active(ACCOUNT) or runs.waiting(ACCOUNT) or self.plain.urgent_queue.count())

    # -- what was said ---------------------------------------------------------------------------------------------

    def statements(self) -> dict[str, list[Statement]]:
        """Everything that was said of each reference."""
        said: dict[str, list[Statement]] = defaultdict(list)
        for message in self.messages:
            at_ms = self.plain.pushes.get(message.id).at_ms
            if message.kind == "sell":
                for reference in message.references:
                    said[reference].append(Statement(at_ms, "sell"))
            for reference, price in zip(message.references, message.prices, strict=False):
                said[reference].append(Statement(at_ms, "given", price))
        for reading in self.inventory.readings:
            if reading.label[0] == "push":
                for reference, price in reading.prices.items():
                    sure, asked_ms = reading.who not in self._died, self.plain.pushes.get(reading.label[1]).at_ms
                    said[reference].append(Statement(reading.opened_ms, "read", price, sure=sure, asked_ms=asked_ms))
        for run in self.runs:
            for reference in self.references:
                said[reference] += self._run_said(run, reference)
        return said

    def _run_said(self, run: str, reference: str) -> list[Statement]:
        record = self.plain.runs.get(run)
        assert record is not None
        assert record.state == "done", record
        began_ms, quiet = record.fact("source_began_ms"), run in self.quiet_runs
        loads = [r for r in self.inventory.readings if r.label == (run, "load") and r.complete]
        assert {r.label[1] for r in self.inventory.readings if r.label[0] == run} == {"load"}
        prices = {load.prices.get(reference) for load in loads}
        return [Statement(began_ms, "run", price, sure=len(prices) == 1, quiet=quiet) for price in prices]
