"""A push and a sell of one listing: the order of the requests decides, not that of their delivery or of a source read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
import redis

from okasie_tasks.urgent import accept
from tests.support import poll
from tests.sync.guarded_scenario import GuardedScenario
from tests.sync.http_scenario import varied
from tests.sync.test_failing_pushes import outcomes, send

HOUR_MS = 3_600_000


@pytest.fixture
def scenario(tmp_path: Path, redis_url: str, client: redis.Redis) -> Iterator[GuardedScenario]:
    with GuardedScenario(tmp_path, redis_url, rows=varied(4, seed=5)) as found:
        found.good_run()
        yield found


class Requests:
    """Requests for one listing. Each is stored at its own moment, and executed when the test says so."""

    def __init__(self, scenario: GuardedScenario) -> None:
        self.scenario, self.ctx = scenario, scenario.ctx
        self.reference = scenario.rows[0]["stock_no"]

    def stored(self) -> str:
        name = uuid4().hex
        at_ms = self.ctx.pushes.receive(name)
        poll(lambda: self.ctx.runs.now_ms() > at_ms, what="the next millisecond")
        return name

    def push(self, name: str) -> None:
        accept.accept_push(self.ctx, name, references=[self.reference])

    def sell(self, name: str) -> None:
        accept.accept_sell(self.ctx, name, references=[self.reference])

    def send(self) -> None:
        send(self.scenario, rounds=2)

    def outcome(self, name: str) -> str:
        return outcomes(self.scenario, name)[self.reference].outcome

    @property
    def is_sold(self) -> bool:
        return self.reference in self.scenario.sold()


@pytest.fixture
def requests(scenario: GuardedScenario) -> Requests:
    return Requests(scenario)


def test_a_sell_wins_over_an_earlier_push_that_waits_with_it(requests: Requests) -> None:
    push, sell = requests.stored(), requests.stored()
    requests.push(push)  # its row is read after the sell was requested
    requests.sell(sell)
    requests.send()
    assert (requests.is_sold, requests.outcome(sell)) == (True, "sold")


def test_a_sell_wins_over_an_earlier_push_that_was_sent_before_it_arrived(requests: Requests) -> None:
    push, sell = requests.stored(), requests.stored()
    requests.push(push)
    requests.send()
    requests.sell(sell)
    requests.send()
    assert (requests.is_sold, requests.outcome(sell)) == (True, "sold")


def test_a_push_that_is_executed_late_does_not_undo_a_newer_sell(requests: Requests) -> None:
    push, sell = requests.stored(), requests.stored()
    requests.sell(sell)
    requests.send()
    requests.push(push)
    requests.send()
    assert (requests.is_sold, requests.outcome(push)) == (True, "overtaken")


def test_a_push_that_was_requested_after_the_sell_lists_it_again(requests: Requests) -> None:
    sell, push = requests.stored(), requests.stored()
    requests.sell(sell)
    requests.send()
    requests.push(push)
    requests.send()
    assert (requests.is_sold, requests.outcome(push)) == (False, "updated")


def test_a_sell_that_is_executed_late_does_not_undo_a_newer_push(requests: Requests) -> None:
    sell, push = requests.stored(), requests.stored()
    requests.push(push)
    requests.send()
    requests.sell(sell)
    requests.send()
    assert (requests.is_sold, requests.outcome(sell)) == (False, "overtaken")


def test_a_request_that_waited_long_for_a_worker_is_not_given_up_at_its_first_failure(requests: Requests) -> None:
    key = f"{requests.scenario.services.settings.redis.key_prefix}push:late"
    requests.ctx.runs.redis.hset(key, "made", requests.ctx.runs.now_ms() - 2 * HOUR_MS)
    path = {"path": "delete", "reference": requests.reference}
    requests.scenario.faults({"kind": "answer", "match": path, "status": 503, "times": 1})
    requests.sell("late")
    send(requests.scenario, rounds=3)
    assert (requests.is_sold, requests.outcome("late")) == (True, "sold")
