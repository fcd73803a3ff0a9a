"""A round: two runs with changes, pushes and sells between them, and one or two faults at random moments."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from random import Random
from typing import Any, Final, NamedTuple

import msgspec
import redis
import requests

from okasie_tasks.errors import ConnectionFailed
from tests.chaos.faults import FAULTS, OF_THE_API
from tests.chaos.fleet import Fleet
from tests.chaos.invariants import check_invariants
from tests.chaos.stock import Stock
from tests.support import poll

PHASES: Final = ("", "first", "walk", "load", "diff", "apply")
"""Of a run; "" is before it has begun."""
END_SECONDS: Final = {True: 75.0, False: 200.0}
_CALM_SECONDS: Final = 90.0
_DRAINED_SECONDS: Final = {True: 60.0, False: 120.0}
"""With room beyond the time after which the broker delivers a dead worker's messages again."""

Call = tuple[str, dict[str, Any]]


class Plan(NamedTuple):
    """One fault: in which of the two runs, when the run has come so far, and how long after that."""

    fault: str
    turn: int
    phase: str
    after_seconds: float


class Result(msgspec.Struct):
    """What is written down of a round. ``recovery``: fault -> seconds beyond a calm run's, counted from its end."""

    seed: int
    faults: list[str]
    wrong: list[str]
    recovery: dict[str, float]
    seconds: float
    states: list[str] = []
    quick: bool = False


def plans_of(seed: int) -> list[Plan]:
    """The faults of a seed; known without playing it."""
    rng = Random(f"faults:{seed}")
    found = []
    for fault in rng.sample(sorted(FAULTS), rng.choice((1, 2, 2))):
        # The application that dies asks in the second turn only.
        turn = 2 if fault == "publisher_kill" else rng.choice((1, 2, 2))
        found.append(Plan(fault, turn, rng.choice(PHASES), rng.uniform(0, 0.6)))
    return found


class Round:
    """One round on a fleet that is whole. ``calm``: how long each turn takes when nothing fails."""

    def __init__(self, fleet: Fleet, account: str, seed: int, *, calm: dict[int, float], plans: list[Plan]) -> None:
        self._fleet, self._account, self._seed, self._calm = fleet, account, seed, calm
        self._rng = Random(f"round:{seed}")
        self._stock = Stock(fleet.folder / f"{account}.csv", fleet.settings.accounts[account], Random(f"stock:{seed}"))
        self._plans = plans
        self._over: dict[str, float] = {}
        """When each fault's cause was over."""
        self.took: dict[int, float] = {}
        self.recovery: dict[str, float] = {}

    def play(self) -> Result:
        began, wrong = time.monotonic(), []
        try:
            self._turn(1, [("sync", {"account": self._account, "mode": "full"})])
            self._stock.change()
            self._turn(2, self._calls())
            wrong = self._settled()
        except AssertionError as error:
            # What a deadline says; everything else is the suite's own defect and ends it.
            wrong = [str(error), f"messages: {self._fleet.messages()}"]
        states = [f"{run.mode} {run.state}" for run in self._fleet.history(self._account)]
        seconds = round(time.monotonic() - began, 1)
        names = [plan.fault for plan in self._plans]
        return Result(self._seed, names, wrong, self.recovery, seconds, states, self._fleet.quick)

    # -- what is asked for -----------------------------------------------------------------------------------------

    def _calls(self) -> list[Call]:
        """What an application asks for after the changes, in an order of its own."""
        stock, base = self._stock, {"account": self._account}
        given = list(stock.bodies(stock.some(self._rng.randint(1, 4))).values())
        calls: list[Call] = [
            ("push", base | {"references": stock.some(self._rng.randint(1, 6))}),
            ("push", base | {"listings": given}),
            ("sell", base | {"references": self._rng.sample(sorted(stock.gone), 1)}),
            ("sync", base | {"mode": self._rng.choice(("incremental", "full"))}),
            ("sync", base | {"mode": "incremental"}),
        ]
        self._rng.shuffle(calls)
        return calls

    def _ask(self, calls: list[Call]) -> None:
        """As an application does: until it is accepted."""
        for method, arguments in calls:
            deadline = time.monotonic() + 60
            while True:
                try:
                    getattr(self._fleet.client, method)(**arguments)
                    break
                except (ConnectionFailed, redis.RedisError):
                    assert time.monotonic() < deadline, f"{method} was not accepted"
                    time.sleep(0.3)
            time.sleep(self._rng.uniform(0, 0.15))

    def _ask_and_die(self, calls: list[Call]) -> None:
        """The application is killed at one of its calls; another one goes on with those after it."""
        dies_at = self._rng.randrange(len(calls))
        when = self._rng.choice(("before", "after"))
        argv = [
            sys.executable, "-m", "tests.chaos.application", self._fleet.url, json.dumps(calls), str(dies_at), when,
        ]  # fmt: skip
        done = subprocess.run(argv, env=self._fleet.place.env, timeout=60, check=False, capture_output=True)
        self._over["publisher_kill"] = time.monotonic()
        if done.returncode != -signal.SIGKILL:  # it was refused before it came so far
            self._ask(calls)
        else:
            self._ask(calls[dies_at + 1 :])

    # -- a turn ----------------------------------------------------------------------------------------------------

    def _turn(self, turn: int, calls: list[Call]) -> None:
        """Ask, let the turn's faults strike, and wait until nothing is left to be done."""
        plans = [plan for plan in self._plans if plan.turn == turn]
        known = {run.id for run in self._fleet.history(self._account)}
        striking = [threading.Thread(target=self._strike, args=(plan, known)) for plan in plans]
        for thread in striking:
            thread.start()
        began = time.monotonic()
        if any(plan.fault == "publisher_kill" for plan in plans):
            self._ask_and_die(calls)
        else:
            self._ask(calls)
        self._rest(known, END_SECONDS[self._fleet.quick])
        ended = time.monotonic()
        for thread in striking:
            thread.join()
        # What struck after all was done may have left something to do.
        self._rest(known, END_SECONDS[self._fleet.quick])
        self.took[turn] = ended - began
        for plan in plans:
            over = self._over.get(plan.fault, ended)
            # What a calm run would still have had to do at that moment is no recovery.
            left = max(0.0, self._calm.get(turn, 0.0) - (over - began))
            self.recovery[plan.fault] = round(max(0.0, ended - over - left), 2)

    def _rest(self, known: set[str], seconds: float) -> None:
        def at_rest() -> bool:
            with contextlib.suppress(redis.RedisError):
                new = any(run.id not in known for run in self._fleet.history(self._account))
                return new and self._fleet.at_rest(self._account)
            return False

        poll(at_rest, seconds=seconds, what=f"the end of {self._account}'s turn ({self._stage(set())})")

    def _strike(self, plan: Plan, known: set[str]) -> None:
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline and PHASES.index(self._stage(known)) < PHASES.index(plan.phase):
            time.sleep(0.01)
        time.sleep(plan.after_seconds)
        FAULTS[plan.fault](self._fleet, self._account, Random(f"{plan.fault}:{self._seed}"))
        self._over.setdefault(plan.fault, time.monotonic())

    def _stage(self, known: set[str]) -> str:
        with contextlib.suppress(redis.RedisError):
            new = [run for run in self._fleet.history(self._account) if run.id not in known]
            if new:
                return new[0].stage if new[0].stage in PHASES else "apply" if not new[0].open else ""
        return ""

    # -- the end ---------------------------------------------------------------------------------------------------

    def _settled(self) -> list[str]:
        """The verdict. After a run that told of a failure one calm run more must bring all right."""
        requests.delete(f"{self._fleet.sandbox.admin_url}/faults", timeout=60).raise_for_status()
        self._fleet.restart_all()
        states = {run.state for run in self._fleet.history(self._account)}
        if states - {"done"}:
            told = {plan.fault for plan in self._plans} & OF_THE_API
            known = {run.id for run in self._fleet.history(self._account)}
            self._ask([("sync", {"account": self._account, "mode": "incremental"})])
            self._rest(known, _CALM_SECONDS)
            last = self._fleet.history(self._account)[-1]
            wrong = [] if last.state == "done" else [f"the run after it ended {last.state}: {last.facts.get('error')}"]
            if not told:
                wrong += list(self._without_cause())
        else:
            wrong = []
        return wrong + self._left() + check_invariants(self._fleet, self._account, self._stock)

    def _left(self) -> list[str]:
        """A message that nobody can do would go round for ever; those of a dead worker come back and are done with."""
        seconds = _DRAINED_SECONDS[self._fleet.quick]
        try:
            poll(lambda: not self._fleet.messages(), seconds=seconds, what="empty queues")
        except AssertionError:
            return [f"messages are left: {self._fleet.messages()}"]
        return []

    def _without_cause(self) -> Iterator[str]:
        """Only what the marketplace does may fail a run."""
        for run in self._fleet.history(self._account):
            if run.state not in ("done", "cancelled"):
                yield f"run {run.id} ended {run.state} without a cause: {run.facts.get('error')}"
