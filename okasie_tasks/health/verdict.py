"""Judges a heartbeat: what keeps the worker from doing its work. Pure; the time is an argument."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from okasie_tasks.health.files import Heartbeat

STALL_SECONDS: Final = 25.0
"""How long a worker's loop, its polls and a free slot may take. A hang is reported within 30 s."""
CONNECT_SECONDS: Final = 120.0
"""How long one attempt to connect may take, with the wait before it: a broker may be away for any time."""
STUCK_SECONDS: Final = 30.0
"""How long after its operation's deadline a slot counts as stuck."""


def problems(heartbeat: Heartbeat, now: float) -> Iterator[str]:
    """Yield what is wrong with the worker at ``now``, in seconds of the monotonic clock; nothing if it is healthy."""
    if now - heartbeat.written_at > STALL_SECONDS:
        yield f"no heartbeat for {now - heartbeat.written_at:.0f} s: the process is stopped or blocked"
        return
    yield from _consumer(heartbeat, now)
    for slot in heartbeat.slots:
        if now - slot.due > STUCK_SECONDS:
            doing = f"{slot.task}, {slot.operation}" if slot.operation else slot.task
            yield f"a slot is stuck: {doing} for {now - slot.since:.0f} s, {now - slot.due:.0f} s after its deadline"


def _consumer(heartbeat: Heartbeat, now: float) -> Iterator[str]:
    """A worker that stops consumes no more, and has no loop; one without a connection has to try again."""
    if heartbeat.state == "connecting" and now - heartbeat.looped_at > CONNECT_SECONDS:
        yield f"has not tried to connect to the broker for {now - heartbeat.looped_at:.0f} s"
    if heartbeat.state != "consuming":
        return
    if now - heartbeat.looped_at > STALL_SECONDS:
        yield f"the consumer's event loop has not run for {now - heartbeat.looped_at:.0f} s"
    elif now - heartbeat.polled_at > STALL_SECONDS:
        yield f"the consumer has not asked its queues for messages for {now - heartbeat.polled_at:.0f} s"
    elif heartbeat.probed_at and heartbeat.free_at:
        seconds = now - max(heartbeat.probed_at, heartbeat.free_at)
        if seconds > STALL_SECONDS:
            yield f"the pool has executed nothing for {seconds:.0f} s, with a free slot"
