"""What a newer release leaves in messages and records is tolerated by the workers of this one."""

from __future__ import annotations

import base64
import json
import time
import uuid

import pytest
import redis

from okasie_tasks.settings.redis_url import find_embedded
from okasie_tasks.store.quarantine import Quarantine
from okasie_tasks.store.runs import Runs
from okasie_tasks.store.workers import Workers
from tests.support import poll
from tests.system.conftest import Fleet

pytestmark = pytest.mark.system


def message(task: str, put_back: dict[str, float] | None = None, **kwargs: object) -> str:
    name = str(uuid.uuid4())
    return json.dumps({
        "body": base64.b64encode(json.dumps([[], kwargs, {}]).encode()).decode(),
        "content-type": "application/json", "content-encoding": "utf-8",
        "headers": {"lang": "py", "task": task, "id": name, "root_id": name, "ignore_result": True, "okasie_new": {"a": 1}},
        "properties": {
            "correlation_id": name, "delivery_mode": 2, "delivery_tag": name, "body_encoding": "base64",
            "delivery_info": {"exchange": "", "routing_key": "okasie.control"}, "okasie_newer": True,
            **(put_back or {}),
        },
    })  # fmt: skip


def log(fleet: Fleet) -> str:
    return (fleet.place.folder / ".okasie" / "logs" / "control.log").read_text()


@pytest.fixture
def client(fleet: Fleet) -> redis.Redis:
    url = find_embedded(fleet.place.folder / ".okasie")
    assert url is not None
    return redis.Redis.from_url(url)


def test_unknown_arguments_and_headers_of_a_message_are_ignored(fleet: Fleet, client: redis.Redis) -> None:
    runs = Runs(client, prefix="okasie:")
    run, _ = runs.request("newer", "full")
    client.lpush("okasie.control", message("okasie.resume", account="newer", cause="a newer release"))
    poll(lambda: runs.state(run) == "done", what="the run that the message begins")
    poll(lambda: "unknown arguments ignored" in log(fleet), what="a warning")
    client.lpush("okasie.control", message("okasie.sync", account="newer", plan_onyl=True))
    poll(lambda: "unexpected keyword argument 'plan_onyl'" in log(fleet), what="a message in the quarantine")


def test_a_message_of_an_unknown_task_waits_while_workers_of_another_release_run(
    fleet: Fleet, client: redis.Redis
) -> None:
    workers, quarantine = Workers(client, prefix="okasie:"), Quarantine(client, prefix="okasie:")
    before = quarantine.total()
    sent = message("okasie.reticulate", account="newer")
    tag = json.loads(sent)["properties"]["delivery_tag"]
    workers.beat("newer@node", ["okasie.control"], "hash", version="99")
    try:
        client.lpush("okasie.control", sent)
        poll(lambda: client.hexists("unacked", tag), what="the message, put back")
        assert quarantine.total() == before
        due = client.zscore("unacked_index", tag)
        assert due is not None and due > time.time() - 20, "it does not return before the sweep's half minute"
        client.zadd("unacked_index", {tag: 1}, xx=True)  # half a minute passes
        poll(lambda: log(fleet).count("message left to workers of another release") == 2, what="the message, put back")
        client.lpush("okasie.control", message("okasie.frob", {"okasie_put_back_at": time.time() - 3_700}))
        poll(lambda: quarantine.total() == before + 1, what="a message in the quarantine, after an hour")
    finally:
        workers.stopped("newer@node")
    client.zadd("unacked_index", {tag: 1}, xx=True)
    poll(lambda: quarantine.total() == before + 2, what="the message in the quarantine")
    assert "there is no task 'okasie.reticulate'" in quarantine.summary(1).last[0].reason
    assert not client.hexists("unacked", tag)


def test_a_run_in_an_unknown_phase_is_left_to_the_workers_that_know_it(fleet: Fleet, client: redis.Redis) -> None:
    runs = Runs(client, prefix="okasie:")
    run, _ = runs.request("newer_phase", "full")
    runs.controls.pause("newer_phase")  # no worker of this fleet may begin it
    client.set("okasie:account:newer_phase:active", run)
    client.delete("okasie:account:newer_phase:next")
    long_ago = runs.now_ms() - 60_000
    runs.note(run, state="running", stage="reticulate", started_ms=long_ago, progress_ms=long_ago)
    runs.controls.resume("newer_phase")
    client.lpush("okasie.control", message("okasie.advance", account="newer_phase", run=run))
    poll(lambda: "run is in a phase of a newer release, whose workers must continue it" in log(fleet), what="a warning")
    record = runs.get(run)
    assert record is not None
    assert (record.state, record.stage) == ("running", "reticulate")
    assert fleet.place.okasie("status", "newer_phase").status == 0
    assert fleet.place.okasie("run", run).status == 0
    assert fleet.place.okasie("cancel", run).status == 0
    poll(lambda: runs.state(run) == "cancelled", what="the end of the run")
    assert "KeyError" not in log(fleet)
