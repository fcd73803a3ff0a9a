"""Arguments that a worker of an older release does not know, while two releases run side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from inspect import Signature, signature
from typing import Any

from celery import Task

from okasie_tasks.logs import get_logger
from okasie_tasks.store.outbox import TASKS

log = get_logger(__name__)


def known_arguments(task: Task[Any, Any], arguments: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the arguments that the task has. A newer release may send more, which an older one can do without.

    Requests of applications keep all of theirs: a misspelled ``version`` must be refused, not ignored.
    """
    if not arguments or task.name in TASKS or arguments.keys() <= _signature(task.run).parameters.keys():
        return arguments
    unknown = sorted(arguments.keys() - _signature(task.run).parameters.keys())
    log.warning("unknown arguments ignored", arguments=[name[:40] for name in unknown])
    return {name: value for name, value in arguments.items() if name not in unknown}


def check_of(task: Task[Any, Any]) -> Callable[..., Any]:
    """Return a function that raises `TypeError` for arguments that do not fit the task; see `known_arguments`."""
    fits = signature(task.run)

    def check(*args: Any, **kwargs: Any) -> None:
        known = kwargs if task.name in TASKS else {n: v for n, v in kwargs.items() if n in fits.parameters}
        fits.bind(*args, **known)

    return check


@cache
def _signature(run: Callable[..., Any]) -> Signature:
    return signature(run)
