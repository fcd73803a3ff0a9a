"""The contenders of side_by_side.py that are plain processes. Each is one way to limit the rate of requests.

A process has four threads of bulk work. The first process also sends the urgent requests, each from a new thread, so
that none waits for a free thread or for the request before it. After a 429 a thread sleeps for its ``Retry-After`` and
repeats the request.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Final
from uuid import uuid4

import limits
import msgspec
import pyrate_limiter
import redis
import requests

from okasie_tasks.errors import NoPermit, RateLimited
from okasie_tasks.marketplace.client import OkasieApi
from okasie_tasks.ports import Lane
from okasie_tasks.store.limiter import RedisLimiter

PROCESSES: Final = 2
THREADS: Final = 4
PER_MINUTE: Final = 120
PER_SECOND: Final = 5
ORDER: Final = "SIDE_BY_SIDE"
"""The environment variable that holds a process's `Order`."""
_REFERENCE: Final = "ONE-CAR"
_CAR: Final = {"externalReference": _REFERENCE, "status": "draft", "title": "A car", "dealerLocationCode": "GENT"}

Send = Callable[[Lane], None]
"""Returns once the API has accepted the request."""


class Order(msgspec.Struct, frozen=True):
    """The parameters of a process. The contender's name is also its API key, so that each has a separate quota."""

    contender: str
    number: int
    base_url: str
    redis_url: str
    folder: str
    seconds: float
    rate: str = ""
    """Celery's ``rate_limit``."""

    @classmethod
    def read(cls) -> Order:
        return msgspec.json.decode(os.environ[ORDER], type=cls)


# -- urgent requests -------------------------------------------------------------------------------------------------


def due_times(seconds: float) -> list[float]:
    """When urgent requests are due, in seconds from the start: the same times for every contender."""
    rng, moments = Random(1), [0.0]
    while (moment := moments[-1] + rng.uniform(5, 10)) < seconds:
        moments.append(moment)
    return moments[1:]


def at_each(start: float, seconds: float, send: Callable[[int], object]) -> None:
    """Call ``send`` with the number of each urgent request when it is due, independently of earlier requests."""
    for index, moment in enumerate(due_times(seconds)):
        time.sleep(max(0.0, start + moment - time.time()))
        send(index)


def answered(order: Order, index: int) -> None:
    """Record that an urgent request has its 2xx. One short write, as other processes append to the same file."""
    with (Path(order.folder) / f"{order.contender}.urgent").open("a") as file:
        file.write(f"{index} {time.time()}\n")


# -- the ways --------------------------------------------------------------------------------------------------------


class Post:
    """One listing to bulk-upsert, with a session per thread: 0 when accepted, else the seconds of ``Retry-After``."""

    def __init__(self, order: Order) -> None:
        self._url = f"{order.base_url}/listings/bulk-upsert"
        self._headers = {"Authorization": f"Bearer {order.contender}"}
        self._local = threading.local()

    def __call__(self) -> float:
        if not hasattr(self._local, "session"):
            self._local.session = requests.Session()
            self._local.session.trust_env = False  # as in ours: no .netrc, no proxy
        answer = self._local.session.post(self._url, json={"items": [_CAR]}, headers=self._headers, timeout=60)
        if answer.status_code == 429:
            return float(answer.headers["Retry-After"])
        answer.raise_for_status()
        if answer.json()["data"]["successCount"] != 1:
            raise RuntimeError(f"not accepted: {answer.text}")
        return 0.0


def guide(order: Order) -> Send:
    """The advice of the marketplace's guide: 100 ms between requests; after a failure 2 s, after the next ones 4 s, and
    at least ``Retry-After``. The guide gives up after three attempts; here the request is repeated. It does not
    coordinate processes or threads, so each follows it alone. A single loop had 110 and 124 refusals,
    151 and 160 in 60 s, and a longest urgent wait of 6 and 15 s (two runs of 4 minutes, sliding window).
    """
    post = Post(order)

    def send(lane: Lane) -> None:
        pause = 2.0
        while wait := post():
            time.sleep(max(wait, pause))
            pause = 4.0
        if lane == "bulk":
            time.sleep(0.1)

    return send


def limits_window(order: Order) -> Send:
    """``limits``: a moving window in Redis for each rule. The library does not wait; its maintainer's advice is to
    sleep until the reset time of ``get_window_stats`` (issue 237). Both windows are tested before either is hit, so
    that waiting for one does not use up the other.
    """
    store = limits.storage.storage_from_string(order.redis_url.replace("unix://", "redis+unix://"))
    limiter = limits.strategies.MovingWindowRateLimiter(store)
    rules = [limits.RateLimitItemPerSecond(PER_SECOND), limits.RateLimitItemPerMinute(PER_MINUTE)]

    def acquire() -> None:
        while True:
            full = next((rule for rule in rules if not limiter.test(rule, order.contender)), None)
            if full is None:
                if all(limiter.hit(rule, order.contender) for rule in rules):
                    return
                continue  # another process took the permit between the test and the hit
            time.sleep(max(0.01, limiter.get_window_stats(full, order.contender).reset_time - time.time()))

    return _after(acquire, Post(order))


def pyrate(order: Order) -> Send:
    """PyrateLimiter: both rates in one Redis bucket, and its own blocking call. That call adds up its planned sleeps
    and does not read the clock again, so a waiter falls behind newer requests. With the clock read at each try it
    used 100 % instead of 89 %, with 1 refusal instead of 50 and a longest urgent wait of 37 s instead of 137 s (one run
    of 4 minutes, both at once). It is measured as published.
    """
    rates = [
        pyrate_limiter.Rate(PER_SECOND, pyrate_limiter.Duration.SECOND),
        pyrate_limiter.Rate(PER_MINUTE, pyrate_limiter.Duration.MINUTE),
    ]
    bucket = pyrate_limiter.RedisBucket.init(rates, redis.Redis.from_url(order.redis_url), f"{order.contender}:bucket")
    limiter = pyrate_limiter.Limiter(bucket)

    def acquire() -> None:
        if limiter.try_acquire(order.contender) is not True:
            raise RuntimeError("PyrateLimiter came back without a permit")

    return _after(acquire, Post(order))


def ours(order: Order) -> Send:
    """This package's client and limiter, as its tasks use them: the ticket is kept until the request is accepted."""
    limiter = RedisLimiter(redis.Redis.from_url(order.redis_url), prefix="side-by-side:", bucket=order.contender)
    api = OkasieApi(order.base_url, lambda: order.contender, limiter, account=order.contender)
    item = (_REFERENCE, msgspec.json.encode(_CAR))

    def send(lane: Lane) -> None:
        ticket = uuid4().hex
        while True:
            try:
                with api.permit(ticket=ticket, lane=lane) as call:
                    answer = call.bulk_upsert([item])
            except (NoPermit, RateLimited) as later:
                time.sleep(later.seconds)
                continue
            if answer.items[0].outcome != "accepted":
                raise RuntimeError(f"not accepted: {answer}")
            return

    return send


def _after(acquire: Callable[[], None], post: Post) -> Send:
    """Each attempt acquires a permit first, including those after a 429."""

    def send(lane: Lane) -> None:
        acquire()
        while wait := post():
            time.sleep(wait)
            acquire()

    return send


WAYS: Final[dict[str, Callable[[Order], Send]]] = {
    "guide": guide,
    "limits": limits_window,
    "pyrate": pyrate,
    "ours": ours,
}


# -- the process -----------------------------------------------------------------------------------------------------


def start_time(order: Order) -> float:
    """Report that this process is ready; returns the Unix time at which all contenders start."""
    print("ready", flush=True)
    go = Path(order.folder) / "go"
    while not go.exists():
        time.sleep(0.02)
    start = float(go.read_text())
    time.sleep(max(0.0, start - time.time()))
    return start


def _die(what: threading.ExceptHookArgs) -> None:
    """End the process when a thread fails, so that the benchmark detects it."""
    threading.__excepthook__(what)
    sys.stderr.flush()
    os._exit(1)


def main() -> None:
    order = Order.read()
    threading.excepthook = _die
    send = WAYS[order.contender](order)

    def bulk() -> None:
        while True:
            send("bulk")

    def urgent(index: int) -> None:
        send("urgent")
        answered(order, index)

    start = start_time(order)
    for _ in range(THREADS):
        threading.Thread(target=bulk, daemon=True).start()
    if order.number == 0:
        at_each(start, order.seconds, lambda index: threading.Thread(target=urgent, args=(index,), daemon=True).start())
    threading.Event().wait()  # side_by_side.py ends this process


if __name__ == "__main__":
    main()
