"""Starts and ends the traces of workers and Beat. Off unless the environment asks for them."""

from __future__ import annotations

from celery.signals import beat_init, worker_init, worker_process_shutdown, worker_shutdown

from okasie_tasks import __version__
from okasie_tasks.logs import get_logger
from okasie_tasks.telemetry import tracing

log = get_logger(__name__)


@worker_init.connect
def _start_worker(**_: object) -> None:
    _start("worker")


@beat_init.connect
def _start_beat(**_: object) -> None:
    _start("beat")


def _start(process: str) -> None:
    if tracing.wanted() and not tracing.installed():
        log.warning("traces are off", reason="the extra okasie-tasks[otel] is not installed")
    elif tracing.start(process, __version__):
        log.info("traces are exported")


@worker_process_shutdown.connect
@worker_shutdown.connect
def _stop(**_: object) -> None:
    tracing.stop()
