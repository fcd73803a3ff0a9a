"""Starts a run and follows its record until it ends: the part of these commands that needs Celery."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from rich.console import Console

from okasie_tasks.actions import runs as actions
from okasie_tasks.cli.common import Context, progress_line
from okasie_tasks.cli.connect import PUBLISH_SECONDS, operator, services_of, warn_of_old_workers, with_zone, zone_of
from okasie_tasks.cli.fleet_client import GIVE_UP_SECONDS, POLL_SECONDS, unattended, used_queues, wait_for_worker
from okasie_tasks.cli.run_progress import RunProgress
from okasie_tasks.cli.times import in_text, in_zone
from okasie_tasks.core.estimates import Forecast
from okasie_tasks.errors import ConnectionFailed
from okasie_tasks.reports import runs
from okasie_tasks.reports.rejects import new_rejects
from okasie_tasks.services import Services
from okasie_tasks.store.records import Run


class Follower:
    """Starts and follows the runs of one account."""

    def __init__(self, context: Context, account: str, services: Services | None = None) -> None:
        self._context = context
        self.services = services or services_of(context)
        self._ctx = self.services.context(account)
        self._account = account
        self._hinted: set[str] = set()

    def start(self, mode: str, *, plan_only: bool = False) -> str:
        """Request a run, wait until a worker has picked it up, and return its id.

        Raises `ConnectionFailed` when no worker is running.
        """
        self._hint()
        warn_of_old_workers(self.services)
        run = actions.start(
            self.services, self._account, mode, by=operator(), plan_only=plan_only, try_seconds=PUBLISH_SECONDS
        )
        return self.picked_up(run)

    def picked_up(self, run: str) -> str:
        """Wait until a worker has picked the run up, or workers answer; returns its id.

        Raises `ConnectionFailed` when no worker is running: the run is cancelled then.
        """
        self._hint(runs.progress_document(self._ctx, self._record(run))["waits_for"])
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

    def _hint(self, waits_for: str | None = None) -> None:
        """Print once that the account is paused, or for which run this one waits."""
        hint = runs.pause_hint(self._ctx)
        if not hint and waits_for and waits_for != "resume":
            hint = f"waits for run {waits_for} of this account to end"
        if hint and hint not in self._hinted:
            self._hinted.add(hint)
            with in_zone(zone_of(self.services, self._account)):
                progress_line(in_text(hint))

    def still_rejected(self, references: Sequence[str]) -> list[str]:
        """Return those of the references that are rejected."""
        entries = self._ctx.ledger.rejects(references)
        return [reference for reference in references if reference in entries]

    def follow(self, run: str, *, own: bool = True) -> dict[str, Any]:
        """Wait until a run has ended and return its document. Progress is drawn on a terminal only.

        ``own``: this command has requested it, and cancels it if no worker takes it up.
        """
        console = Console(stderr=True)
        drawing = console.is_terminal and not self._context.as_json
        if drawing and self._record(run).open:
            progress_line(f"{self._record(run).mode} run: {self._before(run).text}")
        last_seen = time.monotonic()
        give_up = last_seen + GIVE_UP_SECONDS
        with RunProgress(console, drawing) as shown:
            while (record := self._record(run)).open:
                if shown.is_due():
                    progress = runs.progress_document(self._ctx, record)
                    self._hint(progress["waits_for"])
                    shown.show(progress, self.services.limiter(self._account).status)
                if time.monotonic() > give_up and self._ignored(record):
                    if own:
                        self._withdraw(run)
                    what = f"no worker took the run up within {GIVE_UP_SECONDS:g} s"
                    raise ConnectionFailed(f"{what}; it {'is cancelled' if own else 'stays queued'}", where=run)
                if time.monotonic() - last_seen > 30 and self._silent(record):
                    raise ConnectionFailed(
                        "the workers stopped answering; the run continues when they are back", where=run
                    )
                time.sleep(POLL_SECONDS)
        return self._document(record)

    def _before(self, run: str) -> Forecast:
        quota = self.services.limiter(self._account).status()
        return runs.before_run(self._record(run).mode, listings=self._ctx.ledger.count(), quota=quota)

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
        document = with_zone(self.services, runs.run_document(self._ctx.runs, record))
        if document["new_rejects"]:
            document["rejects"] = new_rejects(self._ctx.ledger, record)
        return document

    def plan(self, run: str) -> dict[str, Any]:
        quota = self.services.limiter(self._account).status()
        return with_zone(self.services, runs.plan_document(self._ctx, self._record(run), quota))
