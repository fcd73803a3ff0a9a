"""Celery's own ``rate_limit`` as a contender of side_by_side.py: the app, its one task, and what fills its queues.

    celery -A celery_rival worker ...    (two of them)
    python celery_rival.py               the publisher

Bulk and urgent are one task, because a rate limit belongs to a task; urgent has a separate queue that the workers
empty first. After a 429 the task sleeps for its ``Retry-After``.

Measured with Celery 5.7.0 and a concurrency of 4: within half a minute of saturation a worker lets one task a second
through although its limit is two, in threads and in processes, with a prefetch multiplier of 1 and of 4; with 4 an
urgent task waits 16 s, not 4. One worker with a concurrency of 1 let 117 a minute through.
"""

from __future__ import annotations

import os
import threading
import time
import traceback

from celery import Celery
from rivals import Order, Post, answered, at_each, start_time

from okasie_tasks.settings.redis_url import redis_urls

order = Order.read()
post = Post(order)
app = Celery("side_by_side", broker=redis_urls(order.redis_url).broker)
app.conf.update(
    task_ignore_result=True,
    worker_prefetch_multiplier=1,  # the fewest bulk messages in front of an urgent one
    broker_transport_options={"queue_order_strategy": "priority"},  # in the order of -Q
)


@app.task(name="send", rate_limit=order.rate)
def send(index: int | None = None) -> None:
    """One request; ``index`` is the number of an urgent one."""
    try:
        while wait := post():
            time.sleep(wait)
        if index is not None:
            answered(order, index)
    except Exception:
        # A failed task is only logged. The benchmark detects a worker that ends.
        traceback.print_exc()
        os._exit(1)


def main() -> None:
    start = start_time(order)
    for _ in range(int(order.seconds * 5)):  # more than any rate limit here allows
        send.apply_async(queue=f"{order.contender}.bulk")
    at_each(start, order.seconds, lambda index: send.apply_async((index,), queue=f"{order.contender}.urgent"))
    threading.Event().wait()  # side_by_side.py ends this process


if __name__ == "__main__":
    main()
