"""Accidents that a round meets by chance only, each played to the point: what goes wrong names the law that is broken.

    python -m tests.chaos.scripted --quick

Each takes a fleet that is whole and an account that has seen nothing, and returns what is wrong.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any, Final

import requests

from tests.chaos.faults import signal_tree
from tests.chaos.fleet import Fleet
from tests.chaos.invariants import check_invariants
from tests.chaos.stalled import stall
from tests.chaos.stock import Stock
from tests.support import poll, stored

Script = Callable[[Fleet, str], list[str]]
_REST_SECONDS: Final = 60.0


def worker_stalled(fleet: Fleet, account: str) -> list[str]:
    """It stands still for longer than its leases, and goes on when others have done its work and more."""
    return stall(fleet, account, seconds=9.0, patience_seconds=_REST_SECONDS, sent=True)


def request_lost(fleet: Fleet, account: str) -> list[str]:
    """An application dies between writing its request down and sending it; nothing else asks for the same."""
    stock = _stock(fleet, account)
    _sync(fleet, account)
    body = next(iter(stock.bodies().values()))
    body["price"] = int(body["price"]) + 77
    calls = json.dumps([["push", {"account": account, "listings": [body]}]])
    argv = [sys.executable, "-m", "tests.chaos.application", fleet.url, calls, "0", "before"]
    subprocess.run(argv, env=fleet.place.env, timeout=60, check=False, capture_output=True)

    def arrived() -> bool:
        return bool(stored(fleet.sandbox, account)[body["externalReference"]]["body"]["price"] == body["price"])

    return _happens(arrived, "the listing that was pushed")


def message_lost(fleet: Fleet, account: str) -> list[str]:
    """A part's message is gone from its queue."""
    stock = _stock(fleet, account)
    fleet.kill("diff", back_after=None)
    fleet.client.sync(account, "full")
    poll(lambda: fleet.redis.llen("okasie.diff"), what="a message for the worker that is away")
    fleet.redis.delete("okasie.diff")
    fleet.restart_all()
    return _happens(lambda: _rests(fleet, account), "the end of the run") or check_invariants(fleet, account, stock)


def message_doubled(fleet: Fleet, account: str) -> list[str]:
    """Each bulk call's message is there twice, and the second is taken up while the first is at work."""
    stock = _stock(fleet, account)
    rule = {"kind": "slow", "match": {"key": account, "path": "bulk"}, "seconds": 1.5}
    requests.post(f"{fleet.sandbox.admin_url}/faults", json=rule, timeout=60).raise_for_status()
    readers = [fleet.children[name] for name in ("api", "api2")]
    # Without it the run gets no further than before the bulk calls, however late their readers are stopped.
    fleet.kill("diff", back_after=None)
    fleet.client.sync(account, "full")
    poll(lambda: fleet.redis.llen("okasie.diff"), what="a run that waits for the worker that is away")
    try:
        for reader in readers:
            signal_tree(reader, signal.SIGSTOP)
        fleet.restart_all()
        for message in poll(lambda: _bulk_calls(fleet), seconds=_REST_SECONDS, what="bulk calls"):
            fleet.redis.lpush("okasie.api", _renamed(message))
    finally:
        for reader in readers:
            signal_tree(reader, signal.SIGCONT)
    wrong = _happens(lambda: _rests(fleet, account), "the end of the run") or check_invariants(fleet, account, stock)
    requests.delete(f"{fleet.sandbox.admin_url}/faults", timeout=60).raise_for_status()
    writes = requests.get(f"{fleet.sandbox.admin_url}/writes", params={"key": account}, timeout=60).json()
    twice = [name for name, count in Counter(write["reference"] for write in writes).items() if count > 1]
    return wrong + ([f"{len(twice)} listings were sent more than once"] if twice else [])


def _bulk_calls(fleet: Fleet) -> list[bytes]:
    """Their messages that no worker has taken yet."""
    return [message for message in fleet.redis.lrange("okasie.api", 0, -1) if b"okasie.upsert_chunk" in message]


def _renamed(message: bytes) -> bytes:
    """The same work as a message of its own, as when the watchdog publishes a part again."""
    parsed: dict[str, Any] = json.loads(message)
    old = parsed["headers"]["id"]
    return message.replace(old.encode(), f"{Random(message).getrandbits(32):08x}{old[8:]}".encode())


def cursor_moved(fleet: Fleet, account: str) -> list[str]:
    """Somebody else moves the account's cursor while a run is at work: newer than what the run has read."""
    _stock(fleet, account)
    fleet.kill("diff", back_after=None)
    fleet.client.sync(account, "full")
    poll(lambda: fleet.redis.llen("okasie.diff"), what="a run that waits for the worker that is away")
    held = fleet.runs.account_key(account)
    fleet.redis.hset(held, mapping={"cursor": "2099-01-01T00:00:00Z", "generation": "41"})
    fleet.restart_all()
    wrong = _happens(lambda: _rests(fleet, account), "the end of the run")
    found = fleet.runs.account(account)
    moved = (found.cursor, found.generation) != ("2099-01-01T00:00:00Z", "41")
    return wrong + ([f"the cursor went back to {found.cursor}"] if moved else [])


SCRIPTS: Final[dict[str, Script]] = {
    "worker_stalled": worker_stalled,
    "request_lost": request_lost,
    "message_lost": message_lost,
    "message_doubled": message_doubled,
    "cursor_moved": cursor_moved,
}


def _stock(fleet: Fleet, account: str) -> Stock:
    return Stock(fleet.folder / f"{account}.csv", fleet.settings.accounts[account], Random(account))


def _sync(fleet: Fleet, account: str) -> None:
    fleet.client.sync(account, "full")
    poll(lambda: _rests(fleet, account), seconds=_REST_SECONDS, what="the end of a run")


def _rests(fleet: Fleet, account: str) -> bool:
    return bool(fleet.history(account)) and fleet.at_rest(account)


def _happens(question: Callable[[], object], what: str) -> list[str]:
    try:
        poll(question, seconds=_REST_SECONDS, what=what)
    except AssertionError as error:
        return [str(error)]
    return []


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", choices=[[], *SCRIPTS], metavar="NAME", help=", ".join(SCRIPTS))
    parser.add_argument("--quick", action="store_true", help="with the shorter waits of continuous integration")
    asked = parser.parse_args()
    names, wrong = asked.names or list(SCRIPTS), []
    with Fleet(names, quick=asked.quick) as fleet:
        for name in names:
            fleet.restart_all()
            fleet.whole()
            found = SCRIPTS[name](fleet, name)
            wrong += found
            print(f"{name}: {'right' if not found else 'WRONG: ' + '; '.join(found)[:400]}", flush=True)
    if not wrong:
        shutil.rmtree(fleet.folder, ignore_errors=True)
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
