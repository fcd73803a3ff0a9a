"""Judges a heartbeat: what keeps the worker from doing its work. Pure; the time is an argument."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from okasie_tasks.health.files import Heartbeat

STALL_SECONDS: Final = 25.0
"""How long a worker's event loop may not run. A hang is reported within 30 s."""
MOST_LOOKS: Final = 18
"""How many of its looks in a row, one a second, may find no poll, or an unused slot. An unanswered poll takes 5 s more.
Looks are counted, not seconds: a loop that was blocked must have the time to go on."""
WAIT_SECONDS: Final = 120.0
"""How long one attempt to connect or one answer of Redis may take: that Redis is away is no fault of the worker."""
STUCK_SECONDS: Final = 30.0
"""How long after its operation's deadline a slot counts as stuck."""


def problems(heartbeat: Heartbeat, now: float) -> Iterator[str]:
    """Yield what is wrong with the worker at ``now``, in seconds of the monotonic clock; nothing if it is healthy."""
    if now - heartbeat.written_at > STALL_SECONDS:
        yield f"no heartbeat for {now - heartbeat.written_at:.0f} s: the process is stopped or blocked"
        return
    yield from _consumer(heartbeat)
    for slot in heartbeat.slots:
        if now - slot.due > STUCK_SECONDS:
            doing = f"{slot.task}, {slot.operation}" if slot.operation else slot.task
            yield f"a slot is stuck: {doing} for {now - slot.since:.0f} s, {now - slot.due:.0f} s after its deadline"


def _consumer(heartbeat: Heartbeat) -> Iterator[str]:
    """A worker that stops consumes no more, and has no loop; one whose Redis is away has to try again."""
    seconds = heartbeat.written_at - heartbeat.looped_at
    if heartbeat.state in ("connecting", "migrating", "waiting") and seconds > WAIT_SECONDS:
        yield f"{heartbeat.state} for {seconds:.0f} s without an attempt or an answer"
    if heartbeat.state != "consuming":
        return
    if seconds > STALL_SECONDS:
        yield f"the consumer's event loop has not run for {seconds:.0f} s"
    if heartbeat.unpolled > MOST_LOOKS:
        yield "the consumer does not ask its queues for messages"
    if heartbeat.unprobed > MOST_LOOKS:
        yield "the pool executes nothing, with a free slot"
