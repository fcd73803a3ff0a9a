"""Logging under Celery: the formatter of workers and Beat, the facts of each task, and errors without secrets."""

from __future__ import annotations

import logging
import traceback
from typing import Any

from celery import Task, current_app
from celery.exceptions import Ignore, Reject, Retry
from celery.signals import setup_logging, task_postrun, task_prerun
from structlog.contextvars import bind_contextvars, clear_contextvars

from okasie_tasks import logs
from okasie_tasks.errors import OkasieError
from okasie_tasks.masking import mask
from okasie_tasks.settings import LogSettings, load_settings
from okasie_tasks.worker.arguments import known_arguments

log = logs.get_logger(__name__)

_ABOUT = ("account", "run")


class MaskedTask(Task[Any, Any]):
    """A task whose errors contain no secret: Celery puts their texts into events, results and Flower's pages."""

    Request = "okasie_tasks.worker.requests:TimedRequest"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.request.called_directly:
            return super().__call__(*args, **kwargs)
        try:
            return self.run(*args, **known_arguments(self, kwargs))
        except Exception as error:
            text = "".join(traceback.format_exception(error))
            if mask(text) == text:
                raise
            if isinstance(error, OkasieError | Retry | Ignore | Reject):
                # Its message is masked. A traceback, or a retry's result, would show the exception that caused it.
                error.__cause__ = error.__context__ = None
                raise
            log.exception("task failed; its message contained a secret and was masked")
            raise RuntimeError(mask(f"{type(error).__name__}: {error}")) from None


def begin(settings: LogSettings, *, level: int, file: str | None = None) -> None:
    """Set up this process's logs. Output that plugins and libraries print is logged, too, so that it is masked."""
    logs.set_up(settings, level=level, file=file)
    if current_app.conf.worker_redirect_stdouts:
        current_app.log.redirect_stdouts(current_app.conf.worker_redirect_stdouts_level)


def begin_in_flower(settings: LogSettings) -> None:
    """Set up Flower's logs. It sends no signal for that, and tornado's handler would bypass the mask."""
    logging.getLogger().handlers.clear()
    logs.set_up(settings, level=logging.INFO)


@setup_logging.connect
def _set_up(loglevel: int | None = None, logfile: str | None = None, **_: object) -> None:
    """Set up the logs of workers and Beat. With a receiver connected, Celery sets up no handlers."""
    try:
        settings = load_settings().log
    except OkasieError:
        settings = LogSettings()  # the code that needs the file reports the error, to these logs
    begin(settings, level=int(loglevel or logging.WARNING), file=logfile)


@task_prerun.connect
def _bind_facts(task_id: str = "", task: Any = None, kwargs: Any = None, **_: object) -> None:
    """Add the task's facts to every log line until it ends. Arguments come from a message, so any type is possible."""
    clear_contextvars()
    arguments = kwargs if isinstance(kwargs, dict) else {}
    facts = {name: value[:200] for name in _ABOUT if isinstance(value := arguments.get(name), str) and value}
    bind_contextvars(task=task.name, task_id=task_id, **facts)


@task_postrun.connect
def _clear_facts(**_: object) -> None:
    clear_contextvars()
