"""A turn: a slot goes on with what has no message, and what must wait gets one."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest
import redis
from celery.exceptions import Retry

from okasie_tasks import celery_parts
from okasie_tasks.adapters.runs import Runs
from okasie_tasks.errors import NoPermit, Unavailable
from okasie_tasks.sync.tools import Part, Tools
from okasie_tasks.sync.work import Effect
from tests.sync.small import rules

_PARTS = 40


class Account:
    """A run with 40 pages to walk, 5 of them published; what is done and what is published is written down."""

    def __init__(self, client: redis.Redis, patch: pytest.MonkeyPatch) -> None:
        self.runs = Runs(client, prefix="okasie:")
        self.runs.request("dex", "full")
        self.run = self.runs.begin("dex") or ""
        self.runs.advance(self.run, "first", "walk", parts=_PARTS)
        self.runs.window(self.run, "walk", size=5, when_open=0)
        self.done: list[int] = []
        self.published: list[tuple[list[int], float]] = []
        self.flowing = True
        self.waits: dict[int, Exception] = {}
        self.after: dict[int, Callable[[], object]] = {}
        nothing: dict[str, Any] = dict.fromkeys(Tools._fields)
        market = SimpleNamespace(flowing=lambda: self.flowing)
        tools = cast("Tools", Tools(**{**nothing, "rules": rules("local", 1), "runs": self.runs, "market": market}))
        patch.setattr(celery_parts, "services", lambda: SimpleNamespace(tools=lambda _: tools, redis=client))
        patch.setattr(celery_parts, "perform", self.perform)
        patch.setattr(celery_parts, "send_parts", self.send_parts)
        patch.setattr(celery_parts.STORY, "tell", lambda *_, **__: None)
        patch.setattr(celery_parts, "_TURN_SECONDS", 60)

    def perform(self, _: Tools, part: Part, **__: Any) -> Effect:
        if part.number in self.waits:
            raise self.waits[part.number]
        if self.runs.claim(*part).state != "claimed":
            return "nothing"
        self.runs.close(*part, {})
        self.done.append(part.number)
        self.after.get(part.number, lambda: None)()
        return "quiet"

    def send_parts(self, _: Tools, __: str, stages: list[tuple[str, list[int]]], *, countdown: float = 0.0) -> None:
        self.published += [(list(parts), countdown) for _, parts in stages]

    def message(self, number: int, *, redelivered: bool = False, task_id: str = "message") -> str:
        request = SimpleNamespace(id=task_id, retries=0, delivery_info={"redelivered": redelivered}, argsrepr="")
        task: Any = SimpleNamespace(request=request, retry=lambda **_: Retry())
        return celery_parts.do_part(task, "dex", self.run, "walk", number)


@pytest.fixture
def account(client: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> Account:
    return Account(client, monkeypatch)


def test_a_slot_goes_on_with_what_has_no_message_yet(account: Account) -> None:
    assert account.message(0).endswith("and 35 more in the same turn")
    assert account.done == [0, *range(5, _PARTS)], "1 to 4 have messages of their own"
    assert account.published == []


def test_a_turn_ends_with_its_time(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(celery_parts, "_TURN_SECONDS", 0)
    account.message(0)
    assert account.done == [0]


def test_where_permits_must_be_waited_for_each_part_has_its_message(account: Account) -> None:
    account.flowing = False
    account.message(0)
    assert account.done == [0]
    assert account.runs.stage(account.run, "walk").published == 5


def test_no_more_is_taken_than_a_window_may_hold_open(account: Account) -> None:
    account.runs.window(account.run, "walk", size=20, when_open=5)
    account.message(0)
    assert account.done == [0], "24 that were published are still open"


@pytest.mark.parametrize(
    ("why", "seconds"),
    [(NoPermit("no room", seconds=3.0), 3.0), (NoPermit("paused", seconds=60.0), 12.0), (Unavailable("500", seconds=2.1), 2.1)],
)  # fmt: skip
def test_a_part_that_must_wait_gets_a_message_and_ends_the_turn(
    account: Account, why: Exception, seconds: float
) -> None:
    account.waits[7] = why
    account.message(0)
    assert account.done == [0, 5, 6]
    assert account.published == [([7], seconds)]


def test_the_part_of_the_message_itself_is_tried_again_by_the_message(account: Account) -> None:
    account.waits[0] = NoPermit("no room", seconds=3.0)
    with pytest.raises(Retry):
        account.message(0)
    assert (account.done, account.published) == ([], [])


def test_a_message_that_comes_again_goes_on_with_what_its_worker_died_of(account: Account) -> None:
    account.message(0)
    account.runs.extend(account.run, "walk", "more", 3)
    account.runs.window(account.run, "walk", size=3, when_open=5)
    account.runs.claim(account.run, "walk", _PARTS, "message/died")
    account.runs.claim(account.run, "walk", _PARTS + 1, "another/lives")
    account.done.clear()
    account.message(0, redelivered=True)
    assert account.done == [_PARTS], "the others have holders or messages of their own"


def test_a_run_that_rests_ends_the_turn(account: Account, client: redis.Redis) -> None:
    client.set("okasie:account:dex:paused", "1")
    account.message(0)
    assert account.done == []
    assert account.runs.stage(account.run, "walk").published == 5


def test_a_run_that_is_paused_in_the_middle_of_a_turn_takes_no_more(account: Account, client: redis.Redis) -> None:
    account.after = {6: lambda: client.set("okasie:account:dex:paused", "1")}
    account.message(0)
    assert account.done == [0, 5, 6]
    assert account.runs.stage(account.run, "walk").published == 8, "7 was taken and not begun"
