"""Where an operator sees a worker that is unhealthy or of another version: doctor, status and metrics."""

from __future__ import annotations

from pathlib import Path

import pytest
import redis

from okasie_tasks import __version__
from okasie_tasks.cli.exposition import registry
from okasie_tasks.services import Services
from okasie_tasks.settings import configuration_hash, load_settings
from okasie_tasks.store.workers import WorkerRecord, Workers
from tests.support import Place


@pytest.fixture
def place(tmp_path: Path, redis_url: str, client: redis.Redis) -> Place:
    """A deployment whose workers are records only: one that works, one that hangs, one of an older release."""
    place = Place(tmp_path)
    place.config.write_text(f'[redis]\nurl = "{redis_url}"\n')
    mine = configuration_hash(load_settings(place.config))
    workers = Workers(client, prefix="okasie:")
    workers.beat("good@node", ["okasie.api"], mine, version=__version__)
    workers.beat("stuck@node", ["okasie.api", "okasie.urgent"], mine, version=__version__, problem="a slot is stuck")
    workers.beat("old@node", ["okasie.diff"], mine)
    return place


def test_doctor_names_it(place: Place) -> None:
    answer = place.okasie("doctor")
    assert answer.status == 1
    assert "FAILED      worker health: stuck@node: a slot is stuck" in answer.stdout
    assert f"warning     worker versions: old@node: another version than {__version__}" in answer.stdout


def test_status_names_it(place: Place) -> None:
    answer = place.okasie("status")
    assert "worker stuck@node is unhealthy: a slot is stuck" in answer.stdout
    assert "worker old@node runs version before 0.2: restart it" in answer.stdout
    shown = {worker["name"]: worker for worker in place.okasie("status", "--json").document["workers"]}
    assert (shown["good@node"]["problem"], shown["good@node"]["version"]) == (None, __version__)
    assert (shown["old@node"]["version"], shown["old@node"]["same_version"]) == (None, False)


def test_a_metric_counts_the_healthy_ones_of_each_queue(place: Place) -> None:
    metrics = registry(Services(load_settings(place.config)))
    found = {queue: metrics.get_sample_value("okasie_worker_up", {"queue": f"okasie.{queue}"})
             for queue in ("api", "urgent", "diff", "control")}  # fmt: skip
    assert found == {"api": 1, "urgent": 0, "diff": 1, "control": 0}


def test_a_record_of_the_last_release_is_read(client: redis.Redis) -> None:
    workers = Workers(client, prefix="okasie:")
    workers.beat("old@node", ["okasie.diff"], "hash")
    raw = client.hget("okasie:workers", "old@node")
    before = str(raw if isinstance(raw, str) else raw.decode()).replace(',"version":"","problem":""', "")
    assert "version" not in before
    client.hset("okasie:workers", "old@node", before)
    (record,) = workers.live()
    assert isinstance(record, WorkerRecord)
    assert record.version == record.problem == ""
