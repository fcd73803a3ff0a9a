"""For other applications: enqueue work by name, without importing the worker side.

::

    from okasie_tasks.client import Client

    okasie = Client("redis://127.0.0.1:6379/0")
    okasie.sync("dex")
    okasie.push("dex", ["DEX-1", "DEX-2"])
    okasie.sell("dex", ["DEX-3"])

A request is stored in Redis before its message is sent, so that the workers can send a lost message again. The message
is Celery's protocol 2 in JSON, so any language can produce it; see docs/integrations.md.
"""

from __future__ import annotations

import contextlib
import json
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from okasie_tasks.errors import ConfigurationError, ConnectionFailed
from okasie_tasks.telemetry import tracing

if TYPE_CHECKING:
    from celery import Celery

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
_AGAIN_SECONDS: Final = 0.1


class Client:
    """Sends tasks to the okasie-tasks workers behind ``broker_url``.

    Celery is imported with the first message, so that importing this module costs a web process nothing. Raises
    `ConnectionFailed` when the broker does not accept the message within about 2 s. ``key_prefix``: the workers'
    ``redis.key_prefix``. ``expires_seconds``: a request that no worker has picked up by then is not executed; the
    workers log it, and record it as the outcome of a push or sell.
    """

    def __init__(
        self, broker_url: str, *, expires_seconds: float = EXPIRES_SECONDS, key_prefix: str = "okasie:"
    ) -> None:
        # The embedded server publishes its address in redis-py's spelling; kombu expects another.
        path = broker_url.removeprefix("unix://")
        self._url = broker_url if path == broker_url else f"redis+socket://{path.partition('?')[0]}?virtual_host=0"
        self._expires_seconds = expires_seconds
        self._key_prefix = key_prefix
        self._app: Celery | None = None

    def sync(self, account: str, mode: str = "incremental") -> str:
        """Request a run of ``account`` (``incremental`` or ``full``); returns the task id."""
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
        """Send listings now, in the urgent lane; returns the task id.

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
        return self._send("okasie.push", _URGENT, kwargs, _summary(account, "push", named))

    def sell(self, account: str, references: Sequence[str]) -> str:
        """Mark listings as sold now, in the urgent lane; returns the task id."""
        named = _checked(references, "sell")
        kwargs = {"account": account, "references": named}
        return self._send("okasie.sell", _URGENT, kwargs, _summary(account, "sell", named))

    def _send(self, name: str, queue: str, kwargs: dict[str, Any], summary: str) -> str:
        task_id = str(uuid.uuid4())
        request = Request(task_id, name, queue, kwargs, summary)
        send_request(self._connected(), request, key_prefix=self._key_prefix, expires_seconds=self._expires_seconds)
        return task_id

    def _connected(self) -> Celery:
        from celery import Celery  # noqa: PLC0415 - a heavy import, needed only to send

        if self._app is None:
            app = Celery("okasie_client", broker=self._url, set_as_current=False)
            app.conf.update(task_serializer="json", task_ignore_result=True, broker_transport_options=_QUICK)
            self._app = app
        return self._app


class Request(NamedTuple):
    """One request to the workers. ``summary``: a readable text for Flower."""

    task_id: str
    task: str
    queue: str
    kwargs: dict[str, Any]
    summary: str


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
    give_up = time.monotonic() + try_seconds
    stored, again = False, False
    while True:
        try:
            with _connection(app, fresh=again) as connection:
                if not stored:
                    with connection.default_channel.conn_or_acquire() as redis:
                        _store(redis, key_prefix, request.task_id, entry | headers, expires_seconds)
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
        except Exception as error:  # kombu raises AttributeError, too, when a connection breaks at the wrong moment
            if time.monotonic() > give_up:
                message = f"the broker did not accept the message ({_cause(error)})"
                raise ConnectionFailed(message, where=request.task) from error
            again = True
            time.sleep(_AGAIN_SECONDS)
        else:
            return


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


def _store(redis: Any, key_prefix: str, task_id: str, entry: dict[str, Any], expires_seconds: float) -> None:
    """Store the request in Redis until a worker has picked it up; see `okasie_tasks.store.outbox`."""
    seconds, micros = redis.time()
    now_ms, keep = seconds * 1000 + micros // 1000, int(expires_seconds) + _KEEP_EXPIRED_SECONDS
    entry |= {"at_ms": now_ms, "expires_ms": now_ms + int(expires_seconds * 1000)}
    pipe = redis.pipeline()
    pipe.hset(f"{key_prefix}outbox", task_id, json.dumps(entry))
    pipe.zadd(f"{key_prefix}outbox:sent", {task_id: now_ms})
    pipe.expire(f"{key_prefix}outbox", keep)
    pipe.expire(f"{key_prefix}outbox:sent", keep)
    pipe.execute()


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


def _summary(account: str, what: str, references: Sequence[str]) -> str:
    """Return a readable summary of the request, which Flower shows."""
    more = ", ..." if len(references) > _SHOWN else ""
    return f"{account}: {what} of {len(references)}: {', '.join(references[:_SHOWN])}{more}"
