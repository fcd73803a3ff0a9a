"""What Flower shows: readable arguments, and one row for each run with its progress and its end.

A run is many tasks, and none of them lasts as long as the run. So each run has a separate row, made of custom events:
name ``okasie.run``, the run's id in the place of a task's, ``task-progress`` while it works (Flower shows the state
PROGRESS), then ``task-succeeded`` or ``task-failed``. This costs at most one event a second for each run and process,
and ten a second for each process. Events are dropped while Redis is away: the run's record has the state.
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
"""With more active runs each is published less often: an event costs as much as a page without changes."""
_FORGET_SECONDS: Final = 60.0
_SHOWN: Final = 3

_PART: Final = {
    "first": "page", "walk": "page", "load": "block of the source", "diff": "comparison", "spool": "block to send",
    "upsert": "chunk", "confirm": "check of the sells", "sell": "sell", "count": "count of the marketplace",
}  # fmt: skip


def part_label(account: str, stage: str, number: int, of: int) -> str:
    """A readable name of a part: ``dex: page 3 of 17``, numbered from 1. ``of`` 0: not known yet."""
    return f"{account}: {_PART[stage]} {number}" + (f" of {of}" if of else "")


def push_label(account: str, what: str, references: Sequence[str]) -> str:
    """A readable name of a push or sell: ``dex: push of 5: DEX-1, DEX-2, DEX-3, ...``."""
    shown = ", ".join(references[:_SHOWN]) + (", ..." if len(references) > _SHOWN else "")
    return f"{account}: {what} of {len(references)}: {shown}"


class RunEvents:
    """Publishes runs as events, under the name of the worker that executes the task."""

    def __init__(self, app: Celery[Any]) -> None:
        self.home = ""
        """The name of this process's worker, for events sent outside any task."""
        self._app = app
        self._published: dict[str, float] = {}

    def publish(self, runs: Runs, run: str, *, now: bool = False) -> None:
        """Publish the state of a run, at most once a second. ``now``: publish regardless, as for its end."""
        moment = time.monotonic()
        every = _EVERY_SECONDS * max(1.0, len(self._published) / _RUNS_A_SECOND)
        if not now and moment - self._published.get(run, -every) < every:
            return
        self._published[run] = moment
        if len(self._published) > _RUNS_A_SECOND:
            self._published = {r: at for r, at in self._published.copy().items() if moment - at < _FORGET_SECONDS}
        # A task must neither fail nor wait because its event cannot be sent.
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
    text, runtime = outcome_text(document), document["seconds"]
    if record.state in ("failed", "partial", "cancelled"):
        # Not "task-revoked": monitors sort it before PROGRESS, a state that Celery does not know.
        return "task-failed", {"exception": text, "result": text, "runtime": runtime}
    return "task-succeeded", {"result": text, "runtime": runtime}
