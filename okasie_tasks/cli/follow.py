"""Starting a run and following its record; asking the fleet who is there. What of the commands needs Celery."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from typing import Any

import redis
from kombu.exceptions import OperationalError
from rich.console import Console

from okasie_tasks import logs
from okasie_tasks.celery import app
from okasie_tasks.cli.options import Context
from okasie_tasks.cli.output import say
from okasie_tasks.cli.progress import Bars
from okasie_tasks.core.estimates import Forecast
from okasie_tasks.core.quota import LimiterStatus
from okasie_tasks.errors import FixConfiguration, NotReachable, OkasieError
from okasie_tasks.reports import listing, runs
from okasie_tasks.reports.runs import page_document, pause_hint
from okasie_tasks.services import Services
from okasie_tasks.settings import load_settings
from okasie_tasks.store.records import Run
from okasie_tasks.store.request_stats import Traces
from okasie_tasks.sync.rejects import Freed, free
from okasie_tasks.urgent.accept import checked_references
from okasie_tasks.worker.settings import API, CONTROL, DIFF, URGENT

_POLL_SECONDS = 0.1
_PICKED_UP_SECONDS = 3.0
"""How long a request may stay unread before we ask whether any worker is there at all."""


def services_of(context: Context) -> Services:
    """The adapters for this command's configuration; Celery's app in this process uses the same."""
    settings = load_settings(context.config)
    logs.set_up(settings.log)
    os.environ["OKASIE_CONFIG"] = str(settings.config_file)
    services = Services(settings)
    try:
        services.redis.ping()
    except redis.RedisError as error:
        raise NotReachable(f"Redis does not answer ({type(error).__name__})", where="redis") from error
    return services


class Follower:
    """One account's runs as seen from the command line."""

    def __init__(self, context: Context, account: str) -> None:
        self._context = context
        self._services = services_of(context)
        self._tools = self._services.tools(account)
        self._account = account
        self._hinted = False

    def start(self, mode: str, *, plan_only: bool = False, approves: str = "") -> str:
        """Ask for a run and see it picked up; returns its id. Raises `NotReachable` when no worker is there.

        ``approves``: the run whose held plan it is to send.
        """
        self._hint()
        run, _ = self._tools.runs.request(self._account, mode, plan_only=plan_only, approves=approves)
        if not run:
            raise OkasieError(
                "another run already waits for this account; try again when it has begun",
                where=self._account,
                code="busy",
            )
        try:
            app.send_task(
                "okasie.sync",
                kwargs={"account": self._account, "mode": mode, "requested": True},
                expires=3600,
                argsrepr=f"{self._account}: {mode} {'plan' if plan_only else 'run'}, from the command line",
            )
        except OperationalError as error:
            raise NotReachable("the broker did not take the message", where="redis") from error
        deadline = time.monotonic() + _PICKED_UP_SECONDS
        while self._tools.runs.state(run) == "queued" and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
        if self._tools.runs.state(run) == "queued" and (missing := consumers()[1]):
            self._withdraw(run)
            raise NotReachable(
                f"no worker answers for {', '.join(missing)}: start them with `okasie up` or"
                " `celery -A okasie_tasks worker`",
                where="workers",
            )
        return run

    def _withdraw(self, run: str) -> None:
        record = self._tools.runs.get(run)
        if record is not None and record.state == "queued":
            self._tools.runs.end(record, "cancelled")

    def _hint(self) -> None:
        """Say once that the account is paused."""
        if not self._hinted and (hint := pause_hint(self._tools)):
            self._hinted = True
            say(hint)

    def free(self, references: Sequence[str]) -> Freed:
        """Free what the marketplace refused: these, or all."""
        return free(self._tools, checked_references(list(references), "okasie retry") if references else ())

    def parked(self, references: Sequence[str]) -> list[str]:
        """Which of these are parked."""
        found = self._tools.ledger.rejects(references)
        return [reference for reference in references if reference in found]

    def follow(self, run: str) -> dict[str, Any]:
        """Follow a run to its end; returns its document. Draws progress on a terminal only."""
        console = Console(stderr=True)
        drawing = console.is_terminal and not self._context.as_json
        if drawing:
            say(f"{self._record(run).mode} run: {self._before(run).text}")
        last_seen = time.monotonic()
        with Bars(console, drawing) as bars:
            while True:
                record = self._record(run)
                if not record.open:
                    break
                bars.show(runs.progress(self._tools.runs, record), record, self._quota)
                self._hint()
                if time.monotonic() - last_seen > 30 and self._silent(record):
                    raise NotReachable("the workers stopped answering; the run goes on when they are back", where=run)
                time.sleep(_POLL_SECONDS)
        return self._document(record)

    def _before(self, run: str) -> Forecast:
        quota = self._services.limiter(self._account).status()
        return runs.before_run(self._record(run).mode, listings=self._tools.ledger.count(), quota=quota)

    def _quota(self) -> tuple[LimiterStatus, int]:
        """The quota and how many listings are parked, for the display."""
        return self._services.limiter(self._account).status(), self._tools.ledger.reject_count()

    def _silent(self, record: Run) -> bool:
        quiet = self._tools.runs.now_ms() - record.progress_ms > 30_000
        return quiet and bool(consumers()[1])

    def _record(self, run: str) -> Run:
        record = self._tools.runs.get(run)
        if record is None:
            raise NotReachable("the run's record is gone: was Redis emptied?", where=run)
        return record

    def _document(self, record: Run) -> dict[str, Any]:
        document = runs.run_document(self._tools.runs, record)
        if document["new_rejects"]:
            document["rejects"] = _rejects(self._tools.ledger.all_rejects(), record)
        return document

    def plan(self, run: str) -> dict[str, Any]:
        return runs.plan_document(self._tools, self._record(run), self._services.limiter(self._account).status())


def _rejects(rejects: Any, record: Run, limit: int = 50) -> list[dict[str, Any]]:
    """Those that this run met first, at most ``limit``."""
    new = (r for r in rejects if r.run == record.id and r.first_seen * 1000 >= record.created_ms - 1000)
    shown = []
    for reject in new:
        shown.append({
            "reference": reject.reference, "where": reject.where, "code": reject.code, "message": reject.message,
            "fields": reject.fields,
        })  # fmt: skip
        if len(shown) == limit:
            break
    return shown


def consumers() -> tuple[dict[str, int], list[str]]:
    """How many consumers each queue has, and which queues have none; asks the workers themselves, about a second."""
    counts = dict.fromkeys((CONTROL, URGENT, API, DIFF), 0)
    answers = app.control.inspect(timeout=1.0).active_queues() or {}
    for queues in answers.values():
        for queue in queues:
            if queue["name"] in counts:
                counts[queue["name"]] += 1
    return counts, [name for name, count in counts.items() if not count]


def fleet(context: Context, account: str | None) -> dict[str, Any]:
    """The document of ``okasie status``. ``missing`` names what does not answer."""
    settings = load_settings(context.config)
    if account is not None and account not in settings.accounts:
        Services(settings).account(account)
    try:
        services = services_of(context)
    except NotReachable as error:
        print(f"okasie: {error}", file=sys.stderr)
        return {"accounts": [], "queues": {}, "missing": ["redis"]}
    counts, missing = consumers()
    names = [account] if account else list(settings.accounts)
    queues = {name: {"waiting": int(services.redis.llen(name)), "consumers": count} for name, count in counts.items()}
    documents = [runs.account_document(services.tools(n), services.limiter(n).status()) for n in names]
    return {"accounts": documents, "queues": queues, "missing": missing}


def history(context: Context, account: str, limit: int) -> list[dict[str, Any]]:
    """Documents of the account's runs, newest first."""
    services = services_of(context)
    services.account(account)
    found = [services.runs.get(name) for name in services.runs.history(account, limit)]
    return [runs.run_document(services.runs, run) for run in found if run is not None]


def one_run(context: Context, name: str) -> dict[str, Any]:
    """One run's document. Raises `FixConfiguration` for an id that Redis does not know."""
    services = services_of(context)
    record = known_run(services, name)
    limit = services.settings.accounts[record.account].requests_per_minute if _known(services, record) else 120
    document = page_document(services.runs, record, Traces(services.runs).read(record.id), limit=limit)
    document["stages"] = {
        stage: {"closed": closed, "parts": total}
        for stage, (closed, total) in runs.progress(services.runs, record).items()
    }
    document["rejects"] = _rejects(services.ledger(record.account).all_rejects(), record)
    return document


def _known(services: Services, record: Run) -> bool:
    """A run outlives its account in the configuration."""
    return record.account in services.settings.accounts


def known_run(services: Services, name: str, *, told_by: str = "`okasie runs ACCOUNT` lists them") -> Run:
    """The record of a run. Raises `FixConfiguration` for an id that Redis does not know."""
    record = services.runs.get(name)
    if record is None:
        raise FixConfiguration(f"no run {name!r:.60}; {told_by}", where="run")
    return record


def why(context: Context, account: str, reference: str) -> dict[str, Any]:
    """Everything that is known of one listing."""
    return listing.why_document(services_of(context).tools(account), reference)


def rejects(context: Context, account: str) -> list[dict[str, Any]]:
    """Every parked item of the account."""
    return listing.rejects_document(services_of(context).tools(account))
