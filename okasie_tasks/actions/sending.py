"""Stores requests in the outbox and publishes their messages, for the other modules of this package."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any
from uuid import uuid4

import redis

from okasie_tasks.client import TRY_SECONDS, Request
from okasie_tasks.errors import ConnectionFailed, OkasieError
from okasie_tasks.masking import clean
from okasie_tasks.services import Services
from okasie_tasks.store.redis_problems import redis_problem
from okasie_tasks.store.requests import BY_CHARACTERS
from okasie_tasks.worker.settings import QUEUE_OF


def send(
    services: Services,
    task: str,
    kwargs: Mapping[str, Any],
    summary: str,
    *,
    by: str,
    request_id: str | None = None,
    try_seconds: float = TRY_SECONDS,
) -> str:
    """Store a request and publish its message; returns its id. A ``request_id`` that a worker has is not stored again.

    Raises `ConnectionFailed` about 1 s after ``try_seconds``; behind sentinels also when no replica confirms it.
    """
    with redis_errors():
        if request_id is not None and services.pushes.state(request_id) is not None and _is_taken(services, request_id):
            return request_id
    request = Request(request_id or str(uuid4()), task, QUEUE_OF[task], dict(kwargs), summary, by=cleaned_name(by))
    try:
        services.producer.send(request, try_seconds=try_seconds)
    except ConnectionFailed as error:
        cause = error.__cause__ or error
        problem = cause.message if isinstance(cause, OkasieError) else redis_problem(cause).message
        raise ConnectionFailed(f"the broker did not accept the message: {problem}", where="redis") from error
    return request.task_id


def _is_taken(services: Services, request_id: str) -> bool:
    """Return whether a worker has the request. Until then it is stored again: no replica may have confirmed it."""
    return services.outbox.get(request_id) is None


def notify(services: Services, task: str, kwargs: Mapping[str, Any], summary: str) -> bool:
    """Publish a message whose work the watchdog does as well; returns whether the broker accepted it."""
    return services.producer.notify(task, QUEUE_OF[task], dict(kwargs), summary)


def cleaned_name(by: str) -> str:
    """Return who asks, as it is stored: without control characters, at most 64 characters."""
    return clean(by)[:BY_CHARACTERS]


@contextlib.contextmanager
def redis_errors() -> Iterator[None]:
    """Raises `ConnectionFailed` with the cause when Redis fails in the block. Also a decorator."""
    try:
        yield
    except redis.RedisError as error:
        raise ConnectionFailed(redis_problem(error).message, where="redis") from error
