"""A worker outlives the loss of its connection, whatever is running.

Celery 5.7 takes a broken connection apart in two steps. The first makes its channel forget the server's address, the
second wants to give the channel's messages back and needs it: ``AttributeError``, which is no connection error, and
the worker ends with "Unrecoverable error". If it does not, the same error comes when a task that ran through the loss
is acknowledged. So the channel is given its address to keep: what it cannot give back then is a connection error,
which Celery expects, and what ends later is acknowledged as ever (Redis knows messages by tag, not by connection).
"""

from __future__ import annotations

from typing import Any

from celery import bootsteps
from celery.worker.consumer.tasks import Tasks


class KeepAddress(bootsteps.StartStopStep):
    """A consumer step: ``app.steps["consumer"].add(KeepAddress)``. After a reconnect the channel is a new one."""

    requires = (Tasks,)

    def start(self, consumer: Any) -> None:
        channel = consumer.task_consumer.channel
        if hasattr(channel, "_connparams"):
            keep_address(channel)


def keep_address(channel: Any) -> None:
    """Let the channel find its server after its connection was taken from it."""
    ask, kept = channel._connparams, channel._connparams()

    def connparams(asynchronous: bool = False) -> dict[str, Any]:
        if channel.connection is None or channel.connection.client is None:
            return dict(kept)
        found: dict[str, Any] = ask(asynchronous=asynchronous)
        return found

    channel._connparams = connparams
