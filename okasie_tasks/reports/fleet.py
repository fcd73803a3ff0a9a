"""Documents about the fleet as a whole: its workers, its quarantine and the requests that they discarded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from okasie_tasks import __version__
from okasie_tasks.reports.listing import iso
from okasie_tasks.reports.runs import account_document
from okasie_tasks.settings import configuration_hash

if TYPE_CHECKING:
    from okasie_tasks.services import Services
    from okasie_tasks.store.discarded import DiscardedSummary
    from okasie_tasks.store.quarantine import QuarantineSummary
    from okasie_tasks.store.workers import WorkerRecord


_LAST_SHOWN: Final = 5
"""Quarantined messages, and discarded requests."""


def status_document(
    services: Services,
    accounts: Sequence[str],
    consumers: Mapping[str, int | None],
    *,
    missing: Sequence[str] = (),
    redis_problem: str | None = None,
) -> dict[str, Any]:
    """Return the document of ``okasie status``. ``consumers``: of each queue, None if it is not known.

    ``missing``: the queues without a consumer, or ``redis`` if it refuses writes, with ``redis_problem``.
    """
    configuration = configuration_hash(services.settings)
    return {
        "accounts": [account_document(services.context(name), services.limiter(name).status()) for name in accounts],
        "queues": {
            name: {"waiting": int(services.redis.llen(name)), "consumers": count} for name, count in consumers.items()
        },
        "configuration": configuration,
        "workers": workers_document(services.workers.live(), configuration),
        "quarantine": quarantine_document(services.quarantine.summary(_LAST_SHOWN)),
        "discarded": discarded_document(services.discarded.summary(_LAST_SHOWN)),
        "missing": list(missing),
        "redis_problem": redis_problem,
    }


def quarantine_document(summary: QuarantineSummary) -> dict[str, Any]:
    """Return how many malformed messages were quarantined, and the last ones, newest first."""
    last = [
        {"queue": m.queue, "at": iso(m.at_ms), "reason": m.reason, "bytes": m.bytes, "message": m.message}
        for m in summary.last
    ]
    return {"total": summary.total, "last": last}


def discarded_document(summary: DiscardedSummary) -> dict[str, Any]:
    """Return how many requests were discarded, by cause, and the last ones, newest first."""
    last = [
        {
            "cause": request.cause,
            "task": request.task or None,
            "task_id": request.task_id,
            "account": request.account or None,
            "at": iso(request.at_ms),
            "reason": request.reason,
        }
        for request in summary.last
    ]
    return {"total": summary.totals, "last": last}


def workers_document(workers: Sequence[WorkerRecord], configuration: str) -> list[dict[str, Any]]:
    """Return the live workers, each with its version, the hash of its configuration, and what is wrong with it."""
    return [
        {
            "name": worker.name,
            "queues": list(worker.queues),
            "configuration": worker.configuration,
            "same_configuration": worker.configuration == configuration,
            "version": worker.version or None,
            "same_version": worker.version == __version__,
            "problem": worker.problem or None,
        }
        for worker in workers
    ]
