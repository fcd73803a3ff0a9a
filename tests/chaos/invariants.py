"""What must hold after every round, however it went. Each finding is a line; none is the verdict "right"."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import requests

from okasie_tasks.sandbox.validation import canonical
from okasie_tasks.store.records import Run
from tests.chaos.fleet import Fleet
from tests.chaos.stock import Stock
from tests.support import stored

STAGES = ("first", "walk", "load", "diff", "spool", "upsert", "confirm", "sell")


def check_invariants(fleet: Fleet, account: str, stock: Stock) -> list[str]:
    """Everything that is wrong with the account."""
    history = fleet.history(account)
    return [
        *_runs(fleet, history),
        *_cursor(fleet, account, history),
        *_market(fleet, account, stock),
        *_sells(fleet, account, stock),
        *_quota(fleet, account),
        *_subscriptions(fleet),
    ]


def _runs(fleet: Fleet, history: list[Run]) -> Iterator[str]:
    """Every run ended, after the one before it, and closed each of its parts once."""
    begun = sorted((run for run in history if run.started_ms), key=lambda run: run.started_ms)
    for before, after in pairwise(begun):
        if after.started_ms < before.ended_ms or not before.ended_ms:
            yield f"run {after.id} began while {before.id} was at work"
    for run in history:
        if run.open:
            yield f"run {run.id} did not end: {run.state} in {run.stage}"
        for name in STAGES:
            stage = fleet.runs.parts.stage(run.id, name)
            results = len(fleet.runs.parts.results(run.id, name))
            if stage.closed > stage.total or stage.closed != results:
                yield f"run {run.id}: {stage.closed} {name} parts closed of {stage.total}, with {results} results"
            if run.state == "done" and (not stage.finished or stage.failed):
                yield f"run {run.id} is done with {name} parts {stage}"


def _cursor(fleet: Fleet, account: str, history: list[Run]) -> Iterator[str]:
    """It moved once with every run that ended well, and with no other."""
    held = fleet.runs.account(account)
    well = [run for run in history if run.state in ("done", "held")]
    if held.generation != str(len(well)):
        yield f"the cursor moved {held.generation} times, {len(well)} runs ended well"
    expected = well[-1].facts["cursor_next"] if well else ""
    if held.cursor != expected:
        yield f"the cursor is {held.cursor!r}, the last good run read {expected!r}"
    for before, after in pairwise(run for run in history if run.started_ms):
        moved = before.facts.get("cursor") if before.state in ("done", "held") else before.facts.get("cursor_from", "")
        if after.facts.get("cursor_from", "") != moved:
            yield f"run {after.id} began at {after.facts.get('cursor_from')!r}, {before.id} left {moved!r}"


def _market(fleet: Fleet, account: str, stock: Stock) -> Iterator[str]:
    """What is in the feed is for sale as it stands there, and nothing else is."""
    wanted, held = stock.bodies(), stored(fleet.sandbox, account)
    for reference, body in wanted.items():
        row = held.get(reference)
        if row is None:
            yield f"{reference} is in the feed and not on the marketplace"
        elif row["status"] != "active" or row["body"] != _as_kept(body):
            yield f"{reference} is {row['status']}; differs in {_differing(_as_kept(body), row['body'])}"
    for reference, row in held.items():
        if reference not in wanted and row["status"] != "sold":
            yield f"{reference} left the feed and is {row['status']}"


def _as_kept(body: dict[str, Any]) -> dict[str, Any]:
    kept = canonical(body)
    kept.pop("externalReference", None)
    return kept


def _differing(ours: dict[str, Any], theirs: dict[str, Any]) -> list[str]:
    return sorted(name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name))


def _sells(fleet: Fleet, account: str, stock: Stock) -> Iterator[str]:
    """At no time was a car sold that the feed has."""
    writes = requests.get(f"{fleet.sandbox.admin_url}/writes", params={"key": account}, timeout=60).json()
    wrong = {write["reference"] for write in writes if write["outcome"] == "sold"} - stock.gone
    if wrong:
        yield f"sold and in the feed: {sorted(wrong)}"


def _subscriptions(fleet: Fleet) -> Iterator[str]:
    """Nobody waits for a part's result: whoever subscribed to one has forgotten to end it."""
    if channels := fleet.redis.pubsub_channels("celery-task-meta-*"):
        yield f"{len(channels)} subscriptions to results are left"


def _quota(fleet: Fleet, account: str) -> Iterator[str]:
    if overrun := fleet.quotas[account].overrun:
        yield f"{overrun} requests were over the quota"
