"""A row without a readable reference, with real workers: every command and the alert say that sells wait, and how many."""

from __future__ import annotations

import html
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from okasie_tasks.sandbox import Key, Sandbox
from okasie_tasks.sandbox.sample import cars, write_csv
from okasie_tasks.worker.settings import API, CONTROL, DIFF, URGENT
from tests.alerts.scenario import Hook
from tests.support import Place, Workers, poll, stored

pytestmark = pytest.mark.system

LONG = "X" * 65
WAITING = "4 sells wait: 1 row has no readable reference: dex.csv:8"


class Dealer(NamedTuple):
    place: Place
    sandbox: Sandbox
    hook: Hook

    def write(self, rows: list[dict[str, str]]) -> None:
        write_csv(self.place.folder / "dex.csv", rows)

    def alerts(self, count: int) -> list[dict[str, Any]]:
        """The alerts about waiting sells, once there are so many."""

        def sent() -> list[dict[str, Any]]:
            return [document for document in self.hook.got if document["kind"] == "sells_waiting"]

        poll(lambda: len(sent()) >= count, what=f"alert {count}")
        return sent()


@pytest.fixture
def dealer(tmp_path: Path, redis_url: str) -> Iterator[Dealer]:
    place = Place(tmp_path)
    with Hook() as hook, Sandbox([Key("a-key", "dex")]) as sandbox:
        place.env["HOOK"] = hook.url
        place.config.write_text(
            f'[redis]\nurl = "{redis_url}"\nkey_prefix = "unreadable:"\n'
            '[alerts]\nwebhook = "env:HOOK"\nkinds = ["sells_waiting"]\nevery = "1s"\n'
        )
        place.account("dex", feed="dex.csv", base_url=sandbox.base_url, key="a-key")
        write_csv(tmp_path / "dex.csv", cars(10, seed=1))
        with Workers(place, [",".join((CONTROL, URGENT, API, DIFF))]):
            yield Dealer(place, sandbox, hook)


def test_over_time_the_row_is_a_reject_and_four_sells_wait(dealer: Dealer) -> None:
    place, rows = dealer.place, cars(10, seed=1)
    assert place.sync("dex", "--full")[0] == 0
    rows.append({**rows[0], "stock_no": LONG})
    dealer.write(rows)
    answer = place.okasie("sync", "dex")
    assert answer.status == 4, answer
    assert "rejects   1 new" in answer.stdout
    assert f"{LONG}  dex.csv:12  externalReference: column stock_no" in answer.stdout
    assert "no listing that disappears from the source is sold: 1 row" in answer.stdout
    assert "dex.csv:12" in dealer.alerts(1)[0]["reason"]

    dealer.write(rows[4:])
    plan = place.okasie("plan", "dex")
    assert plan.status == 0, plan
    assert WAITING in plan.stdout
    assert f"{LONG}  dex.csv:8  " in plan.stdout
    status, document = place.sync("dex")
    assert (status, document["state"], document["listings"]["sells_waiting"]) == (0, "done", 4)
    assert (document["listings"]["rejected"], document["listings"]["sold"]) == (1, 0)
    assert WAITING in document["notes"]
    _shown_everywhere(dealer, document["run"], sold=rows[0]["stock_no"])
    assert dealer.alerts(2)[1]["reason"] == WAITING
    assert not any(row["status"] == "sold" for row in stored(dealer.sandbox, "dex").values())

    dealer.write(rows[4:10])
    status, document = place.sync("dex")
    assert (status, document["listings"]["sold"], document["listings"]["rejected"]) == (0, 4, 0)
    assert "nothing is rejected" in place.okasie("rejects", "dex").stdout
    assert "sells wait" not in place.okasie("status").stdout


def _shown_everywhere(dealer: Dealer, run: str, *, sold: str) -> None:
    place = dealer.place
    for words in (["status"], ["rejects", "dex"], ["run", run, "--html", "run.html"], ["why", "dex", sold]):
        answer = place.okasie(*words)
        assert answer.status == 0, answer
        assert WAITING.partition(": ")[2] in answer.stdout, words
    for words in (["status"], ["rejects", "dex"], ["run", run]):
        assert WAITING in place.okasie(*words).stdout, words
    assert WAITING in html.unescape((place.folder / "run.html").read_text())
    assert "no listing that disappears is sold" in place.okasie("why", "dex", LONG).stdout
    metrics = place.okasie("metrics", "--once").stdout
    assert 'okasie_waiting_sells{account="dex"} 4.0' in metrics
    assert 'okasie_rejected_listings{account="dex"} 1.0' in metrics
    doctor = place.okasie("doctor", "dex")
    assert "warning     dex: source: 7 rows, 6 valid, 1 without a readable reference" in doctor.stdout
