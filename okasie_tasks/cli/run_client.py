"""Starts a run and follows its record until it ends: the part of these commands that needs Celery."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn
from rich.text import Text

from okasie_tasks.cli.common import Context, progress_line
from okasie_tasks.cli.fleet_client import (
    _POLL_SECONDS,
    GIVE_UP_SECONDS,
    enqueue,
    services_of,
    unattended,
    used_queues,
    wait_for_worker,
)
from okasie_tasks.core.estimates import Forecast
from okasie_tasks.core.quota import LimiterStatus
from okasie_tasks.errors import ConnectionFailed, OkasieError
from okasie_tasks.reports import runs
from okasie_tasks.reports.rejects import new_rejects
from okasie_tasks.reports.runs import pause_hint
from okasie_tasks.store.records import Run
from okasie_tasks.sync.rejects import FreedRejects, free
from okasie_tasks.urgent.accept import checked_references


class Follower:
    """Starts and follows the runs of one account."""

    def __init__(self, context: Context, account: str) -> None:
        self._context = context
        self._services = services_of(context)
        self._ctx = self._services.context(account)
        self._account = account
        self._hinted = False

    def start(self, mode: str, *, plan_only: bool = False, approves: str = "") -> str:
        """Request a run, wait until a worker has picked it up, and return its id.

        ``approves``: the run whose held plan is to be sent. Raises `ConnectionFailed` when no worker is running.
        """
        self._hint()
        run, _ = self._ctx.runs.request(self._account, mode, plan_only=plan_only, approves=approves)
        if not run:
            raise OkasieError(
                "another run of this account is already queued; try again when it has started",
                where=self._account,
                code="busy",
            )
        label = f"{self._account}: {mode} {'plan' if plan_only else 'run'}, from the command line"
        enqueue(self._services, "okasie.sync", {"account": self._account, "mode": mode, "requested": True}, label)
        if missing := wait_for_worker(lambda: self._ctx.runs.state(run) != "queued", *used_queues()):
            self._withdraw(run)
            raise ConnectionFailed(
                f"no worker consumes {', '.join(missing)}: start workers with `okasie up` or"
                " `celery -A okasie_tasks worker`",
                where="workers",
            )
        return run

    def _withdraw(self, run: str) -> None:
        record = self._ctx.runs.get(run)
        if record is not None and record.state == "queued":
            self._ctx.runs.end(record, "cancelled")

    def _hint(self) -> None:
        """Print once that the account is paused."""
        if not self._hinted and (hint := pause_hint(self._ctx)):
            self._hinted = True
            progress_line(hint)

    def free(self, references: Sequence[str]) -> FreedRejects:
        """Allow refused listings to be sent again: these, or all."""
        return free(self._ctx, checked_references(list(references), "okasie retry") if references else ())

    def still_rejected(self, references: Sequence[str]) -> list[str]:
        """Return those of the references that are rejected."""
        entries = self._ctx.ledger.rejects(references)
        return [reference for reference in references if reference in entries]

    def follow(self, run: str) -> dict[str, Any]:
        """Wait until a run has ended and return its document. Progress is drawn on a terminal only."""
        console = Console(stderr=True)
        drawing = console.is_terminal and not self._context.as_json
        if drawing:
            progress_line(f"{self._record(run).mode} run: {self._before(run).text}")
        last_seen = time.monotonic()
        give_up = last_seen + GIVE_UP_SECONDS
        with Bars(console, drawing) as bars:
            while True:
                record = self._record(run)
                if not record.open:
                    break
                bars.show(runs.progress(self._ctx.runs, record), record, self._quota)
                self._hint()
                if time.monotonic() > give_up and self._ignored(record):
                    self._withdraw(run)
                    message = f"no worker took the run up within {GIVE_UP_SECONDS:g} s; it is cancelled"
                    raise ConnectionFailed(message, where=run)
                if time.monotonic() - last_seen > 30 and self._silent(record):
                    raise ConnectionFailed(
                        "the workers stopped answering; the run continues when they are back", where=run
                    )
                time.sleep(_POLL_SECONDS)
        return self._document(record)

    def _before(self, run: str) -> Forecast:
        quota = self._services.limiter(self._account).status()
        return runs.before_run(self._record(run).mode, listings=self._ctx.ledger.count(), quota=quota)

    def _quota(self) -> tuple[LimiterStatus, int]:
        """Return the quota and the number of rejected listings, for the display."""
        return self._services.limiter(self._account).status(), self._ctx.ledger.reject_count()

    def _silent(self, record: Run) -> bool:
        quiet = self._ctx.runs.now_ms() - record.progress_ms > 30_000
        return quiet and bool(unattended(*used_queues()))

    def _ignored(self, record: Run) -> bool:
        """Whether the run could have begun: it is queued, no other is running, and the account is not paused."""
        active = self._ctx.runs.active(self._account)
        free = active is None or self._ctx.runs.state(active) != "running"
        return record.state == "queued" and free and not self._ctx.runs.controls.paused_ms(self._account)

    def _record(self, run: str) -> Run:
        record = self._ctx.runs.get(run)
        if record is None:
            raise ConnectionFailed("the run's record no longer exists; Redis may have been emptied", where=run)
        return record

    def _document(self, record: Run) -> dict[str, Any]:
        document = runs.run_document(self._ctx.runs, record)
        if document["new_rejects"]:
            document["rejects"] = new_rejects(self._ctx.ledger, record)
        return document

    def plan(self, run: str) -> dict[str, Any]:
        return runs.plan_document(self._ctx, self._record(run), self._services.limiter(self._account).status())


Quota = Callable[[], tuple[LimiterStatus, int]]

_QUOTA_SECONDS: Final = 0.5


class Bars:
    """Progress bars: a line a stage, and one for the quota."""

    def __init__(self, console: Console, drawing: bool) -> None:
        columns = (
            TextColumn("{task.description:>12}"),
            BarColumn(),
            TextColumn("{task.completed:.0f}/{task.total:.0f}"),
        )
        self._progress = Progress(*columns, console=console)
        self._line = Text()
        self._live = Live(Group(self._progress, self._line), console=console, transient=True) if drawing else None
        self._tasks: dict[str, Any] = {}
        self._quota_read = 0.0

    def __enter__(self) -> Bars:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def show(self, stages: dict[str, tuple[int, int]], record: Run, quota: Quota) -> None:
        """Draw the progress of the run."""
        if not self._live:
            return
        for name, (closed, total) in runs.progress_by_kind(stages).items():
            if name not in self._tasks:
                self._tasks[name] = self._progress.add_task(name, total=total)
            self._progress.update(self._tasks[name], completed=closed, total=max(total, closed))
        if time.monotonic() - self._quota_read >= _QUOTA_SECONDS:
            self._quota_read = time.monotonic()
            self._print_quota(stages, record, *quota())

    def _print_quota(
        self, stages: dict[str, tuple[int, int]], record: Run, quota: LimiterStatus, rejected: int
    ) -> None:
        sent = runs.requests_sent(record)
        pause = f", pausing {quota.pause_seconds:.0f} s" if quota.pause_seconds else ""
        self._line.plain = (
            f"{'':>4}requests {sent}   rejected {rejected}   quota {quota.used_last_minute}/{quota.limit}{pause}"
            f"   {runs.during_run(stages, record, quota).text}"
        )
