"""The web server, the broker and workers are killed while programs use the HTTP API; no accepted request is lost.

    python -m tests.chaos.accepted --rounds 200 --start 1

A round sends pushes and sells, each with an ``Idempotency-Key``, and repeats each until it is answered 202. Meanwhile
processes are killed with SIGKILL at random moments. In the end every accepted request is done, with one outcome for
each listing, and the marketplace holds the newest version. A listing may be written again only where a broker or a
worker was killed after the first write: the answer to it died with that process. The exit status is 1 otherwise.
"""

from __future__ import annotations

import argparse
import socket
import sys
import threading
import time
from random import Random
from typing import Any, Final, NamedTuple

import requests

from okasie_tasks.settings.web import START_TOKEN
from tests.chaos.fleet import Fleet, Process
from tests.chaos.stock import Stock
from tests.support import poll, stored

ACCOUNT: Final = "dex"
VICTIMS: Final = ("web", "redis", "urgent", "api", "api2", "control")
SPAN_SECONDS: Final = 1.5
LISTINGS: Final = 5
_TOKEN: Final = "start-token-of-the-rounds"


class Served(Process):
    """``okasie web``. Its callers repeat what it does not answer."""

    @property
    def ready(self) -> bool:
        return self.alive


class Sent(NamedTuple):
    """A request that was accepted. ``price`` None: a sell."""

    request: str
    reference: str
    price: int | None


class Deaths(NamedTuple):
    """Which processes a round kills, and when, in seconds from its beginning."""

    moments: list[tuple[float, str]]

    @classmethod
    def of(cls, seed: int) -> Deaths:
        rng = Random(f"deaths:{seed}")
        names = rng.sample(VICTIMS, rng.randint(1, 3))
        return cls(sorted((rng.uniform(0, SPAN_SECONDS), name) for name in names))


class Rounds:
    """Plays rounds on a fleet with one account."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        self._origin = f"http://127.0.0.1:{port}/api/v1"
        fleet.place.env[START_TOKEN] = _TOKEN
        argv = [sys.executable, "-m", "okasie_tasks", "web", "--listen", f"127.0.0.1:{port}"]
        child = Served("web", argv, folder=fleet.folder, env=fleet.place.env)
        fleet.children["web"] = fleet.supervisor.add(child)
        stock = Stock(fleet.folder / f"{ACCOUNT}.csv", fleet.settings.accounts[ACCOUNT], Random(3))
        self._bodies = stock.bodies()
        self.repeated = 0
        """Listings written again because the answer to their first write died with a process."""
        fleet.client.sync(ACCOUNT, "full")
        poll(lambda: len(stored(fleet.sandbox, ACCOUNT)) == len(self._bodies), seconds=120, what="the first run")
        poll(lambda: fleet.at_rest(ACCOUNT), seconds=60, what="an idle account")

    def play(self, seed: int) -> str:
        """Play a round; returns what is wrong, else nothing."""
        rng = Random(f"accepted:{seed}")
        chosen = rng.sample(sorted(self._bodies), LISTINGS + 1)
        began, deaths, sent = time.time(), Deaths.of(seed), list[Sent]()
        killer = threading.Thread(target=self._kill, args=(deaths, rng))
        senders = [
            threading.Thread(target=self._send, args=(seed, reference, rng.uniform(0, SPAN_SECONDS), sent))
            for reference in chosen
        ]
        for thread in (killer, *senders):
            thread.start()
        for thread in (killer, *senders):
            thread.join()
        try:
            self._fleet.whole(seconds=90)
            poll(lambda: self._answers("/readyz"), seconds=60, what="the web server")
            wrong = [problem for one in sent if (problem := self._outcome(one))]
            poll(lambda: self._fleet.at_rest(ACCOUNT), seconds=60, what="an idle account")
        except AssertionError as error:
            return f"{deaths.moments}: {error}"
        if len(sent) != 2 * LISTINGS + 2:
            wrong.append(f"{len(sent)} requests were accepted")
        wrong += [*self._kept(sent), *self._writes(chosen, began, deaths)]
        return f"{deaths.moments}: {'; '.join(wrong)}" if wrong else ""

    # -- sending and killing ---------------------------------------------------------------------------------------

    def _send(self, seed: int, reference: str, after: float, sent: list[Sent]) -> None:
        """Push two versions of a listing, one after the other, or the same and then a sell."""
        time.sleep(after)
        price, version = 5_000 + seed % 40_000, time.time_ns() // 1_000_000
        last = Random(f"{seed}:{reference}").random() < 0.2
        for number in range(2):
            key = f"{seed}-{reference}-{number}-{version}"
            if number and last:
                accepted = self._accepted("sell", {"references": [reference]}, key)
                sent.append(Sent(accepted, reference, None))
            else:
                body = {**self._bodies[reference], "price": price + number}
                accepted = self._accepted("push", {"listings": [body], "version": version + number}, key)
                sent.append(Sent(accepted, reference, price + number))

    def _accepted(self, action: str, body: dict[str, Any], key: str) -> str:
        def accepted() -> str:
            try:
                answer = self._ask("POST", f"/accounts/{ACCOUNT}/{action}", json=body, headers={"Idempotency-Key": key})
            except requests.RequestException:
                return ""
            assert answer.status_code in (202, 409, 503), answer.text
            return str(answer.json()["request"]) if answer.status_code == 202 else ""

        return str(poll(accepted, seconds=120, what=f"202 for a {action}"))

    def _kill(self, deaths: Deaths, rng: Random) -> None:
        began = time.monotonic()
        for moment, name in deaths.moments:
            time.sleep(max(0.0, began + moment - time.monotonic()))
            self._fleet.kill(name, back_after=rng.uniform(0.1, 1.0))

    def _ask(self, method: str, path: str, **options: Any) -> requests.Response:
        headers = {"Authorization": f"Bearer {_TOKEN}", **options.pop("headers", {})}
        return requests.request(method, f"{self._origin}{path}", headers=headers, timeout=70, **options)

    def _answers(self, path: str) -> bool:
        try:
            return self._ask("GET", path).status_code == 200
        except requests.RequestException:
            return False

    # -- looking ---------------------------------------------------------------------------------------------------

    def _outcome(self, one: Sent) -> str:
        """Return what is wrong with the outcome of an accepted request."""
        answer = self._ask("GET", f"/requests/{one.request}?wait=60")
        if answer.status_code != 200:
            return f"{one}: LOST: {answer.text}"
        document = answer.json()
        found = {name: outcome["outcome"] for name, outcome in document["outcomes"].items()}
        # A push that waits beside a newer sell ends as that does.
        right = {"sold"} if one.price is None else {"created", "updated", "overtaken", "sold"}
        if document["state"] != "done" or set(found) != {one.reference} or found[one.reference] not in right:
            return f"{one}: {document['state']} {found} {document['error']}"
        return ""

    def _kept(self, sent: list[Sent]) -> list[str]:
        """The marketplace holds the newest version of each listing."""
        kept, newest = stored(self._fleet.sandbox, ACCOUNT), {one.reference: one for one in sent}
        wrong = []
        for reference, one in newest.items():
            row = kept[reference]
            state = row["status"] == "sold" if one.price is None else row["body"]["price"] == one.price
            if not state:
                wrong.append(f"{one}: the marketplace has {row['status']} at {row['body']['price']}")
        return wrong

    def _writes(self, references: list[str], began: float, deaths: Deaths) -> list[str]:
        """No listing was written more often than it was sent, but where the answer to a write died with a process."""
        url = f"{self._fleet.sandbox.admin_url}/writes"
        writes = requests.get(url, params={"key": ACCOUNT}, timeout=60).json()
        killed = [began + moment for moment, name in deaths.moments if name != "web"]
        wrong = []
        for reference in references:
            at = [write["at"] for write in writes if write["reference"] == reference and write["at"] >= began]
            if len(at) <= 2:
                continue
            self.repeated += len(at) - 2
            if not killed or len(at) - 2 > len(killed) or at[-1] < killed[0]:
                wrong.append(f"{reference} was written {len(at)} times: {[round(moment - began, 2) for moment in at]}")
        return wrong


def fleet() -> Fleet:
    """A fleet with the shorter waits of continuous integration."""
    return Fleet([ACCOUNT], quick=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=200)
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
                again = f"{rounds.repeated} writes repeated"
                print(f"seed {seed} played, {wrong} wrong, {again}, {time.monotonic() - began:.0f} s", flush=True)
        seconds = time.monotonic() - began
        print(f"{options.rounds} rounds, {wrong} wrong, {rounds.repeated} writes repeated, {seconds:.0f} s", flush=True)
    return int(wrong > 0)


if __name__ == "__main__":
    raise SystemExit(main())
