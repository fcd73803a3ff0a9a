"""Makes each kind of worker hang in its own way, and measures how long it takes until it is unhealthy.

    python -m tests.health.hangs

Exit status 1: one took longer than 30 s, or a worker that works was unhealthy.
"""

from __future__ import annotations

import signal
import socket
import sys
import time
from typing import Final

from celery import Celery

from okasie_tasks.health.verdict import STUCK_SECONDS
from okasie_tasks.settings.redis_url import redis_urls
from tests.health.fleet import HUNG, READ_SECONDS, HealthFleet
from tests.support import poll

WITHIN_SECONDS: Final = 30.0
EXPECTED: Final = {
    "control": "no heartbeat",  # SIGSTOP
    "api": "does not ask its queues",  # the loop has lost the socket of its blocking pop
    "api2": "does not ask its queues",  # its subscription was cancelled
    "urgent": "read of the source",  # a slot hangs in a read
}


def hang_all(fleet: HealthFleet) -> dict[str, float]:
    """Let every worker but ``diff`` hang; return the seconds until each was found, for a slot from when it is stuck."""
    poll(lambda: len(list(fleet.verdicts())) == 5, what="a heartbeat of every worker")
    poll(lambda: not any(wrong for _, wrong in fleet.verdicts()), what="healthy workers")
    began = time.monotonic()
    fleet.client.push(HUNG, ["ONE"])
    control = fleet.children["control"].process
    assert control is not None
    control.send_signal(signal.SIGSTOP)
    fleet.lose_subscription("api")
    app = Celery(broker=redis_urls(fleet.url).broker, set_as_current=False)
    app.control.cancel_consumer("okasie.api", destination=[f"api2@{socket.gethostname()}"])
    app.close()
    found: dict[str, float] = {}

    def all_found() -> bool:
        for name, wrong in fleet.verdicts():
            if wrong and name not in found:
                assert name in EXPECTED, f"{name} works and is unhealthy: {wrong}"
                assert EXPECTED[name] in wrong[0], (name, wrong)
                found[name] = time.monotonic() - began
        return set(found) == set(EXPECTED)

    poll(all_found, seconds=240, what="a verdict on each worker that hangs")
    found["urgent"] -= READ_SECONDS + STUCK_SECONDS
    return found


def main() -> int:
    with HealthFleet() as fleet:
        found = hang_all(fleet)
    for name, seconds in found.items():
        print(f"{name:<8} {EXPECTED[name]:<28} after {seconds:.1f} s")
    return int(max(found.values()) > WITHIN_SECONDS)


if __name__ == "__main__":
    sys.exit(main())
