"""Logs: one line a decision, as JSON or for the console, of everything that runs in a process, with no secret in it.

Ours and other libraries' lines (Celery's, kombu's, redis', urllib3's, warnings, prints of a plugin, crashes) go through
one formatter: it adds the run and account that the thread is at work for, and masks what `okasie_tasks.masking` knows.
"""

from __future__ import annotations

import logging
import re
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from logging.handlers import WatchedFileHandler
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, Final, cast

import structlog
from structlog.contextvars import bound_contextvars, merge_contextvars
from structlog.typing import EventDict, Processor

from okasie_tasks.masking import mask

if TYPE_CHECKING:
    from okasie_tasks.settings import LogSettings

Logger = structlog.stdlib.BoundLogger

MOST_LINES: Final = 20
"""Lines about single listings in one step; what more there are is told as a number."""
_QUIET: Final = ("urllib3", "kombu", "amqp", "redis")
"""Their debug lines are about every byte; who wants those sets their loggers' levels himself."""
_ACCOUNT: Final = re.compile(r"'account': '([a-z0-9_]{1,200})'")
_RUN: Final = re.compile(r"'run': '([0-9A-Z]{26})'")
_LONGEST_KWARGS: Final = 2_000
_WRITTEN_AS_IT_IS: Final = re.compile(r"[ !#-&(-\[\]-~]*")
"""ASCII without quotes and backslashes: the mask over the finished line knows a secret in it."""
_FIRST: Final = ("timestamp", "level", "event", "account", "run")


def get_logger(name: str) -> Logger:
    """A logger that takes facts as keyword arguments: ``log.info("run ended", state="done")``.

    What it writes are ordinary records of `logging`, so that an application that sets up logging itself sees them too.
    """
    found = structlog.wrap_logger(
        logging.getLogger(name),
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.stdlib.render_to_log_kwargs,
        ],
        wrapper_class=Logger,
        cache_logger_on_first_use=True,
    )
    return cast("Logger", found)


@contextmanager
def about(**facts: str) -> Iterator[None]:
    """Within the block every line of this thread tells these facts (``account``, ``run``, ``task``); empty ones not."""
    with bound_contextvars(**{name: value for name, value in facts.items() if value}):
        yield


def each(log: Logger, level: int, event: str, lines: Sequence[dict[str, Any]]) -> None:
    """A line for each of these, up to `MOST_LINES`, and how many more there are."""
    for facts in lines[:MOST_LINES]:
        log.log(level, event, **facts)
    if len(lines) > MOST_LINES:
        log.log(level, f"{event}: more", more=len(lines) - MOST_LINES)


# -- setting up ----------------------------------------------------------------------------------------------------


def set_up(
    settings: LogSettings, *, level: int = logging.WARNING, file: str | None = None, stream: IO[str] | None = None
) -> None:
    """Send all logs of this process to ``file``, else stderr, in the form that ``[log]`` asks for.

    ``level`` is used where ``[log] level`` is silent. Calling it again replaces what it set up before.
    """
    target = stream or cast("IO[str]", sys.__stderr__)
    handler: logging.Handler = _File(file, encoding="utf-8") if file else _Stream(target)
    handler.setFormatter(formatter(settings.format, colors=not file and target.isatty()))
    root = logging.getLogger()
    for old in [old for old in root.handlers if isinstance(old, _Ours)]:
        root.removeHandler(old)
        old.close()
    root.addHandler(handler)
    root.setLevel(settings.number or level)
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(root.level, logging.INFO))
    # The pools' own logger (billiard) keeps to itself and would print its lines as they are.
    logging.getLogger("multiprocessing").propagate = True
    logging.captureWarnings(True)
    sys.excepthook = _crashed
    threading.excepthook = _thread_crashed


def formatter(form: str, *, colors: bool = False) -> structlog.stdlib.ProcessorFormatter:
    """The one formatter of all lines; the mask is its last step, over the finished text."""
    renderer: Processor
    if form == "json":
        renderer = structlog.processors.JSONRenderer(ensure_ascii=False)
    else:
        # Not the default for tracebacks: with rich installed it shows local variables.
        plain = structlog.dev.plain_traceback
        renderer = structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=plain, pad_event_to=0)
    shared: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.stdlib.ExtraAdder(),
        _celerys_facts,
        merge_contextvars,
    ]
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            _ordered,
            _without_secrets,
            renderer,
            _masked,
        ],
    )


def _celerys_facts(_: Any, __: str, event: EventDict) -> EventDict:
    """What Celery tells beside its own lines, in our words: the task, its id, the account and run of its arguments."""
    # Of a handler that formatted the record before us; tornado's.
    for name in ("message", "asctime", "color", "end_color"):
        event.pop(name, None)
    data = event.pop("data", None)
    if isinstance(data, dict):
        for ours, theirs in (("task", "name"), ("task_id", "id")):
            if isinstance(data.get(theirs), str):
                event.setdefault(ours, data[theirs])
        kwargs = str(data.get("kwargs", ""))[:_LONGEST_KWARGS]
        for ours, pattern in (("account", _ACCOUNT), ("run", _RUN)):
            if found := pattern.search(kwargs):
                event.setdefault(ours, found[1])
    return event


def _ordered(_: Any, __: str, event: EventDict) -> EventDict:
    """What one looks for first stands first."""
    return {name: event[name] for name in _FIRST if name in event} | dict(event)


def _without_secrets(_: Any, __: str, event: EventDict) -> EventDict:
    """The values, before the renderer writes them in a spelling that nobody would know them by."""
    return {name: _hidden(value) for name, value in event.items()}


def _hidden(value: Any) -> Any:
    if isinstance(value, str):
        return value if _WRITTEN_AS_IT_IS.fullmatch(value) else mask(value)
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, dict):
        return {mask(str(name)): _hidden(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_hidden(inner) for inner in value]
    return mask(repr(value))


def _masked(_: Any, __: str, line: Any) -> str:
    """The whole, once more: whatever a step before this one made of it."""
    return mask(str(line))


class _Ours(logging.Handler):
    """A handler that `set_up` made. A line that cannot be formatted is told without what it was to say."""

    def handleError(self, record: logging.LogRecord) -> None:
        if sys.__stderr__ is not None:
            said = f"a line of {record.name} could not be logged: {traceback.format_exc(limit=-2)}"
            sys.__stderr__.write(mask(said))


class _Stream(_Ours, logging.StreamHandler[IO[str]]):
    pass


class _File(_Ours, WatchedFileHandler):
    pass


def _crashed(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        return
    logging.getLogger("okasie_tasks").critical("the process ends: %s", kind.__name__, exc_info=(kind, error, trace))


def _thread_crashed(args: threading.ExceptHookArgs) -> None:
    if args.exc_value is None or issubclass(args.exc_type, SystemExit):
        return
    found = (args.exc_type, args.exc_value, args.exc_traceback)
    name = args.thread.name if args.thread else "a thread"
    logging.getLogger("okasie_tasks").error("%s ended: %s", name, args.exc_type.__name__, exc_info=found)
