"""One delivery of a message: copies end here, and a delivery after a worker's death is recognised."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any, Concatenate, Final, ParamSpec, TypeVar
from uuid import uuid4

import redis
from celery import Task
from celery.exceptions import Ignore

from okasie_tasks.errors import RetryLater
from okasie_tasks.services import services

P = ParamSpec("P")
R = TypeVar("R")
_WAITED: Final = "okasie_waited"
"""A header of a retry that only waited: for a permit, or for the API. Its value is the retry's number."""


@contextlib.contextmanager
def delivery(task: Task[Any, Any]) -> Iterator[bool]:
    """Execute the block for one delivery of a message. Yields whether an earlier delivery began and seems to have died.

    A copy of the message raises Celery's ``Ignore``, which ends it without a result: a chord would count it for the
    part that is still in progress. A message is delivered again with a mark (``redelivered``) after its worker died or
    lost its connection. That delivery is executed even if the first one still is, because only the first one's
    acknowledgement would tell.
    """
    request, deliveries = task.request, services().deliveries
    task_id, retries = str(request.id), int(request.retries or 0)
    first = deliveries.begin(task_id, retries, uuid4().hex)
    if (request.delivery_info or {}).get("redelivered"):
        died = not first and not deliveries.finished(task_id, retries)
    elif first:
        died = retries > 0 and request.get(_WAITED) != retries
    else:
        raise Ignore("a copy of a message that was delivered before")
    try:
        yield died
    except Exception:
        _finish(task_id, retries)
        raise
    _finish(task_id, retries)


def once(function: Callable[Concatenate[Task[Any, Any], P], R]) -> Callable[Concatenate[Task[Any, Any], P], R]:
    """Execute a bound task once for all copies of its message; see `delivery`."""

    @functools.wraps(function)
    def wrapper(task: Task[Any, Any], /, *args: P.args, **kwargs: P.kwargs) -> R:
        with delivery(task):
            return function(task, *args, **kwargs)

    return wrapper


def _finish(task_id: str, retries: int) -> None:
    with contextlib.suppress(redis.RedisError):
        services().deliveries.finish(task_id, retries)


def headers_of_retry(task: Task[Any, Any], why: Exception) -> dict[str, Any]:
    """The headers of a retry of this message, because of ``why``."""
    waited = {_WAITED: int(task.request.retries or 0) + 1} if isinstance(why, RetryLater) else {}
    return {**(task.request.headers or {}), **waited}
