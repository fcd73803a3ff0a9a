"""Alerts for many rejects, a refused key, and workers that vanish."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import redis

from okasie_tasks.alerting.rules import are_many
from okasie_tasks.store.workers import Workers
from tests.alerts.scenario import Hook, Post, Senders


@pytest.mark.parametrize(
    ("rejected", "rows", "many"), [(20, 0, False), (21, 0, True), (21, 420, False), (22, 420, True), (0, 0, False)]
)
def test_when_rejects_are_many(rejected: int, rows: int, many: bool) -> None:
    assert are_many(rejected, rows) is many


@pytest.mark.parametrize("state", ["done", "held", "partial"])
def test_many_new_rejects_cause_an_alert_once(fleet: Senders, hook: Hook, state: str) -> None:
    run = fleet.ended(state, new_rejects="30", rows="250")
    fleet.ended(state, new_rejects="3", rows="250")
    fleet.tick()
    fleet.passes(7200)
    fleet.tick()
    (document,) = [document for document in hook.got if document["kind"] == "rejects"]
    assert (document["account"], document["run"]) == ("dex", run)
    assert document["reason"] == "30 listings were newly rejected; the source has 250 rows"
    assert "`okasie rejects dex`" in document["what_to_do"]


def test_a_refused_key_causes_one_alert_until_it_has_worked_again(fleet: Senders, hook: Hook) -> None:
    fleet.runs.note_refused_key("dex", "PUT /listings/A: HTTP 401; the API key is not accepted")
    assert fleet.tick() == 1
    fleet.runs.note_refused_key("dex", "another text")
    fleet.passes(7200)
    assert fleet.tick() == 0, "the same refusal"
    (document,) = hook.got
    assert (document["kind"], document["account"], document["run"]) == ("refused_key", "dex", None)
    assert document["reason"] == "PUT /listings/A: HTTP 401; the API key is not accepted"
    assert "`okasie doctor dex`" in document["what_to_do"]

    # It works again, by a push or by a run, and is refused once more.
    fleet.runs.note_account("dex", accepted_ms=fleet.runs.now_ms() + 1)
    assert fleet.tick() == 0
    assert fleet.runs.refused_key("dex")[0] == 0
    fleet.runs.note_account("dex", accepted_ms=0)
    fleet.runs.note_refused_key("dex", "GET /listings: HTTP 403; the API key lacks a scope")
    assert fleet.tick() == 1
    fleet.services.redis.hset("okasie:account:dex:metrics", "success_ms:full", fleet.runs.now_ms() + 1)
    fleet.passes(7200)
    assert fleet.tick() == 0
    assert fleet.runs.refused_key("dex")[0] == 0


def aged(client: redis.Redis, name: str, seconds: float) -> None:
    """Let a worker's last heartbeat be so old."""
    record = json.loads(client.hget("okasie:workers", name) or b"")
    record["at_ms"] -= int(seconds * 1000)
    client.hset("okasie:workers", name, json.dumps(record))


def test_a_worker_whose_heartbeats_end_causes_an_alert(fleet: Senders, hook: Hook, client: redis.Redis) -> None:
    workers = Workers(client, prefix="okasie:")
    for name, queues in (("api@a", ["okasie.api"]), ("api@b", ["okasie.api"]), ("diff@a", ["okasie.diff"])):
        workers.beat(name, queues, "hash")
    workers.beat("urgent@a", ["okasie.urgent"], "hash")
    workers.stopped("urgent@a")
    aged(client, "api@a", 59)
    assert fleet.tick() == 0, "it may be restarting"
    aged(client, "api@a", 2)
    assert fleet.tick() == 1
    fleet.passes(7200)
    assert fleet.tick() == 0, "the same worker"
    aged(client, "diff@a", 61)
    aged(client, "api@a", 600)
    assert fleet.tick() == 1
    first, second = hook.got
    assert (first["kind"], first["account"], first["run"]) == ("workers_gone", None, None)
    assert first["text"].splitlines()[0] == "okasie-tasks: workers: workers have vanished"
    assert "no heartbeat of api@a, the last one 20" in first["reason"]
    assert first["reason"].endswith("; other workers consume their queues")
    assert "no heartbeat of api@a, diff@a" in second["reason"]
    assert second["reason"].endswith("; nothing consumes okasie.diff")
    workers.beat("api@a", ["okasie.api"], "hash")
    workers.beat("diff@a", ["okasie.diff"], "hash")
    fleet.passes(7200)
    assert fleet.tick() == 0
    assert [record.name for record in workers.live()] == ["api@a", "api@b", "diff@a"]


@pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS")  # it is loopback
def test_an_alert_of_the_fleet_arrives_by_mail(tmp_path: Path, redis_url: str, client: redis.Redis) -> None:
    workers = Workers(client, prefix="okasie:")
    workers.beat("api@a", ["okasie.api"], "hash")
    aged(client, "api@a", 120)
    with Post() as post:
        mail = (
            f'[alerts.email]\nhost = "127.0.0.1"\nport = {post.port}\ntls = "off"\nsender = "a@b.example"\n'
            'to = ["c@d.example"]\nuser = "okasie"\npassword = "env:PW"\n'
        )
        senders = Senders(tmp_path, redis_url, mail, PW="CANARY-mail-77d1")
        assert senders.tick() == 1
        senders.close()
    (message,) = post.got
    assert message["Subject"] == "okasie-tasks: workers: workers have vanished"
    assert "Account: all" in message.get_content()
