"""The queries that scale workers, over the real /metrics of a running fleet: evaluated, and asked of a Prometheus."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
import requests
import yaml
from prometheus_client.parser import text_string_to_metric_families

from okasie_tasks.local.fleet import reserved_port
from okasie_tasks.sandbox import Key, Sandbox
from okasie_tasks.sandbox.sample import cars, write_csv
from okasie_tasks.store.limiter import RedisLimiter
from tests.promql import Samples, value
from tests.support import OKASIE, Place, Workers, poll
from tests.test_kubernetes import query

pytestmark = [pytest.mark.system, pytest.mark.slow]

ACCOUNTS = ("north", "south", "west")
QUEUES = ["okasie.control,okasie.urgent", "okasie.diff", "okasie.api"]


@contextlib.contextmanager
def metrics(place: Place) -> Iterator[str]:
    argv = [*OKASIE, "metrics", "--port", "0", "--json"]
    with subprocess.Popen(argv, cwd=place.folder, env=place.env, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield json.loads(process.stdout.readline())["url"]
        finally:
            process.terminate()


@contextlib.contextmanager
def prometheus(folder: Path, url: str) -> Iterator[str | None]:
    """A server that scrapes the endpoint each second: its address, or None where it is not installed."""
    if shutil.which("prometheus") is None:
        yield None
        return
    target = url.removeprefix("http://").removesuffix("/metrics")
    job = {"job_name": "okasie", "static_configs": [{"targets": [target]}]}
    config = folder / "prometheus.yml"
    config.write_text(yaml.safe_dump({"global": {"scrape_interval": "1s"}, "scrape_configs": [job]}))
    with reserved_port(19090) as port, (folder / "prometheus.log").open("wb") as log:
        argv = [
            "prometheus", f"--config.file={config}", f"--storage.tsdb.path={folder / 'tsdb'}",
            f"--web.listen-address=127.0.0.1:{port}",
        ]  # fmt: skip
        with subprocess.Popen(argv, stdout=log, stderr=log) as process:
            try:
                yield f"http://127.0.0.1:{port}"
            finally:
                process.terminate()


def scraped(url: str) -> Samples:
    families = text_string_to_metric_families(requests.get(url, timeout=60).text)
    return {(s.name, frozenset(s.labels.items())): s.value for family in families for s in family.samples}


def asked(server: str, name: str) -> float | None:
    with contextlib.suppress(requests.ConnectionError):
        answer = requests.get(f"{server}/api/v1/query", params={"query": query(name)}, timeout=60)
        if answer.ok and (result := answer.json()["data"]["result"]):
            (only,) = result
            return float(only["value"][1])
    return None


def test_the_queries_answer_right_while_a_fleet_is_at_work(tmp_path: Path, redis_url: str, client: redis.Redis) -> None:
    place = Place(tmp_path)
    place.env["OKASIE_REDIS__URL"] = redis_url
    keys = [Key(f"{name}-secret", name) for name in ACCOUNTS]
    # Slower than one request in six seconds, so that requests wait at every moment of the runs.
    slow = "requests_per_minute = 8\n"
    with Sandbox(keys, limit=0) as sandbox, contextlib.ExitStack() as running:
        for name in ACCOUNTS:
            write_csv(tmp_path / f"{name}.csv", cars(1_500, seed=len(name)))
            place.account(name, feed=f"{name}.csv", base_url=sandbox.base_url, key=f"{name}-secret", extra=slow)
        running.enter_context(Workers(place, QUEUES))
        url = running.enter_context(metrics(place))
        server = running.enter_context(prometheus(tmp_path, url))

        def becomes(name: str, expected: float) -> None:
            poll(lambda: value(query(name), scraped(url)) == expected, what=f"{name}: {expected} in the samples")
            if server is not None:
                poll(lambda: asked(server, name) == expected, what=f"{name}: {expected} in Prometheus")

        becomes("api", 0)
        becomes("diff", 0)
        for name in ACCOUNTS:
            assert place.okasie("sync", name, "--full", "--no-wait").status == 0
        becomes("api", 1)  # a few requests wait, and one worker has the threads
        limiter = RedisLimiter(client, prefix="okasie:", bucket="north", per_minute=8)

        def crowd() -> bool:
            """A hundred more requests of one account, as of workers that ask for its permits."""
            for number in range(100):
                limiter.acquire(f"crowd-{number}", "bulk", 1)
            return limiter.status().waiting_bulk >= 97

        assert crowd()
        becomes("api", 3)  # four workers' threads, and three accounts
        assert place.okasie("pause", "south").status == 0
        assert crowd()
        becomes("api", 2)
        assert place.okasie("pause", "west").status == 0
        assert place.okasie("pause", "north").status == 0
        becomes("api", 0)
