"""A worker that stands still for longer than all its leases, and then goes on: it finishes late and changes nothing.

    python -m tests.chaos.stalled --seconds 60

It is stopped just before its bulk calls, or while they are under way. Another worker does its work, a second run changes prices; then it
goes on. What it believes is two runs old by then. ``--quick``: with the shorter leases of continuous integration.
"""

from __future__ import annotations

import argparse
import re
import shutil
import signal
import sys
import time
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import requests

from tests.chaos.faults import signal_tree
from tests.chaos.fleet import Fleet
from tests.chaos.invariants import check_invariants
from tests.chaos.stock import Stock
from tests.support import poll

_SLOW_SECONDS = 3.0
"""How long its calls are under way: time enough to stop it."""
_MANY = 1000
_VOLATILE = ("watchdog", "outbox", "delivery", "beat", "limit", "pushes", "writing")
_COUNTED = b"n:requests"
"""A request whose answer is read late is counted late, and enters the trace of its run late."""
_RECEIVED = "received"
_ENDED = "succeeded|retry|raised|ignored|INTERNAL ERROR"
"""How Celery logs the end of a task (`celery.app.trace`)."""


def stall(fleet: Fleet, account: str, *, seconds: float, patience_seconds: float, sent: bool) -> list[str]:
    """Play it on a fleet that is whole. ``sent``: it has sent, and its answers wait. ``seconds``: how long the worker stands still, if not longer for the work of
    the others; they may take ``patience_seconds``. Returns what is wrong.
    """
    stock = Stock(fleet.folder / f"{account}.csv", fleet.settings.accounts[account], Random(account))
    fleet.kill("api2", back_after=None)
    stalled = fleet.children["api"]
    # Earlier lines may name tasks that never end here: at a lost connection Celery gives back what waits for its time or
    # for a slot, and another worker does it.
    offset = stalled.log.stat().st_size
    rule = {"kind": "slow", "match": {"key": account, "path": "bulk"}, "times": _MANY, "seconds": _SLOW_SECONDS}
    requests.post(f"{fleet.sandbox.admin_url}/faults", json=rule, timeout=60).raise_for_status()
    fleet.client.sync(account, "full")
    run = poll(lambda: fleet.runs.active(account), what="a run")
    poll(lambda: fleet.runs.redis.hlen(fleet.runs.key(run, "upsert", "parts")), what="a bulk call")
    if sent:
        # The rule counts down when a request has arrived, long before its answer.
        poll(lambda: any(rule.times != _MANY for rule in fleet.sandbox.faults._rules), what="a request")
    signal_tree(stalled, signal.SIGSTOP)
    stopped_at = time.monotonic()
    try:
        requests.delete(f"{fleet.sandbox.admin_url}/faults", timeout=60).raise_for_status()
        fleet.restart_all()
        _rest(fleet, account, 1, patience_seconds)
        stock.change()
        fleet.client.sync(account, "incremental")
        _rest(fleet, account, 2, patience_seconds)
        poll(lambda: time.monotonic() > stopped_at + seconds, seconds=seconds + 5, what="the time to go on")
        before = _held(fleet, account)
        # Read while it stands still: it may finish as soon as it goes on.
        received = _tasks(stalled.log, offset, _RECEIVED)
        late = received - _tasks(stalled.log, offset, _ENDED)
    finally:
        signal_tree(stalled, signal.SIGCONT)
    poll(
        lambda: not received - _tasks(stalled.log, offset, _ENDED),
        seconds=patience_seconds,
        what=f"the end of {', '.join(late)}, which the worker was at,",
    )
    after = _held(fleet, account)
    changed = [key for key in before | after if before.get(key) != after.get(key)]
    wrong = [f"{key} changed: {_differing(before.get(key), after.get(key))}" for key in changed]
    if not late:
        wrong.append("the worker was at nothing when it was stopped")
    states = [run.state for run in fleet.history(account)]
    if states != ["done", "done"]:
        wrong.append(f"the runs ended {states}")
    return wrong + check_invariants(fleet, account, stock)


def _rest(fleet: Fleet, account: str, runs: int, seconds: float) -> None:
    def at_rest() -> bool:
        return len(fleet.history(account)) == runs and fleet.at_rest(account)

    poll(at_rest, seconds=seconds, what=f"the end of run {runs} without the worker that stands still")


def _tasks(log: Path, offset: int, event: str) -> Counter[str]:
    """How often a worker's log names this event of each task, from byte ``offset`` on.

    Counted, because a task that is retried is received again under its id.
    """
    text = log.read_bytes()[offset:].decode(errors="replace")
    return Counter(re.findall(rf"\[([0-9a-f-]{{36}})\] (?:{event})", text))


def _held(fleet: Fleet, account: str) -> dict[str, Any]:
    """All that the account has: on the marketplace, and in Redis but for what comes and goes."""
    prefix = fleet.settings.redis.key_prefix
    ours = [f"{prefix}run:{run.id}" for run in fleet.history(account)]
    found: dict[str, Any] = {}
    for key in sorted(name.decode() for name in fleet.redis.scan_iter(f"{prefix}*", count=1000)):
        room = key.removeprefix(prefix).split(":")
        if (
            room[0] in _VOLATILE
            or {"metrics", "trace"}.intersection(room)
            or not (account in room or key.startswith(tuple(ours)))
        ):
            continue
        if fleet.redis.type(key) == b"hash":
            held = fleet.redis.hgetall(key)
            found[key] = {name: held[name] for name in held if not name.startswith(_COUNTED)}
        else:
            found[key] = fleet.redis.dump(key)
    meters = requests.get(f"{fleet.sandbox.admin_url}/writes", params={"key": account}, timeout=60).json()
    return found | {"writes": len(meters)}


def _differing(before: Any, after: Any) -> str:
    if isinstance(before, dict) and isinstance(after, dict):
        names = [name for name in before | after if before.get(name) != after.get(name)]
        return "; ".join(f"{name!r}: {before.get(name)!r} -> {after.get(name)!r}" for name in names)
    return f"{before!r} -> {after!r}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--quick", action="store_true")
    asked = parser.parse_args()
    wrong: list[str] = []
    with Fleet(["before", "after"], quick=asked.quick) as fleet:
        for account in ("before", "after"):
            fleet.whole()
            patience = asked.seconds + 60
            wrong += stall(fleet, account, seconds=asked.seconds, patience_seconds=patience, sent=account == "after")
    if wrong:
        print(*wrong, sep="\n")
        print(f"logs: {fleet.folder}", file=sys.stderr)
        return 1
    shutil.rmtree(fleet.folder, ignore_errors=True)
    print(f"twice it stood still for {asked.seconds:g} s, finished late and changed nothing")
    return 0


if __name__ == "__main__":
    sys.exit(main())
