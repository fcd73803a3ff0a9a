"""Logging for a whole process: one line per decision, as JSON or for the console, without secrets.

One formatter handles our lines and those of other libraries: Celery, kombu, redis, urllib3, warnings, output of a
plugin, uncaught exceptions. It adds the account and run of the thread, and masks the secrets registered in
`okasie_tasks.masking`.
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

from okasie_tasks.masking import clean, clean_lines, json_escaped, mask

if TYPE_CHECKING:
    from okasie_tasks.settings import LogSettings

Logger = structlog.stdlib.BoundLogger

MOST_LINES: Final = 20
"""Maximum lines about single listings in one step; the rest is logged as a number."""
_QUIET: Final = ("urllib3", "kombu", "amqp", "redis")
"""Loggers kept at INFO or above: their debug lines report every byte. Set their levels directly to see them."""
_ACCOUNT: Final = re.compile(r"'account': '([a-z0-9_]{1,200})'")
_RUN: Final = re.compile(r"'run': '([0-9A-Z]{26})'")
_LONGEST_KWARGS: Final = 2_000
_WRITTEN_AS_IT_IS: Final = re.compile(r"[ !#-&(-\[\]-~]*")
"""ASCII without quotes and backslashes: the mask over the finished line knows a secret in it."""
_LINES: Final = ("exception", "stack")
"""Facts of several lines."""
_FIRST: Final = ("timestamp", "level", "event", "account", "run")


def get_logger(name: str) -> Logger:
    """Return a logger that takes facts as keyword arguments: ``log.info("run ended", state="done")``.

    It writes ordinary `logging` records, so an application that sets up logging itself receives them too.
    """
    logger = structlog.wrap_logger(
        logging.getLogger(name),
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.stdlib.render_to_log_kwargs,
        ],
        wrapper_class=Logger,
        cache_logger_on_first_use=True,
    )
    return cast("Logger", logger)


@contextmanager
def about(**facts: str) -> Iterator[None]:
    """Add these facts (``account``, ``run``, ``task``) to every line of this thread in the block; skip empty ones."""
    with bound_contextvars(**{name: value for name, value in facts.items() if value}):
        yield


def each(log: Logger, level: int, event: str, lines: Sequence[dict[str, Any]]) -> None:
    """Log a line for each of these, up to `MOST_LINES`, and then the number of the rest."""
    for facts in lines[:MOST_LINES]:
        log.log(level, event, **facts)
    if len(lines) > MOST_LINES:
        log.log(level, f"{event}: more", more=len(lines) - MOST_LINES)


# -- setting up ----------------------------------------------------------------------------------------------------


def set_up(
    settings: LogSettings, *, level: int = logging.WARNING, file: str | None = None, stream: IO[str] | None = None
) -> None:
    """Send all logs of this process to ``file``, else stderr, in the format set by ``[log]``.

    ``level`` applies if ``[log] level`` is not set. A second call replaces the handlers of the first.
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
    # The pool's logger (billiard) does not propagate and would print its lines unmasked.
    logging.getLogger("multiprocessing").propagate = True
    logging.captureWarnings(True)
    sys.excepthook = _crashed
    threading.excepthook = _thread_crashed


def formatter(form: str, *, colors: bool = False) -> structlog.stdlib.ProcessorFormatter:
    """Return the formatter of all lines; its last step masks the finished text."""
    if form == "json":
        render: list[Processor] = [structlog.processors.JSONRenderer(ensure_ascii=False), _masked, _escaped]
    else:
        # Not the default for tracebacks: with rich installed it shows local variables.
        plain = structlog.dev.plain_traceback
        console = structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=plain, pad_event_to=0)
        render = [_cleaned, console, _masked]
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
            *render,
        ],
    )


def _celerys_facts(_: Any, __: str, event: EventDict) -> EventDict:
    """Add facts from Celery's records: the task, its id, and the account and run in its arguments."""
    # Left by a handler that formatted the record before us, such as tornado's.
    for name in ("message", "asctime", "color", "end_color"):
        event.pop(name, None)
    data = event.pop("data", None)
    if isinstance(data, dict):
        for ours, theirs in (("task", "name"), ("task_id", "id")):
            if isinstance(data.get(theirs), str):
                event.setdefault(ours, data[theirs])
        kwargs = str(data.get("kwargs", ""))[:_LONGEST_KWARGS]
        for ours, pattern in (("account", _ACCOUNT), ("run", _RUN)):
            if match := pattern.search(kwargs):
                event.setdefault(ours, match[1])
    return event


def _ordered(_: Any, __: str, event: EventDict) -> EventDict:
    """Put the most important fields first."""
    return {name: event[name] for name in _FIRST if name in event} | dict(event)


def _without_secrets(_: Any, __: str, event: EventDict) -> EventDict:
    """Mask the values before the renderer escapes them, which would hide them from the final mask."""
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


def _cleaned(_: Any, __: str, event: EventDict) -> EventDict:
    """Escape line breaks and control characters of texts from outside. The renderer escapes values other than texts."""
    return {
        name: clean_lines(value) if name in _LINES else clean(value) if isinstance(value, str) else value
        for name, value in event.items()
    }


def _masked(_: Any, __: str, line: Any) -> str:
    """Mask the finished line, whatever the steps before produced."""
    return mask(str(line))


def _escaped(_: Any, __: str, line: Any) -> str:
    """Escape in a line of JSON what a terminal would act on."""
    return json_escaped(str(line))


class _Ours(logging.Handler):
    """A handler made by `set_up`. A line that cannot be formatted is reported without its content."""

    def handleError(self, record: logging.LogRecord) -> None:
        if sys.__stderr__ is not None:
            message = f"a line of {record.name} could not be logged: {traceback.format_exc(limit=-2)}"
            sys.__stderr__.write(f"{clean_lines(mask(message))}\n")


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
    exc_info = (args.exc_type, args.exc_value, args.exc_traceback)
    name = args.thread.name if args.thread else "a thread"
    logging.getLogger("okasie_tasks").error("%s ended: %s", name, args.exc_type.__name__, exc_info=exc_info)
