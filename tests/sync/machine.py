"""What may happen to a dealer, a marketplace and an account, as rules of a state machine; the test is `test_model`."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import wraps
from typing import Any

import redis
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from tests.sync.fake_marketplace import OF_A_CALL, OF_AN_ITEM, Row
from tests.sync.model_cars import Policy
from tests.sync.simulation import Simulation
from tests.sync.stock import INVALID, SOLD, raw_car

_CARS = ("R0", "R1", "R2", "R3")
_QUIRKS = ("order", "spaces", "rounds", "spelling")

cars = st.sampled_from(_CARS)
several = st.lists(cars, min_size=1, max_size=3, unique=True)
prices, titles = st.sampled_from([100, 200, 300]), st.sampled_from(["Alpha", "Beta"])
edits = st.sampled_from(
    ["price", "title", "mileage", "features", "spelling", "images", "dealer", "sold", "sold", "revived"]
)
theirs = st.sampled_from([100, 7000, 8000])
stock = st.lists(cars, max_size=4, unique=True)
which = st.integers(0, 3)
modes = st.sampled_from(["full", "incremental"])
dealers, images = st.sampled_from(["GENT", "BRUGGE"]), st.integers(0, 2)


def step(**values: Any) -> Callable[[Callable[..., None]], Any]:
    """A rule after which nothing may be wrong. (Invariants of hypothesis would be printed between all steps.)"""

    def wrap(work: Callable[..., None]) -> Any:
        @rule(**values)
        @wraps(work)
        def then_look(self: Machine, **drawn: Any) -> None:
            work(self, **drawn)
            type(self).steps += 1
            self.nothing_wrong()

        return then_look

    return wrap


class Machine(RuleBasedStateMachine):
    plain: redis.Redis
    steps = settled = 0
    """Steps taken, and examples that were settled and found idle at their end."""
    sim: Simulation

    @initialize(
        policy=st.sampled_from(["local", "local", "remote", "newest"]), missing_reads=st.sampled_from([1, 1, 2]),
        block_rows=st.sampled_from([1, 2, 5_000]), versioned=st.booleans(), page_size=st.sampled_from([2, 200]), stock=stock,
    )  # fmt: skip
    def open(
        self, policy: Policy, missing_reads: int, block_rows: int, versioned: bool, page_size: int, stock: list[str]
    ) -> None:
        self.sim = Simulation(
            self.plain, policy=policy, missing_reads=missing_reads, block_rows=block_rows, versioned=versioned,
            page_size=page_size,
        )  # fmt: skip
        for number, provider in enumerate(("us", "other", "other")):
            self.foreign(number, provider)
        for car in stock:
            self.sim.put(car, raw_car(car, 100, "Alpha", "GENT", 1))
        self.sim.run("full")

    def foreign(self, number: int, provider: str) -> None:
        """A row that is not ours to touch: with another's reference, or with none."""
        name = f"F{number}" if number % 2 else None
        body = {
            "externalReference": name, "status": "active", "title": "Foreign", "price": 5, "description": "",
            "features": [], "images": [], "powerKw": 1, "dealerLocationCode": "GENT",
        }  # fmt: skip
        self.sim.market.rows[f"F{number}"] = Row(f"id-F{number}", body, self.sim.clock.now_ms, provider)

    # -- the dealer ------------------------------------------------------------------------------------------------

    @step(car=cars, price=prices, title=titles, dealer=dealers, images=images)
    def row(self, car: str, price: int, title: str, dealer: str, images: int) -> None:
        self.sim.put(car, raw_car(car, price, title, dealer, images))

    @step(car=cars)
    def row_removed(self, car: str) -> None:
        self.sim.remove(car)

    @step(car=cars, price=prices)
    def row_sold(self, car: str, price: int) -> None:
        self.sim.put(car, raw_car(car, price, "Alpha", "GENT", 0, status=SOLD))

    @step(car=cars, more=st.booleans())
    def row_invalid(self, car: str, more: bool) -> None:
        self.sim.put(car, INVALID, *([raw_car(car, 100, "Alpha", "GENT", 0)] if more else []))

    @step(car=cars, price=prices, equal=st.booleans())
    def row_twice(self, car: str, price: int, equal: bool) -> None:
        twin = raw_car(car, price if equal else price + 1, "Alpha", "GENT", 0)
        self.sim.put(car, raw_car(car, price, "Alpha", "GENT", 0), twin)

    @step(count=st.integers(0, 1))
    def row_without_reference(self, count: int) -> None:
        self.sim.inventory.unreadable = count

    # -- the marketplace -------------------------------------------------------------------------------------------

    @step(which=which, kind=edits, price=theirs)
    def edited_there(self, which: int, kind: str, price: int) -> None:
        self.edit(which, kind, price)

    def edit(self, which: int, kind: str, price: int) -> None:
        """Somebody there edits one of the cars that this can happen to."""
        fit = [car for car in _CARS if (row := self.sim.market.rows.get(car)) and row.live is not (kind == "revived")]
        if not fit:
            return
        car = fit[which % len(fit)]
        row = self.sim.market.rows[car]
        changes = {
            "price": {"price": price}, "title": {"title": f"Theirs {price}"}, "mileage": {"mileage": price},
            "features": {"features": row.body["features"][:1]}, "spelling": {"title": row.body["title"].lower()},
            "images": {"images": []}, "dealer": {"dealerLocationCode": "LIEGE"}, "sold": {"status": SOLD},
            "revived": {"status": "active"},
        }  # fmt: skip
        if row.body != row.body | changes[kind]:
            self.sim.edit(car, kind, **changes[kind])

    @step(quirk=st.sampled_from(_QUIRKS))
    def renders_otherwise(self, quirk: str) -> None:
        self.sim.market.quirks ^= {quirk}
        self.sim.model.rendered_otherwise(odd=bool(self.sim.market.quirks & {"rounds", "spelling"}))

    @step(car=cars, price=prices, title=titles)
    def present_before_us(self, car: str, price: int, title: str) -> None:
        """The marketplace has the car from a time before this ledger."""
        if car not in self.sim.market.rows and car not in self.sim.model.cars:
            body = raw_body(car, price, title)
            self.sim.market.rows[car] = Row(f"id-{car}", body, self.sim.clock.now_ms)

    @step(number=st.integers(3, 6))
    def foreign_row(self, number: int) -> None:
        if f"F{number}" not in self.sim.market.rows:
            self.foreign(number, "other")

    @step(price=prices)
    def refuses_price(self, price: int) -> None:
        self.sim.market.refused_prices ^= {price}

    @step(dealer=dealers)
    def refuses_dealer(self, dealer: str) -> None:
        self.sim.market.refused_dealers ^= {dealer}

    # -- accidents -------------------------------------------------------------------------------------------------

    @step(faults=st.lists(st.sampled_from(["", *OF_A_CALL, *OF_AN_ITEM]), min_size=1, max_size=4))
    def faults(self, faults: list[str]) -> None:
        self.sim.market.faults += faults

    @step(reads=st.integers(1, 2))
    def source_breaks(self, reads: int) -> None:
        self.sim.inventory.broken = reads

    @step(steps=st.integers(1, 250))
    def dies(self, steps: int) -> None:
        self.sim.clock.dies_in = steps

    @step(luck=st.integers(0, 4))
    def redis_is_lost(self, luck: int) -> None:
        if not luck:
            self.sim.flush()

    @precondition(lambda self: self.sim.crashed)
    @step()
    def recovers(self) -> None:
        self.sim.recover()

    @precondition(lambda self: self.sim.crashed)
    @step()
    def is_given_up(self) -> None:
        self.sim.give_up()

    @step(seconds=st.sampled_from([1, 30, 4000]))
    def time_passes(self, seconds: int) -> None:
        self.sim.clock.sleep(seconds)

    # -- the system ------------------------------------------------------------------------------------------------

    @step(mode=modes)
    def run(self, mode: str) -> None:
        self.sim.run(mode)

    @step(car=cars, price=prices, title=titles)
    def row_and_run(self, car: str, price: int, title: str) -> None:
        self.sim.put(car, raw_car(car, price, title, "GENT", 1))
        self.sim.run("incremental")

    @step(car=cars, price=prices, title=titles, mode=modes)
    def never_named_and_run(self, car: str, price: int, title: str, mode: str) -> None:
        """However often the run sends this car, no answer names it."""
        self.sim.put(car, raw_car(car, price, title, "GENT", 1))
        self.sim.market.unnamed = {car}
        self.sim.run(mode)
        self.sim.market.unnamed = set()

    @step(car=cars, unreadable=st.integers(0, 1), mode=modes)
    def gone_and_run(self, car: str, unreadable: int, mode: str) -> None:
        self.sim.remove(car)
        self.sim.inventory.unreadable = unreadable
        self.sim.run(mode)

    @step(which=which, kind=edits, price=theirs, mode=modes)
    def edited_and_run(self, which: int, kind: str, price: int, mode: str) -> None:
        self.edit(which, kind, price)
        self.sim.run(mode)

    @step(which=which, kind=edits, car=cars, price=prices, title=titles, mode=modes)
    def edited_beside_a_change(self, which: int, kind: str, car: str, price: int, title: str, mode: str) -> None:
        self.edit(which, kind, 7000)
        self.sim.put(car, raw_car(car, price, title, "GENT", 1))
        self.sim.run(mode)

    @step(which=which, kind=edits, car=cars, mode=modes)
    def edited_beside_a_loss(self, which: int, kind: str, car: str, mode: str) -> None:
        self.edit(which, kind, 8000)
        self.sim.remove(car)
        self.sim.run(mode)

    @step(runs=st.integers(1, 3))
    def full_runs(self, runs: int) -> None:
        for _ in range(runs):
            self.sim.run("full")

    @step()
    def look(self) -> None:
        self.sim.run("full", plan_only=True)

    @step(cars=several, patience=st.integers(0, 3))
    def pushed(self, cars: list[str], patience: int) -> None:
        self.sim.push_rows(cars)
        self.sim.send(patience)

    @step(
        cars=several, price=prices, title=titles, dealer=dealers, images=images, age=st.none() | st.integers(0, 100_000),
        patience=st.integers(0, 3),
    )  # fmt: skip
    def handed_in(
        self, cars: list[str], price: int, title: str, dealer: str, images: int, age: int | None, patience: int
    ) -> None:
        version = 0 if age is None or not self.sim.versioned else self.sim.clock.now_ms - age
        self.sim.push_listings({car: raw_car(car, price, title, dealer, images) for car in cars}, version)
        self.sim.send(patience)

    @step(cars=several, patience=st.integers(0, 3))
    def sold_by_hand(self, cars: list[str], patience: int) -> None:
        self.sim.sell(cars)
        self.sim.send(patience)

    @step(car=cars, price=prices, title=titles, steps=st.integers(1, 250), mode=modes)
    def sold_by_hand_beside_a_run(self, car: str, price: int, title: str, steps: int, mode: str) -> None:
        """Accepted before the run, and sent while the run's worker is dead."""
        self.sim.put(car, raw_car(car, price, title, "GENT", 1))
        self.sim.sell([car])
        self.sim.clock.dies_in = steps
        self.sim.run(mode)
        self.sim.send(3)

    @step()
    def delivered_again(self) -> None:
        if self.sim.redelivered:
            self.sim.redelivered()

    @step()
    def sender(self) -> None:
        self.sim.send(1)

    # -- what always holds -----------------------------------------------------------------------------------------

    def nothing_wrong(self) -> None:
        assert not self.sim.model.wrong, "\n".join(self.sim.model.wrong)
        assert all(
            row.body["title"] == "Foreign" and row.live for name, row in self.sim.market.rows.items() if name[0] == "F"
        )

    def teardown(self) -> None:
        """All is healed: a few runs settle everything, and then there is nothing to do for ever."""
        if not hasattr(self, "sim") or self.sim.model.wrong:
            return
        self.sim.heal()
        for mode in ("full", "full", "incremental", "full", "full"):
            self.sim.clock.sleep(120)  # so that no incremental run returns what it has seen before
            record = self.sim.run(mode)
            assert record is not None
            assert record.state == "done", record
        self.nothing_wrong()
        for mode in ("full", "incremental"):
            self.sim.run(mode, plan_only=True)
            planned, writes = self.sim.planned(), self.sim.market.writes
            self.sim.run(mode)
            assert (planned, self.sim.market.writes) == ([], writes), f"not idle\n{self.sim.model.told(*planned)}"
        self.nothing_wrong()
        type(self).settled += 1


def raw_body(reference: str, price: int, title: str) -> dict[str, object]:

    return dict(json.loads(raw_car(reference, price, title, "GENT", 0)))
