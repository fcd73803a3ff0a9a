"""Other applications, with the examples as they stand: Node, Django, SQLAlchemy, an outbox; to the marketplace and back."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import redis
from sqlalchemy import Column, Integer, String, create_engine
from sqlalchemy.orm import declarative_base, sessionmaker
from sqlalchemy.pool import StaticPool

from okasie_tasks.client import Client
from okasie_tasks.errors import ConnectionFailed
from okasie_tasks.store.outbox import Outbox
from tests.support import poll, stored
from tests.system.conftest import Fleet
from tests.system.test_push import CAR, url
from tests.test_client import arguments, only_message

pytestmark = pytest.mark.system

EXAMPLES = Path(__file__).parents[2] / "examples"
NODE = shutil.which("node")
needs_node = pytest.mark.skipif(NODE is None, reason="no node on this machine: examples/push.mjs was not run")


def node(url: str, *words: str, folder: Path) -> str:
    """Run the Node example; returns the id that it printed."""
    assert NODE is not None
    done = subprocess.run(
        [NODE, str(EXAMPLES / "push.mjs"), *words], cwd=folder, env={"REDIS_URL": url, "PATH": os.environ["PATH"]},
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def price_there(fleet: Fleet, account: str, reference: str) -> Any:
    row = stored(fleet.sandbox, account).get(reference)
    return row and row["body"]["price"]


# -- Node ----------------------------------------------------------------------------------------------------------


@needs_node
def test_a_price_changed_in_node_arrives_and_a_car_sold_there_is_sold(fleet: Fleet, tmp_path: Path) -> None:
    for euro in (9_400, 9_350):
        (tmp_path / "cars.json").write_text(
            json.dumps([CAR | {"externalReference": "NODE-1", "title": "Citroën", "price": euro}])
        )
        node(url(fleet), "push", "node", "cars.json", folder=tmp_path)
        poll(lambda euro=euro: price_there(fleet, "node", "NODE-1") == euro, what=f"{euro} on the marketplace")
    node(url(fleet), "sell", "node", "NODE-1", folder=tmp_path)
    poll(lambda: stored(fleet.sandbox, "node")["NODE-1"]["status"] == "sold", what="the sell")
    with redis.Redis.from_url(url(fleet)) as connection:
        poll(lambda: connection.hlen("okasie:outbox") == 0, what="every request crossed out")


@needs_node
def test_a_message_of_node_that_is_lost_is_found_and_sent_again(
    client: redis.Redis, redis_url: str, tmp_path: Path
) -> None:
    task = node(redis_url, "push", "dex", "A-1", "A-2", folder=tmp_path)
    theirs = only_message(client, "okasie.urgent")
    Client(redis_url).push("dex", ["A-1", "A-2"])
    ours = json.loads(client.lindex("okasie.urgent", 0))
    assert theirs["headers"]["id"] == task
    assert json.loads(theirs["body"])[1] == arguments(ours) == {"account": "dex", "references": ["A-1", "A-2"]}
    assert set(theirs) <= set(ours)
    assert set(theirs["headers"]) <= set(ours["headers"])
    client.delete("okasie.urgent")
    outbox = Outbox(client, prefix="okasie:")
    now_ms = int(client.time()[0]) * 1000 + 60_000
    found = dict(outbox.lost(now_ms, after_seconds=5))
    assert found[task].kwargs == {"account": "dex", "references": ["A-1", "A-2"]}
    assert {ask.task for ask in found.values()} == {"okasie.push"}
    assert len({ask.expires_ms - ask.at_ms for ask in found.values()}) == 1, "as long as the client's"


@needs_node
def test_node_says_what_is_wrong(redis_url: str, tmp_path: Path) -> None:
    assert NODE is not None
    for words, env, told in (
        (["push"], redis_url, "usage"), (["push", "dex", "A"], "redis://127.0.0.1:1/0", "ECONNREFUSED"),
        (["push", "dex", "A"], redis_url.replace("redis.sock", "nothing.sock"), "ENOENT"),
    ):  # fmt: skip
        done = subprocess.run(
            [NODE, str(EXAMPLES / "push.mjs"), *words], env={"REDIS_URL": env, "PATH": os.environ["PATH"]},
            capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        assert done.returncode != 0
        assert told in done.stderr


# -- Django --------------------------------------------------------------------------------------------------------


def test_a_price_saved_in_django_arrives_and_one_that_is_rolled_back_does_not(fleet: Fleet) -> None:
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / "django_on_commit.py"), url(fleet), "django", "DJ-1", "8750"],
        input=json.dumps(CAR), capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    poll(lambda: price_there(fleet, "django", "DJ-1"), what="the car on the marketplace")
    with redis.Redis.from_url(url(fleet)) as connection:
        poll(lambda: connection.hlen("okasie:outbox") == 0, what="every request crossed out")
    assert price_there(fleet, "django", "DJ-1") == 8750


# -- SQLAlchemy and the outbox: what leaves, without workers ---------------------------------------------------------


Base: Any = declarative_base()


class Vehicle(Base):
    __tablename__ = "vehicles"
    reference = Column(String, primary_key=True)
    price = Column(Integer)


def memory() -> Any:
    engine = create_engine("sqlite://", poolclass=StaticPool)
    Base.metadata.create_all(engine)
    return engine


def test_a_session_pushes_what_it_committed_and_nothing_else(client: redis.Redis, redis_url: str) -> None:
    sessions = sessionmaker(memory())
    example("sqlalchemy_events").connect(sessions, Vehicle, Client(redis_url), "dex")
    with sessions() as session:
        session.add(Vehicle(reference="A", price=1))
        session.flush()
        session.rollback()
        session.commit()
    assert client.llen("okasie.urgent") == 0
    with sessions.begin() as session:
        session.add_all([Vehicle(reference="B", price=1), Vehicle(reference="A", price=1)])
    assert arguments(only_message(client, "okasie.urgent")) == {"account": "dex", "references": ["A", "B"]}
    client.delete("okasie.urgent")
    with sessions.begin() as session:
        session.delete(session.get(Vehicle, "B"))
    sent = only_message(client, "okasie.urgent")
    assert (sent["headers"]["task"], arguments(sent)["references"]) == ("okasie.sell", ["B"])


def test_an_outbox_loses_no_request_and_keeps_their_order(client: redis.Redis, redis_url: str) -> None:
    found, engine = example("outbox"), memory()
    found.metadata.create_all(engine)
    with engine.connect() as connection:
        found.enqueue(connection, "dex", "push", "NEVER")
        connection.rollback()
        found.enqueue(connection, "dex", "push", "A", "B")
        found.enqueue(connection, "dex", "push", "A")
        found.enqueue(connection, "dex", "sell", "A")
        connection.commit()
        with pytest.raises(ConnectionFailed):
            found.relay(connection, Client("redis+socket:///nowhere/redis.sock?virtual_host=0"))
        connection.rollback()
        assert found.relay(connection, Client(redis_url)) == 4
        connection.commit()
        assert found.relay(connection, Client(redis_url)) == 0
    sent = [json.loads(raw) for raw in reversed(client.lrange("okasie.urgent", 0, -1))]
    assert [(m["headers"]["task"], arguments(m)["references"]) for m in sent] == [
        ("okasie.push", ["A", "B"]), ("okasie.sell", ["A"]),
    ]  # fmt: skip
