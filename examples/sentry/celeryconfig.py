"""Reports errors of workers and Beat to Sentry. Put it where they start, with SENTRY_DSN in their environment.

Needs ``pip install sentry-sdk``.
"""

import os

from celery import signals


def _start_sentry(**_: object) -> None:
    import sentry_sdk  # noqa: PLC0415 - commands read this file, too

    from okasie_tasks.telemetry.sentry import options  # noqa: PLC0415

    sentry_sdk.init(dsn=os.environ["SENTRY_DSN"], **options())


if os.environ.get("SENTRY_DSN"):
    # Only in processes that work, and strongly: Celery keeps weak references to receivers, and this file's names go.
    for _signal in (signals.worker_init, signals.beat_init):
        _signal.connect(_start_sentry, weak=False)
