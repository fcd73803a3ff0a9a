"""Documents about the fleet as a whole: its quarantine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from okasie_tasks.reports.listing import iso

if TYPE_CHECKING:
    from okasie_tasks.store.quarantine import QuarantineSummary


def quarantine_document(summary: QuarantineSummary) -> dict[str, Any]:
    """Return how many malformed messages were quarantined, and the last ones, newest first."""
    last = [
        {"queue": m.queue, "at": iso(m.at_ms), "reason": m.reason, "bytes": m.bytes, "message": m.message}
        for m in summary.last
    ]
    return {"total": summary.total, "last": last}
