"""A pool's dead children are noticed within a quarter of a second.

Celery 5.7 learns of a child's end when the pipe that the child held is closed, and asks the kernel for its exit status
at once. The kernel closes the pipes of a killed process before it gives the status: the answer is "it runs", the pipe
is no longer watched, and only the pool's timer of 5 s finds the child and gives its task to another.
"""

from __future__ import annotations

from typing import Any, Final

from celery import bootsteps
from celery.worker.consumer.tasks import Tasks

LOOK_SECONDS: Final = 0.25


class ChildWatch(bootsteps.StartStopStep):
    """A consumer step: ``app.steps["consumer"].add(ChildWatch)``. For prefork; other pools have no children."""

    requires = (Tasks,)

    def start(self, consumer: Any) -> None:
        """Celery cancels what was put on the loop's timer since it connected when the connection breaks: no doubles."""
        maintain = getattr(getattr(consumer.pool, "_pool", None), "maintain_pool", None)
        if consumer.hub is not None and maintain is not None:
            consumer.hub.call_repeatedly(LOOK_SECONDS, maintain)
