"""A run reads its source exactly once, whatever kind it is, and works on that read to its end."""

from __future__ import annotations

import csv
import json
import sqlite3
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from random import Random
from typing import Any

import pytest

from okasie_tasks.errors import ConfigurationError
from okasie_tasks.ports import Source
from okasie_tasks.settings import FeedSettings
from okasie_tasks.sources import csv_format, files, jsonl, open_source, records, sql
from okasie_tasks.sources.mapping import RowMapping
from okasie_tasks.store import block_files
from okasie_tasks.store.blocks import Blocks
from okasie_tasks.sync import executor, phases
from okasie_tasks.sync.context import Part
from tests.sync import driver
from tests.sync.http_scenario import ACCOUNT, HttpScenario, Row, varied

_ROWS = 12
_BLOCK = 5


class Reads:
    """Counts the reads of a source, and calls ``then`` in the middle of each."""

    def __init__(self) -> None:
        self.count = 0
        self.then: Callable[[], object] = str


class Feed(BaseHTTPRequestHandler):
    """Serves a file without any validator, so that each request is a download."""

    file: Path
    reads: Reads

    def do_GET(self) -> None:
        body = self.file.read_bytes()
        self.reads.count += 1
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (csv_format, jsonl, records):
        monkeypatch.setattr(module, "BLOCK_ROWS", _BLOCK)


@pytest.fixture
def scenario(tmp_path: Path, redis_url: str) -> Iterator[HttpScenario]:
    with HttpScenario(tmp_path, redis_url, rows=varied(_ROWS, seed=1)) as scenario:
        yield scenario


def use(scenario: HttpScenario, **changes: Any) -> None:
    """Change the account's source."""
    account = scenario.services.account(ACCOUNT)
    changed = account.model_copy(update={"source": account.source.model_copy(update=changes)})
    folder = scenario.folder

    def opened() -> Source:
        return open_source(changed, cache_dir=folder / "cache", current_year=2026)

    scenario.ctx = scenario.ctx._replace(source=opened)


def as_lines(folder: Path, rows: list[Row]) -> None:
    (folder / "feed.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def as_document(folder: Path, rows: list[Row]) -> None:
    (folder / "feed.json").write_text(json.dumps(rows), encoding="utf-8")


def as_table(folder: Path, rows: list[Row]) -> None:
    columns = list(rows[0])
    with sqlite3.connect(folder / "feed.db") as connection:
        connection.execute("drop table if exists cars")
        connection.execute(f"create table cars ({', '.join(columns)})")
        marks = ", ".join("?" * len(columns))
        connection.executemany(f"insert into cars values ({marks})", [list(row.values()) for row in rows])
    connection.close()


@pytest.fixture(params=["csv", "jsonl", "json", "sql", "http"])
def reads(request: pytest.FixtureRequest, scenario: HttpScenario, monkeypatch: pytest.MonkeyPatch) -> Iterator[Reads]:
    """The scenario's source is of that kind; its reads are counted."""
    kind, reads, folder = request.param, Reads(), scenario.folder
    writers: dict[str, Callable[[Path, list[Row]], None]] = {"jsonl": as_lines, "json": as_document, "sql": as_table}
    if kind in writers:
        write = scenario._write_feed

        def both() -> None:
            write()
            with (folder / "feed.csv").open(encoding="utf-8", newline="") as file:
                writers[kind](folder, list(csv.DictReader(file, delimiter=";")))

        monkeypatch.setattr(scenario, "_write_feed", both)
    if kind == "sql":
        use(scenario, type="sql", url=f"sqlite:///{folder / 'feed.db'}", query="select * from cars")
        open_engine = sql.open_engine

        def counted(*args: Any) -> Any:
            reads.count += 1
            return open_engine(*args)

        monkeypatch.setattr(sql, "open_engine", counted)
    elif kind == "http":
        handler = type("Handler", (Feed,), {"file": folder / "feed.csv", "reads": reads})
        with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            use(scenario, url=f"http://127.0.0.1:{server.server_port}/dex.csv", settle_seconds=0)
            yield reads
            server.shutdown()
            thread.join()
        return
    else:
        use(scenario, type=kind, url=f"file://{folder / f'feed.{kind}'}", settle_seconds=0)
        opens = files.FileSource._open

        def opened(source: files.FileSource) -> Any:
            reads.count += 1
            return opens(source)

        monkeypatch.setattr(files.FileSource, "_open", opened)
    yield reads


def blocks_in_redis(scenario: HttpScenario) -> list[bytes]:
    return list(scenario.services.redis.scan_iter(f"{scenario.prefix}run:*:data:*"))


def test_a_run_reads_its_source_once(scenario: HttpScenario, reads: Reads) -> None:
    assert scenario.good_run()["listings"]["created"] == _ROWS
    assert reads.count == 1, "for three blocks, each of which is loaded and spooled"
    for number in (1, 7):
        scenario.rows[number]["price_eur"] = "7777"
    document = scenario.good_run()
    assert (document["listings"]["updated"], document["listings"]["unchanged"]) == (2, _ROWS - 2)
    assert reads.count == 2
    assert {row["price"] for row in scenario.standing().values()} >= {7777}
    assert blocks_in_redis(scenario) == []


def test_what_was_compared_is_sent_whatever_happens_to_the_source(
    scenario: HttpScenario, reads: Reads, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is changed once it was read. The next run sends the change."""
    read, changed = executor.read_source, []

    def then_changed(*args: Any) -> Any:
        result = read(*args)
        if not changed:
            changed.append(1)
            scenario.rows[3]["price_eur"] = "8888"
            scenario._write_feed()
        return result

    scenario.rows[3]["price_eur"] = "7777"
    monkeypatch.setattr(executor, "read_source", then_changed)
    assert scenario.good_run()["listings"]["created"] == _ROWS
    reference = scenario.rows[3]["stock_no"]
    assert scenario.standing()[reference]["price"] == 7777
    assert scenario.good_run()["listings"]["updated"] == 1
    assert scenario.standing()[reference]["price"] == 8888


def test_the_blocks_read_so_far_are_published_during_the_read(
    scenario: HttpScenario, reads: Reads, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another worker, which has neither the file nor the server, decodes each block as soon as it is there."""
    loaded: list[tuple[int, int]] = []
    rng, elsewhere = Random(0), scenario.ctx
    (scenario.folder / "elsewhere").mkdir()

    def publish(run: str) -> None:
        for stage, parts in phases.windows(elsewhere, run, "load"):
            for number in parts:
                assert executor.perform(elsewhere, Part(run, stage, number, f"other-{number}"), rng=rng) == "quiet"
                loaded.append((number, reads.count))

    def unreachable(*_: Any) -> Any:
        raise AssertionError("a worker that decodes touches no source")

    def one(ctx: Any, part: Part, luck: Random, wait: Any) -> None:
        if part.stage == "load":
            assert part.number == 0
            executor.perform(ctx._replace(publish=publish), part, rng=luck)
        else:
            with monkeypatch.context() as patch:
                for kind in (files.FileSource, sql.SqlSource):
                    patch.setattr(kind, "blocks", unreachable)
                executor.perform(ctx, part, rng=luck)

    monkeypatch.setattr(driver, "_one", one)
    assert scenario.good_run()["listings"]["created"] == _ROWS
    assert loaded == [(1, 1), (2, 1), (3, 1)]


@pytest.mark.parametrize("dies_after", [0, 1, 2])
@pytest.mark.parametrize("decoded", [False, True])
def test_blocks_of_a_reader_that_died_are_replaced(
    scenario: HttpScenario, monkeypatch: pytest.MonkeyPatch, dies_after: int, decoded: bool
) -> None:
    """Some of them were decoded; the next reader finds another source. No row of the first read counts."""
    scenario.good_run()
    gone, new = scenario.rows[0], varied(1, seed=5, first=900)[0]
    ctx, rng, blocks = scenario.ctx, Random(0), Blocks.begin
    asked, _ = ctx.runs.request(ACCOUNT, "full")
    ctx.runs.begin(ACCOUNT)
    assert executor.perform(ctx, Part(asked, "first", 0, "first"), rng=rng) == "last"
    phases.advance(ctx, asked)
    assert phases.windows(ctx, asked, "load") == [("load", range(1))]

    class Killed(BaseException): ...

    def dying(*args: Any) -> Any:
        writer = blocks(*args)
        assert writer is not None
        add, left = writer.add, iter(range(dies_after))

        def adding(block: Any) -> bool:
            if next(left, None) is None:
                raise Killed
            return add(block)

        monkeypatch.setattr(writer, "add", adding)
        return writer

    monkeypatch.setattr(Blocks, "begin", dying)
    with pytest.raises(Killed):
        executor.perform(ctx, Part(asked, "load", 0, "dead/1"), rng=rng)
    monkeypatch.setattr(Blocks, "begin", blocks)
    total = ctx.runs.parts.stage(asked, "load").total
    assert total == 1 + dies_after
    for number in ctx.runs.parts.window(asked, "load", size=9, when_open=9) if decoded else ():
        executor.perform(ctx, Part(asked, "load", number, "other"), rng=rng)
    scenario.rows[0] = new
    scenario._write_feed()
    # The same message, delivered again.
    assert executor.perform(ctx, Part(asked, "load", 0, "dead/2"), rng=rng) in ("closed", "quiet")
    run = driver.finish(ctx, asked)
    assert (run.state, run.fact("rows"), run.fact("load_first")) == ("done", _ROWS, total)
    standing = scenario.standing()
    assert (gone["stock_no"] in standing, new["stock_no"] in standing, len(standing)) == (False, True, _ROWS)


def test_a_reader_that_was_stalled_adds_nothing_once_another_reads(scenario: HttpScenario) -> None:
    ctx = scenario.ctx
    scenario._write_feed()
    asked, _ = ctx.runs.request(ACCOUNT, "full")
    ctx.runs.begin(ACCOUNT)
    executor.perform(ctx, Part(asked, "first", 0, "first"), rng=Random(0))
    phases.advance(ctx, asked)
    first, *others = ctx.source().blocks()

    def claimed(token: str) -> Any:
        assert ctx.runs.parts.claim(asked, "load", 0, token, lease_seconds=0).state == "claimed"
        return ctx.runs.blocks.begin(ACCOUNT, asked, 0, token)

    stalled = claimed("a")
    assert stalled.add(first)
    second = claimed("b")
    assert not stalled.add(others[0])
    assert ctx.runs.blocks.begin(ACCOUNT, asked, 0, "a") is None
    assert second.add(first)
    assert ctx.runs.parts.stage(asked, "load").total == 3
    assert [ctx.runs.blocks.get(asked, part) for part in range(4)] == [None, None, first, None]
    stop = ctx.runs.get(asked)
    assert stop is not None
    ctx.runs.end(stop, "cancelled")
    assert not second.add(others[0]), "nothing is stored that nothing would delete"


def stored_files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_each_row_is_mapped_once(scenario: HttpScenario, monkeypatch: pytest.MonkeyPatch) -> None:
    mapped, row = list[int](), RowMapping.row

    def counted(mapping: RowMapping, raw: Any, number: int, *more: Any) -> Any:
        mapped.append(number)
        return row(mapping, raw, number, *more)

    monkeypatch.setattr(RowMapping, "row", counted)
    assert scenario.good_run()["listings"]["created"] == _ROWS
    assert sorted(mapped) == [*range(1, _ROWS + 1)]
    scenario.good_run()
    del mapped[:]
    scenario.rows[7]["price_eur"] = "7777"
    assert scenario.good_run()["listings"]["updated"] == 1
    assert mapped == [8]
    assert scenario.standing()[scenario.rows[7]["stock_no"]]["price"] == 7777


def test_bodies_that_are_not_kept_are_made_again(scenario: HttpScenario, monkeypatch: pytest.MonkeyPatch) -> None:
    scenario.good_run()
    spool, kept = executor.spool.spool, []

    def losing(ctx: Any, part: Part, run: Any, **more: Any) -> Any:
        first, second = ctx.runs.blocks.bodies(run.id, 1), ctx.runs.blocks.bodies(run.id, 2)
        kept.append([len(first), len(second)])
        ctx.runs.data.drop(run.id, "bodies", 1)
        return spool(ctx, part, run, **more)

    monkeypatch.setattr(executor.spool, "spool", losing)
    for number in (0, 1, 6):
        scenario.rows[number]["price_eur"] = f"{7000 + number}"
    scenario._write_feed()
    assert scenario.good_run()["listings"]["updated"] == 3
    assert kept == [[2, 1], [0, 1]]
    for number in (0, 1, 6):
        assert scenario.standing()[scenario.rows[number]["stock_no"]]["price"] == 7000 + number


# -- where the blocks are ------------------------------------------------------------------------------------------


def limited(scenario: HttpScenario, store: str, most_bytes: float) -> Blocks:
    """Let a run's blocks take at most so many bytes in Redis."""
    blocks = scenario.ctx.runs.blocks
    blocks._feeds = FeedSettings(store=store, max_redis_mb=most_bytes / 1e6)
    return blocks


@pytest.mark.parametrize("store", ["folder", "file", "memory"])
@pytest.mark.parametrize("most", [0, 1_500])
def test_what_exceeds_the_limit_goes_to_the_store_and_is_deleted_with_the_run(
    scenario: HttpScenario, monkeypatch: pytest.MonkeyPatch, store: str, most: int
) -> None:
    folder = scenario.folder / "blocks"
    url = {"folder": str(folder), "file": f"file://{folder}", "memory": f"memory://{folder.name}"}[store]
    limited(scenario, url, most)
    files = block_files.open_files(url)
    account = f"{scenario.prefix.strip(':')}/{ACCOUNT}"
    files.put(f"{account}/01LEFTOVER/a-1", b"of a run whose worker died at its end")
    seen, spool = list[tuple[list[str], int]](), executor.spool.spool

    def looking(ctx: Any, part: Part, run: Any, **more: Any) -> Any:
        stored = scenario.services.redis.hgetall(scenario.ctx.runs.key(run.id, "data", "blocks"))
        seen.append((files.folders(account), sum(map(len, stored.values()))))
        assert run.id in seen[-1][0]
        return spool(ctx, part, run, **more)

    monkeypatch.setattr(executor.spool, "spool", looking)
    assert scenario.good_run()["listings"]["created"] == _ROWS
    assert len(seen) == 3
    assert all(len(runs) == 1 for runs, _ in seen), "the leftover is gone"
    assert seen[0][1] <= most + 1_500, "heads and places"
    assert files.folders(account) == []


def test_the_files_of_a_read_that_is_repeated_are_deleted(
    scenario: HttpScenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    limited(scenario, str(scenario.folder / "blocks"), 0)
    use(scenario, settle_seconds=0)
    blocks, repainted, seen = files.FileSource.blocks, [], []
    spool = executor.spool.spool

    def changing(source: files.FileSource) -> Iterator[Any]:
        for block in blocks(source):
            if block.first == _BLOCK and not repainted:
                repainted.append(1)
                scenario.rows[0]["price_eur"] = "7777"
                scenario._write_feed()
            yield block

    def looking(*args: Any, **more: Any) -> Any:
        seen.append(len(stored_files(scenario.folder / "blocks")))
        return spool(*args, **more)

    monkeypatch.setattr(files.FileSource, "blocks", changing)
    monkeypatch.setattr(executor.spool, "spool", looking)
    assert scenario.good_run()["listings"]["created"] == _ROWS
    assert scenario.standing()[scenario.rows[0]["stock_no"]]["price"] == 7777
    assert (repainted, seen) == ([1], [3, 3, 3])


@pytest.mark.parametrize("reason", ["no store", "no such scheme"])
def test_a_source_that_fits_nowhere_ends_the_run_and_names_the_setting(scenario: HttpScenario, reason: str) -> None:
    limited(scenario, "redis" if reason == "no store" else "nosuch://me:pa55word@x", 100)
    run = scenario.run()
    error = json.loads(run.facts["error"])
    where = "feeds.max_redis_mb" if reason == "no store" else "feeds.store"
    assert (run.state, error["where"]) == ("failed", where)
    assert "pa55word" not in error["message"]
    assert blocks_in_redis(scenario) == []
    assert scenario.stored() == []


def test_a_store_that_fails_for_a_moment_costs_a_try(scenario: HttpScenario, monkeypatch: pytest.MonkeyPatch) -> None:
    limited(scenario, str(scenario.folder / "blocks"), 0)
    put, get, failing = block_files._Folder.put, block_files._Folder.get, [OSError(5, "Input/output error")] * 2

    def put_later(*args: Any) -> None:
        if len(failing) == 2:
            raise failing.pop()
        put(*args)

    def get_later(*args: Any) -> bytes:
        if len(failing) == 1:
            raise failing.pop()
        return get(*args)

    monkeypatch.setattr(block_files._Folder, "put", put_later)
    monkeypatch.setattr(block_files._Folder, "get", get_later)
    document = scenario.good_run()
    assert (document["listings"]["created"], document["requests"]["retried"], failing) == (_ROWS, 2, [])


def test_a_damaged_file_of_the_store_fails_the_run(scenario: HttpScenario, monkeypatch: pytest.MonkeyPatch) -> None:
    limited(scenario, str(scenario.folder / "blocks"), 0)
    monkeypatch.setattr(block_files._Folder, "get", lambda *_: b"damaged")
    run = scenario.run()
    assert (run.state, json.loads(run.facts["error"])["where"]) == ("failed", "feeds.store")
    assert scenario.stored() == []


@pytest.mark.parametrize("at", ["load", "spool"])
def test_a_block_that_is_lost_ends_the_run_with_an_error(
    scenario: HttpScenario, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    perform = executor.perform

    def losing(ctx: Any, part: Part, **more: Any) -> Any:
        if (part.stage, part.number) == (at, 1):
            for kind in ("blocks", "bodies"):
                ctx.runs.data.drop(part.run, kind, 2)
        return perform(ctx, part, **more)

    monkeypatch.setattr(driver, "perform", losing)
    run = scenario.run()
    assert (run.state, json.loads(run.facts["error"])["code"]) == ("failed", "lost")
    assert blocks_in_redis(scenario) == []


@pytest.mark.parametrize("end", ["cancelled", "failed"])
def test_no_block_is_left_of_a_run_that_ends_early(
    scenario: HttpScenario, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    folder = scenario.folder / "blocks"
    limited(scenario, str(folder), 1_500)
    spool = executor.spool.spool

    def ending(ctx: Any, part: Part, run: Any, **more: Any) -> Any:
        assert blocks_in_redis(scenario)
        assert stored_files(folder)
        if end == "failed":
            raise ConfigurationError("stop", where="here")
        ctx.runs.controls.cancel(run.id, ACCOUNT)
        return spool(ctx, part, run, **more)

    monkeypatch.setattr(executor.spool, "spool", ending)
    assert scenario.run().state == end
    assert blocks_in_redis(scenario) == []
    assert not stored_files(folder)


def test_the_blocks_of_a_run_expire_like_its_other_data(
    scenario: HttpScenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, spool = [], executor.spool.spool

    def looking(ctx: Any, part: Part, run: Any, **more: Any) -> Any:
        seen.append(scenario.services.redis.ttl(ctx.runs.key(run.id, "data", "blocks")))
        return spool(ctx, part, run, **more)

    monkeypatch.setattr(executor.spool, "spool", looking)
    scenario.good_run()
    assert all(0 < seconds <= 2 * 86_400 for seconds in seen), seen
