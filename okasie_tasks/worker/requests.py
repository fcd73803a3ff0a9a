"""Received messages, whose expiry is decided by Redis' clock."""

from __future__ import annotations

from celery.worker.request import Request
from celery.worker.state import revoked as revoked_tasks

from okasie_tasks.logs import get_logger

log = get_logger(__name__)


class TimedRequest(Request):
    """A request that expires by Redis' clock: a worker whose clock is fast must not discard valid messages.

    Only Beat's ticks, and messages of other applications, have an ``expires``.
    """

    def maybe_expire(self) -> bool:  # type: ignore[override]  # upstream returns True or None
        """Whether the message has expired, so that Celery discards it. Called in the consumer's thread."""
        with self.message.channel.conn_or_acquire() as client:
            seconds, micros = client.time()
        late_seconds: float = seconds + micros / 1e6 - self.expires.timestamp()
        if late_seconds > 0:
            revoked_tasks.add(self.id)
            log.info("message expired; discarded", task=self.name, task_id=self.id, late_seconds=round(late_seconds))
        return late_seconds > 0
