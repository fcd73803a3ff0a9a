"""The celeryconfig.py of a deployment, with times that suit tests. Read through CELERY_CONFIG_MODULE."""

from __future__ import annotations

from okasie_tasks.worker.settings import SETTINGS

VISIBLE_SECONDS, SWEEP_SECONDS = 3, 1

broker_transport_options = {
    **SETTINGS["broker_transport_options"],
    "visibility_timeout": VISIBLE_SECONDS,
    "unacked_restore_interval": SWEEP_SECONDS,
}
imports = ("tests.celery.jobs",)
# The watchdog runs when a test calls it, and then treats every part without a claim as lost.
okasie_watchdog_seconds = 3600.0
okasie_stalled_seconds = 0.0
