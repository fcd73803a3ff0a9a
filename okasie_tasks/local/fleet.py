"""A fleet on one machine, as one supervised group: embedded Redis, workers, Beat, Flower, the web server, a sandbox."""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import os
import secrets
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from string import digits
from typing import Final

import redis

from okasie_tasks import logs
from okasie_tasks.errors import ConfigurationError, ConnectionFailed, StorageFailed
from okasie_tasks.local.embedded_redis import SANDBOX_FOLDER, EmbeddedRedis, locked
from okasie_tasks.local.storage import check_writable
from okasie_tasks.local.supervisor import GRACE_SECONDS, Child, Supervisor
from okasie_tasks.sandbox import Key, Sandbox
from okasie_tasks.settings import Settings, configuration_hash, load_settings
from okasie_tasks.settings.identity import HASH_VARIABLE
from okasie_tasks.settings.web import START_TOKEN, refusal
from okasie_tasks.store.connections import connect
from okasie_tasks.store.layout import check_layout
from okasie_tasks.store.redis_problems import redis_problem
from okasie_tasks.worker.settings import API, CONTROL, DIFF, FEEDS, STOP_SECONDS, URGENT

_READY_SECONDS: Final = 90.0
_FLOWER_PORT: Final = 5555
_COLUMNS: Final = "name,args,state,result,received,runtime,uuid"
"""The columns of Flower's list of tasks. By default it shows only names and ids, without the arguments' labels."""

_CORES: Final = max(1, min(os.cpu_count() or 1, 8))
_MOST_API: Final = 4
"""Processes: each has some 80 MB, and two carry hundreds of saturated accounts."""

WORKERS: Final = {
    # Control tasks are short. Urgent ones must never queue behind others, so they have a separate worker. API tasks
    # wait for the network and for permits: many threads. Threads of one process decode one page at a time: a process
    # per core. Comparing uses processor time: a process per core.
    "control": ["-Q", CONTROL, "-P", "threads", "-c", "4"],
    "urgent": ["-Q", URGENT, "-P", "threads", "-c", "8"],
    **{
        f"api{number if number > 1 else ''}": ["-Q", API, "-P", "threads", "-c", "32"]
        for number in range(1, min(_CORES, _MOST_API) + 1)
    },
    "diff": ["-Q", f"{DIFF},{FEEDS}", "-P", "prefork", "-c", str(_CORES)],
}
"""Name -> options of ``celery worker``."""


class LocalFleet:
    """Starts the processes and keeps them running. A context manager: leaving it ends every process."""

    def __init__(
        self,
        config: Path | None,
        say: Callable[[str], None],
        *,
        with_sandbox: bool = False,
        beat: bool = True,
        flower: bool = True,
        web: bool = True,
    ) -> None:
        self.settings = load_settings(config)
        logs.set_up(self.settings.log)
        self.flower_url: str | None = None
        self.web_url: str | None = None
        """The address of the console. It signs a person in, unless tokens are configured."""
        self.sandbox: Sandbox | None = None
        self._redis: tuple[EmbeddedRedis, Child] | None = None
        self._web_env: dict[str, str] = {}
        self._keys: dict[str, str] = {}
        """Of the sandbox: account -> generated key."""
        self._say = say
        self._with_sandbox, self._beat, self._flower, self._web = with_sandbox, beat, flower, web
        self._supervisor = Supervisor(say)
        self._exit = contextlib.ExitStack()
        self._env = _environment(self.settings)

    def __enter__(self) -> LocalFleet:
        with contextlib.ExitStack() as starting:
            state_dir = self.settings.redis.state_dir
            starting.enter_context(locked(state_dir))
            for folder in (state_dir, state_dir / "logs"):
                check_writable(folder)
            starting.callback(self._supervisor.stop)
            if self._with_sandbox:
                starting.enter_context(self._sandboxed())
            self._start_redis(starting)
            self._start_celery(starting)
            self._start_web(starting)
            self._exit = starting.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._exit.close()

    # -- parts -----------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _sandboxed(self) -> Iterator[None]:
        """Run a sandbox, and point every account at it, with a generated key."""
        data = self.settings.redis.state_dir / SANDBOX_FOLDER
        check_writable(data)
        with Sandbox([], data=data / "listings.db") as sandbox:
            self.sandbox = sandbox
            self._use(self.settings)
            yield

    def _use(self, settings: Settings) -> None:
        """Take over these settings, with the sandbox in place of the marketplace if there is one."""
        self._env = _environment(settings)
        if self.sandbox is not None:
            self._env[HASH_VARIABLE] = configuration_hash(settings)
            for name in settings.accounts:
                secret = self._keys.setdefault(name, secrets.token_urlsafe(18))
                self.sandbox.add_key(Key(secret, name))
                self._env[f"OKASIE_ACCOUNTS__{name.upper()}__BASE_URL"] = self.sandbox.base_url
                self._env[f"OKASIE_ACCOUNTS__{name.upper()}__API_KEY"] = secret
            settings = load_settings(settings.config_file, self._env)
        self.settings = settings

    def _start_redis(self, starting: contextlib.ExitStack) -> None:
        if self.settings.redis.url is not None:
            _check_redis(self.settings, self.settings.redis.url)
            return
        # Separate data: the ledger of a sandbox must never be used for the marketplace.
        server = EmbeddedRedis(self.settings.redis.state_dir, data=SANDBOX_FOLDER if self._with_sandbox else "")
        starting.callback(server.forget)
        # The supervisor ends Redis after the workers.
        starting.callback(self._supervisor.stop)
        child = self._supervisor.add(server.child())
        server.wait(child)
        self._redis = (server, child)
        _check_redis(self.settings, server.url)

    def _start_celery(self, starting: contextlib.ExitStack) -> None:
        for name, options in WORKERS.items():
            quiet = ["--without-mingle", "--without-gossip", "-l", "INFO"]
            self._celery(name, "worker", "-n", f"{name}@%h", *options, *quiet)
        if self._beat:
            self._celery("beat", "beat", "-l", "INFO")
        if self._flower and importlib.util.find_spec("flower") is None:
            self._say("Flower is not installed (pip install 'okasie-tasks[flower]'); continuing without it")
        elif self._flower:
            port = starting.enter_context(reserved_port(_FLOWER_PORT, where="flower"))
            if port != _FLOWER_PORT:
                self._say(f"port {_FLOWER_PORT} is in use; Flower listens on {port}")
            self.flower_url = f"http://127.0.0.1:{port}"
            self._celery("flower", "flower", "--address=127.0.0.1", f"--port={port}", f"--tasks_columns={_COLUMNS}")

    def _start_web(self, starting: contextlib.ExitStack) -> None:
        web = self.settings.web
        if not self._web or web.listen is None:
            return
        if importlib.util.find_spec("fastapi") is None or importlib.util.find_spec("uvicorn") is None:
            self._say("the console is not installed (pip install 'okasie-tasks[web]'); continuing without it")
            return
        if problem := refusal(web):
            raise ConfigurationError(problem, where="web")
        host, port = web.address
        if web.is_local:
            port = starting.enter_context(reserved_port(port, where="web.listen"))
        shown = f"[{host}]" if ":" in host else host
        self.web_url = web.public_url or f"http://{shown}:{port}"
        self._web_env = {"OKASIE_WEB__LISTEN": f"{shown}:{port}"}
        if not web.tokens:
            self._web_env[START_TOKEN] = secrets.token_urlsafe(24)
            self.web_url += f"/?token={self._web_env[START_TOKEN]}"
        argv = [sys.executable, "-m", "okasie_tasks", "--config", str(self.settings.config_file), "web"]
        log = self.settings.redis.state_dir / "logs" / "web.log"
        env = {**self._env, **self._web_env}
        self._supervisor.add(Child("web", argv, log=log, env=env, death_signal=signal.SIGKILL))

    def _celery(self, name: str, *arguments: str) -> None:
        log = self.settings.redis.state_dir / "logs" / f"{name}.log"
        argv = [sys.executable, "-m", "celery", "-A", "okasie_tasks", *arguments]
        # Beat releases its lock on SIGTERM only; otherwise the next one would wait until it expires.
        death = signal.SIGTERM if name == "beat" else signal.SIGKILL
        seconds = STOP_SECONDS.get(name.rstrip(digits), GRACE_SECONDS)
        self._supervisor.add(
            Child(name, argv, log=log, env=self._env, death_signal=death, stop_seconds=seconds),
        )

    # -- running ---------------------------------------------------------------------------------------------------

    def wait_ready(self, missing: Callable[[], list[str]]) -> None:
        """Wait until ``missing()`` returns no queue without a consumer. Raises `ConnectionFailed` after 90 s."""
        deadline = time.monotonic() + _READY_SECONDS
        while queues := missing():
            self._supervisor.restart_ended()
            if time.monotonic() > deadline:
                dead = next((c for c in self._supervisor.children if not c.alive), None)
                cause = f"; the last log line of {dead.name}: {dead.last_line()}" if dead else ""
                logs = self.settings.redis.state_dir / "logs"
                raise ConnectionFailed(
                    f"no consumer for {', '.join(queues)} after {_READY_SECONDS:g} s{cause}", where=str(logs)
                )

    def watch(self, stopped: Callable[[float], bool], changed: threading.Event | None = None) -> None:
        """Keep the processes running until ``stopped(seconds)`` is true, which waits up to that long.

        Reloads the configuration when ``changed`` is set.
        """
        trouble = ""
        while not stopped(1.0):
            if changed is not None and changed.is_set():
                changed.clear()
                self.reload()
            before, trouble = trouble, ""
            try:
                self._supervisor.restart_ended()
                if self._redis is not None:
                    self._redis[0].update_record(self._redis[1])
            except StorageFailed as error:
                trouble = str(error)
                if trouble != before:
                    self._say(f"{trouble}; trying again every second")

    def reload(self) -> None:
        """Restart the workers and Beat with the configuration as it is now.

        An invalid one is reported, and everything continues with the old one. A worker ends its tasks first.
        """
        try:
            settings = load_settings(self.settings.config_file)
            if settings.redis != self.settings.redis:
                raise ConfigurationError("[redis] has changed: restart `okasie up`", where=str(settings.config_file))
            if self._web:
                _check_web(settings, self.settings)
        except ConfigurationError as error:
            self._say(f"not reloaded, the old configuration stays in use: {error}")
            return
        self._use(settings)
        for account in self.settings.accounts.values():
            try:
                account.api_key.reveal()
            except ConfigurationError as error:
                self._say(f"accounts.{account.name}.api_key: {error}")
        children = [child for child in self._supervisor.children if child.name in (*WORKERS, "beat", "web")]
        for child in children:
            child.env = {**self._env, **(self._web_env if child.name == "web" else {})}
        self._supervisor.renew(children)
        accounts = ", ".join(self.settings.accounts) or "no account"
        self._say(f"reloading: workers and Beat restart with the new configuration: {accounts}")

    def hurry(self) -> None:
        """Kill the processes that have not ended yet, while they are being stopped."""
        self._supervisor.hurry.set()

    @property
    def environment(self) -> Mapping[str, str]:
        """The children's environment variables, including the generated keys of a sandbox."""
        return dict(self._env)


def _environment(settings: Settings) -> dict[str, str]:
    return {**os.environ, "OKASIE_CONFIG": str(settings.config_file), "PYTHONUNBUFFERED": "1"}


def _check_web(new: Settings, old: Settings) -> None:
    """Refuse what a reload cannot change: the address, and whether the printed one signs in."""
    if new.web.listen != old.web.listen or bool(new.web.tokens) != bool(old.web.tokens):
        problem = "web.listen has changed, or the first or last [web.tokens.NAME]: restart `okasie up`"
        raise ConfigurationError(problem, where=str(new.config_file))
    if new.web.listen is not None and (problem := refusal(new.web)):
        raise ConfigurationError(problem, where="web")


@contextlib.contextmanager
def reserved_port(first: int, tries: int = 100, *, where: str = "port") -> Iterator[int]:
    """Reserve the first port from ``first`` that can be bound on loopback and is not reserved by another fleet.

    The server that will listen there is another process, which binds the port seconds later. Until then, the lock keeps
    a fleet that starts at the same moment from choosing the same port. ``first`` 0: any port.
    """
    if first == 0:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            first = probe.getsockname()[1]
    for port in range(first, first + tries):
        with contextlib.ExitStack() as held:
            if _reserve(port, held):
                yield port
                return
    raise ConnectionFailed(f"no free port between {first} and {first + tries - 1}", where=where)


def _reserve(port: int, held: contextlib.ExitStack) -> bool:
    with contextlib.suppress(OSError), socket.socket() as probe:
        lock = held.enter_context((Path(tempfile.gettempdir()) / f"okasie-port-{port}.lock").open("a"))
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", port))
        return True
    return False


def _check_redis(settings: Settings, url: str) -> None:
    client = connect(url, socket_timeout=5, tries=1)
    try:
        check_layout(client, prefix=settings.redis.key_prefix, accounts=settings.accounts, migrates=True)
    except (redis.RedisError, ValueError) as error:
        raise ConnectionFailed(redis_problem(error).message, where="redis.url") from error
    finally:
        client.close()
