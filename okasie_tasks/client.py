"""For other applications: enqueue work by name, without importing the worker side.

::

    from okasie_tasks.client import Client

    okasie = Client("redis://127.0.0.1:6379/0")
    okasie.sync("dex")
    sent = okasie.push("dex", ["DEX-1", "DEX-2"])
    okasie.sell("dex", ["DEX-3"])
    okasie.wait(sent, timeout=10).outcomes["DEX-1"]    # Outcome(outcome='updated', message=None, ...)

A request is stored in Redis before its message is sent, so that the workers can send a lost message again. The message
is Celery's protocol 2 in JSON, so any language can produce it; see docs/integrations.md.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

from okasie_tasks.core.requests import KEEP_REQUEST_SECONDS, Outcome, RequestState, state_of
from okasie_tasks.core.sentinel_url import is_sentinel, parse_sentinel_url
from okasie_tasks.errors import ConfigurationError, ConnectionFailed
from okasie_tasks.masking import know_url
from okasie_tasks.telemetry import tracing

if TYPE_CHECKING:
    from celery import Celery

__all__ = ["Client", "Outcome", "Request", "RequestState", "read_state", "send_request"]

T = TypeVar("T")

_CONTROL = "okasie.control"
_URGENT = "okasie.urgent"
_MOST = 1_000
_SHOWN = 3
EXPIRES_SECONDS: Final = 3600.0
_KEEP_EXPIRED_SECONDS: Final = 3600
"""How long a request is kept after it has expired, so that a worker that starts later records that it was not done."""
_QUICK: Final = {"socket_connect_timeout": 0.8, "socket_timeout": 0.8, "max_retries": 0}
"""Options of kombu's transport: each step fails within this time, and `send_request` tries again."""
TRY_SECONDS: Final = 1.0
"""A try that begins until then ends within 2 s."""
_CONNECTIONS: Final = 64
"""At most, of the threads that send at the same time."""
_CONNECTING: Final = threading.Lock()
"""Celery replaces its module while it is imported: another thread that imports it finds the one without names."""
_AGAIN_SECONDS: Final = 0.1
_POLL_SECONDS: Final = 0.05
_CONFIRM_MS: Final = 500


class Client:
    """Sends tasks to the okasie-tasks workers behind ``broker_url``.

    Celery is imported with the first message, so that importing this module costs a web process nothing. Raises
    `ConnectionFailed` when the broker does not accept the message within about 2 s. Behind sentinels
    (``sentinel://``, as in ``redis.url``) a request counts as accepted once a replica has it, so that a failover does
    not lose it. ``key_prefix``: the workers' ``redis.key_prefix``. ``expires_seconds``: a request that no worker has
    picked up by then is not executed; the workers log it, and record it as its outcome. ``name``: the application's,
    which the history shows as who did it.
    """

    def __init__(
        self,
        broker_url: str,
        *,
        expires_seconds: float = EXPIRES_SECONDS,
        key_prefix: str = "okasie:",
        name: str = "client",
    ) -> None:
        self._url = _broker_url(broker_url)
        self._options: dict[str, Any] = dict(_QUICK)
        self._ssl: dict[str, str] | None = None
        self._sentinels: dict[str, Any] = {}
        if is_sentinel(broker_url):
            address = parse_sentinel_url(know_url(broker_url), where="Client")
            self._url, self._ssl = address.kombu(), address.tls or None
            self._options["master_name"] = address.master
            self._sentinels = {**address.sentinel_options(), "socket_timeout": 0.3, "socket_connect_timeout": 0.3}
        self._expires_seconds = expires_seconds
        self._key_prefix = key_prefix
        self._name = name
        self._app: Celery | None = None

    def sync(self, account: str, mode: str = "incremental") -> str:
        """Request a run of ``account`` (``incremental`` or ``full``); returns the request's id."""
        if mode not in ("incremental", "full"):
            raise ConfigurationError(f"got mode {mode!r}, expected 'incremental' or 'full'", where="Client.sync")
        return self._send("okasie.sync", _CONTROL, {"account": account, "mode": mode}, f"{account}: {mode} run")

    def push(
        self,
        account: str,
        references: Sequence[str] | None = None,
        *,
        listings: Sequence[Mapping[str, Any]] | None = None,
        version: int = 0,
    ) -> str:
        """Send listings now, in the urgent lane; returns the request's id.

        Pass either ``references``, which are read from the account's source, or ``listings`` in the marketplace's write
        shape; 1 to 1,000. ``version``: your version of the ``listings`` (ms since the epoch), needed if two calls for
        the same listing may arrive out of order.
        """
        if (references is None) == (listings is None):
            raise ConfigurationError("expected references or listings, one of them", where="Client.push")
        kwargs: dict[str, Any] = {"account": account}
        if references is not None:
            named = kwargs["references"] = _checked(references, "push")
        else:
            kwargs["listings"], kwargs["version"] = [dict(one) for one in _checked(listings or (), "push")], version
            named = [str(listing.get("externalReference")) for listing in kwargs["listings"]]
        return self._send("okasie.push", _URGENT, kwargs, summary_of(account, "push", named))

    def sell(self, account: str, references: Sequence[str]) -> str:
        """Mark listings as sold now, in the urgent lane; returns the request's id."""
        named = _checked(references, "sell")
        kwargs = {"account": account, "references": named}
        return self._send("okasie.sell", _URGENT, kwargs, summary_of(account, "sell", named))

    def outcome(self, request: str) -> RequestState:
        """Return what has become of a request so far; see `RequestState`. Its record is kept for 24 h.

        Raises `ConfigurationError` for an id that is not known, `ConnectionFailed` within about 2 s when the broker
        does not answer.
        """
        return read_state(self._connected(), request, key_prefix=self._key_prefix)

    def wait(self, request: str, *, timeout: float) -> RequestState:
        """Wait until a request is done, at most ``timeout`` seconds, and return what has become of it.

        Its ``state`` is ``waiting`` when the time is over; the workers continue with it. Raises what `outcome` raises.
        """
        deadline = time.monotonic() + timeout
        while (state := self.outcome(request)).state == "waiting":
            left = deadline - time.monotonic()
            if left <= 0:
                break
            time.sleep(min(_POLL_SECONDS, left))
        return state

    def prepare(self) -> None:
        """Import what sending needs, so that the first message does not wait for it. Connects to nothing."""
        app = self._connected()
        app.amqp, app.pool  # noqa: B018 - both are made when they are first read

    def send(self, request: Request, *, try_seconds: float = TRY_SECONDS) -> None:
        """Store and publish a request made elsewhere; see `send_request`."""
        send_request(
            self._connected(),
            request,
            key_prefix=self._key_prefix,
            expires_seconds=self._expires_seconds,
            try_seconds=try_seconds,
        )

    def notify(self, task: str, queue: str, kwargs: dict[str, Any], summary: str) -> bool:
        """Publish a message that is not stored; returns whether the broker accepted it.

        For work that the watchdog does as well, if later.
        """

        def publish(connection: Any) -> None:
            options = {"queue": queue, "argsrepr": summary, "connection": connection}
            self._connected().send_task(task, kwargs=kwargs, ignore_result=True, retry=False, **options)

        try:
            _try(self._connected(), publish, try_seconds=TRY_SECONDS, where=task, what="accept the message")
        except ConnectionFailed:
            return False
        return True

    def _send(self, name: str, queue: str, kwargs: dict[str, Any], summary: str) -> str:
        request = Request(str(uuid.uuid4()), name, queue, kwargs, summary, by=self._name)
        self.send(request)
        return request.task_id

    def _connected(self) -> Celery:
        with _CONNECTING:
            if self._app is None:
                from celery import Celery  # noqa: PLC0415 - a heavy import, needed only to send

                if self._sentinels:
                    self._options["sentinel_kwargs"] = {**self._sentinels, "retry": _no_retry()}
                app = Celery("okasie_client", broker=self._url, set_as_current=False)
                app.conf.update(task_serializer="json", task_ignore_result=True, broker_transport_options=self._options)
                app.conf.broker_pool_limit = _CONNECTIONS
                if self._ssl:
                    app.conf.broker_use_ssl = self._ssl
                self._app = app
            return self._app


def _no_retry() -> Any:
    """Return the retries of a connection to a sentinel: another one can answer."""
    from redis.backoff import NoBackoff  # noqa: PLC0415 - as Celery
    from redis.retry import Retry  # noqa: PLC0415 - as Celery

    return Retry(NoBackoff(), 0)


class Request(NamedTuple):
    """One request to the workers. ``summary``: a readable text for Flower. ``by``: who makes it, for the history."""

    task_id: str
    task: str
    queue: str
    kwargs: dict[str, Any]
    summary: str
    by: str = ""


def send_request(
    app: Celery[Any],
    request: Request,
    *,
    key_prefix: str,
    expires_seconds: float = EXPIRES_SECONDS,
    try_seconds: float = TRY_SECONDS,
) -> None:
    """Store a request in the outbox, then publish its message: the one path of all producers.

    The message has no ``expires``, which each worker would compare with its own clock: the outbox has it, in Redis
    time. Raises `ConnectionFailed` about 1 s after ``try_seconds``, naming the cause. A request that was stored before
    the error is executed all the same, so sending it again may execute it twice, which changes nothing.
    """
    tracing.join_application()
    with tracing.span(f"publish {request.task}", {"okasie.task_id": request.task_id}, kind="producer"):
        _send(app, request, key_prefix=key_prefix, expires_seconds=expires_seconds, try_seconds=try_seconds)


def _send(app: Celery[Any], request: Request, *, key_prefix: str, expires_seconds: float, try_seconds: float) -> None:
    entry, headers = _encoded(request), tracing.headers()
    stored, replicated = False, "master_name" in app.conf.broker_transport_options

    def send(connection: Any) -> None:
        nonlocal stored
        if not stored:
            with connection.default_channel.conn_or_acquire() as redis:
                _store(redis, key_prefix, request, entry | headers, expires_seconds)
                if replicated:
                    _confirm(redis, f"{key_prefix}outbox", expires_seconds)
        stored = True
        app.send_task(
            request.task,
            kwargs=request.kwargs,
            task_id=request.task_id,
            queue=request.queue,
            ignore_result=True,
            argsrepr=request.summary,
            headers=headers,
            connection=connection,
            retry=False,
        )

    _try(app, send, try_seconds=try_seconds, where=request.task, what="accept the message")


def read_state(app: Celery[Any], request: str, *, key_prefix: str, try_seconds: float = TRY_SECONDS) -> RequestState:
    """Return what has become of a request. Raises as `Client.outcome` does."""

    def read(connection: Any) -> tuple[dict[bytes, bytes], bytes | None]:
        with connection.default_channel.conn_or_acquire() as redis:
            record: dict[bytes, bytes] = redis.hgetall(f"{key_prefix}push:{request}")
            run = record.get(b"run", b"").decode()
            return record, redis.hget(f"{key_prefix}run:{run}", "state") if run else None

    record, run_state = _try(app, read, try_seconds=try_seconds, where=request, what="answer")
    if not record:
        raise ConfigurationError("no such request; records are kept for 24 h", where=request, code="unknown_request")
    fields = {name.decode(): value.decode() for name, value in record.items()}
    return state_of(request, fields, run_state=(run_state or b"").decode())


def _try(app: Celery[Any], step: Callable[[Any], T], *, try_seconds: float, where: str, what: str) -> T:
    """Return what ``step(connection)`` returns, trying for ``try_seconds``. Raises `ConnectionFailed`."""
    give_up = time.monotonic() + try_seconds
    again = False
    while True:
        try:
            with _connection(app, fresh=again) as connection:
                return step(connection)
        except Exception as error:  # kombu raises AttributeError, too, when a connection breaks at the wrong moment
            if time.monotonic() > give_up:
                raise ConnectionFailed(f"the broker did not {what} ({_cause(error)})", where=where) from error
            again = True
            time.sleep(_AGAIN_SECONDS)


@contextlib.contextmanager
def _connection(app: Celery[Any], *, fresh: bool) -> Iterator[Any]:
    """A connection of the pool, or a new one. One that fails is closed: its server may be a replica now."""
    pool: Any = app.pool  # its type annotation names another pool class
    acquired = app.connection_for_write(transport_options=_QUICK) if fresh else pool.acquire(block=True, timeout=1)
    with acquired as connection:
        try:
            yield connection
        except BaseException:
            with contextlib.suppress(Exception):
                connection.collect(socket_timeout=0.1)
            raise


def _store(redis: Any, key_prefix: str, request: Request, entry: dict[str, Any], expires_seconds: float) -> None:
    """Store the request until a worker has picked it up, and its record, which its outcomes are added to.

    See `okasie_tasks.store.outbox` and `okasie_tasks.core.requests`.
    """
    seconds, micros = redis.time()
    now_ms, keep = seconds * 1000 + micros // 1000, int(expires_seconds) + _KEEP_EXPIRED_SECONDS
    entry |= {"at_ms": now_ms, "expires_ms": now_ms + int(expires_seconds * 1000)}
    task_id, record = request.task_id, f"{key_prefix}push:{request.task_id}"
    account = str(request.kwargs.get("account", ""))
    pipe = redis.pipeline()
    pipe.hset(record, mapping={"task": request.task, "account": account, "by": request.by})
    pipe.hsetnx(record, "made", now_ms)  # a request that is stored again is as old as it was
    pipe.expire(record, max(KEEP_REQUEST_SECONDS, keep))
    pipe.hset(f"{key_prefix}outbox", task_id, json.dumps(entry))
    pipe.zadd(f"{key_prefix}outbox:sent", {task_id: now_ms})
    pipe.expire(f"{key_prefix}outbox", keep)
    pipe.expire(f"{key_prefix}outbox:sent", keep)
    pipe.execute()


def _broker_url(url: str) -> str:
    """Return the URL as kombu expects it."""
    if url.startswith("unix://"):  # the embedded server publishes its address in redis-py's spelling
        return f"redis+socket://{url.removeprefix('unix://').partition('?')[0]}?virtual_host=0"
    if url.startswith("rediss://") and "ssl_cert_reqs" not in url:  # kombu would not check the certificate
        return f"{url}{'&' if '?' in url else '?'}ssl_cert_reqs=required"
    return url


def _confirm(redis: Any, outbox: str, expires_seconds: float) -> None:
    """Wait until a replica has the request: the master may die at any time. Raises `ConnectionFailed` if none has."""
    with redis.client() as single:
        # WAIT counts the replicas that have what its own connection wrote, and all that was written before.
        single.expire(outbox, int(expires_seconds) + _KEEP_EXPIRED_SECONDS)
        if not single.wait(1, _CONFIRM_MS):
            raise ConnectionFailed("no replica has confirmed the request", where="redis")


def _encoded(request: Request) -> dict[str, Any]:
    """The outbox entry of a request. Raises `ConfigurationError` for values that JSON cannot represent."""
    try:
        json.dumps(request.kwargs)
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"expected values that JSON can represent ({error})", where=request.task) from None
    return {"task": request.task, "kwargs": request.kwargs}


def _cause(error: BaseException) -> str:
    """Name the first cause in one line: kombu wraps the errors of redis-py."""
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


def _checked(values: Sequence[Any], call: str) -> list[Any]:
    # A str is a sequence too: a single reference would be processed character by character.
    if isinstance(values, str) or not 1 <= len(values) <= _MOST:
        raise ConfigurationError(f"expected a list of 1 to {_MOST}", where=f"Client.{call}")
    return list(values)


def summary_of(account: str, what: str, references: Sequence[str]) -> str:
    """Return a readable summary of the request, which Flower shows."""
    more = ", ..." if len(references) > _SHOWN else ""
    return f"{account}: {what} of {len(references)}: {', '.join(references[:_SHOWN])}{more}"
