"""State of an older layout gets this release's, once, when no worker of the older release runs any more."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from itertools import chain, repeat
from typing import Any

import pytest
import redis

from okasie_tasks.core.ledger_entry import Entry, Flag
from okasie_tasks.core.records import bucket_of
from okasie_tasks.errors import ConfigurationError
from okasie_tasks.store import migrations
from okasie_tasks.store.layout import LAYOUT, check_layout
from okasie_tasks.store.ledger import Ledger
from okasie_tasks.store.runs import Runs

ENTRY = Entry(
    content=b"content.", rendering=b"renderin", row=b"row.....", dealer=b"deal", filled=7, status="active",
    flags=Flag.OWNED | Flag.IN_SOURCE, missed=1, sent_ms=2**41 + 5, changed_at=1_700_000_000, version=3, seen_ms=2**41,
)  # fmt: skip


def of_layout_2(entry: Entry, *, price_byte: bool = False) -> bytes:
    """As releases with layout 2 packed it: without the last byte, but for some between two releases."""
    packed = b"\2" + entry.pack()[1:]
    return packed if price_byte else packed[:-1]


@pytest.fixture
def old(client: redis.Redis) -> redis.Redis:
    """The state of an account in layout 2, with an active run."""
    runs = Runs(client, prefix="okasie:")
    runs.request("dex", "full")
    runs.begin("dex")
    client.hset("okasie:account:dex", "cursor", "2026-11-01T00:00:00Z")
    for number in range(600):
        reference = f"DG-{number}"
        packed = of_layout_2(ENTRY.replace(version=number), price_byte=number % 2 == 1)
        client.hset(f"okasie:ledger:dex:{bucket_of(reference)}", reference, packed)
    for cache in ("rows", "pages", "touched"):
        client.hset(f"okasie:{cache}:dex", "0", b"cached")
    client.set("okasie:layout", "2")
    return client


def prepare(client: redis.Redis, older: Callable[[], list[str]] = list, **more: Any) -> None:
    migrations.prepare(client, prefix="okasie:", accounts=["dex"], older_workers=older, **more)


def assert_migrated(client: redis.Redis) -> None:
    assert client.get("okasie:layout") == str(LAYOUT).encode()
    ledger = Ledger(client, prefix="okasie:", account="dex")
    names = [f"DG-{number}" for number in range(600)]
    assert ledger.get(names) == {f"DG-{number}": ENTRY.replace(version=number) for number in range(600)}
    assert not client.exists("okasie:rows:dex", "okasie:pages:dex", "okasie:touched:dex")


def test_every_older_layout_has_a_step() -> None:
    assert sorted(migrations.STEPS) == list(range(2, LAYOUT))


def test_entries_of_layout_2_are_read_as_they_were_written(old: redis.Redis) -> None:
    prepare(old)
    assert_migrated(old)
    check_layout(old, prefix="okasie:", accounts=["dex"])


def test_an_active_run_is_replaced_by_another_of_its_mode(old: redis.Redis) -> None:
    runs = Runs(old, prefix="okasie:")
    (before,) = runs.history("dex")
    prepare(old)
    record, waiting = runs.get(before), runs.get(runs.waiting("dex") or "")
    assert record is not None and waiting is not None
    assert (record.state, json.loads(record.facts["error"])["code"]) == ("cancelled", "upgraded")
    assert (waiting.mode, runs.active("dex"), runs.account("dex").cursor) == ("full", None, "2026-11-01T00:00:00Z")


def test_a_migration_that_died_is_repeated(old: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    for after in (1, 2, 300):
        step = migrations.STEPS[2]

        def dies(client: redis.Redis, prefix: str, after: int = after, step: Any = step) -> Any:
            for number, done in enumerate(step(client, prefix)):
                if number == after:
                    raise redis.ConnectionError("killed")
                yield done

        with monkeypatch.context() as patch:
            patch.setitem(migrations.STEPS, 2, dies)
            with pytest.raises(redis.ConnectionError):
                prepare(old)
        assert old.get("okasie:layout") == b"2>3"
        with pytest.raises(ConfigurationError, match="workers of this release migrate it"):
            check_layout(old, prefix="okasie:", accounts=["dex"])
    prepare(old)
    assert_migrated(old)


def test_several_workers_that_start_together_migrate_once(old: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[str] = []
    step = migrations.STEPS[2]
    monkeypatch.setitem(migrations.STEPS, 2, lambda client, prefix: [steps.append(prefix), *step(client, prefix)])
    start, errors = threading.Barrier(5), list[BaseException]()

    def work() -> None:
        start.wait()
        try:
            prepare(old, pause=threading.Event().wait)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert (errors, steps) == ([], ["okasie:"])
    assert_migrated(old)


def test_nothing_changes_while_a_worker_of_the_older_release_runs(old: redis.Redis) -> None:
    """The third answer names one that started after the second."""
    answers = chain([["api@old"], [], ["api@old"]], repeat([]))
    layouts: list[bytes | None] = []
    waits: list[list[str]] = []
    prepare(old, lambda: next(answers), waits=waits.append, pause=lambda _: layouts.append(old.get("okasie:layout")))
    assert layouts == [b"2", b"2"]
    assert waits[:2] == [["api@old"], ["api@old"]]
    assert len(waits) > 2, "a step shows that it goes on"
    assert not any(waits[2:])
    assert_migrated(old)


def test_a_worker_gives_up_when_older_ones_never_stop(old: redis.Redis) -> None:
    clock = iter(range(0, 100_000, 100))
    with pytest.raises(ConfigurationError, match=r"workers of the older release still run \(api@old\): stop them"):
        prepare(old, lambda: ["api@old"], pause=lambda _: None, clock=lambda: float(next(clock)))
    assert old.get("okasie:layout") == b"2"


@pytest.mark.parametrize("newer", [f"{LAYOUT + 1}", "11", f"{LAYOUT + 1}>{LAYOUT + 2}", "x"])
def test_newer_state_is_refused_and_left_alone(old: redis.Redis, newer: str) -> None:
    old.set("okasie:layout", newer)
    message = rf"which is newer than this release \(layout {LAYOUT}\): upgrade this process"
    with pytest.raises(ConfigurationError, match=message):
        prepare(old)
    assert old.get("okasie:layout") == newer.encode()


def test_a_prefix_with_characters_of_a_pattern_is_meant_literally(client: redis.Redis) -> None:
    for prefix in ("a[b]*:", "axx:"):
        client.set(f"{prefix}layout", "2")
        client.hset(f"{prefix}ledger:dex:1", "A", of_layout_2(ENTRY))
    migrations.prepare(client, prefix="a[b]*:", accounts=[], older_workers=list)
    assert client.hget("a[b]*:ledger:dex:1", "A") == ENTRY.pack()
    assert client.hget("axx:ledger:dex:1", "A") == of_layout_2(ENTRY)
