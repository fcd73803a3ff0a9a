"""Each producer, command or client, loses its message at some moment; its request is executed all the same.

    python -m tests.chaos.producers --rounds 100 --start 1

A seed decides the producer, the request and the moment: the producer dies after it has stored the request, the broker
loses the message, or the worker that has popped it dies. The exit status is 1 if a request was not executed, or if a
command that waited did not report its outcome.
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from random import Random
from typing import Any

from kombu.transport.redis import Channel

from okasie_tasks.client import Client
from okasie_tasks.sandbox.sample import cars, write_csv
from okasie_tasks.worker.settings import QUEUE_OF
from tests.chaos.faults import _READERS
from tests.chaos.fleet import Fleet, signal_tree
from tests.support import OKASIE, Answer, poll, stored

ACCOUNT = "dex"
PRODUCERS = ("client", "command", "command --no-wait")
REQUESTS = ("push", "sell", "sync")
MOMENTS = ("unsent", "lost", "popped")
CARS = 300
LOSING = """
import os

if os.environ.get("TEST_LOSES"):
    from kombu.transport import redis as _broker

    _put_once = _broker.Channel._put

    def _put(self, queue, message, **options):
        if not queue.startswith("okasie."):
            return _put_once(self, queue, message, **options)
        if os.environ["TEST_LOSES"] == "unsent":
            os._exit(9)

    _broker.Channel._put = _put
"""
"""A sitecustomize.py: a command that dies before it publishes, or whose message the broker loses."""


class Died(BaseException):
    """The application is killed here."""


def plan_of(rng: Random) -> tuple[str, str, str]:
    """The producer, its request, and the moment at which its message is lost."""
    return rng.choice(PRODUCERS), rng.choice(REQUESTS), rng.choice(MOMENTS)


class Rounds:
    """Plays rounds on a fleet with one account, whose feed changes before each."""

    def __init__(self, fleet: Fleet) -> None:
        self._faults = fleet.place.folder / "losing"
        self._faults.mkdir()
        (self._faults / "sitecustomize.py").write_text(LOSING)
        self._fleet, self._client = fleet, Client(fleet.url)
        self._rows = cars(CARS, seed=3)
        self._write()
        self._client.sync(ACCOUNT, "full")
        poll(lambda: len(self._stored()) == CARS, what="the first run")
        poll(lambda: fleet.at_rest(ACCOUNT), what="an idle account")

    def play(self, seed: int) -> str:
        """Play a round; returns what is wrong, else nothing."""
        rng = Random(f"producers:{seed}")
        producer, request, moment = plan_of(rng)
        row = rng.choice(self._rows)
        reference = row["stock_no"]
        if request == "sell":
            self._rows.remove(row)
        else:
            row["price_eur"] = str(int(row["price_eur"]) + 100 + seed)
        self._write()
        newest = self._newest_run()
        try:
            with self._losing(f"okasie.{request}", moment, rng):
                said = self._ask(producer, request, reference, moment)
            poll(lambda: self._executed(request, row, newest), seconds=60, what=f"{producer} {request}, {moment},")
            poll(lambda: self._fleet.at_rest(ACCOUNT), seconds=60, what="an idle account")
        except AssertionError as error:
            return str(error)
        return said

    def _command(self, words: Sequence[str], loses: str) -> Answer:
        place = self._fleet.place
        if not loses:
            return place.okasie(*words)
        # A process of its own, which loads the fault before kombu.
        env = {**place.env, "TEST_LOSES": loses, "PYTHONPATH": str(self._faults)}
        done = subprocess.run(
            [*OKASIE, *words], cwd=place.folder, env=env, capture_output=True, text=True, timeout=300, check=False
        )
        return Answer(done.returncode, done.stdout, done.stderr)

    def _ask(self, producer: str, request: str, reference: str, moment: str) -> str:
        if producer == "client":
            with contextlib.suppress(Died):
                getattr(self._client, request)(ACCOUNT, *([[reference]] if request != "sync" else []))
            return ""
        words = [request, ACCOUNT, *([reference] if request != "sync" else []), *producer.split()[1:]]
        loses = moment if moment in ("unsent", "lost") else ""
        answer = self._command(words, loses)
        while answer.status == 5 and "no worker" in answer.text:  # no worker yet: asked again
            answer = self._command(words, loses)
        expected = 9 if moment == "unsent" else 0
        return "" if answer.status == expected else f"{words}: exit status {answer.status}: {answer.text[-300:]}"

    @contextlib.contextmanager
    def _losing(self, task: str, moment: str, rng: Random) -> Iterator[None]:
        if moment == "popped":
            with self._popped(task, rng):
                yield
            return
        original = Channel._put

        def put(channel: Channel, queue: str, message: Any, **options: Any) -> None:
            if not queue.startswith("okasie."):
                original(channel, queue, message, **options)
            elif moment == "unsent":
                raise Died

        Channel._put = put
        try:
            yield
        finally:
            Channel._put = original

    @contextlib.contextmanager
    def _popped(self, task: str, rng: Random) -> Iterator[None]:
        """Stop the reader, which has a blocking pop under way, and kill it once the message has come or might have."""
        names = _READERS[QUEUE_OF[task]]
        for name in names:
            signal_tree(self._fleet.children[name], signal.SIGSTOP)
        killer = threading.Timer(rng.uniform(0.5, 2.5), self._kill, [names])
        killer.start()
        try:
            yield
        finally:
            killer.join()
            self._fleet.whole()

    def _kill(self, names: tuple[str, ...]) -> None:
        for name in names:
            self._fleet.kill(name, back_after=0.1)

    def _executed(self, request: str, row: dict[str, str], newest: str) -> bool:
        found = self._stored()[row["stock_no"]]
        if request == "sell":
            return bool(found["status"] == "sold")
        done = found["body"]["price"] == int(row["price_eur"])
        return done and (request != "sync" or self._newest_run() != newest)

    def _newest_run(self) -> str:
        return self._fleet.history(ACCOUNT)[-1].id

    def _stored(self) -> dict[str, dict[str, Any]]:
        return stored(self._fleet.sandbox, ACCOUNT)

    def _write(self) -> None:
        write_csv(self._fleet.folder / f"{ACCOUNT}.csv", self._rows)


def fleet() -> Fleet:
    """A fleet with the shorter waits of continuous integration."""
    return Fleet([ACCOUNT], quick=True, extra="guard = { max_sold_percent = 100.0 }")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--start", type=int, default=1)
    options = parser.parse_args()
    wrong = 0
    with fleet() as running:
        rounds, began = Rounds(running), time.monotonic()
        for seed in range(options.start, options.start + options.rounds):
            if said := rounds.play(seed):
                wrong += 1
                print(f"seed {seed}: WRONG: {said}", flush=True)
            if seed % 10 == 0:
                print(f"seed {seed} played, {wrong} wrong, {time.monotonic() - began:.0f} s", flush=True)
        print(f"{options.rounds} rounds, {wrong} wrong, {time.monotonic() - began:.0f} s", flush=True)
    return int(wrong > 0)


if __name__ == "__main__":
    raise SystemExit(main())
