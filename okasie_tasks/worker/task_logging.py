"""Logs under Celery: our formatter for workers and Beat, what each task is about, and errors without secrets."""

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

log = logs.get_logger(__name__)

_ABOUT = ("account", "run")


class MaskedTask(Task[Any, Any]):
    """A task whose errors hold no secret: Celery puts their texts into events, results and Flower's pages."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.request.called_directly:
            return super().__call__(*args, **kwargs)
        try:
            return self.run(*args, **kwargs)
        except Exception as error:
            text = "".join(traceback.format_exception(error))
            if mask(text) == text:
                raise
            if isinstance(error, OkasieError | Retry | Ignore | Reject):
                # Its own words are masked; a traceback shows, and a retry's result keeps, what it was raised from.
                error.__cause__ = error.__context__ = None
                raise
            log.exception("a task failed, and its own words hold a secret")
            raise RuntimeError(mask(f"{type(error).__name__}: {error}")) from None


def begin(settings: LogSettings, *, level: int, file: str | None = None) -> None:
    """Set up this process's logs. What a plugin or a library prints becomes lines too: it must not pass by the mask."""
    logs.set_up(settings, level=level, file=file)
    if current_app.conf.worker_redirect_stdouts:
        current_app.log.redirect_stdouts(current_app.conf.worker_redirect_stdouts_level)


def begin_in_flower(settings: LogSettings) -> None:
    """Flower sends no signal for it, and has the handler of tornado's, which would pass by the mask."""
    logging.getLogger().handlers.clear()
    logs.set_up(settings, level=logging.INFO)


@setup_logging.connect
def _set_up(loglevel: int | None = None, logfile: str | None = None, **_: object) -> None:
    """Workers and Beat; that somebody listens keeps Celery from setting up handlers of its own."""
    try:
        settings = load_settings().log
    except OkasieError:
        settings = LogSettings()  # what is wrong with the file is told where it is needed, and by these logs
    begin(settings, level=int(loglevel or logging.WARNING), file=logfile)


@task_prerun.connect
def _about(task_id: str = "", task: Any = None, kwargs: Any = None, **_: object) -> None:
    """Every line until the task's end tells what it is about. The arguments came in a message: they may be anything."""
    clear_contextvars()
    given = kwargs if isinstance(kwargs, dict) else {}
    facts = {name: value[:200] for name in _ABOUT if isinstance(value := given.get(name), str) and value}
    bind_contextvars(task=task.name, task_id=task_id, **facts)


@task_postrun.connect
def _over(**_: object) -> None:
    clear_contextvars()
