"""One round: a calm full run, a few turns under fire, and two full runs once everything is calm again."""

from __future__ import annotations

import tempfile
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any, Final, NamedTuple

import msgspec
import redis

from okasie_tasks.store.records import Run
from tests.hostile.feed import WRITABLE
from tests.hostile.mangler import FOCUS, Mangling, content_only, harmless, item_errors, manglings, mass_loss
from tests.hostile.oracle import Oracle, Push, SoldThere
from tests.hostile.scenario import HostileScenario
from tests.sync.http_scenario import Row, varied

_MOST_LISTS: Final = 20
"""Requests for pages in one run, beyond three times those that the list has."""
_COLOURS: Final = ("zwart", "wit", "grijs", "blauw", "rood", "zilver", "groen", "paars")


class Result(msgspec.Struct):
    """``requests`` and ``fewest``: of the runs whose answers neither lied about counts nor refused anything."""

    seed: int
    style: str
    story: list[str]
    wrong: list[str]
    requests: int = 0
    fewest: int = 0
    seconds: float = 0.0


class Needs(NamedTuple):
    """The pages that a run has to read, the listings that it has to send, and those that it has to sell."""

    pages: int
    sends: set[str]
    sells: set[str]


class Round:
    """``seed`` decides everything. ``focus``: the only mangling, one of `FOCUS`."""

    def __init__(self, seed: int, redis_url: str, folder: Path, focus: str) -> None:
        self.rng = rng = Random(f"hostile:{seed}")
        self.table = rng.random() < 0.35
        conflict = rng.choice(("remote", "newest")) if self.table else "local"
        self.guarded = rng.random() < 0.4
        self.page_rows = rng.choice((0, 0, 10, 25)) or (10 if focus else 0)
        self.focus = focus
        rows = varied(rng.randint(20, 60), seed=rng.randrange(10**6))
        for row in rows:
            row["colour"] = rng.choice(_COLOURS)
        self.world = HostileScenario(
            folder, redis_url, rows=rows, rng=rng, guarded=self.guarded, conflict=conflict, table=self.table
        )
        self.feed = self.world.feed
        self.oracle = Oracle(self.feed, guarded=self.guarded, ours=set(self.feed.rows))
        style = f"{'table' if self.table else 'csv'} {conflict} {len(rows)} cars"
        style += (" guarded" if self.guarded else "") + (f" {self.page_rows} rows a page" if self.page_rows else "")
        self.result = Result(seed, style, [], [])
        self._more = Random(f"hostile, more:{seed}")
        """For what was added since, so that the other choices of a seed stay."""
        self._next = 1000
        self._removed = 0
        self._waiting: list[tuple[str, str, Push | None]] = []
        self._writes = 0
        self._lied = False
        self._verdicts: set[tuple[str, str]] = set()
        """Reference, or "" for any, and the code with which it may have been refused for good."""
        self._refused: dict[str, Row] = {}
        """The rows that may have been refused for good, by reference: they are sent again when they change."""
        self._done = True
        """The last run has left nothing to be sent again."""
        self._read: dict[str, Row] = {}
        """The rows that the last complete read has certainly seen."""

    def play(self) -> Result:
        began = time.monotonic()
        try:
            with self.world:
                self._play()
        except Exception as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            self.result.wrong.append(
                f"{type(error).__name__}: {error!s:.300} ({Path(place.filename).name}:{place.lineno})"
            )
        self.result.seconds = round(time.monotonic() - began, 2)
        return self.result

    def _play(self) -> None:
        world, rng = self.world, self.rng
        world.quirks(page_rows=self.page_rows)
        self.feed.publish()
        self._run("full", [])
        for _ in range(rng.randint(2, 4)):
            world.clock.ahead += 200
            self._turn()
        self._heal()
        world.clock.ahead += 600
        first = self._run("full", [])
        world.clock.ahead += 600
        equal = first.state == "done" and not self._differences()
        before = len(world.writes)
        last = self._run("full", [])
        if equal and (sent := [write.reference for write in world.writes[before:]]):
            self.result.wrong.append(f"{len(sent)} listings were written though everything was equal: {sent[:3]}")
        self._check_end(last)

    # -- a turn under fire -----------------------------------------------------------------------------------------

    def _turn(self) -> None:
        world, rng = self.world, self.rng
        self._change()
        self.feed.publish()
        references, quiet = sorted(self.oracle.ours), rng.random() < 0.5
        mode = rng.choice(("full", "full", "incremental"))
        if self.focus:
            found, mode = [FOCUS[self.focus](rng, sorted(self.feed.rows))], "full"
        elif quiet and self.table and self.guarded:
            found, mode = mass_loss(rng), "full"
        elif quiet:
            kind = rng.randrange(3)
            found = (
                [item_errors(rng, sorted(self.feed.rows))]
                if kind == 2
                else (content_only, harmless)[kind](rng, references)
            )
        else:
            found = manglings(rng, references, writes_back=self.table) if rng.random() < 0.9 else []
            found += [item_errors(rng, sorted(self.feed.rows))] if rng.random() < 0.15 else []
            self._prepare_accidents()
        for mangling in found:
            self.result.story.append(mangling.name)
            self._verdicts |= {(name, code) for name in mangling.items or ("",) for code in mangling.codes}
            self._refused |= {name: dict(self.feed.rows[name]) for name in mangling.items if mangling.codes}
            self._lied |= mangling.lies
        if errors := {name: error for mangling in found for name, error in mangling.items.items()}:
            world.quirks(page_rows=self.page_rows, item_errors=errors)
        world.faults(*(rule for mangling in found for rule in mangling.rules), seconds=rng.choice((1, 12, 60, 120)))
        self._run(mode, found)
        if not quiet and not self.focus:
            self._ask()
        world.send(6)
        world.reading.clear()
        world.between.clear()
        self.feed.finish()
        if rng.random() < 0.7:
            self._calm()
        self._check()

    def _prepare_accidents(self) -> None:
        """What happens to the feed, and what people ask for, while the run works."""
        rng, world = self.rng, self.world
        # A row that is gone from a table when an edit is written back to it is not a fault of the marketplace.
        if not self.table and rng.random() < 0.5:
            if rng.random() < 0.4:
                world.reading.append(self._accident)
            else:
                world.between[rng.randint(1, 8)] = self._accident
            if rng.random() < 0.5:
                world.between[rng.randint(9, 14)] = self._repair
        if rng.random() < 0.3:
            world.between[rng.randint(1, 8)] = self._ask
        if rng.random() < 0.3:
            self._accident()

    def _accident(self) -> None:
        self.result.story.append(f"feed {self.feed.mangle()}")

    def _repair(self) -> None:
        self.feed.publish()

    def _change(self) -> None:
        """An ordinary day: prices, new and sold cars, and edits on the marketplace."""
        rng, rows = self.rng, self.feed.rows
        self.feed.absorb()
        for name in rng.sample(sorted(rows), rng.randint(0, 4)):
            rows[name]["price_eur"] = str(rng.randrange(4_500, 62_000, 50))
        for _ in range(rng.randint(0, 2)):
            self._next += 1
            row = varied(1, seed=self._next, first=self._next)[0] | {"colour": "wit"}
            rows[row["stock_no"]] = row
            self.oracle.ours.add(row["stock_no"])
        if self._removed < 4 and rng.random() < 0.6:
            self._removed += 1
            del rows[rng.choice(sorted(rows))]
        if rng.random() < 0.6:
            self._edit_there()

    def _edit_there(self) -> None:
        rng = self.rng
        live = {row["externalReference"] for row in self.world.stored() if row["status"] == "active"}
        # A listing that was handed in is not in the source: an edit of it stays a conflict that is reported.
        names = sorted((live & self.feed.rows.keys()) - self.oracle.pushes.keys())
        # How free text comes back after a write is learned: an edit of it at once, or the same again, looks like that.
        plain = self.oracle.pushed_at.keys() | {name for name, _ in self.oracle.edits}
        for name in rng.sample(names, min(len(names), rng.randint(1, 3))):
            field = rng.choice([f for f in sorted(WRITABLE) if f != "color" or name not in plain])
            value: Any = rng.choice(_COLOURS) if field == "color" else rng.randrange(5_000, 60_000)
            self.world.edit({"reference": name, "set": {field: value}})
            self._set_there(name)
            self.result.story.append(f"edit {name} {field}={value}")
        if rng.random() < 0.1 and names and not self.table:
            name = rng.choice(names)
            self.world.edit({"reference": name, "status": "sold"})
            row = self.feed.rows[name]
            taken = self._read.get(name) == row and not any(of in (name, "") for of, _ in self._verdicts)
            self.oracle.sold_there[name] = SoldThere(self.world.clock(), dict(row) if taken else None)

    def _set_there(self, name: str) -> None:
        """A person has edited the listing: it may be offered to the source as it is."""
        body = next(row["body"] for row in self.world.stored() if row["externalReference"] == name)
        for field, column in WRITABLE.items():
            self.oracle.edits.setdefault((name, column), set()).add(str(body[field]))

    def _ask(self) -> None:
        """Pushes and sells."""
        rng, world, oracle, now = self.rng, self.world, self.oracle, self.world.clock()
        names = sorted(self.feed.rows)
        choice = rng.randrange(4)
        if choice == 0:
            pushed = rng.sample(names, 2)[: self._more.randint(1, 2)]
            push = world.push(pushed)
            self.result.story.append(f"push {pushed}")
            for name in pushed if not world.ctx.pushes.get(push).error else ():
                self._waiting.append((push, name, None))
                oracle.pushed_at[name] = now
                if listing := oracle.pushes.get(name):
                    listing.read = False  # the row is newer than the listing
        elif choice == 1 and not self.table:
            name = rng.choice(names)
            body = self._body(name) | {"price": rng.randrange(5_000, 60_000) + 1}
            row = self.feed.rows[name]
            # A row that no run has read since it changed is newer than the push when it is read.
            listing = Push(now, body, dict(row), read=self._read.get(name) == row)
            self._waiting.append((world.push_listings([body | {"externalReference": name}]), name, listing))
            oracle.pushes[name], oracle.pushed_at[name] = listing, now
            self.result.story.append(f"push {name} {body['price']}")
        elif choice == 2:
            name = rng.choice(names)
            oracle.sold_by_hand[name] = now
            self._waiting.append((world.sell(name), name, None))
            self.result.story.append(f"sell {name}")

    def _body(self, name: str) -> dict[str, Any]:
        return self.world.bodies({name: self.feed.rows[name]})[name]

    def _calm(self) -> None:
        self.world.no_faults()
        self.world.quirks(page_rows=self.page_rows)

    # -- runs ------------------------------------------------------------------------------------------------------

    def _run(self, mode: str, found: list[Mangling]) -> Run:
        world, began = self.world, self.world.clock()
        before, needs = len(world.requests()), self._needs(mode)
        accidents = len(self.feed.versions)
        run = world.play(mode)
        kinds = world.requests(before)
        document = world.document(run)
        self.result.story.append(f"{mode} {run.state} {len(kinds)} requests")
        if document["error"] and document["error"]["code"] == "internal":
            self.result.wrong.append(f"internal error: {document['error']['message']}")
        pages = self._pages(len(world.stored()))
        if kinds.count("list") > 3 * pages + _MOST_LISTS:
            self.result.wrong.append(f"{kinds.count('list')} pages were requested, the list has {pages}")
        if needs is not None and len(self.feed.versions) == accidents and not self._waiting:
            self._check_run(run, found, needs, kinds)
        self._done = run.state in ("done", "held")
        if self._done and len(self.feed.versions) == accidents:
            self._read = self.feed.versions[-1].rows or {}
        self._check_writes(began)
        return run

    def _pages(self, rows: int) -> int:
        return max(1, -(-rows // (self.page_rows or 200)))

    def _needs(self, mode: str) -> Needs | None:
        """What a run has to do, where it is certain."""
        oracle, rows = self.oracle, self.feed.versions[-1].rows
        uncertain = oracle.pushes or oracle.sold_by_hand or oracle.sold_there or self._lied
        edited = self.table and self.oracle.edits
        if mode != "full" or edited or rows is None or uncertain or not self._done:
            return None
        wanted = self.world.bodies(rows)
        stored = {row["externalReference"]: row for row in self.world.stored()}
        live = {name for name, row in stored.items() if row["status"] != "sold"}
        sends = {name for name, body in wanted.items() if name not in live or stored[name]["body"] != body}
        return Needs(self._pages(len(self.world.stored())), sends, live - wanted.keys())

    # -- verdicts --------------------------------------------------------------------------------------------------

    def _check_writes(self, began: float) -> None:
        writes = self.world.writes
        self.result.wrong += self.oracle.sells(writes[self._writes :], began)
        self._writes = len(writes)

    def _check_run(self, run: Run, found: list[Mangling], needs: Needs, kinds: list[str]) -> None:
        """Nothing is sent because of what says nothing, and nothing but what is refused stays behind."""
        result, done = self.result, run.state == "done"
        refused = {name for mangling in found for name in mangling.items}
        before = {name for name, row in self._refused.items() if self.feed.rows.get(name) == row}
        exact = not any(m.counts or m.refuses or m.values for m in found)
        if all(mangling.harmless for mangling in found):
            sent = {write.reference for write in self.world.writes[self._writes :] if write.outcome != "sold"}
            if more := sorted(sent - needs.sends):
                result.wrong.append(f"{len(more)} listings were sent though they are equal: {more[:3]}")
            if exact and run.state not in ("done", "held"):
                result.wrong.append(f"the run ended {run.state}: {self.world.document(run)['error']}")
        if exact and done:
            fewest = needs.pages + -(-len(needs.sends) // 100) + len(needs.sells)
            result.requests, result.fewest = result.requests + len(kinds), result.fewest + fewest
            if len(kinds) > fewest:
                result.story.append(f"{len(kinds)} requests instead of {fewest}: {kinds}")
        any_refused = any(not name for name, _ in self._verdicts)
        if refused and all(mangling.items for mangling in found) and not self.guarded and not any_refused:
            texts = self.oracle.differences(self.world.stored(), self.world.bodies(self.feed.rows))
            result.wrong += [text for text in texts if text.split(" ", 1)[0] not in refused | before]
            # A listing that fails while others are accepted is rejected by the same run.
            if all(mangling.codes for mangling in found) and needs.sends - refused - before:
                rejected = {reject.reference for reject in self.world.ctx.ledger.all_rejects()}
                left = sorted(refused & needs.sends - rejected)
                result.wrong += [f"{name} was refused in every request and is not rejected" for name in left]

    def _check(self) -> None:
        self._check_writes(self.world.clock())
        self.result.wrong += self.oracle.cells()
        for push, name, listing in list(self._waiting):
            outcome = self.world.ctx.pushes.get(push).outcomes.get(name)
            if outcome is None or outcome.outcome == "waiting":
                continue
            self._waiting.remove((push, name, listing))
            if listing is not None:
                listing.sent = outcome.outcome in ("created", "updated") and not self._lied
                if outcome.outcome in ("failed", "rejected", "overtaken") and self.oracle.pushes.get(name) is listing:
                    del self.oracle.pushes[name]  # reported as not sent
            if outcome.outcome in ("failed", "rejected"):
                self.oracle.sold_by_hand.pop(name, None)

    def _heal(self) -> None:
        """No more faults. The dealer touches every car that was refused as the contract allows."""
        world = self.world
        self._calm()
        world.clock.ahead += 3_000
        world.send(60)
        self._check()
        if world.ctx.urgent_queue.count():
            self.result.wrong.append("a push or a sell waits for ever")
        for reject in world.ctx.ledger.all_rejects():
            name = reject.reference
            if not self._verdicts & {(name, reject.code), ("", reject.code)}:
                self.result.wrong.append(
                    f"{name} was rejected without a verdict on it: {reject.code} {reject.message:.80}"
                )
            elif name in self.feed.rows:
                row = self.feed.rows[name]
                row["price_eur"] = str(int(row["price_eur"]) + 10)
            else:
                self.oracle.refused.add(name)
        self.feed.publish()

    def _differences(self) -> list[str]:
        """What is wrong on the marketplace, but for the listings that it refuses for good."""
        world = self.world
        texts = self.oracle.differences(world.stored(), world.bodies(self.feed.rows))
        return [text for text in texts if text.split(" ", 1)[0] not in self.oracle.refused]

    def _check_end(self, last: Run) -> None:
        world = self.world
        self._check()
        self.result.wrong += self._differences()
        if last.state != "done":
            document = world.document(last)
            self.result.wrong.append(f"the last run ended {last.state}: {document['error']} {document['held']}"[:400])


def play(seed: int, redis_url: str, focus: str = "") -> Result:
    """One round on an empty server."""
    with redis.Redis.from_url(redis_url) as client:
        client.flushdb()
    with tempfile.TemporaryDirectory(prefix="hostile-") as folder:
        return Round(seed, redis_url, Path(folder), focus).play()


def excess(results: list[Result]) -> float:
    """Requests above the fewest possible, in percent."""
    fewest = sum(result.fewest for result in results)
    return 100 * (sum(result.requests for result in results) / fewest - 1) if fewest else 0.0


def told(results: list[Result]) -> Iterator[str]:
    """The summary: what went wrong, and the requests beside the fewest."""
    wrong = [result.seed for result in results if result.wrong]
    requests, fewest = sum(result.requests for result in results), sum(result.fewest for result in results)
    yield f"{len(results)} rounds, {len(wrong)} wrong{f': seeds {wrong}' if wrong else ''}"
    yield f"{requests} requests where no count was mangled, fewest possible {fewest} ({excess(results):+.1f} %)"
