"""What a message must look like: everything that kombu and Celery use without checking it.

A list entry may come from any program. Celery 5.7 and kombu read it field by field as they go, and most fields of a
wrong type raise in the worker's main thread, so the worker ends. The message is then delivered to the next worker.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final, Literal, NamedTuple

import msgspec
from celery.app.task import Context
from celery.utils.time import maybe_iso8601
from kombu.transport.virtual import Message
from kombu.utils.encoding import bytes_to_str
from kombu.utils.json import dumps, loads
from msgspec import Meta, Struct

LONGEST_BYTES: Final = 64 * 1024 * 1024
LONGEST_WAIT: Final = timedelta(days=7)
"""A message that is to be executed later than this would only occupy a worker. Retries wait for seconds."""
_MOST_LEVELS: Final = 64
"""Deeper values exceed Python's recursion limit when a prefork pool pickles them."""
_YEARS: Final = range(1970, 3000)
"""Other years overflow when Celery converts them."""

Id = Annotated[str, Meta(max_length=255, pattern=r"^[^\x00-\x1f\x7f\ud800-\udfff]+\Z")]
"""Part of a key in Redis, so it must be encodable: a lone surrogate is not."""
Seconds = Annotated[float, Meta(ge=1, le=86_400)]


class _DeliveryInfo(Struct):
    exchange: str | None
    routing_key: str | None


class _Properties(Struct):
    delivery_tag: Id
    delivery_info: _DeliveryInfo
    body_encoding: Literal["base64"] | None = None
    priority: Annotated[int, Meta(ge=0, le=255)] | None = None
    correlation_id: str | None = None
    reply_to: str | None = None
    okasie_put_back_at: Annotated[float, Meta(ge=0, le=1e11)] = 0.0
    """When a worker that lacks the task first put the message back, in seconds since 1970."""


class _Headers(Struct):
    """The headers that Celery uses. Others are passed to the task, unless they would hide one of its attributes."""

    task: str
    id: Id
    lang: str | None = None
    meth: str | None = None
    origin: str | None = None
    shadow: str | None = None
    argsrepr: str | None = None
    kwargsrepr: str | None = None
    root_id: Id | None = None
    parent_id: Id | None = None
    group: Id | None = None
    group_index: int | None = None
    eta: str | None = None
    expires: str | None = None
    retries: Annotated[int, Meta(ge=0, le=1_000_000)] = 0
    timelimit: tuple[Seconds | None, Seconds | None] | None = None
    ignore_result: bool | None = None
    replaced_task_nesting: Annotated[int, Meta(ge=0, le=1_000)] = 0
    stamped_headers: list[str] | None = None
    stamps: dict[str, Any] | None = None
    compression: str | None = None


class _Message(Struct):
    body: str
    headers: _Headers
    properties: _Properties
    content_type: str = msgspec.field(name="content-type")
    content_encoding: str = msgspec.field(name="content-encoding")


class _Signature(Struct):
    task: str
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    options: dict[str, Any] = {}
    subtask_type: str | None = None
    immutable: bool = False


class _Embed(Struct, forbid_unknown_fields=True):
    callbacks: list[_Signature] | None = None
    errbacks: list[_Signature] | None = None
    chain: list[_Signature] | None = None
    chord: _Signature | None = None


class Rules(NamedTuple):
    """What one worker accepts.

    ``tasks``: name -> a function that raises `TypeError` for arguments that do not fit. ``accept``: content types.
    """

    tasks: Mapping[str, Callable[..., Any]]
    accept: Container[str] | None
    compression: str | None = None


class MalformedMessage(Exception):
    """A list entry that is no message for this worker; the text says why."""


class UnknownTask(MalformedMessage):
    """A message of a task that this worker does not have: of another program, or of another release."""


def checked(raw: bytes, *, queue: str, exchange: str, channel: Any, rules: Rules) -> bytes:
    """Return the entry as it is to be delivered. Raises `MalformedMessage`.

    An entry whose ``delivery_info`` names another queue than it was read from would be restored to that one when its
    worker dies: it is corrected. ``exchange``: that of ``queue``.
    """
    try:
        if len(raw) > LONGEST_BYTES:
            raise MalformedMessage(f"longer than {LONGEST_BYTES} bytes")
        payload = loads(bytes_to_str(raw))
        message = msgspec.convert(payload, _Message)
        _check_levels(payload)
        _check_headers(message.headers, payload["headers"], rules)
        body = _body(payload, channel, rules)
        _check_levels(body)
        args, kwargs, _ = msgspec.convert(body, tuple[list[Any], dict[str, Any], _Embed | None])
        rules.tasks[message.headers.task](*args, **kwargs)
    except MalformedMessage:
        raise
    except Exception as error:
        # The decoders of JSON, base64, character sets and dates raise errors of many kinds, RecursionError included.
        raise MalformedMessage(f"{type(error).__name__}: {error}") from error
    info = message.properties.delivery_info
    if (info.exchange or "", info.routing_key) in (("", queue), (exchange, queue)):
        return raw
    payload["properties"]["delivery_info"] |= {"exchange": "", "routing_key": queue}
    return dumps(payload).encode()


def _check_headers(headers: _Headers, raw: Mapping[str, Any], rules: Rules) -> None:
    if headers.task not in rules.tasks:
        raise UnknownTask(f"there is no task {headers.task!r:.60}")
    for name in raw:
        if name not in _Headers.__struct_fields__ and hasattr(Context, name):
            raise MalformedMessage(f"the header {name!r:.60} is not one of a message")
    if headers.compression not in (None, rules.compression):
        raise MalformedMessage(f"compressed with {headers.compression!r:.60}, which is not in use here")
    _time("expires", headers.expires)
    eta = _time("eta", headers.eta)
    if eta is not None and eta - datetime.now(UTC) > LONGEST_WAIT:
        raise MalformedMessage(f"the eta is more than {LONGEST_WAIT.days} days ahead")


def _time(name: str, text: str | None) -> datetime | None:
    """Return the time of a header; one without a zone is UTC."""
    if text is None:
        return None
    time = maybe_iso8601(text)
    if time is None:
        raise MalformedMessage(f"{name} is empty")
    if time.year not in _YEARS:
        raise MalformedMessage(f"the year {time.year} in {name}")
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def _body(payload: dict[str, Any], channel: Any, rules: Rules) -> Any:
    """Decode the body as the worker will."""
    message = Message(payload, channel=channel)
    if message.errors:
        raise MalformedMessage(f"the body cannot be decompressed: {message.errors[0][1]}")
    message.accept = rules.accept
    return message.payload


def _check_levels(value: Any) -> None:
    if _levels_exceed(value, _MOST_LEVELS):
        raise MalformedMessage(f"nested more than {_MOST_LEVELS} levels deep")


def _levels_exceed(value: Any, most: int) -> bool:
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, list):
        return False
    return most == 0 or any(_levels_exceed(inner, most - 1) for inner in value)
