"""Run records in Redis: one run per account, each part closed once, the cursor moved only by the run that read it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import redis

from okasie_tasks.store.parts import Noted, Records
from okasie_tasks.store.records import KEEP_PARTS_SECONDS, Claim
from okasie_tasks.store.runs import Runs


@pytest.fixture
def runs(client: redis.Redis) -> Runs:
    return Runs(client, prefix="okasie:")


def begun(runs: Runs, account: str = "dex", mode: str = "full") -> str:
    runs.request(account, mode)
    run = runs.begin(account)
    assert run is not None
    return run


# -- one run per account -------------------------------------------------------------------------------------------


def test_requests_fold_into_the_run_that_waits_and_widen_it(runs: Runs) -> None:
    first, new = runs.request("dex", "incremental")
    assert new
    assert runs.request("dex", "full") == (first, False)
    found = runs.get(first)
    assert found is not None
    assert (found.mode, found.state, found.open) == ("full", "queued", True)


def test_one_works_one_waits(runs: Runs) -> None:
    at_work = begun(runs)
    follow_up, new = runs.request("dex", "incremental")
    assert new
    assert follow_up != at_work
    assert runs.request("dex", "incremental") == (follow_up, False)
    assert runs.begin("dex") is None, "the account's lease is taken"
    assert (runs.active("dex"), runs.waiting("dex")) == (at_work, follow_up)
    record = runs.get(at_work)
    assert record is not None
    assert runs.end(record, "done") == follow_up
    assert runs.begin("dex") == follow_up
    assert runs.waiting("dex") is None


def test_a_day_has_one_scheduled_full_run_however_often_it_is_asked_for(runs: Runs) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: runs.request("dex", "full", day="2026-10-25"), range(32)))
    asked = [run for run, _ in answers if run]
    assert len(asked) == 1
    assert runs.begin("dex") == asked[0]
    assert runs.request("dex", "full", day="2026-10-25") == ("", False)
    assert runs.request("dex", "full", day="2026-10-24") == ("", False), "a worker that was late with an earlier day"
    assert (runs.waiting("dex"), runs.history("dex")) == (None, asked)
    assert runs.request("dax", "full", day="2026-10-25")[1], "each account has its own days"

    following, new = runs.request("dex", "full")
    assert new, "a run that a person asks for has nothing to do with days"
    assert runs.request("dex", "full", day="2026-10-26") == (following, False), "folded into the run that waits"
    assert runs.request("dex", "full", day="2026-10-26") == ("", False)


def test_accounts_do_not_wait_for_each_other(runs: Runs) -> None:
    assert begun(runs, "dex") != begun(runs, "dax")


def test_a_plan_is_never_folded_into_a_run_that_writes(runs: Runs) -> None:
    writing, _ = runs.request("dex", "full")
    assert runs.request("dex", "full", plan_only=True) == ("", False)
    assert runs.get(writing).plan_only is False  # type: ignore[union-attr]


def test_a_run_that_writes_takes_the_place_of_a_plan_that_waits(runs: Runs) -> None:
    plan, _ = runs.request("dex", "full", plan_only=True)
    writing, _ = runs.request("dex", "full")
    assert writing != plan
    assert runs.state(plan) == "cancelled"


def test_a_time_that_redis_7_2_stored_with_an_exponent_is_read(runs: Runs, client: redis.Redis) -> None:
    run = begun(runs)
    client.hset(runs.key(run), "started_ms", "1.7643e+12")
    found = runs.get(run)
    assert found is not None
    assert found.started_ms == 1_764_300_000_000


def test_history_is_newest_first(runs: Runs) -> None:
    names = []
    for _ in range(3):
        run = begun(runs)
        names.append(run)
        runs.end(runs.get(run), "done")  # type: ignore[arg-type]
    assert runs.history("dex") == names[::-1]
    assert runs.history("dex", 1) == names[-1:]


# -- parts ---------------------------------------------------------------------------------------------------------


def test_a_part_is_claimed_by_one_token_and_closed_once(runs: Runs) -> None:
    run = begun(runs)
    assert runs.parts.claim(run, "first", 0, "me", lease_seconds=60)[:2] == ("claimed", 1)
    assert runs.parts.claim(run, "first", 0, "you", lease_seconds=60).state == "busy"
    assert runs.parts.claim(run, "first", 0, "me", lease_seconds=60)[:2] == ("claimed", 1), "the same message again"
    assert not runs.parts.close(run, "first", 0, "you", {}), "fenced"
    assert runs.parts.close(run, "first", 0, "me", {"rows": 3})
    assert not runs.parts.close(run, "first", 0, "me", {"rows": 3})
    assert runs.parts.claim(run, "first", 0, "you", lease_seconds=60).state == "closed"
    assert runs.parts.results(run, "first") == [{"rows": 3}]
    assert runs.parts.stage(run, "first") == (1, 0, 1, 0)


def test_an_expired_lease_may_be_taken_over_and_its_old_holder_is_fenced(runs: Runs) -> None:
    run = begun(runs)
    runs.parts.claim(run, "first", 0, "dead", lease_seconds=-1)
    assert runs.parts.claim(run, "first", 0, "alive", lease_seconds=60)[:2] == ("claimed", 2)
    assert not runs.parts.close(run, "first", 0, "dead", {})
    assert runs.parts.close(run, "first", 0, "alive", {})


def test_a_released_claim_is_open_at_once_and_may_not_count(runs: Runs) -> None:
    run = begun(runs)
    runs.parts.claim(run, "first", 0, "a", lease_seconds=60)
    assert runs.parts.release(run, "first", 0, "a", counted=True) == 1
    assert runs.parts.claim(run, "first", 0, "b", lease_seconds=60)[:2] == ("claimed", 2)
    assert runs.parts.release(run, "first", 0, "b", counted=False) == 1
    assert runs.parts.claim(run, "first", 0, "c", lease_seconds=60)[:2] == ("claimed", 2)


def test_a_part_leaves_its_records_in_the_step_that_closes_it(runs: Runs, client: redis.Redis) -> None:
    run, key = begun(runs), "okasie:run:{}:data:remote:1"
    runs.parts.window(run, "first", size=1, when_open=0)
    runs.parts.claim(run, "first", 0, "alive")
    records = Records(7, {"remote:1": ["A"], "ids": b"12345678"}, Noted("okasie:pages:dex", "3", b"noted"))
    assert not runs.parts.close(run, "first", 0, "dead", {}, records=records)
    assert not client.exists(key.format(run), "okasie:pages:dex"), "a worker that lost its claim stores none"
    assert runs.parts.close(run, "first", 0, "alive", {}, records=records)
    assert runs.data.fetch_one(run, "remote:1", 7, list) == ["A"]
    assert runs.data.fetch_one(run, "ids", 7, bytes) == b"12345678"
    assert client.hget("okasie:pages:dex", "3") == b"noted"
    runs.data.clear(run)
    assert not client.exists(key.format(run))


def test_records_are_kept_for_a_day_after_the_last_of_them(runs: Runs, client: redis.Redis) -> None:
    run, day = begun(runs), KEEP_PARTS_SECONDS // 2
    runs.parts.prepare(run, "first", 3)
    runs.parts.window(run, "first", size=3, when_open=0)
    lefts = []
    for part, left in enumerate((0, day + 60, day - 60)):
        if left:
            client.expire(f"okasie:run:{run}:data:ids", left)
        runs.parts.claim(run, "first", part, "a")
        runs.parts.close(run, "first", part, "a", {}, records=Records(part, {"ids": b""}))
        lefts.append(client.ttl(f"okasie:run:{run}:data:ids"))
    assert [left > day + 60 for left in lefts] == [True, False, True]
    assert min(lefts) >= day


def test_a_failed_part_is_closed_and_counted(runs: Runs) -> None:
    run = begun(runs)
    runs.parts.claim(run, "first", 0, "a", lease_seconds=60)
    assert runs.parts.close(run, "first", 0, "a", {}, failed=True)
    assert runs.parts.stage(run, "first").failed == 1


def test_parts_of_another_phase_cannot_be_claimed(runs: Runs) -> None:
    run = begun(runs)
    assert runs.parts.claim(run, "walk", 0, "a", lease_seconds=60).state == "ended"


# -- stages --------------------------------------------------------------------------------------------------------


def test_windows_hand_each_part_out_once(runs: Runs) -> None:
    run = begun(runs)
    runs.advance(run, "first", "walk", parts=25)
    assert runs.parts.window(run, "walk", size=10, when_open=3) == range(10)
    assert runs.parts.window(run, "walk", size=10, when_open=3) == range(0), "ten are still open"
    for part in range(7):
        runs.parts.claim(run, "walk", part, "a", lease_seconds=60)
        runs.parts.close(run, "walk", part, "a", {})
    assert runs.parts.window(run, "walk", size=10, when_open=3) == range(10, 20)
    assert runs.parts.open_parts(run, "walk") == list(range(7, 20))


def test_a_part_that_was_claimed_does_not_wait_for_its_first_permit(runs: Runs) -> None:
    run = begun(runs)
    runs.advance(run, "first", "apply", parts=0)
    assert runs.parts.unclaimed(run, "sell") == 0
    runs.parts.prepare(run, "sell", 12)
    runs.parts.window(run, "sell", size=10, when_open=0)
    assert runs.parts.unclaimed(run, "sell") == 10
    for part in range(3):
        runs.parts.claim(run, "sell", part, "a", lease_seconds=60)
    runs.parts.close(run, "sell", 0, "a", {})
    runs.parts.release(run, "sell", 1, "a", counted=True)
    assert runs.parts.unclaimed(run, "sell") == 7


def test_exactly_one_caller_moves_a_run_on(runs: Runs) -> None:
    run = begun(runs)
    assert runs.advance(run, "first", "load", parts=2, facts={"pages": 1})
    assert not runs.advance(run, "first", "load", parts=2)
    record = runs.get(run)
    assert record is not None
    assert (record.stage, record.fact("pages")) == ("load", 1)


def test_a_part_is_taken_and_claimed_in_one_step(runs: Runs, client: redis.Redis) -> None:
    run = begun(runs)
    runs.advance(run, "first", "walk", parts=4)
    runs.parts.window(run, "walk", size=1, when_open=0)
    number, claim = runs.parts.claim_next(run, "walk", "me/1", most_open=2)
    assert (number, claim) == (1, Claim("claimed", 1, runs.get(run)))
    assert runs.parts.claim_next(run, "walk", "you/1", most_open=2) == (-1, Claim("none", 0)), "two are open"
    assert runs.parts.claim(run, "walk", 1, "you/1").state == "busy"
    assert runs.parts.claim(run, "walk", 1, "me/1") == Claim("claimed", 1, runs.get(run)), "the same attempt"
    assert runs.parts.claimed_by(run, "walk", "me") == [1]
    assert runs.parts.close(run, "walk", 1, "me/1", {}, when_open=0)
    client.set("okasie:account:dex:paused", "1")
    assert runs.parts.claim_next(run, "walk", "me/1", most_open=2) == (-1, Claim("paused", 0))
    client.delete("okasie:account:dex:paused")
    assert [runs.parts.claim_next(run, "walk", "me/1", most_open=9)[0] for _ in range(3)] == [2, 3, -1]
    assert runs.parts.stage(run, "walk").published == 4
    assert runs.parts.claim_next(run, "load", "me/1", most_open=9) == (-1, Claim("ended", 0)), (
        "the run is in another phase"
    )


def test_an_extension_is_added_once(runs: Runs) -> None:
    run = begun(runs)
    assert runs.parts.extend(run, "first", "token", 2) == 1
    assert runs.parts.extend(run, "first", "token", 2) == 1
    assert runs.parts.stage(run, "first").total == 3


def test_an_extension_says_what_it_is_at_the_same_moment(runs: Runs) -> None:
    run = begun(runs)
    for told in ("[{first}, 9]", "later"):
        runs.parts.extend(run, "first", "token", 2, fact=("rounds", told))
    record = runs.get(run)
    assert record is not None
    assert record.facts["rounds"] == "[1, 9]"


def test_parts_are_added_with_what_they_work_on_and_once(runs: Runs, client: redis.Redis) -> None:
    run = begun(runs)
    assert runs.parts.add(run, "first", "token", "chunks", [["a"], ["b"]]) == 1
    assert runs.parts.add(run, "first", "token", "chunks", [["c"], ["d"]]) == 1
    assert runs.parts.add(run, "first", "other", "chunks", [["e"]]) == 3
    assert runs.parts.add(run, "first", "none", "chunks", []) == 4
    assert runs.parts.stage(run, "first").total == 4
    assert [runs.data.fetch_one(run, "chunks", part, list[str]) for part in (1, 2, 3)] == [["a"], ["b"], ["e"]]
    assert sorted(client.hkeys(f"okasie:run:{run}:data:chunks")) == [b"1", b"2", b"3"]


def test_what_is_left_over_is_that_of_the_parts_that_were_added(runs: Runs, client: redis.Redis) -> None:
    run = begun(runs)
    runs.parts.add(run, "first", "token", "chunks", [["a"]], rest=("rest", 1, ["b"]))
    runs.parts.add(run, "first", "token", "chunks", [["b"]], rest=("rest", 1, []))
    assert runs.data.fetch_one(run, "chunks", 1, list[str]) == ["a"]
    assert runs.data.fetch_one(run, "rest", 1, list[str]) == ["b"], "else b would be sent by nobody"
    assert client.ttl(f"okasie:run:{run}:data:rest") > 0
    runs.data.clear(run)
    assert not runs.data.has(run, "rest")


# -- the end -------------------------------------------------------------------------------------------------------


def test_the_cursor_moves_with_the_run_that_read_it_and_never_after_its_end(runs: Runs) -> None:
    run = begun(runs)
    record = runs.get(run)
    assert record is not None
    runs.end(record, "done", cursor="2026-01-01T00:00:00Z", account_facts={"rows": "5"})
    assert (runs.account("dex").cursor, runs.account("dex").rows) == ("2026-01-01T00:00:00Z", 5)
    runs.end(record, "done", cursor="2027-01-01T00:00:00Z")
    assert runs.account("dex").cursor == "2026-01-01T00:00:00Z"


def test_a_run_that_began_before_the_cursor_moved_does_not_move_it_back(runs: Runs, client: redis.Redis) -> None:
    late = begun(runs)
    record = runs.get(late)
    assert record is not None
    client.hset("okasie:account:dex", mapping={"cursor": "2026-05-05T00:00:00Z", "generation": "7"})
    runs.end(record, "done", cursor="2026-01-01T00:00:00Z")
    assert runs.account("dex").cursor == "2026-05-05T00:00:00Z"


def test_a_failed_run_leaves_the_cursor(runs: Runs) -> None:
    record = runs.get(begun(runs))
    assert record is not None
    runs.end(record, "failed")
    assert runs.account("dex").cursor == ""
    assert runs.active("dex") is None


def test_a_ledger_is_bound_to_the_first_marketplace_it_met(runs: Runs) -> None:
    assert runs.bind("dex", "https://one") == "https://one"
    assert runs.bind("dex", "https://two") == "https://one"
    assert runs.bind("dax", "https://two") == "https://two"


def test_the_first_error_is_kept(runs: Runs) -> None:
    run = begun(runs)
    runs.note_once(run, "error", "cause")
    runs.note_once(run, "error", "consequence")
    assert runs.get(run).facts["error"] == "cause"  # type: ignore[union-attr]


def test_every_key_stands_under_the_prefix(client: redis.Redis) -> None:
    runs = Runs(client, prefix="garage:")
    run = begun(runs)
    runs.data.put(run, "chunks", 0, [1, 2])
    assert runs.data.fetch_one(run, "chunks", 0, list[int]) == [1, 2]
    assert all(key.startswith(b"garage:") for key in client.scan_iter())
    runs.data.put(run, "chunks", 1, [3])
    runs.data.drop(run, "chunks", 0)
    assert runs.data.fetch_one(run, "chunks", 1, list[int]) == [3]
    assert runs.data.fetch_one(run, "chunks", 0, list[int]) is None


def test_what_a_run_kept_is_cleared_at_its_end_except_what_is_still_to_be_read(runs: Runs, client: redis.Redis) -> None:
    run = begun(runs)
    for place in ("local:0", "sends:0", "sends:12", "sells"):
        runs.data.put(run, place, 0, [])
    runs.data.clear(run, but=("sends:", "sells"))
    left = {key.decode().split(":data:")[1] for key in client.scan_iter("*:data:*")}
    assert left == {"sends:0", "sends:12", "sells"}
    runs.data.clear(run)
    assert list(client.scan_iter("*:data:*")) == []


def test_a_run_of_its_own_making_expires(runs: Runs, client: redis.Redis) -> None:
    run = begun(runs)
    runs.parts.claim(run, "first", 0, "a", lease_seconds=60)
    runs.parts.close(run, "first", 0, "a", {})
    runs.data.put(run, "chunks", 0, [])
    runs.advance(run, "first", "walk", parts=1)
    runs.end(runs.get(run), "done")  # type: ignore[arg-type]
    left = [key for key in client.scan_iter(f"okasie:run:{run}*") if client.ttl(key) < 0]
    assert left == [], "what no run needs any more must not fill Redis"
