"""Logs a failed request as one line, with its id and the account's pause, if any."""

from __future__ import annotations

import contextlib
from logging import ERROR, WARNING
from typing import TYPE_CHECKING

from okasie_tasks.errors import LimiterUnavailable
from okasie_tasks.logs import get_logger

if TYPE_CHECKING:
    from okasie_tasks.ports import RequestLog
    from okasie_tasks.store.limiter import RedisLimiter

log = get_logger(__name__)


def log_failed(request: RequestLog, limiter: RedisLimiter) -> None:
    """Log a failed request. Successes, and refusals of a listing, which are logged with the listing, are not.

    Failures only cost one more call to the limiter: whether the account pauses now, for how long and why.
    """
    status = request.status
    if not request.failed and 200 <= status < 500 and status not in (401, 403, 429):
        return
    facts: dict[str, object] = {
        "account": request.account,
        "lane": request.lane,
        "method": request.method,
        "kind": request.kind,
        "status": status or None,
        "seconds": round(request.seconds, 3),
        "request_id": request.request_id,
    }
    paused, reason = 0.0, ""
    with contextlib.suppress(LimiterUnavailable):
        status_now = limiter.status()
        paused, reason = status_now.pause_seconds, status_now.pause_reason or ""
    if paused > 0:
        facts |= {"pause_seconds": round(paused, 1), "pause_reason": reason}
    if reason == "breaker" and paused > 0:
        log.error("request failed; the breaker is open", **facts)
    elif status == 429:
        log.warning("429: the account pauses", **facts)
    else:
        log.log({401: ERROR, 403: ERROR}.get(status, WARNING), "request failed", **facts)
