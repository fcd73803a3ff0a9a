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

import json
import uuid
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from okasie_tasks.errors import ConfigurationError, ConnectionFailed

if TYPE_CHECKING:
    from celery import Celery

_CONTROL = "okasie.control"
_URGENT = "okasie.urgent"
_MOST = 1_000
_SHOWN = 3


class Client:
    """Sends tasks to the okasie-tasks workers behind ``broker_url``.

    Celery is imported with the first message, so that importing this module costs a web process nothing. Raises
    `ConnectionFailed` when the broker does not accept the message. ``key_prefix``: the workers' ``redis.key_prefix``.
    """

    def __init__(self, broker_url: str, *, expires_seconds: float = 3600.0, key_prefix: str = "okasie:") -> None:
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
        from kombu.exceptions import OperationalError  # noqa: PLC0415 - a heavy import, needed only to send

        app, task_id = self._connected(), str(uuid.uuid4())
        try:
            self._store(app, task_id, {"task": name, "kwargs": kwargs})
            app.send_task(
                name,
                kwargs=kwargs,
                task_id=task_id,
                queue=queue,
                ignore_result=True,
                expires=self._expires_seconds,
                argsrepr=summary,
                retry_policy={"max_retries": 2, "interval_start": 0, "interval_step": 0.3},
            )
        except OperationalError as error:
            raise ConnectionFailed("the broker did not take the message", where=name) from error
        return task_id

    def _connected(self) -> Celery:
        from celery import Celery  # noqa: PLC0415 - a heavy import, needed only to send

        if self._app is None:
            self._app = Celery("okasie_client", broker=self._url, set_as_current=False)
            self._app.conf.update(
                task_serializer="json",
                task_ignore_result=True,
                broker_connection_timeout=4,
                broker_transport_options={"socket_connect_timeout": 4, "socket_timeout": 4},
            )
        return self._app

    def _store(self, app: Celery, task_id: str, request: dict[str, Any]) -> None:
        """Store the request in Redis until a worker has picked it up; see `okasie_tasks.store.outbox`."""
        keep = int(self._expires_seconds) + 3600

        def write(redis: Any) -> None:
            seconds, micros = redis.time()
            now_ms = seconds * 1000 + micros // 1000
            request.update(at_ms=now_ms, expires_ms=now_ms + int(self._expires_seconds * 1000))
            pipe = redis.pipeline()
            pipe.hset(f"{self._key_prefix}outbox", task_id, json.dumps(request))
            pipe.zadd(f"{self._key_prefix}outbox:sent", {task_id: now_ms})
            pipe.expire(f"{self._key_prefix}outbox", keep)
            pipe.expire(f"{self._key_prefix}outbox:sent", keep)
            pipe.execute()

        pool: Any = app.pool  # its type annotation names another pool class
        with pool.acquire(block=True) as connection, connection._reraise_as_library_errors():
            channel = connection.default_channel
            try:
                with channel.conn_or_acquire() as redis:
                    write(redis)
            except channel.connection_errors:
                # A stale connection is only detected by its first use.
                with channel.conn_or_acquire() as redis:
                    write(redis)


def _checked(values: Sequence[Any], call: str) -> list[Any]:
    # A str is a sequence too: a single reference would be processed character by character.
    if isinstance(values, str) or not 1 <= len(values) <= _MOST:
        raise ConfigurationError(f"expected a list of 1 to {_MOST}", where=f"Client.{call}")
    return list(values)


def _summary(account: str, what: str, references: Sequence[str]) -> str:
    """Return a readable summary of the request, which Flower shows."""
    more = ", ..." if len(references) > _SHOWN else ""
    return f"{account}: {what} of {len(references)}: {', '.join(references[:_SHOWN])}{more}"
