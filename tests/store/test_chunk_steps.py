"""The steps around a bulk call: what one trip to Redis reads, and what the other stores."""

from __future__ import annotations

from typing import Any

import pytest
import redis

from okasie_tasks.core.history import Event
from okasie_tasks.core.ledger_entry import Entry
from okasie_tasks.core.pending import PendingChange
from okasie_tasks.core.records import SkippedImages
from okasie_tasks.errors import ListingLocked
from okasie_tasks.store.chunk_steps import ChunkSteps
from okasie_tasks.store.history import History
from okasie_tasks.store.ledger import Ledger
from okasie_tasks.store.runs import Runs
from okasie_tasks.store.urgent_queue import UrgentQueue
from okasie_tasks.store.write_locks import WriteLocks

REFERENCES = ["A", "B", "é C"]


class Account:
    """One account, and a run whose first part is claimed."""

    def __init__(self, client: redis.Redis) -> None:
        known: dict[str, Any] = {"prefix": "okasie:", "account": "dex"}
        self.runs, self.ledger = Runs(client, prefix="okasie:"), Ledger(client, **known)
        self.queue, self.history = UrgentQueue(client, **known), History(client, **known)
        self.locks = WriteLocks(client, **known)
        self.steps = ChunkSteps(
            client, parts=self.runs.parts, ledger=self.ledger, locks=self.locks, urgent_queue=self.queue,
            history=self.history,
        )  # fmt: skip
        self.runs.request("dex", "full")
        self.part = (self.runs.begin("dex") or "", "first", 0, "me/1")
        assert self.runs.parts.claim(*self.part).state == "claimed"


@pytest.fixture
def account(client: redis.Redis) -> Account:
    return Account(client)


def test_one_trip_locks_and_reads_all_that_is_known(account: Account, client: redis.Redis) -> None:
    entry, change = (
        Entry(status="active", sent_ms=5),
        PendingChange("B", own=1, seen_ms=2, waiters=("p",), status="sold"),
    )
    images = SkippedImages(reference="é C", content="00", images=[], count=1, tries=1, next_try=0, given_up=False)
    account.ledger.swap([("A", None, entry)])
    account.queue.put([change])
    account.ledger.keep_skipped([images])
    calls = client.info("commandstats").get("cmdstat_evalsha", {}).get("calls", 0)
    with account.steps.locked(*account.part, REFERENCES) as before:
        assert client.info("commandstats")["cmdstat_evalsha"]["calls"] - calls <= 2, "once more if the script was new"
        assert (set(before.locks), before.is_claimed) == (set(REFERENCES), True)
        assert before.entries == {"A": entry}
        assert list(before.changes) == ["B"]
        assert before.skipped == {"é C": images}
        with pytest.raises(ListingLocked), account.steps.locked(*account.part, ["A"]):
            pytest.fail("it is being written")
    with account.locks.all(REFERENCES):
        pass


def test_a_lost_claim_is_seen_with_the_locks(account: Account) -> None:
    run, stage, number, _ = account.part
    with account.steps.locked(run, stage, number, "another/1", REFERENCES) as before:
        assert not before.is_claimed


def test_a_chunk_of_which_one_listing_is_being_written_holds_none(account: Account) -> None:
    with account.locks.all(["B"]), pytest.raises(ListingLocked), account.steps.locked(*account.part, REFERENCES):
        pytest.fail("one of them is locked")
    with account.locks.all(REFERENCES):
        pass


def test_one_trip_stores_what_an_answer_settles(account: Account, client: redis.Redis) -> None:
    entry, theirs = Entry(status="active", sent_ms=5), Entry(status="sold", sent_ms=9)
    account.ledger.swap([("B", None, theirs)])
    client.sadd("okasie:creates:dex", "A", "B")
    event = Event(1_800_000_000_000, "created", "new in the source")
    account.steps.settle(
        [("A", None, entry), ("B", None, entry)],
        [("A", event, b"snapshot")],
        [*account.ledger.forget_creates_commands(["A"]), account.runs.accepted_command("dex", 7)],
    )
    assert account.ledger.get(["A", "B"]) == {"A": entry, "B": theirs}, "B was changed since it was read"
    assert account.history.get("A", now_ms=event.at_ms) == [event]
    assert client.smembers("okasie:creates:dex") == {b"B"}
    assert account.runs.accepted_since("dex", 7)


def test_nothing_to_store_is_no_error(account: Account) -> None:
    account.steps.settle([], [], [])
