"""For other applications: enqueue work by name, without importing the worker side.

::

    from okasie_tasks.client import Client

    okasie = Client("redis://127.0.0.1:6379/0")
    okasie.sync("dex")
    okasie.push("dex", ["DEX-1", "DEX-2"])
    okasie.sell("dex", ["DEX-3"])

A request is written to Redis before its message is sent: a message that is lost on its way is sent again. The message
is Celery's protocol 2 in JSON; any language that can write it may do the same, see the README.
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
    `ConnectionFailed` when the broker does not take the message. ``key_prefix``: the workers' ``redis.key_prefix``.
    """

    def __init__(self, broker_url: str, *, expires_seconds: float = 3600.0, key_prefix: str = "okasie:") -> None:
        # The embedded server tells its address as redis-py spells it; kombu spells it otherwise.
        path = broker_url.removeprefix("unix://")
        self._url = broker_url if path == broker_url else f"redis+socket://{path.partition('?')[0]}?virtual_host=0"
        self._expires_seconds = expires_seconds
        self._key_prefix = key_prefix
        self._app: Celery | None = None

    def sync(self, account: str, mode: str = "incremental") -> str:
        """Ask for a run of ``account`` (``incremental`` or ``full``); returns the task id."""
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
        """Have listings sent now, in the urgent lane; returns the task id.

        Either ``references``, which are read from the account's source, or ``listings`` in the marketplace's write
        shape; 1 to 1,000. ``version``: your own version of the ``listings`` (ms since the epoch), where two calls for
        the same listing may overtake each other on their way.
        """
        if (references is None) == (listings is None):
            raise ConfigurationError("expected references or listings, one of them", where="Client.push")
        kwargs: dict[str, Any] = {"account": account}
        if references is not None:
            named = kwargs["references"] = _some(references, "push")
        else:
            kwargs["listings"], kwargs["version"] = [dict(one) for one in _some(listings or (), "push")], version
            named = [str(listing.get("externalReference")) for listing in kwargs["listings"]]
        return self._send("okasie.push", _URGENT, kwargs, _told(account, "push", named))

    def sell(self, account: str, references: Sequence[str]) -> str:
        """Have listings marked sold now, in the urgent lane; returns the task id."""
        named = _some(references, "sell")
        kwargs = {"account": account, "references": named}
        return self._send("okasie.sell", _URGENT, kwargs, _told(account, "sell", named))

    def _send(self, name: str, queue: str, kwargs: dict[str, Any], told: str) -> str:
        from kombu.exceptions import OperationalError  # noqa: PLC0415 - a heavy import, only for those who send

        app, task_id = self._connected(), str(uuid.uuid4())
        try:
            self._write_down(app, task_id, {"task": name, "kwargs": kwargs})
            app.send_task(
                name,
                kwargs=kwargs,
                task_id=task_id,
                queue=queue,
                ignore_result=True,
                expires=self._expires_seconds,
                argsrepr=told,
                retry_policy={"max_retries": 2, "interval_start": 0, "interval_step": 0.3},
            )
        except OperationalError as error:
            raise ConnectionFailed("the broker did not take the message", where=name) from error
        return task_id

    def _connected(self) -> Celery:
        from celery import Celery  # noqa: PLC0415 - a heavy import, only for those who send

        if self._app is None:
            self._app = Celery("okasie_client", broker=self._url, set_as_current=False)
            self._app.conf.update(
                task_serializer="json",
                task_ignore_result=True,
                broker_connection_timeout=4,
                broker_transport_options={"socket_connect_timeout": 4, "socket_timeout": 4},
            )
        return self._app

    def _write_down(self, app: Celery, task_id: str, ask: dict[str, Any]) -> None:
        """Keep the request in Redis until a worker has taken it up; see `okasie_tasks.store.outbox`."""
        keep = int(self._expires_seconds) + 3600

        def write(redis: Any) -> None:
            seconds, micros = redis.time()
            now_ms = seconds * 1000 + micros // 1000
            ask.update(at_ms=now_ms, expires_ms=now_ms + int(self._expires_seconds * 1000))
            pipe = redis.pipeline()
            pipe.hset(f"{self._key_prefix}outbox", task_id, json.dumps(ask))
            pipe.zadd(f"{self._key_prefix}outbox:sent", {task_id: now_ms})
            pipe.expire(f"{self._key_prefix}outbox", keep)
            pipe.expire(f"{self._key_prefix}outbox:sent", keep)
            pipe.execute()

        pool: Any = app.pool  # typed as another pool than it is
        with pool.acquire(block=True) as connection, connection._reraise_as_library_errors():
            channel = connection.default_channel
            try:
                with channel.conn_or_acquire() as redis:
                    write(redis)
            except channel.connection_errors:
                # A connection that went stale is told so by its first use only.
                with channel.conn_or_acquire() as redis:
                    write(redis)


def _some(values: Sequence[Any], call: str) -> list[Any]:
    # A text is a sequence too: one reference where several are asked for would be sold letter by letter.
    if isinstance(values, str) or not 1 <= len(values) <= _MOST:
        raise ConfigurationError(f"expected a list of 1 to {_MOST}", where=f"Client.{call}")
    return list(values)


def _told(account: str, what: str, references: Sequence[str]) -> str:
    """The request for people, as Flower shows it."""
    more = ", ..." if len(references) > _SHOWN else ""
    return f"{account}: {what} of {len(references)}: {', '.join(references[:_SHOWN])}{more}"
