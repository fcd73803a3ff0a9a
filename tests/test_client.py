"""Enqueuing from other applications: the Python client, a name without our package, and a hand-made message."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import uuid
from typing import Any

import pytest
import redis
from celery import Celery

from okasie_tasks.client import Client
from okasie_tasks.errors import ConfigurationError, ConnectionFailed


def only_message(client: redis.Redis, queue: str = "okasie.control") -> dict[str, Any]:
    (raw,) = client.lrange(queue, 0, -1)
    message: dict[str, Any] = json.loads(raw)
    return message


def arguments(message: dict[str, Any]) -> Any:
    return json.loads(base64.b64decode(message["body"]))[1]


@pytest.fixture
def broker(redis_url: str) -> str:
    return redis_url.replace("unix://", "redis+socket://")


def test_the_client_sends_a_message_of_protocol_2(client: redis.Redis, broker: str) -> None:
    sent = Client(broker).sync("dex", "full")
    message = only_message(client)
    assert message["headers"]["task"] == "okasie.sync"
    assert message["headers"]["id"] == sent
    assert message["headers"]["expires"] is None, "a worker would compare it with its own clock"
    assert message["content-type"] == "application/json"
    assert arguments(message) == {"account": "dex", "mode": "full"}


def test_a_mode_that_does_not_exist_is_refused_before_it_travels(client: redis.Redis, broker: str) -> None:
    with pytest.raises(ConfigurationError, match="'incremental' or 'full'"):
        Client(broker).sync("dex", "complete")
    assert client.llen("okasie.control") == 0


LISTING = {"externalReference": "DEX-1", "price": 17000}


@pytest.mark.parametrize(
    ("call", "task", "sent"),
    [
        (lambda c: c.push("dex", ["DEX-1"]), "okasie.push", {"account": "dex", "references": ["DEX-1"]}),
        (
            lambda c: c.push("dex", listings=[LISTING], version=7), "okasie.push",
            {"account": "dex", "listings": [LISTING], "version": 7},
        ),
        (lambda c: c.sell("dex", ("DEX-1",)), "okasie.sell", {"account": "dex", "references": ["DEX-1"]}),
    ],
    ids=["push by reference", "push of listings", "sell"],
)  # fmt: skip
def test_pushes_and_sells_go_to_the_urgent_queue(
    client: redis.Redis, broker: str, call: Any, task: str, sent: dict[str, Any]
) -> None:
    identity = call(Client(broker))
    message = only_message(client, "okasie.urgent")
    assert (message["headers"]["task"], message["headers"]["id"]) == (task, identity)
    assert arguments(message) == sent


@pytest.mark.parametrize(
    "call",
    [
        lambda c: c.push("dex"), lambda c: c.push("dex", ["A"], listings=[LISTING]), lambda c: c.push("dex", []),
        lambda c: c.sell("dex", "DEX-1"), lambda c: c.sell("dex", ["A"] * 1001),
    ],
    ids=["nothing", "both", "empty", "a text", "too many"],
)  # fmt: skip
def test_a_push_that_makes_no_sense_is_refused_before_it_travels(client: redis.Redis, broker: str, call: Any) -> None:
    with pytest.raises(ConfigurationError):
        call(Client(broker))
    assert client.llen("okasie.urgent") == 0


def test_a_broker_that_is_not_there_is_an_error() -> None:
    with pytest.raises(ConnectionFailed):
        Client("redis+socket:///nowhere/redis.sock?virtual_host=0").sync("dex")


def test_a_request_waits_from_the_moment_at_which_it_is_stored(client: redis.Redis, broker: str) -> None:
    okasie = Client(broker, name="dms")
    state = okasie.outcome(okasie.push("dex", ["DEX-1"]))
    assert (state.kind, state.account, state.by, state.state, state.outcomes) == ("push", "dex", "dms", "waiting", {})
    assert state.accepted_ms > 0


def test_an_unknown_request_is_an_error(broker: str) -> None:
    with pytest.raises(ConfigurationError, match="no such request") as caught:
        Client(broker).outcome("5b7f3f0e-9c0a-4d0e-8f57-0c3b8a4f1d11")
    assert caught.value.code == "unknown_request"


def test_the_outcome_of_a_broker_that_is_not_there_is_an_error() -> None:
    with pytest.raises(ConnectionFailed, match="did not answer"):
        Client("redis+socket:///nowhere/redis.sock?virtual_host=0").wait("id", timeout=60)


def test_any_celery_application_may_send_by_name(client: redis.Redis, broker: str) -> None:
    with Celery("theirs", broker=broker, set_as_current=False) as theirs:
        theirs.send_task("okasie.sync", kwargs={"account": "dex"}, queue="okasie.control", ignore_result=True)
    assert arguments(only_message(client)) == {"account": "dex"}


def handmade(account: str, mode: str) -> str:
    """The message of the README's "any language" chapter."""
    task = str(uuid.uuid4())
    body = base64.b64encode(json.dumps([[], {"account": account, "mode": mode}, {}]).encode()).decode()
    return json.dumps({
        "body": body, "content-type": "application/json", "content-encoding": "utf-8",
        "headers": {"lang": "any", "task": "okasie.sync", "id": task, "root_id": task, "ignore_result": True},
        "properties": {
            "correlation_id": task, "delivery_mode": 2, "delivery_tag": task, "body_encoding": "base64",
            "delivery_info": {"exchange": "", "routing_key": "okasie.control"},
        },
    })  # fmt: skip


def test_a_handmade_message_has_the_shape_that_celery_sends(client: redis.Redis, broker: str) -> None:
    Client(broker).sync("dex", "full")
    theirs, ours = only_message(client), json.loads(handmade("dex", "full"))
    assert set(ours) <= set(theirs)
    assert set(ours["properties"]) <= set(theirs["properties"])
    assert arguments(ours) == arguments(theirs)


THREADS = """
import sys, threading
sys.setswitchinterval(1e-6)
from okasie_tasks.client import Client
client, wrong = Client(sys.argv[1]), []
ready = threading.Barrier(40)
def send():
    ready.wait()
    try:
        client.sell("dex", ["A"])
    except BaseException as error:
        wrong.append(repr(error))
threads = [threading.Thread(target=send) for _ in range(40)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
sys.exit("; ".join(sorted(set(wrong))) or 0)
"""


def test_many_threads_send_their_first_message_at_the_same_time(client: redis.Redis, broker: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", THREADS, broker], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    assert client.llen("okasie.urgent") == 40
