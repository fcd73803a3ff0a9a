"""A feed that is written in place while a run reads it: no car is sold that the complete feed has.

Time is stepped: each wait that a part asks for moves the clocks of Redis and of the feed's file system.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from okasie_tasks.reports.runs import run_document
from okasie_tasks.services import current_run
from okasie_tasks.sources import csv_format, files
from okasie_tasks.store.runs import Runs
from okasie_tasks.sync import confirm
from tests.sync.driver import finish
from tests.sync.http_scenario import ACCOUNT, HttpScenario, varied

_ROWS = 40
_BLOCK = 10


class Writer:
    """The program that writes the feed, in place. ``steps``: what it does at each wait, the last one again and again."""

    def __init__(self, feed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.feed, self.ahead, self.waits = feed, 0.0, 0
        self.steps: list[Callable[[], None]] = []
        now_ms, now_ns = Runs.now_ms, files._now_ns
        monkeypatch.setattr(Runs, "now_ms", lambda runs: now_ms(runs) + int(self.ahead * 1000))
        monkeypatch.setattr(files, "_now_ns", lambda folder: now_ns(folder) + int(self.ahead * 1e9))

    def write(self, text: str) -> None:
        """Replace the content, not the file."""
        with self.feed.open("r+", encoding="utf-8") as file:
            file.truncate()
            file.write(text)
        moment = files._now_ns(self.feed.parent)
        os.utime(self.feed, ns=(moment, moment))

    def wait(self, seconds: float) -> None:
        self.ahead += seconds
        self.waits += 1
        if self.steps:
            (self.steps[0] if len(self.steps) == 1 else self.steps.pop(0))()


@pytest.fixture
def scenario(tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[HttpScenario]:
    monkeypatch.setattr(csv_format, "BLOCK_ROWS", _BLOCK)
    with HttpScenario(tmp_path, redis_url, rows=varied(_ROWS, seed=1)) as scenario:
        scenario.good_run()
        yield scenario


@pytest.fixture
def writer(scenario: HttpScenario, monkeypatch: pytest.MonkeyPatch) -> Writer:
    return Writer(scenario.folder / "feed.csv", monkeypatch)


def run(scenario: HttpScenario, writer: Writer, **ask: Any) -> dict[str, Any]:
    asked, _ = scenario.ctx.runs.request(ACCOUNT, "full", **ask)
    assert scenario.ctx.runs.begin(ACCOUNT) == asked
    token = current_run.set(asked)
    try:
        return run_document(scenario.ctx.runs, finish(scenario.ctx, asked, wait=writer.wait))
    finally:
        current_run.reset(token)


def parts_of(feed: Path) -> tuple[str, str]:
    """The whole feed, and its first half."""
    lines = feed.read_text(encoding="utf-8").splitlines(keepends=True)
    return "".join(lines), "".join(lines[: _ROWS // 2])


def test_a_feed_that_is_half_written_is_read_when_it_is_complete(scenario: HttpScenario, writer: Writer) -> None:
    whole, half = parts_of(writer.feed)
    writer.write(half)
    writer.steps = [lambda: writer.write(half), lambda: writer.write(whole), lambda: None]
    document = run(scenario, writer)
    assert (document["state"], document["error"]) == ("done", None)
    assert (document["listings"]["local"], document["listings"]["sold"]) == (_ROWS, 0)
    assert len(scenario.standing()) == _ROWS
    assert document["requests"]["rate_limited"] == 0


@pytest.mark.parametrize("at_row", [0, 1, _BLOCK, 2 * _BLOCK + 3])
def test_a_feed_that_changes_between_or_within_blocks_is_read_again(
    scenario: HttpScenario, writer: Writer, monkeypatch: pytest.MonkeyPatch, at_row: int
) -> None:
    whole, half = parts_of(writer.feed)
    writer.steps = [lambda: writer.write(whole.replace("zwart", "wit")), lambda: None]
    blocks, changed = files.FileSource.blocks, []

    def watched(source: files.FileSource) -> Iterator[Any]:
        for block in blocks(source):
            if block.first + block.rows > at_row and not changed:
                changed.append(writer.write(half))
            yield block

    monkeypatch.setattr(files.FileSource, "blocks", watched)
    document = run(scenario, writer)
    assert (changed, document["state"], document["error"]) == ([None], "done", None)
    assert (document["listings"]["local"], document["listings"]["sold"]) == (_ROWS, 0)
    repainted = sum("zwart" in row["colour"] for row in scenario.rows)
    assert (document["listings"]["updated"], document["listings"]["rejected"]) == (repainted, 0)


def test_sells_wait_for_a_feed_that_is_never_finished_and_updates_go_out(
    scenario: HttpScenario, writer: Writer
) -> None:
    scenario.rows[0]["price_eur"] = "7777"
    scenario._write_feed()
    _, half = parts_of(writer.feed)
    writer.write(half)
    writer.steps = [lambda: writer.write(half)]
    plan = run(scenario, writer, plan_only=True)
    document = run(scenario, writer)
    assert writer.ahead < 2 * 65
    for told in (plan, document):
        assert told["error"]["code"] == "unsettled"
        assert "60 s" in told["error"]["message"]
    assert (document["state"], document["listings"]["sold"], document["listings"]["updated"]) == ("partial", 0, 1)
    assert len(scenario.standing()) == _ROWS
    writer.ahead += 10
    assert run(scenario, writer)["listings"]["sold"] == _ROWS - len(half.splitlines()) + 1


def test_a_row_that_is_half_written_after_a_minute_is_not_sent(scenario: HttpScenario, writer: Writer) -> None:
    whole, _ = parts_of(writer.feed)
    writer.write(whole[:-20])
    writer.steps = [lambda: writer.write(whole[:-20])]
    document = run(scenario, writer)
    assert (document["state"], document["error"]["code"]) == ("failed", "cut")


def test_a_feed_that_changes_during_every_read_fails_the_run(
    scenario: HttpScenario, writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, half = parts_of(writer.feed)
    blocks = files.FileSource.blocks

    def watched(source: files.FileSource) -> Iterator[Any]:
        yield from blocks(source)
        writer.write(half)

    monkeypatch.setattr(files.FileSource, "blocks", watched)
    document = run(scenario, writer)
    assert (document["state"], document["error"]["code"]) == ("failed", "changed")
    assert len(scenario.standing()) == len(whole.splitlines()) - 1


def test_a_renamed_feed_is_read_at_once(scenario: HttpScenario, writer: Writer) -> None:
    gone = scenario.rows.pop()
    scenario._write_feed()
    moment = files._now_ns(scenario.folder) - 500_000_000
    os.utime(writer.feed, ns=(moment, moment))
    document = run(scenario, writer)
    assert (document["listings"]["sold"], writer.waits) == (1, 0)
    scenario.rows.append(gone)
    scenario._write_feed()
    whole, _ = parts_of(writer.feed)
    run(scenario, writer)
    writer.write(whole.replace("zwart", "wit"))
    run(scenario, writer)
    assert writer.waits, "the same file is as young"


def test_a_feed_from_the_future_is_read_once_it_stands(scenario: HttpScenario, writer: Writer) -> None:
    """The clock of the machine that wrote it is ahead."""
    moment = files._now_ns(scenario.folder) + int(3600e9)
    os.utime(writer.feed, ns=(moment, moment))
    document = run(scenario, writer)
    assert (document["state"], document["error"]) == ("done", None)
    assert 2 <= writer.ahead < 10


# -- before the first sell -----------------------------------------------------------------------------------------


def before_sells(monkeypatch: pytest.MonkeyPatch, change: Callable[[], None]) -> None:
    """Call ``change`` when the plan has been made."""
    prepare = confirm.prepare

    def changed(*args: Any) -> None:
        prepare(*args)
        change()

    monkeypatch.setattr(confirm, "prepare", changed)


def test_a_car_that_is_back_before_the_first_sell_is_not_sold(
    scenario: HttpScenario, writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = [scenario.rows.pop() for _ in range(3)]
    scenario._write_feed()

    def back() -> None:
        scenario.rows += gone[:2]
        scenario._write_feed()

    before_sells(monkeypatch, back)
    document = run(scenario, writer)
    assert (document["state"], document["listings"]["sold"]) == ("done", 1)
    assert len(scenario.standing()) == _ROWS - 1
    monkeypatch.undo()
    assert scenario.good_run()["listings"]["unchanged"] == _ROWS - 1


@pytest.mark.parametrize("finishes", [True, False])
def test_sells_wait_while_the_feed_is_written_again(
    scenario: HttpScenario, writer: Writer, monkeypatch: pytest.MonkeyPatch, finishes: bool
) -> None:
    scenario.rows.pop()
    scenario._write_feed()
    whole, half = parts_of(writer.feed)
    before_sells(monkeypatch, lambda: writer.write(half))
    writer.steps = [lambda: writer.write(half), lambda: writer.write(whole if finishes else half)]
    if finishes:
        writer.steps.append(lambda: None)
    document = run(scenario, writer)
    code = (document["error"] or {}).get("code")
    assert (document["state"], code) == (("done", None) if finishes else ("partial", "unsettled"))
    assert document["listings"]["sold"] == int(finishes)


def test_sells_wait_when_the_feed_cannot_be_read_again(
    scenario: HttpScenario, writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    scenario.rows.pop()
    scenario._write_feed()
    before_sells(monkeypatch, writer.feed.unlink)
    document = run(scenario, writer)
    assert (document["state"], document["error"]["code"]) == ("partial", "source_missing")
    assert "1 sells wait" in document["error"]["message"]
    assert len(scenario.standing()) == _ROWS
