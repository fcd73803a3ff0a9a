"""Workers whose clocks are a day ahead: they discard no valid request, and a discarded one has an outcome."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from celery import Celery

from okasie_tasks.sandbox.sample import cars, write_csv
from okasie_tasks.store.discarded import DiscardedRequests
from okasie_tasks.store.requests import Requests
from tests.chaos.fleet import Fleet
from tests.support import poll, stored

pytestmark = [pytest.mark.system, pytest.mark.slow]

A_DAY_AHEAD = """
import datetime as _datetime

from celery.worker import request as _request


class _Fast(_datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return super().now(tz) + _datetime.timedelta(days=1)


_request.datetime = _Fast
"""
"""Lines of a celeryconfig.py: what Celery's worker reads as the time when it decides whether a message has expired."""


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    with Fleet(["dex"], quick=True, more=A_DAY_AHEAD) as running:
        write_csv(running.folder / "dex.csv", cars(3, seed=1))
        yield running


def send(fleet: Fleet, reference: str, expires: float | datetime) -> str:
    """Push as another Celery application may, with an expiry in the message."""
    url = fleet.url.replace("unix://", "redis+socket://")
    with Celery("theirs", broker=url, set_as_current=False) as theirs:
        kwargs = {"account": "dex", "references": [reference]}
        sent = theirs.send_task("okasie.push", kwargs=kwargs, queue="okasie.urgent", expires=expires)
    return str(sent.id)


def test_a_valid_request_is_executed(fleet: Fleet) -> None:
    fleet.client.push("dex", ["DG-00001"])
    send(fleet, "DG-00002", 3600.0)
    poll(lambda: set(stored(fleet.sandbox, "dex")) == {"DG-00001", "DG-00002"}, what="both pushes")


def test_an_expired_request_is_logged_and_has_an_outcome(fleet: Fleet) -> None:
    push = send(fleet, "DG-00003", datetime.now(UTC) - timedelta(minutes=5))
    pushes = Requests(fleet.redis, prefix=fleet.settings.redis.key_prefix)
    poll(lambda: "expired" in (pushes.get(push).error or ""), what="the outcome")
    assert "request expired; discarded" in fleet.children["urgent"].log.read_text()
    assert "DG-00003" not in stored(fleet.sandbox, "dex")
    totals, last = DiscardedRequests(fleet.redis, prefix=fleet.settings.redis.key_prefix).summary(5)
    assert totals["expired"] == 1
    assert [(request.task, request.task_id, request.account) for request in last] == [("okasie.push", push, "dex")]
