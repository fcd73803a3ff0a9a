"""Queries the workers and Redis, and pauses, resumes and cancels work, for the commands that need Celery."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any, Final
from uuid import uuid4

import redis
from kombu.exceptions import OperationalError

from okasie_tasks import logs
from okasie_tasks.celery import app
from okasie_tasks.cli.common import Context, progress_line
from okasie_tasks.client import Request, send_request
from okasie_tasks.errors import ConfigurationError, ConnectionFailed
from okasie_tasks.reports import listing, runs
from okasie_tasks.reports.fleet import discarded_document, quarantine_document, workers_document
from okasie_tasks.reports.held import items_document, plan_of_run
from okasie_tasks.reports.listing import iso
from okasie_tasks.reports.rejects import incomplete_source, new_rejects
from okasie_tasks.reports.run_page import page_document
from okasie_tasks.reports.runs import run_document
from okasie_tasks.services import Services
from okasie_tasks.settings import configuration_hash, load_settings
from okasie_tasks.store.records import Run
from okasie_tasks.store.redis_problems import redis_problem
from okasie_tasks.store.request_stats import Traces
from okasie_tasks.sync import phases
from okasie_tasks.worker.settings import API, CONTROL, DIFF, QUEUE_OF, URGENT

_POLL_SECONDS: Final = 0.1
_PICK_UP_POLL_SECONDS: Final = 0.02
_PUBLISH_SECONDS: Final = 10.0
"""A command outlasts a failover of some seconds."""
_TAKEN_UP_SECONDS: Final = 3.0
"""How long a request may stay queued before a command checks whether a worker is running."""
_NO_WORKER_SECONDS: Final = 8.0
"""How long there may be no worker: one that is being restarted takes some seconds."""
GIVE_UP_SECONDS: Final = 60.0
"""How long it may stay queued while workers answer: three times as long as it takes to replace a lost message."""
_LAST_SHOWN: Final = 5
"""Quarantined messages, and discarded requests."""


def services_of(context: Context) -> Services:
    """Return the services for this command's configuration, which the Celery app of this process uses as well."""
    settings = load_settings(context.config)
    logs.set_up(settings.log)
    os.environ["OKASIE_CONFIG"] = str(settings.config_file)
    services = Services(settings)
    try:
        services.check_layout()
    except redis.RedisError as error:
        raise ConnectionFailed(redis_problem(error).message, where="redis") from error
    return services


def used_queues() -> list[str]:
    """Return the queues that need a consumer."""
    return list(dict.fromkeys((CONTROL, URGENT, API, DIFF, app.conf.okasie_feeds_queue)))


def consumers() -> tuple[dict[str, int], list[str]]:
    """Return the consumers per queue, and the queues without one. Queries the workers, which takes about a second."""
    counts = dict.fromkeys(used_queues(), 0)
    answers = app.control.inspect(timeout=1.0).active_queues() or {}
    for queues in answers.values():
        for queue in queues:
            if queue["name"] in counts:
                counts[queue["name"]] += 1
    return counts, [name for name, count in counts.items() if not count]


def enqueue(services: Services, task: str, kwargs: dict[str, Any], summary: str) -> str:
    """Store a request in the outbox and publish its message; returns its id. Raises `ConnectionFailed`."""
    request = Request(str(uuid4()), task, QUEUE_OF[task], kwargs, summary)
    try:
        send_request(app, request, key_prefix=services.settings.redis.key_prefix, try_seconds=_PUBLISH_SECONDS)
    except ConnectionFailed as error:
        problem = redis_problem(error.__cause__ or error).message
        raise ConnectionFailed(f"the broker did not accept the message: {problem}", where="redis") from error
    return request.task_id


def unattended(*queues: str) -> list[str]:
    """Return the ``queues`` without a consumer; asked twice, since a busy worker may miss the first query."""
    missing = [name for name in consumers()[1] if name in queues]
    return [name for name in consumers()[1] if name in missing] if missing else []


def wait_for_worker(taken_up: Callable[[], bool], *queues: str) -> list[str]:
    """Wait until a worker has taken a request up, or workers answer; return the ``queues`` that stay without one."""
    began = time.monotonic()
    while not taken_up() and time.monotonic() - began < _TAKEN_UP_SECONDS:
        time.sleep(_PICK_UP_POLL_SECONDS)
    while not taken_up() and (missing := unattended(*queues)):
        if time.monotonic() - began > _NO_WORKER_SECONDS and not taken_up():
            return missing
    return []


def fleet(context: Context, account: str | None) -> dict[str, Any]:
    """Return the document of ``okasie status``. ``missing`` names what does not answer."""
    settings = load_settings(context.config)
    if account is not None and account not in settings.accounts:
        Services(settings).account(account)
    try:
        services = services_of(context)
    except ConnectionFailed as error:
        progress_line(str(error))
        return {"accounts": [], "queues": {}, "missing": ["redis"], "redis_problem": error.message}
    counts, missing, problem = _consumers_if_writable()
    names = [account] if account else list(settings.accounts)
    queues = {name: {"waiting": int(services.redis.llen(name)), "consumers": count} for name, count in counts.items()}
    documents = [runs.account_document(services.context(n), services.limiter(n).status()) for n in names]
    return {
        "accounts": documents,
        "queues": queues,
        "configuration": configuration_hash(settings),
        "workers": workers_document(services.workers.live(), configuration_hash(settings)),
        "quarantine": quarantine_document(services.quarantine.summary(_LAST_SHOWN)),
        "discarded": discarded_document(services.discarded.summary(_LAST_SHOWN)),
        "missing": missing,
        "redis_problem": problem,
    }


def _consumers_if_writable() -> tuple[dict[str, int | None], list[str], str | None]:
    """Return `consumers` and no problem. To ask the workers is a write: a server that refuses writes is ``missing``."""
    try:
        return (*consumers(), None)  # type: ignore[return-value] # the counts may be None below
    except (redis.RedisError, OperationalError) as error:
        return dict.fromkeys(used_queues()), ["redis"], redis_problem(error).message


def history(context: Context, account: str, limit: int) -> list[dict[str, Any]]:
    """Return the documents of the account's runs, newest first."""
    services = services_of(context)
    services.account(account)
    records = [services.runs.get(name) for name in services.runs.history(account, limit)]
    return [runs.run_document(services.runs, run) for run in records if run is not None]


def one_run(context: Context, name: str) -> dict[str, Any]:
    """Return one run's document. Raises `ConfigurationError` for an unknown id."""
    services = services_of(context)
    record = known_run(services, name)
    known = _known(services, record)
    limit = services.settings.accounts[record.account].requests_per_minute if known else 120
    document = page_document(services.runs, record, Traces(services.runs).read(record.id), limit=limit)
    document["stages"] = {
        stage: {"closed": closed, "parts": total}
        for stage, (closed, total) in runs.progress(services.runs, record).items()
    }
    document["rejects"] = new_rejects(services.ledger(record.account), record)
    ctx = services.context(record.account) if known else None
    if ctx is not None and (plan := plan_of_run(ctx, record)) is not None:
        document |= items_document(services.plans.changes(record.account), plan.count)
    return document


def _known(services: Services, record: Run) -> bool:
    """Return whether the run's account is still configured; its runs are kept when it is removed."""
    return record.account in services.settings.accounts


def known_run(services: Services, name: str, *, hint: str = "`okasie runs ACCOUNT` lists them") -> Run:
    """Return the record of a run. Raises `ConfigurationError` for an unknown id; ``hint`` ends its text."""
    record = services.runs.get(name)
    if record is None:
        raise ConfigurationError(f"no run {name!r:.60}; {hint}", where="run")
    return record


def why(context: Context, account: str, reference: str) -> dict[str, Any]:
    """Return everything known about one listing."""
    return listing.why_document(services_of(context).context(account), reference)


def rejects(context: Context, account: str) -> dict[str, Any]:
    """Return every reject of the account, and the sells that wait for rows without a readable reference."""
    ctx = services_of(context).context(account)
    return {"account": account, "rejects": listing.rejects_document(ctx), **incomplete_source(ctx.ledger)}


# -- stopping and resuming ---------------------------------------------------------------------------------------


def cancel(context: Context, name: str) -> dict[str, Any]:
    """Cancel a run, wait for its requests in flight, and return its document.

    Raises `ConfigurationError` for a run that has ended.
    """
    services = services_of(context)
    record = known_run(services, name)
    ctx = services.context(record.account)
    _require_open(ctx.runs.controls.cancel(name, record.account), name)
    printed = False
    # The command ends the run itself, in case no worker is running.
    while phases.advance(ctx, name) is None:
        if not printed:
            printed = True
            progress_line("waiting for the requests in flight; Ctrl-C stops only the waiting")
        time.sleep(_POLL_SECONDS)
    if ctx.runs.waiting(record.account):
        _send("okasie.sync", account=record.account, requested=True)
    ended = ctx.runs.get(name)
    if ended is None or ended.state != "cancelled":
        # Its last part ended first, or failed.
        _require_open(ended.state if ended else "", name)
    assert ended is not None  # noqa: S101 - it was cancelled just now
    return run_document(ctx.runs, ended)


def _require_open(state: str, name: str) -> None:
    if state in ("queued", "running"):
        return
    held = f"the run is held: `okasie reject {name}` drops its plan"
    raise ConfigurationError(held if state == "held" else f"the run has ended: {state or 'deleted'}", where=name)


def pause(context: Context, account: str) -> dict[str, Any]:
    """Pause the account."""
    ctx = services_of(context).context(account)
    before = ctx.runs.controls.paused_ms(account)
    since = ctx.runs.controls.pause(account)
    return {
        "account": account,
        "paused_since": iso(since),
        "was_paused": bool(before),
        "active": ctx.runs.active(account),
        "waiting": ctx.runs.waiting(account),
        "pushes_waiting": ctx.urgent_queue.count(),
    }


def resume(context: Context, account: str) -> dict[str, Any]:
    """Resume the account."""
    ctx = services_of(context).context(account)
    since = ctx.runs.controls.resume(account)
    if since:
        _send("okasie.resume", account=account)
    return {
        "account": account,
        "paused_since": None,
        "was_paused_since": iso(since),
        "active": ctx.runs.active(account),
        "waiting": ctx.runs.waiting(account),
        "pushes_waiting": ctx.urgent_queue.count(),
    }


def _send(task: str, **kwargs: Any) -> None:
    """Publish a task for the workers. If the broker does not accept it, the watchdog does the same within a minute."""
    try:
        app.send_task(task, kwargs=kwargs)
    except OperationalError:
        progress_line("the broker did not accept the message; the watchdog acts within a minute")
