"""What Flower tells: arguments that read well, and a row for each run with its progress and its end.

A run is many tasks, and none of them lasts as long as the run does. So each run has a row of its own, made of events
that no task sends: name ``okasie.run``, the run's id in the place of a task's, ``task-progress`` while it works
(Flower shows the state PROGRESS), then ``task-succeeded`` or ``task-failed``. It costs one event a second for each run
and process, ten in all at the most, and nothing when Redis is away: the record is the truth, this only shows it.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from typing import Any, Final

import redis
from celery import Celery
from kombu.exceptions import OperationalError

from okasie_tasks.reports.runs import outcome_text, progress, progress_text, run_document
from okasie_tasks.store.records import Run
from okasie_tasks.store.runs import Runs

RUN: Final = "okasie.run"
_EVERY_SECONDS: Final = 1.0
_RUNS_A_SECOND: Final = 10
"""With more runs at work each is told of more seldom: an event costs as much as a page without changes."""
_FORGET_SECONDS: Final = 60.0
_SHOWN: Final = 3

_PART: Final = {
    "first": "page", "walk": "page", "load": "slice of the source", "diff": "comparison", "spool": "slice to send",
    "upsert": "chunk", "sell": "sell", "count": "count of the marketplace",
}  # fmt: skip


def part_label(account: str, stage: str, number: int, of: int) -> str:
    """A part for people: ``dex: page 3 of 17``, numbered from 1. ``of`` 0: nobody knows yet."""
    return f"{account}: {_PART[stage]} {number}" + (f" of {of}" if of else "")


def push_label(account: str, what: str, references: Sequence[str]) -> str:
    """A push or sell for people: ``dex: push of 5: DEX-1, DEX-2, DEX-3, ...``."""
    shown = ", ".join(references[:_SHOWN]) + (", ..." if len(references) > _SHOWN else "")
    return f"{account}: {what} of {len(references)}: {shown}"


class RunEvents:
    """Tells of runs as events, in the name of the worker that a task runs in."""

    def __init__(self, app: Celery[Any]) -> None:
        self.home = ""
        """The name of this process's worker, for what it does outside any task."""
        self._app = app
        self._told: dict[str, float] = {}

    def publish(self, runs: Runs, run: str, *, now: bool = False) -> None:
        """Tell where a run is: at most once a second, but its end always. ``now``: do not wait for the second."""
        moment = time.monotonic()
        every = _EVERY_SECONDS * max(1.0, len(self._told) / _RUNS_A_SECOND)
        if not now and moment - self._told.get(run, -every) < every:
            return
        self._told[run] = moment
        if len(self._told) > _RUNS_A_SECOND:
            self._told = {told: at for told, at in self._told.copy().items() if moment - at < _FORGET_SECONDS}
        # Nobody's work may fail, or wait, for want of a word about it.
        with contextlib.suppress(redis.RedisError, OperationalError, OSError):
            record = runs.get(run)
            if record is None or record.plan_only:
                return
            kind, fields = _progress(runs, record) if record.open else _end(runs, record)
            with self._app.events.default_dispatcher(hostname=self._hostname()) as events:
                events.send(kind, uuid=run, retry=False, **_head(record), **fields)

    def _hostname(self) -> str:
        task = self._app.current_worker_task
        return str(task.request.hostname or self.home) if task is not None else self.home


def _head(record: Run) -> dict[str, Any]:
    began = (record.started_ms or record.created_ms) / 1000
    return {
        "name": RUN,
        "args": f"{record.account}: {record.mode} run",
        "kwargs": repr({"account": record.account, "run": record.id, "mode": record.mode}),
        "received": record.created_ms / 1000,
        "started": began,
        "retries": 0,
    }


def _progress(runs: Runs, record: Run) -> tuple[str, dict[str, Any]]:
    return "task-progress", {"result": progress_text(progress(runs, record), record)}


def _end(runs: Runs, record: Run) -> tuple[str, dict[str, Any]]:
    document = run_document(runs, record)
    told, runtime = outcome_text(document), document["seconds"]
    if record.state in ("failed", "partial", "cancelled"):
        # Not revoked: monitors take that for something that was before any state of our own.
        return "task-failed", {"exception": told, "result": told, "runtime": runtime}
    return "task-succeeded", {"result": told, "runtime": runtime}
