"""Sends the events of tasks together, a few times a second. Celery sends almost each of them as a separate message.

Flower shows them as much later. An event costs the worker, Redis and Flower far less than a message.
"""

from __future__ import annotations

from typing import Any, Final

from celery import bootsteps
from celery.worker.consumer.events import Events

_SECONDS: Final = 0.25
"""Between two messages. At 24 events the next one is sent at once (`celery.events.EventDispatcher`)."""


class BatchedEvents(bootsteps.StartStopStep):
    """Delays the flush of the event buffer. Pools without an event loop have no buffer."""

    requires = (Events,)

    def start(self, c: Any) -> None:
        if c.hub is not None:
            c.event_dispatcher.on_send_buffered = _DelayedFlush(c)

    def stop(self, c: Any) -> None:
        """Send what is left, before the dispatcher is closed."""
        if c.event_dispatcher is not None:
            c.event_dispatcher.flush()


class _DelayedFlush:
    """Called for each buffered event, in any thread; the timers of the hub belong to the worker's own."""

    def __init__(self, consumer: Any) -> None:
        self._consumer, self._is_due = consumer, False

    def __call__(self) -> None:
        if not self._is_due:
            self._is_due = True
            self._consumer.hub.call_soon(self._wait)

    def _wait(self) -> None:
        self._consumer.hub.call_later(_SECONDS, self._flush)

    def _flush(self) -> None:
        self._is_due = False
        self._consumer._flush_events()
