"""A slot batch: a slot continues with the parts that have no message, and a part that must wait gets one."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest
import redis
from celery.app.task import Context
from celery.exceptions import Ignore, Retry
from kombu.exceptions import OperationalError

from okasie_tasks.errors import NoPermit, Unavailable
from okasie_tasks.store.deliveries import Deliveries
from okasie_tasks.store.records import Claim
from okasie_tasks.store.runs import Runs
from okasie_tasks.sync.context import AccountContext, Part
from okasie_tasks.sync.executor import Effect
from okasie_tasks.tasks import deliveries, dispatch, part_runner, unknown_account
from tests.sync.small import account_policy

_PARTS = 40


class Account:
    """A run with 40 pages to walk, 5 of them published. Records which parts are done and published.

    ``stage`` "upsert": 40 chunks to send instead.
    """

    def __init__(self, client: redis.Redis, patch: pytest.MonkeyPatch, stage: str = "walk") -> None:
        self.client, self.runs, self.stage = client, Runs(client, prefix="okasie:"), stage
        self.runs.request("dex", "full")
        self.run = self.runs.begin("dex") or ""
        if stage != "upsert":
            self.runs.advance(self.run, "first", stage, parts=_PARTS if stage == "walk" else 2)
        else:
            for name, parts in (("spool", 0), ("upsert", _PARTS), ("confirm", 0), ("sell", 0)):
                self.runs.parts.prepare(self.run, name, parts)
            self.runs.advance(self.run, "first", "apply", parts=0)
        self.runs.parts.window(self.run, stage, size=5, when_open=0)
        self.done: list[int] = []
        self.left: list[tuple[int, float]] = []
        """Published messages: the part, and the seconds until it begins."""
        self.moved_on = self.published = 0
        self.headers: dict[str, Any] = {}
        self.needs_more_workers = False
        self.waits: dict[int, Exception] = {}
        """By part: the error that it raises once it has its permit."""
        self.permits = 100
        """How many there are before the next one takes too long: 3 s."""
        self.waited: list[bool] = []
        """For each permit after the first: whether the slot would have waited for it."""
        self.after: dict[int, Callable[[], object]] = {}
        self.seconds = 0.0
        self.contended = self.stopping = False
        slots = SimpleNamespace(contended=lambda *_: self.contended, stopping=lambda: self.stopping)
        nothing: dict[str, Any] = dict.fromkeys(AccountContext._fields)
        market = SimpleNamespace(needs_more_workers=lambda pace: self.needs_more_workers and pace == 0.5)
        ctx = cast(
            "AccountContext",
            AccountContext(**{**nothing, "policy": account_policy("local", 1), "runs": self.runs, "market": market}),
        )
        found = SimpleNamespace(context=lambda _: ctx, redis=client, deliveries=Deliveries(client, prefix="okasie:"))
        for module in (unknown_account, dispatch, deliveries):
            patch.setattr(module, "services", lambda: found)
        self.deliveries = found.deliveries
        patch.setattr(part_runner, "perform", self.perform)
        patch.setattr(part_runner, "perform_next", self.perform_next)
        patch.setattr(part_runner, "send_parts", lambda *_: None)
        patch.setattr(part_runner, "publish", lambda *_: None)
        self.advanced = 0
        patch.setattr(part_runner, "advance_run", self.advance)
        patch.setattr(part_runner.watchdog, "after_worker_death", self.after_death)
        patch.setattr(part_runner, "part_message", self.left_for)
        patch.setattr(part_runner, "advance_message", lambda *_: SimpleNamespace(apply_async=self.move_on))
        patch.setattr(part_runner, "SLOTS", slots)
        patch.setattr(part_runner.RUN_EVENTS, "publish", lambda *_, **__: None)
        patch.setattr(part_runner, "time", SimpleNamespace(monotonic=lambda: self.seconds, sleep=time.sleep))

    def perform(self, _: AccountContext, part: Part, **__: Any) -> Effect:
        if part.number in self.waits:
            raise self.waits[part.number]
        if self.runs.parts.claim(*part).state != "claimed":
            return "nothing"
        closed = self.runs.parts.close(*part, {}, when_open=0)
        self.done.append(part.number)
        self.after.get(part.number, lambda: None)()
        effects: dict[int, Effect] = {1: "closed", 2: "quiet", 3: "last"}
        return effects[closed]

    def perform_next(
        self, ctx: AccountContext, part: Part, take: Callable[[], tuple[int, Claim]], *, wait: bool, **_: Any
    ) -> Effect:
        self.waited.append(wait)
        if not self.permits:
            raise NoPermit("no room", seconds=3.0)
        number, claim = take()
        if claim.state != "claimed":
            return "nothing"
        self.permits -= 1
        return self.perform(ctx, part._replace(number=number))

    def left_for(self, account: str, run: str, stage: str, number: int, *, of: int) -> Any:
        assert (account, run, stage, of >= _PARTS) == ("dex", self.run, self.stage, True)

        def apply_async(*, countdown: float | None, ignore_result: bool) -> None:
            assert ignore_result, "it is in no chord"
            self.left.append((number, countdown or 0.0))

        return SimpleNamespace(apply_async=apply_async)

    def unfinish(self, task_id: str) -> None:
        """The message was delivered before, and its worker did not finish."""
        self.deliveries.forget(task_id)
        self.deliveries.begin(task_id, 0, "the worker that died")

    def move_on(self) -> None:
        self.moved_on += 1

    def advance(self, *_: Any) -> None:
        self.advanced += 1

    def message(self, number: int, *, redelivered: bool = False, task_id: str = "message", **more: Any) -> str:
        facts = {"id": task_id, "retries": 0, "delivery_info": {"redelivered": redelivered}, "argsrepr": "", **more}
        request = Context(facts)
        task: Any = SimpleNamespace(request=request, retry=self.retry)
        return part_runner.do_part(task, "dex", self.run, self.stage, number)

    def retry(self, *, headers: dict[str, Any], **_: Any) -> Retry:
        self.headers = headers
        return Retry()

    def after_death(self, *_: Any, **__: Any) -> list[Any]:
        self.published += 1
        return []

    def others_are_done(self) -> None:
        """Close the other four published parts, as their messages would."""
        for number in range(1, 5):
            part = (self.run, self.stage, number, f"other{number}/1")
            self.runs.parts.claim(*part)
            self.runs.parts.close(*part, {})


@pytest.fixture
def account(client: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> Account:
    return Account(client, monkeypatch)


def test_a_slot_continues_with_parts_that_have_no_message_yet(account: Account) -> None:
    assert account.message(0).endswith("and 35 more in the same slot batch")
    assert account.done == [0, *range(5, _PARTS)], "1 to 4 have separate messages"
    assert account.left == []
    assert all(account.waited), "no message waits for the slot, so it waits for each permit"


def test_a_slot_that_must_wait_too_long_leaves_the_rest_to_the_others(account: Account) -> None:
    account.permits = 2
    account.message(0)
    assert account.done == [0, 5, 6]
    assert account.left == [], "four others have messages, and continue"
    assert account.runs.parts.stage(account.run, "walk").published == 7, "every part that was taken is done"


def test_the_last_batch_to_end_leaves_a_message(account: Account) -> None:
    account.others_are_done()
    account.permits = 2
    account.message(0)
    assert (account.done, account.left) == ([0, 5, 6], [(7, 3.0)])


def test_a_batch_ends_after_ten_seconds_with_a_message_for_the_next_part(account: Account) -> None:
    account.after = {6: lambda: setattr(account, "seconds", 10.0)}
    account.message(0)
    assert (account.done, account.left) == ([0, 5, 6], [(7, 0.0)])


def test_while_a_message_waits_for_a_slot_a_batch_lasts_half_a_second_and_does_not_wait(account: Account) -> None:
    account.contended = True
    account.after = {6: lambda: setattr(account, "seconds", 0.4), 7: lambda: setattr(account, "seconds", 0.5)}
    account.message(0)
    assert (account.done, account.left) == ([0, 5, 6, 7], [(8, 0.0)])
    assert not any(account.waited)


def test_where_slots_are_scarce_a_batch_that_waits_returns_for_two_permits(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    account.contended = True
    account.others_are_done()
    account.permits = 0
    monkeypatch.setattr(part_runner, "_BACK_SECONDS", 4.0)
    account.message(0)
    assert (account.done, account.left) == ([0], [(5, 4.0)])


def test_a_worker_that_is_shutting_down_requeues_its_remaining_parts(account: Account) -> None:
    account.after = {6: lambda: setattr(account, "stopping", True)}
    account.message(0)
    assert (account.done, account.left) == ([0, 5, 6], [(7, 0.0)])


def test_where_answers_take_longer_than_the_quota_one_more_is_called_to_help_each_second(account: Account) -> None:
    account.needs_more_workers = True
    account.after = {
        6: lambda: setattr(account, "seconds", 1.0),
        9: lambda: setattr(account, "seconds", 1.9),
        12: lambda: setattr(account, "seconds", 2.0),
    }
    account.message(0)
    assert account.left == [(7, 0.0), (13, 0.0)]
    assert account.done == [number for number in (0, *range(5, _PARTS)) if number not in (7, 13)]


@pytest.mark.parametrize("why", ["answers are fast", "contended"])
def test_no_help_is_called_where_it_would_not_help(account: Account, why: str) -> None:
    account.needs_more_workers = why == "contended"
    account.contended = why == "contended"
    account.after = {6: lambda: setattr(account, "seconds", 0.45 if why == "contended" else 1.0)}
    account.message(0)
    assert account.left == []


def test_the_task_that_closes_the_last_part_advances_the_run(account: Account) -> None:
    account.message(0)
    assert account.moved_on == 0, "four others are open"
    account.runs.parts.extend(account.run, "walk", "more", 2)
    account.others_are_done()
    account.runs.parts.window(account.run, "walk", size=1, when_open=0)
    account.message(_PARTS, task_id="another")
    assert (account.done[-2:], account.moved_on) == ([_PARTS, _PARTS + 1], 1)


def test_no_more_is_taken_than_may_be_open(account: Account) -> None:
    account.runs.parts.window(account.run, "walk", size=16, when_open=5)
    account.message(0)
    assert account.done == [0], "20 that were published are still open"


# -- writes --------------------------------------------------------------------------------------------------------


@pytest.fixture
def writes(client: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> Account:
    return Account(client, monkeypatch, "upsert")


def test_a_slot_that_has_sent_a_chunk_continues_with_those_that_have_no_message(writes: Account) -> None:
    assert writes.message(0, chord={"task": "okasie.advance"}).endswith("and 35 more in the same slot batch")
    assert writes.done == [0, *range(5, _PARTS)], "1 to 4 have separate messages"
    assert not any(writes.waited), "a write that must wait has a message for the moment of its turn"
    assert (writes.left, writes.moved_on) == ([], 0)


def test_writes_without_a_permit_are_left_to_the_messages_that_are_due(writes: Account) -> None:
    writes.permits = 2
    writes.message(0, chord={"task": "okasie.advance"})
    assert (writes.done, writes.left) == ([0, 5, 6], [])
    assert writes.runs.parts.stage(writes.run, "upsert").published == 7, "every part that was taken is done"


@pytest.mark.parametrize("why", ["ten seconds", "contended", "stopping"])
def test_a_batch_of_writes_ends(writes: Account, why: str) -> None:
    def later() -> None:
        writes.seconds = 10.0 if why == "ten seconds" else 0.5
        writes.contended, writes.stopping = why == "contended", why == "stopping"

    writes.after = {6: later}
    writes.message(0, chord={"task": "okasie.advance"})
    assert (writes.done, writes.left) == ([0, 5, 6], [])


def test_a_chunk_that_was_taken_and_must_wait_gets_a_message_that_moves_the_run_on(writes: Account) -> None:
    writes.waits[_PARTS - 1] = Unavailable("500", seconds=2.1)
    writes.message(0, chord={"task": "okasie.advance"})
    assert writes.left == [(_PARTS - 1, 2.1)]
    writes.waits.clear()
    writes.message(_PARTS - 1, task_id="left")
    assert writes.moved_on == 0, "four others are open"
    writes.runs.parts.extend(writes.run, "upsert", "more", 1)
    writes.others_are_done()
    writes.message(_PARTS, task_id="last")
    assert (writes.done[-1], writes.moved_on) == (_PARTS, 1), "it is in no chord"


def test_a_redelivered_write_continues_with_what_its_dead_worker_had_taken(writes: Account) -> None:
    writes.runs.parts.claim(writes.run, "upsert", 0, "message/died")
    writes.runs.parts.close(writes.run, "upsert", 0, "message/died", {})
    writes.runs.parts.claim_next(writes.run, "upsert", "message/died", most_open=20)
    writes.unfinish("message")
    writes.message(0, redelivered=True, chord={"task": "okasie.advance"})
    assert writes.done == [5]


# -- phases of few parts -------------------------------------------------------------------------------------------


def test_the_last_part_advances_the_run_if_it_is_in_no_chord(
    client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = Account(client, monkeypatch, "diff")
    account.message(0, task_id="first")
    assert account.advanced == 0, "another part is open"
    account.message(1, task_id="last")
    assert (account.done, account.advanced, account.moved_on) == ([0, 1], 1, 0)
    account.message(1, task_id="again")
    assert (account.advanced, account.moved_on) == (1, 1), "the worker that closed it may have died: by a message"


def test_a_part_in_a_chord_leaves_the_run_to_its_body(client: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    account = Account(client, monkeypatch, "diff")
    for number in range(2):
        account.message(number, task_id=f"part-{number}", chord={"task": "okasie.advance"})
    assert (account.done, account.advanced, account.moved_on) == ([0, 1], 0, 0)


# -- parts that must wait, and messages that come again ------------------------------------------------------------


@pytest.mark.parametrize(("why", "seconds"), [(NoPermit("went stale", seconds=0.05), 0.05), (Unavailable("500", seconds=2.1), 2.1), (NoPermit("paused", seconds=60.0), 12.0)])  # fmt: skip
def test_a_claimed_part_that_must_wait_gets_a_message_and_ends_the_batch(
    account: Account, why: Exception, seconds: float
) -> None:
    account.waits[7] = why
    account.message(0)
    assert (account.done, account.left) == ([0, 5, 6], [(7, seconds)])
    assert account.runs.parts.stage(account.run, "walk").published == 8


def test_the_part_of_the_message_itself_is_tried_again_by_the_message(account: Account) -> None:
    account.waits[0] = NoPermit("no room", seconds=3.0)
    with pytest.raises(Retry):
        account.message(0)
    assert (account.done, account.left) == ([], [])


def test_a_redelivered_message_continues_the_batch_of_its_dead_worker(account: Account) -> None:
    account.message(0)
    account.runs.parts.extend(account.run, "walk", "more", 4)
    account.runs.parts.window(account.run, "walk", size=3, when_open=5)
    account.runs.parts.claim(account.run, "walk", _PARTS, "message/died")
    account.runs.parts.claim(account.run, "walk", _PARTS + 1, "another/lives")
    account.done.clear()
    account.unfinish("message")
    account.message(0, redelivered=True)
    assert account.done == [_PARTS, _PARTS + 3], "the others are claimed or have messages; then it continues"


def test_a_copy_of_a_message_does_nothing_and_has_no_result(account: Account) -> None:
    account.message(0)
    account.done.clear()
    with pytest.raises(Ignore):
        account.message(1)
    assert (account.done, account.left, account.published) == ([], [], 0)


def test_a_message_that_only_lost_its_acknowledgement_publishes_nothing(account: Account) -> None:
    account.message(0)
    account.message(0, redelivered=True)
    assert account.published == 0
    account.unfinish("message")
    account.message(0, redelivered=True)
    assert account.published == 1, "its worker may have died before it had published what follows"


def test_a_message_that_was_only_held_when_its_worker_died_publishes_nothing(account: Account) -> None:
    """As those that wait for their turn: after a failover the broker delivers them all again."""
    account.message(0)
    account.message(0, redelivered=True, task_id="held")
    assert account.published == 0, "another message has done the part"


def test_a_retry_that_waited_for_its_permit_is_not_taken_for_a_death(account: Account) -> None:
    account.waits[0] = NoPermit("no room", seconds=3.0)
    with pytest.raises(Retry):
        account.message(0)
    account.waits.clear()
    account.message(0, task_id="another")
    account.message(0, retries=1, **account.headers)
    assert account.published == 0, "another message has done the part meanwhile"
    account.message(0, retries=2, **account.headers)
    assert account.published == 1, "this retry has another cause: a lost child"


def test_a_paused_run_ends_the_batch(account: Account, client: redis.Redis) -> None:
    client.set("okasie:account:dex:paused", "1")
    account.message(0)
    assert account.done == []
    assert account.runs.parts.stage(account.run, "walk").published == 5


def test_a_run_that_is_paused_during_a_batch_takes_no_more(account: Account, client: redis.Redis) -> None:
    account.after = {6: lambda: client.set("okasie:account:dex:paused", "1")}
    account.message(0)
    assert account.done == [0, 5, 6]
    assert account.runs.parts.stage(account.run, "walk").published == 7, "no part is taken that does not begin"


def test_redis_away_in_the_middle_loses_no_part(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(part_runner, "_RETRY_SECONDS", 0)
    claim, gone = account.runs.parts.claim, [redis.ConnectionError("away")]

    def away(run: str, stage: str, part: int, *rest: Any, **more: Any) -> Any:
        if part == 7 and gone:
            raise gone.pop()
        return claim(run, stage, part, *rest, **more)

    monkeypatch.setattr(account.runs.parts, "claim", away)
    account.message(0)
    assert account.done == [0, *range(5, _PARTS)], "7 was claimed once, and done by its claimant"


def test_a_part_that_adds_parts_publishes_them_and_survives_a_broker_that_is_away(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next publication, or the watchdog, makes up for it."""
    published: list[str] = []

    def publish(_: AccountContext, run: str) -> None:
        published.append(run)
        raise OperationalError("the broker is away")

    def adding(ctx: AccountContext, part: Part, **_: Any) -> Effect:
        ctx.publish(part.run)
        return "quiet"

    monkeypatch.setattr(part_runner, "publish", publish)
    monkeypatch.setattr(part_runner, "perform", adding)
    ctx = dispatch.services().context("dex")
    effect, _ = part_runner.run_part(ctx, Part(account.run, "load", 0, "t"))
    assert (effect, published) == ("quiet", [account.run])
