"""The quota under load: two accounts, four worker processes, the marketplace's own limit. Never one request too many.

That the limiter uses the quota is shown in virtual time (tests/store/test_limiter.py): here a busy machine would decide.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests

from okasie_tasks.sandbox import Key, Sandbox
from okasie_tasks.sandbox.sample import cars, write_csv
from tests.support import Place, Workers, state

ACCOUNTS = ("north", "south")
ARRIVES_MS = 800
"""A request that was answered sooner arrived within a second of its permit, which is used within 150 ms."""
BULK_CALLS = 140
"""More than a minute of one key's quota, so that a full window is met."""


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox([Key(f"{name}-secret", name) for name in ACCOUNTS], limit=120, window="sliding") as found:
        yield found


def busiest(moments: list[float], seconds: float) -> int:
    """The most arrivals in any half-open interval; counted here, apart from the sandbox's own meter."""
    most = first = 0
    for last, moment in enumerate(moments):
        while moments[first] <= moment - seconds:
            first += 1
        most = max(most, last - first + 1)
    return most


def _more_than(sandbox: Sandbox, name: str) -> str:
    """What the sandbox saw, for a count that is not the expected one."""
    writes = requests.get(f"{sandbox.admin_url}/writes", params={"key": name}, timeout=60).json()
    again = [reference for reference, times in Counter(w["reference"] for w in writes).items() if times > 1]
    return f"{len(again)} listings were sent more than once, {again[:3]}; {state(sandbox, name)}"


@pytest.mark.system
@pytest.mark.slow
def test_two_accounts_and_four_workers_keep_the_limit(
    tmp_path: Path, redis_url: str, client: object, sandbox: Sandbox
) -> None:
    place = Place(tmp_path)
    place.env["OKASIE_REDIS__URL"] = redis_url
    for name in ACCOUNTS:
        write_csv(tmp_path / f"{name}.csv", cars(BULK_CALLS * 100, seed=len(name)))
        place.account(name, feed=f"{name}.csv", base_url=sandbox.base_url, key=f"{name}-secret")
    queues = ["okasie.control,okasie.urgent", "okasie.diff", "okasie.api", "okasie.api"]
    with Workers(place, queues), ThreadPoolExecutor(2) as pool:
        runs = list(pool.map(lambda name: place.sync(name, "--full"), ACCOUNTS))
    for name, (status, document) in zip(ACCOUNTS, runs, strict=True):
        assert (status, document["state"]) == (0, "done"), document
        counted = state(sandbox, name)
        assert counted["requests"]["bulk:200"] == BULK_CALLS, _more_than(sandbox, name)
        seen = requests.get(f"{sandbox.admin_url}/requests", params={"key": name}, timeout=60).json()
        moments = sorted(request["at"] for request in seen)
        assert moments[-1] - moments[0] > 60, "the load must last longer than the window, else nothing was shown"
        assert busiest(moments, 60.0) <= 120
        refused = counted["rate_limited"]
        assert refused == document["requests"]["rate_limited"] == len(moments) - BULK_CALLS - 1
        if refused or busiest(moments, 1.0) > 5:
            # The burst rule holds for requests that arrive within a second of their permit (limiter_acquire.lua).
            page = place.okasie("run", document["run"], "--json").document
            slowest = max(request["ms"] for request in page["slowest_requests"])
            assert slowest > ARRIVES_MS, f"{refused} refused, and every answer came within {slowest} ms"
