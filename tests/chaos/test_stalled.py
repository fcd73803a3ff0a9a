"""Which lines of a worker's log are the end of a task."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from celery.app import trace

from tests.chaos.stalled import _ENDED, _RECEIVED, _tasks

ID = "6b79e933-c4b1-40ac-950c-7e55594d5aeb"


@pytest.mark.parametrize(
    ("line", "description"),
    [
        (trace.LOG_SUCCESS, ""),
        (trace.LOG_RETRY, ""),
        *((policy.format, policy.description) for policy in (trace.log_policy_expected, trace.log_policy_unexpected)),
        *((policy.format, policy.description) for policy in (trace.log_policy_ignore, trace.log_policy_internal)),
    ],
)
def test_every_end_that_celery_logs_is_known(tmp_path: Path, line: str, description: str) -> None:
    facts = {"id": ID, "name": "okasie.sync", "exc": "", "runtime": 0.1, "return_value": "", "description": description}
    log = tmp_path / "worker.log"
    log.write_text(f"{trace.LOG_RECEIVED}\n{line}\n" % facts)
    assert _tasks(log, 0, _RECEIVED) == _tasks(log, 0, _ENDED) == Counter([ID])


def test_a_task_that_is_retried_must_end_again(tmp_path: Path) -> None:
    log = tmp_path / "worker.log"
    log.write_text(f"[{ID}] received\n[{ID}] retry: in 1 s\n[{ID}] received\n")
    assert _tasks(log, 0, _RECEIVED) - _tasks(log, 0, _ENDED) == Counter([ID])


def test_what_a_worker_received_before_is_not_counted(tmp_path: Path) -> None:
    """It may have given it back to the broker, which no log line says."""
    log = tmp_path / "worker.log"
    log.write_text(f"[{ID}] received\n")
    assert _tasks(log, log.stat().st_size, _RECEIVED) == Counter()
