"""What runs and pushes leave in the history, and what is parked: told through whole runs, driven in this thread."""

from __future__ import annotations

from random import Random
from typing import Any

import msgspec
import pytest
import redis

from okasie_tasks.core.decision import Decision
from okasie_tasks.core.fields import CONTRACT
from okasie_tasks.core.history import NOT_KEPT, Event
from okasie_tasks.core.ledger_entry import Entry, Flag
from okasie_tasks.core.records import Local, Reject
from okasie_tasks.ports import ItemAnswer, SkippedImage, WriteAnswer
from okasie_tasks.reports import listing
from okasie_tasks.store.records import Run
from okasie_tasks.sync import rejects
from okasie_tasks.sync.audit import Finding
from okasie_tasks.sync.context import AccountContext
from okasie_tasks.urgent import accept
from okasie_tasks.urgent.sender import Sender
from tests.sync.driver import drive
from tests.sync.market import SOLD, FakeMarket, FakeSource, Reading, raw_listing
from tests.sync.scenario import ACCOUNT, ANCHOR, Scenario


class FussyMarket(FakeMarket):
    """Refuses some references, and skips the first image of others."""

    def __init__(self, scenario: Scenario) -> None:
        super().__init__(scenario.scheduler, page_size=200)
        self.refused: set[str] = set()
        self.skips: set[str] = set()
        self.sent: list[str] = []

    def _upsert(self, bodies: list[dict[str, Any]]) -> WriteAnswer:
        names = [body["externalReference"] for body in bodies]
        self.sent += names
        known = set(self.rows)
        super()._upsert([body for body in bodies if body["externalReference"] not in self.refused])
        return WriteAnswer(tuple(self._answer(name, known) for name in names), "request-1")

    def _answer(self, name: str, known: set[str]) -> ItemAnswer:
        if name in self.refused:
            issues = (("price", "Too cheap"),)
            return ItemAnswer(name, "refused", http_status=422, code="VALIDATION_FAILED", message="no", issues=issues)
        skipped = (SkippedImage("https://a/1", "404"),) if name in self.skips else ()
        return ItemAnswer(name, "accepted", status="active", created=name not in known, skipped_images=skipped)


class Dealer:
    """A dealer with three cars, a marketplace, and nothing that runs by itself."""

    def __init__(self, client: redis.Redis) -> None:
        scenario = Scenario(client, 0)
        self.prices = scenario.inventory.prices
        self.market = FussyMarket(scenario)
        scenario.inventory.references = [ANCHOR, "A", "B"]
        self.prices.update({ANCHOR: 1, "A": 10, "B": 20})
        source = FakeSource(scenario.inventory, Reading("test", ("", ""), 0))
        self.ctx: AccountContext = scenario.plain._replace(market=self.market, source=lambda: source)

    def run(self, mode: str = "full", *, plan_only: bool = False) -> Run:
        self.market.sent.clear()
        found = drive(self.ctx, mode, plan_only=plan_only)
        assert found.state == "done", found
        return found

    def send(self) -> None:
        Sender(self.ctx, "sender", rng=Random(0), sleep=lambda _: None).run()

    def events(self, reference: str = "A") -> list[Event]:
        return self.ctx.history.get(reference)

    def told(self, reference: str = "A") -> list[tuple[Any, ...]]:
        return [(event.kind, event.reason, event.changes) for event in self.events(reference)]

    def reject(self, reference: str = "A") -> Reject:
        return self.ctx.ledger.rejects([reference])[reference]


@pytest.fixture
def dealer(client: redis.Redis) -> Dealer:
    return Dealer(client)


CREATED = ("created", "new in the source", ())


# -- what was written ----------------------------------------------------------------------------------------------


def test_a_write_keeps_its_reason_its_request_and_what_it_changed(dealer: Dealer) -> None:
    first = dealer.run()
    dealer.prices["A"] = 11
    second = dealer.run()
    updated, created = dealer.events()
    assert (created.run, created.request_id, created.kind) == (first.id, "request-1", "created")
    assert (updated.run, updated.request_id) == (second.id, "request-1")
    assert dealer.told() == [("updated", "changed in the source", (("price", 10, 11),)), CREATED]
    assert dealer.told("B") == [CREATED], "what did not change has nothing new"


def test_a_sell_is_told_with_what_stood_before_and_a_later_write_with_the_sell(dealer: Dealer) -> None:
    dealer.run()
    del dealer.prices["A"]
    run = dealer.run()
    assert dealer.told()[0] == ("sold", "gone from the source", (("status", "active", "sold"),))
    assert (dealer.events()[0].run, dealer.events()[0].request_id) == (run.id, "r")
    dealer.prices["A"] = 12
    dealer.run()
    assert dealer.told()[0] == ("updated", "back in the source", (("price", 10, 12), ("status", "sold", "active")))


def test_skipped_images_are_a_warning(dealer: Dealer) -> None:
    dealer.market.skips.add("A")
    dealer.run()
    assert dealer.events()[0].warnings == ("1 of its images were skipped: 404",)
    assert dealer.events("B")[0].warnings == ()


def test_pushes_and_sells_are_told_with_their_outcome(dealer: Dealer) -> None:
    dealer.run()
    accept.accept_push(dealer.ctx, "p1", listings=[raw_listing("A", 5), raw_listing("NEW", 6)])
    dealer.send()
    accept.accept_push(dealer.ctx, "p2", references=["A"])
    dealer.send()
    accept.accept_sell(dealer.ctx, "p3", references=["A", "NOBODY"])
    dealer.send()
    assert dealer.told() == [
        ("sold", "sold manually", (("status", "active", "sold"),)),
        ("pushed", "updated by a push, from the source", (("price", 5, 10),)),
        ("pushed", "updated by a push, inline content", (("price", 10, 5),)),
        CREATED,
    ]
    assert dealer.told("NEW") == [("pushed", "created by a push, inline content", ())]
    assert dealer.events("NOBODY")[0].message.startswith("the marketplace does not have it")


def test_a_refused_push_is_told_with_code_and_message(dealer: Dealer) -> None:
    dealer.market.refused.add("A")
    accept.accept_push(dealer.ctx, "p", references=["A"])
    dealer.send()
    (event,) = dealer.events()
    assert (event.kind, event.run, event.code, event.message) == (
        "refused",
        "",
        "VALIDATION_FAILED",
        "price: Too cheap",
    )


def test_a_push_that_was_given_up_is_told(dealer: Dealer, monkeypatch: pytest.MonkeyPatch) -> None:
    from okasie_tasks.errors import RetryLater, Unavailable

    def fail(*_: object) -> None:
        raise Unavailable("no answer", seconds=0)

    monkeypatch.setattr(dealer.market, "_upsert", fail)
    monkeypatch.setattr("okasie_tasks.urgent.outcomes._GIVE_UP_SECONDS", -1.0)
    accept.accept_push(dealer.ctx, "p", references=["A"])
    with pytest.raises(RetryLater):
        dealer.send()
    (event,) = dealer.events()
    assert (event.kind, event.reason, event.message) == ("failed", "the push was given up", "no answer")


# -- what was found changed ----------------------------------------------------------------------------------------


def test_a_change_on_the_marketplace_is_told_once_with_both_versions(dealer: Dealer) -> None:
    dealer.run()
    dealer.run()  # reads back what it wrote
    dealer.market.rows["A"] |= {"price": 4, "title": "Cheap"}
    run = dealer.run()
    drift = ("drift", "changed on the marketplace, ours sent again")
    updated, found, created = dealer.events()
    assert (updated.kind, updated.reason, created.kind) == ("updated", drift[1], "created")
    assert (found.kind, found.reason, found.run) == (*drift, run.id)
    assert [change[0] for change in found.changes] == ["price", "title"]
    assert found.changes[0] == ("price", 10, 4)
    assert found.changes[1][2] == "Cheap"
    assert dealer.ctx.history.conflicts(10) == [("A", found)]
    dealer.run()
    dealer.run()
    assert len(dealer.events()) == 3, "once it is answered there is nothing new to tell"
    dealer.market.rows["A"] |= {"price": 4, "title": "Cheap"}
    dealer.run()
    assert len(dealer.ctx.history.conflicts(10)) == 2, "done again, it is told again"


def test_a_change_on_both_sides_is_a_conflict_with_both_values(dealer: Dealer) -> None:
    dealer.run()
    dealer.run()
    dealer.market.rows["A"] |= {"title": "Cheap", "price": 4}
    dealer.prices["A"] = 11
    dealer.run()
    _, conflict, _ = dealer.told()
    changes = (("price", 11, 4), ("title", "Skoda Octavia", "Cheap"))
    assert conflict == ("conflict", "changed on both sides, ours sent", changes)


def test_sold_by_somebody_is_told_once_however_often_it_is_met(dealer: Dealer) -> None:
    dealer.run()
    dealer.market.rows["A"]["status"] = SOLD
    for _ in range(3):
        assert '"conflicts": 1' in dealer.run().facts["listings"]
    conflict = ("conflict", "sold on the marketplace by someone", (("status", "active", "sold"),))
    assert dealer.told() == [conflict, CREATED]
    assert [name for name, _ in dealer.ctx.history.conflicts(10)] == ["A"]


def test_what_was_handed_in_is_what_theirs_is_held_against(dealer: Dealer) -> None:
    dealer.run()
    accept.accept_push(dealer.ctx, "p", listings=[raw_listing("A", 5)])
    dealer.send()
    dealer.run()
    dealer.market.rows["A"]["price"] = 4
    dealer.run()
    reason = "changed on the marketplace after it was pushed, theirs stands"
    assert dealer.told()[0] == ("drift", reason, (("price", 5, 4),))


def test_ours_is_the_row_unless_something_else_was_handed_in_over_the_same_row() -> None:
    decision = Decision(action="none", reason="r", count="drifted")
    for row, given, form in (
        (b"row", Flag.INLINE_CONTENT, None),
        (b"old", Flag.INLINE_CONTENT, b"form"),
        (b"row", Flag(0), b"form"),
    ):
        local = Local("A", 1, b"row", values=b"form")
        assert Finding("A", decision, local, None, Entry(row=row, flags=given)).values == form


def test_a_dispute_is_told_when_it_begins(dealer: Dealer, monkeypatch: pytest.MonkeyPatch) -> None:
    dealer.run()
    upsert = dealer.market._upsert

    def stubborn(bodies: list[dict[str, Any]]) -> WriteAnswer:
        answer = upsert(bodies)
        dealer.market.rows["A"]["price"] = 4
        return answer

    monkeypatch.setattr(dealer.market, "_upsert", stubborn)
    dealer.prices["A"] = 11
    for _ in range(5):
        dealer.run()
    reasons = [reason for kind, reason, _ in dealer.told() if kind == "conflict"]
    assert reasons == ["the marketplace keeps its own value"]
    assert dealer.told()[0][2] == (("price", 11, 4),)


def test_a_plan_is_only_a_look(dealer: Dealer) -> None:
    dealer.run()
    dealer.market.rows["A"]["status"] = SOLD
    dealer.run(plan_only=True)
    assert dealer.told() == [CREATED]
    assert dealer.ctx.history.conflicts(10) == []


# -- what was refused ----------------------------------------------------------------------------------------------


def age(dealer: Dealer, **changes: Any) -> None:
    dealer.ctx.ledger.put_rejects([msgspec.structs.replace(dealer.reject(), **changes)])


@pytest.mark.parametrize("known", [False, True])
def test_what_was_refused_is_not_sent_again_until_something_changes(dealer: Dealer, known: bool) -> None:
    if known:
        dealer.run()
        dealer.prices["A"] = 11
    dealer.market.refused.add("A")
    run = dealer.run()
    assert "A" in dealer.market.sent
    first = dealer.reject()
    assert (first.code, first.fields, first.attempts, first.contract) == ("VALIDATION_FAILED", ["price"], 1, CONTRACT)
    assert (first.request_id, first.run) == ("request-1", run.id)
    assert first.first_seen == first.last_seen > 0
    assert dealer.events()[0].kind == "refused"
    age(dealer, first_seen=1_000, last_seen=1_000)
    for mode in ("incremental", "full"):
        later = dealer.run(mode)
        assert dealer.market.sent == []
        again = dealer.reject()
        assert (again.attempts, again.first_seen, again.run) == (1, 1_000, later.id)
        assert again.last_seen >= first.last_seen
    dealer.prices["A"] = 12
    dealer.run()
    assert dealer.market.sent == ["A"], "another content"
    assert (dealer.reject().attempts, dealer.reject().first_seen) == (2, 1_000)


@pytest.mark.parametrize("known", [False, True])
def test_another_contract_frees_what_was_refused(dealer: Dealer, known: bool) -> None:
    if known:
        dealer.run()
        dealer.prices["A"] = 11
    dealer.market.refused.add("A")
    dealer.run()
    age(dealer, contract="2025-01-01")
    dealer.run("incremental")
    assert dealer.market.sent == ["A"]
    assert (dealer.reject().attempts, dealer.reject().contract) == (2, CONTRACT)
    dealer.run("incremental")
    assert dealer.market.sent == []


def test_retry_frees_what_was_refused_and_counts_the_tries(dealer: Dealer) -> None:
    dealer.market.refused.update("AB")
    dealer.run()
    age(dealer, first_seen=1_000)
    bad = rejects.invalid("C", [rejects.Issue("price", "required", "none")], where="row 3", run="", now=1)
    dealer.ctx.ledger.put_rejects([bad])
    assert rejects.free(dealer.ctx, ["A", "C", "D"]) == (["A"], ["C"], ["D"])
    assert rejects.is_free(dealer.reject())
    assert listing.why_document(dealer.ctx, "A")["reject"]["state"] == "free"
    dealer.run("incremental")
    assert dealer.market.sent == ["A"], "B is still parked"
    assert (dealer.reject().attempts, dealer.reject().first_seen) == (2, 1_000)
    dealer.market.refused.clear()
    assert sorted(rejects.free(dealer.ctx).freed) == ["A", "B"]
    dealer.run("incremental")
    assert sorted(dealer.market.sent) == ["A", "B"]
    assert dealer.ctx.ledger.rejects(["A", "B"]) == {}


# -- why -----------------------------------------------------------------------------------------------------------


def why(dealer: Dealer, reference: str = "A") -> dict[str, Any]:
    found = listing.why_document(dealer.ctx, reference)
    names = {
            "reference", "account", "ledger", "reject", "waiting", "held_run", "sell_waits_for", "skipped_images",
            "listing_url", "events", "next", "title", "vin", "state", "online",
        }  # fmt: skip
    assert set(found) == names
    return found


@pytest.mark.parametrize("reference", ["NOBODY", "no reference at all", "\udcff", ""])
def test_nothing_is_known_of_an_unknown_reference(dealer: Dealer, reference: str) -> None:
    found = why(dealer, reference)
    assert (found["ledger"], found["reject"], found["waiting"], found["events"]) == (None, None, None, [])
    assert "unknown reference" in found["next"]


def test_why_tells_what_stands_and_what_comes_next(dealer: Dealer) -> None:
    dealer.run()
    dealer.run()
    found = why(dealer)
    assert (found["ledger"]["status"], found["ledger"]["owned"], found["ledger"]["disputed"]) == ("active", True, False)
    assert found["ledger"]["last_sent"]
    assert found["next"] == "nothing is sent until its row changes or it is edited on the marketplace"
    accept.accept_sell(dealer.ctx, "p", references=["A"])
    assert (why(dealer)["waiting"]["kind"], why(dealer)["next"][:12]) == ("sell", "a sell waits")
    dealer.send()
    assert why(dealer)["next"].startswith("sold manually")
    dealer.market.rows["B"]["status"] = SOLD
    dealer.run()
    assert why(dealer, "B")["next"].startswith("sold on the marketplace")
    assert why(dealer, "B")["events"][0]["changes"] == [{"field": "status", "ours": "active", "theirs": "sold"}]


def test_why_tells_that_something_is_parked_and_how_to_free_it(dealer: Dealer) -> None:
    dealer.market.refused.add("A")
    dealer.run()
    found = why(dealer)
    assert (found["reject"]["state"], found["reject"]["attempts"]) == ("refused", 1)
    assert f"okasie retry {ACCOUNT} A" in found["next"]
    (event,) = found["events"]
    assert (event["kind"], event["code"], event["request_id"]) == ("refused", "VALIDATION_FAILED", "request-1")
    assert listing.rejects_document(dealer.ctx) == [found["reject"]]


def test_a_value_that_was_not_kept_is_not_made_up() -> None:
    event = Event(1, "updated", "r", changes=(("title", NOT_KEPT, "b"), ("color", None, "c")))
    assert listing.event_document(event)["changes"] == [
        {"field": "title", "after": "b"}, {"field": "color", "before": None, "after": "c"},
    ]  # fmt: skip
