"""A server that can be killed, and workers of plain Celery and of this project, with prefork and threads pools."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import redis
from celery import Celery, chord, group, signature
from celery.backends.redis import RedisBackend

from okasie_tasks.celery import configuration
from okasie_tasks.local.embedded_redis import EmbeddedRedis
from okasie_tasks.local.supervisor import Child
from okasie_tasks.settings import load_settings
from okasie_tasks.settings.redis_url import redis_urls
from okasie_tasks.worker.settings import API, CONTROL, DIFF
from tests.celery.plain import HASTY_DB, PLAIN_DB, hasty, plain
from tests.support import poll

ROOT = Path(__file__).parents[2]
NOTES_DB = 9
KEY = "a-secret-key-of-okasie"
KINDS = {"plain": PLAIN_DB, "hasty": HASTY_DB, "ours": 0}
"""Kind of worker -> database."""
THREADS = ("-P", "threads")
NODES = {
    "plain-prefork": ("plain.prefork", ()),
    "hasty-prefork": ("hasty.prefork", ()),
    "hasty-threads": ("hasty.threads", THREADS),
    "ours-prefork": (f"{DIFF},{CONTROL}", ()),
    "ours-threads": (API, THREADS),
}
"""Name -> queues, options. The name begins with the kind."""


class Sending(RedisBackend):
    """For a sender: subscribes to no result, because the server also goes away for this process."""

    def on_task_call(self, *_: Any) -> None:
        pass

    def remove_pending_result(self, result: Any) -> Any:
        return result


class Node:
    """One worker process with its children."""

    def __init__(self, child: Child, queue: str) -> None:
        self.child, self.queue = child, queue

    def start(self) -> None:
        self.child.log.unlink(missing_ok=True)
        self.child.start()

    def ready(self) -> Node:
        """Wait until it takes messages; starts it if it was killed."""
        if not self.child.alive:
            self.start()
        poll(lambda: " ready." in self.log(), what=f"{self.child.name} ready")
        return self

    def log(self) -> str:
        return self.child.log.read_text() if self.child.log.exists() else ""

    @property
    def pid(self) -> int:
        assert self.child.process is not None
        return self.child.process.pid

    def signal(self, number: signal.Signals) -> None:
        """To the worker and all its children."""
        os.killpg(self.pid, number)
        if number is signal.SIGKILL:
            assert self.child.process is not None
            self.child.process.wait()


class Scenario:
    """The server, the two apps to send with, and the nodes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.server = EmbeddedRedis(folder)
        self.redis = self.server.child()
        self.start_redis()
        self.clients = {kind: self._client(db) for kind, db in KINDS.items()}
        self.notes = self._client(NOTES_DB)
        self.apps = {"plain": plain(self.server.url), "hasty": hasty(self.server.url)}
        self.nodes: dict[str, Node] = {}

    def start_redis(self) -> None:
        self.redis.start()
        self.server.wait(self.redis)

    def kill_redis(self) -> None:
        assert self.redis.process is not None
        self.redis.process.kill()
        self.redis.process.wait()

    def _client(self, db: int) -> redis.Redis:
        return redis.Redis.from_url(f"{self.server.url}?db={db}", decode_responses=True, socket_timeout=60)

    def configure(self, account: str) -> None:
        """Write an ``okasie.toml`` with this account."""
        (self.folder / "okasie.toml").write_text(f'[redis]\nurl = "{self.server.url}"\n{account}')
        self.settings = load_settings(self.folder / "okasie.toml", {"KEY": KEY})
        self.apps["ours"] = Celery("ours", set_as_current=False)
        self.apps["ours"].conf.update(configuration(self.settings))
        for kind, app in self.apps.items():
            backend = redis_urls(f"{self.server.url}?db={KINDS[kind]}").backend
            app.conf.result_backend = f"tests.celery.scenario:Sending+{backend}"

    def start(self) -> None:
        for name in NODES:
            self.nodes[name] = self._node(name, name)
            self.nodes[name].start()

    def beside(self, name: str) -> Node:
        """A second worker like the one of this name, ready."""
        node = self._node(name, f"{name}-2")
        node.start()
        return node.ready()

    def _node(self, like: str, name: str) -> Node:
        (queues, options), kind = NODES[like], like.split("-", maxsplit=1)[0]
        app = "okasie_tasks" if kind == "ours" else "tests.celery.plain"
        argv = [
            sys.executable, "-m", "celery", "-A", app, "worker", "-n", f"{name}@%h", "-Q", queues, "-c", "2",
            *options, "--without-mingle", "--without-gossip", "-l", "INFO",
        ]  # fmt: skip
        env = {
            "PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "KEY": KEY,
            "NOTES_URL": f"{self.server.url}?db={NOTES_DB}", "OKASIE_CONFIG": str(self.folder / "okasie.toml"),
            "PLAIN_URL": self.server.url, "PLAIN_KIND": kind,
        }  # fmt: skip
        if kind == "ours":
            env["CELERY_CONFIG_MODULE"] = "tests.celery.ours"
        return Node(Child(name, argv, log=self.folder / f"{name}.log", env=env), queues.split(",")[0])

    def stop(self) -> None:
        for node in self.nodes.values():
            if node.child.alive:
                node.signal(signal.SIGKILL)
        for app in self.apps.values():
            app.close()
            app.backend.client.connection_pool.disconnect()
        for client in (*self.clients.values(), self.notes):
            client.close()
        if self.redis.alive:
            self.kill_redis()

    def app(self, node: str) -> Celery:
        return self.apps[node.split("-", maxsplit=1)[0]]

    def client(self, node: str) -> redis.Redis:
        return self.clients[node.split("-", maxsplit=1)[0]]

    def send(self, node: str, task: str, **kwargs: Any) -> Any:
        return self.post(node, task, self.nodes[node].ready().queue, **kwargs)

    def post(self, node: str, task: str, queue: str, **kwargs: Any) -> Any:
        """To a queue, whether or not its worker lives."""
        return self.app(node).send_task(task, kwargs=kwargs, queue=queue)

    def chord(self, node: str, name: str, parts: int = 3, until: str = "") -> Any:
        """A chord of small parts; its result shows how it ended."""
        app, queue = self.app(node), self.nodes[node].ready().queue
        header = [
            signature("jobs.part", kwargs={"name": name, "number": n, "until": until}, queue=queue, app=app)
            for n in range(parts)
        ]
        last = signature("jobs.body", kwargs={"name": name}, queue=queue, app=app)
        return chord(group(header, app=app), last, app=app)()

    def lose(self, name: str, publish: Callable[[], object]) -> None:
        """Publish a message that is lost: a worker of this name, stopped while it waited, pops it and dies."""
        node, client = self.nodes[name].ready(), self.client(name)
        node.signal(signal.SIGKILL)
        publish()
        message = poll(lambda: client.rpop(node.queue), what="the message")
        node.ready()

        def popped() -> bool:
            # It waits a second at a time, and does other things in between.
            node.signal(signal.SIGSTOP)
            poll(lambda: psutil.Process(node.pid).status() == psutil.STATUS_STOPPED, what="the stop")
            client.lpush(node.queue, message)
            if not client.llen(node.queue):
                return True
            client.delete(node.queue)
            node.signal(signal.SIGCONT)
            return False

        poll(popped, what="a message popped by a stopped worker")
        node.signal(signal.SIGKILL)

    def noted(self, key: str) -> list[str]:
        values: list[str] = self.notes.lrange(key, 0, -1)
        return values

    def idle(self, node: str) -> bool:
        """Nothing is queued, and nothing delivered that was not acknowledged: nothing more will happen."""
        client = self.client(node)
        return not client.llen(self.nodes[node].queue) and not client.hlen("unacked")
