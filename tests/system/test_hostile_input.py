"""Hostile input: one clear error that names the place, the right exit status, nothing lost, and the next run works."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import requests

from okasie_tasks.sandbox import Sandbox
from okasie_tasks.sandbox.sample import cars, write_csv
from tests.support import Place, faults, poll, stored
from tests.system.conftest import CARS, Fleet, feed

pytestmark = pytest.mark.system


def good_run(fleet: Fleet, name: str, *options: str) -> dict[str, Any]:
    status, document = fleet.place.sync(name, *options)
    assert (status, document["state"], document["error"]) == (0, "done", None), document
    return document


def live(sandbox: Sandbox, name: str) -> set[str]:
    return {reference for reference, row in stored(sandbox, name).items() if row["status"] == "active"}


@pytest.fixture(autouse=True)
def quiet(fleet: Fleet) -> Iterator[None]:
    """No traceback in anything that a command printed or a process logged during a test."""
    said = len(fleet.place.said)
    sizes = {log: log.stat().st_size for log in logs(fleet)}
    yield
    texts = [answer.text for answer in fleet.place.said[said:]]
    texts += [log.read_bytes()[sizes.get(log, 0) :].decode() for log in logs(fleet)]
    assert not [text for text in texts if "Traceback" in text]


def logs(fleet: Fleet) -> list[Path]:
    return sorted((fleet.place.folder / ".okasie" / "logs").glob("*.log"))


# -- the source ----------------------------------------------------------------------------------------------------


def no_file(path: Path) -> None:
    path.unlink()


def broken_encoding(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b";zwart;", b";zw\xe0rt\xff;"))


def open_quote(path: Path) -> None:  # in the last row: the feed ends within quotes
    lines = path.read_text().splitlines()
    lines[-1] = lines[-1].replace(";", ';"', 1)
    path.write_text("\n".join(lines) + "\n")


def web_page(path: Path) -> None:
    path.write_text("<!DOCTYPE html><html><body>Log in to see your stock</body></html>\n")


@pytest.mark.parametrize(
    ("name", "spoil", "said"),
    [
        ("missing", no_file, "missing.csv"),
        ("encoding", broken_encoding, "encoding.csv"),
        ("quoting", open_quote, "quoting.csv"),
        ("html", web_page, "html.csv"),
    ],
)
def test_a_source_that_cannot_be_read_fails_the_run_and_sells_nothing(
    fleet: Fleet, name: str, spoil: Callable[[Path], None], said: str
) -> None:
    good_run(fleet, name, "--full")
    before = live(fleet.sandbox, name)
    assert len(before) == CARS
    spoil(feed(fleet.place, name))
    status, document = fleet.place.sync(name)
    assert (status, document["state"]) == (1, "failed"), document
    assert said in document["error"]["where"] or said in document["error"]["message"], document["error"]
    assert document["requests"]["bulk"] == document["requests"]["delete"] == 0
    assert live(fleet.sandbox, name) == before
    write_csv(feed(fleet.place, name), cars(CARS, seed=1)[1:])
    assert good_run(fleet, name)["listings"]["sold"] == 1


def test_a_feed_that_is_written_in_place_is_read_when_it_is_complete_and_blocks_no_worker(fleet: Fleet) -> None:
    """The account's feed must stand for 60 s. The complete one has an old time, as after ``cp -p``."""
    path = feed(fleet.place, "rewritten")
    os.utime(path, (1, 1))
    good_run(fleet, "rewritten", "--full")
    whole = path.read_text()
    path.write_text(whole[: whole.index("\n", len(whole) // 2) + 1])

    def is_loading() -> bool:
        (run,) = fleet.place.okasie("runs", "rewritten", "--limit", "1", "--json").document["runs"]
        record = fleet.place.okasie("run", run["run"], "--json").document
        return record["state"] == "running" and record["timeline"][-1]["phase"] == "read the source"

    with ThreadPoolExecutor(1) as pool:
        synced = pool.submit(good_run, fleet, "rewritten", "--full")
        poll(is_loading, what="a run that waits for its feed")
        good_run(fleet, "other", "--full")
        path.write_text(whole)
        os.utime(path, (2, 2))
        document = synced.result()
    assert (document["listings"]["local"], document["listings"]["sold"]) == (CARS, 0)


def test_a_row_with_too_few_columns_is_reported_and_the_others_go_on(fleet: Fleet) -> None:
    path = feed(fleet.place, "columns")
    lines = path.read_text().splitlines()
    lines[3] = ";".join(lines[3].split(";")[:4])
    path.write_text("\n".join(lines) + "\n")
    status, document = fleet.place.sync("columns", "--full")
    assert (status, document["state"]) == (4, "done"), document
    assert (document["listings"]["created"], document["listings"]["rejected"]) == (CARS - 1, 1)
    (reject,) = document["rejects"]
    assert reject["where"] == "columns.csv:4"
    assert "column" in reject["message"]
    write_csv(path, cars(CARS, seed=1))
    after = good_run(fleet, "columns")
    assert (after["listings"]["created"], after["listings"]["rejected"]) == (1, 0)


def test_one_reference_twice_with_different_content_rejects_both_rows_and_leaves_the_listing(fleet: Fleet) -> None:
    good_run(fleet, "duplicate", "--full")
    rows = cars(CARS, seed=1)
    rows.append(rows[2] | {"price_eur": "999"})
    rows.append(dict(rows[5]))  # equal content counts once
    write_csv(feed(fleet.place, "duplicate"), rows)
    before = stored(fleet.sandbox, "duplicate")[rows[2]["stock_no"]]["body"]
    status, document = fleet.place.sync("duplicate")
    assert (status, document["state"]) == (4, "done"), document
    assert [(r["reference"], r["code"]) for r in document["rejects"]] == [(rows[2]["stock_no"], "duplicate_reference")]
    assert "rows 3, 13" in document["rejects"][0]["message"]
    assert document["requests"]["bulk"] == document["requests"]["delete"] == 0
    assert stored(fleet.sandbox, "duplicate")[rows[2]["stock_no"]]["body"] == before
    write_csv(feed(fleet.place, "duplicate"), rows[:CARS])
    assert good_run(fleet, "duplicate")["listings"]["rejected"] == 0


FORGED = "Golf\x1b[2J\x9b1m\u202e\u2028\r\n2026-11-25T10:00:00Z [error] forged"


def test_no_text_from_outside_controls_the_terminal_or_forges_a_line_of_the_log(fleet: Fleet) -> None:
    """In cells, on the marketplace and in a header, shown by every command that shows such texts."""
    rows = cars(CARS, seed=1)
    good_run(fleet, "escaped", "--full")
    edit = {"reference": rows[0]["stock_no"], "set": {"title": FORGED}}
    requests.post(f"{fleet.sandbox.admin_url}/listings", json={"key": "escaped", "edits": [edit]}, timeout=60)
    rows[1]["price_eur"] = FORGED
    rows[2]["version"] = FORGED
    write_csv(feed(fleet.place, "escaped"), rows)
    fleet.place.okasie("plan", "escaped", "--full")
    status, document = fleet.place.sync("escaped", "--full")
    assert (status, document["listings"]["drifted"], document["new_rejects"]) == (4, 1, 1)
    page = fleet.place.folder / "escaped.html"
    shown = [
        fleet.place.okasie(*command)
        for command in (
            ("plan", "escaped", "--full"), ("rejects", "escaped"), ("why", "escaped", rows[0]["stock_no"]),
            ("why", "escaped", rows[1]["stock_no"]), ("why", "escaped", rows[2]["stock_no"]), ("status", "escaped"),
            ("run", document["run"], "--html", str(page)), ("sync", "escaped"),
        )
    ]  # fmt: skip
    head, _, rest = feed(fleet.place, "escaped").read_text().partition("\n")
    feed(fleet.place, "escaped").write_text(head.replace("price_eur", f'"{FORGED}"') + "\n" + rest, newline="")
    shown += [
        fleet.place.okasie(*command) for command in (("sync", "escaped"), ("status", "escaped"), ("runs", "escaped"))
    ]
    assert "its columns are" in shown[-2].text
    texts = [answer.text for answer in shown] + [page.read_text()]
    texts += [log.read_bytes().decode() for log in logs(fleet)]
    assert any("forged" in text for text in texts[:-1])
    for text in texts:
        assert not set("\x1b\x9b\u202e\u2028\r").intersection(text), text
        assert not [line for line in text.splitlines() if line.startswith("2026-11-25")], text


# -- the API -------------------------------------------------------------------------------------------------------


NONSENSE = {
    "api_500": ("500", "HTTP 500"),
    "api_truncated": ("truncated", "broke off"),
    "api_html": ("html", "not JSON"),
    "api_data": ("data_not_list", "expected data"),
}


@cache
def failed_runs(fleet: Fleet) -> dict[str, tuple[int, dict[str, Any]]]:
    """Runs that meet nonsense, side by side: most of their time they wait for the next try."""
    rules = [{"kind": kind, "match": {"key": name}, "times": 3} for name, (kind, _) in NONSENSE.items()]
    # Three tries of the chunk, and two probes.
    faults(fleet.sandbox, *rules, {"kind": "500", "match": {"key": "writes_500", "path": "bulk"}, "times": 5})
    names = (*NONSENSE, "writes_500")
    with ThreadPoolExecutor(len(names)) as pool:
        return dict(zip(names, pool.map(lambda name: fleet.place.sync(name, "--full"), names), strict=True))


@pytest.mark.parametrize("name", NONSENSE)
def test_an_api_that_answers_nonsense_fails_the_run_after_its_tries(fleet: Fleet, name: str) -> None:
    status, document = failed_runs(fleet)[name]
    assert (status, document["state"]) == (1, "failed"), document
    assert "GET /listings page 1" in document["error"]["where"]
    assert NONSENSE[name][1] in document["error"]["message"]
    assert document["requests"]["list"] == 3
    assert document["requests"]["retried"] == 3
    assert live(fleet.sandbox, name) == set()
    assert good_run(fleet, name)["listings"]["created"] == CARS


def test_writes_that_fail_leave_the_run_partial_and_the_next_run_sends_them(fleet: Fleet) -> None:
    status, document = failed_runs(fleet)["writes_500"]
    assert (status, document["state"]) == (1, "partial"), document
    assert "POST /listings/bulk-upsert" in document["error"]["where"]
    assert document["cursor"] is None
    assert good_run(fleet, "writes_500")["listings"]["created"] == CARS


def test_a_chunk_that_is_refused_as_a_whole_is_halved_until_all_are_named(fleet: Fleet) -> None:
    faults(fleet.sandbox, {"kind": "400", "match": {"key": "writes_refused", "path": "bulk"}, "times": 1})
    document = good_run(fleet, "writes_refused", "--full")
    assert document["listings"]["created"] == CARS
    assert document["requests"]["bulk"] == 3, "one refused, two halves"


def test_a_wrong_key_stops_the_run_with_the_account_named(fleet: Fleet) -> None:
    status, document = fleet.place.sync("wrong_key", "--full")
    assert (status, document["state"]) == (1, "failed"), document
    assert document["error"]["code"] == "unauthorized"
    assert "401" in document["error"]["message"]
    assert document["requests"]["list"] == 1, "a refused key is not tried again"


def test_a_key_without_write_scope_stops_the_run_at_the_first_write(fleet: Fleet) -> None:
    status, document = fleet.place.sync("no_scope", "--full")
    assert (status, document["state"]) == (1, "failed"), document
    assert document["error"]["code"] == "scope"
    assert "POST /listings/bulk-upsert" in document["error"]["where"]
    assert document["requests"]["bulk"] == 1


# -- the configuration and the machine -----------------------------------------------------------------------------


def test_an_unknown_setting_is_named_with_its_file(fleet: Fleet, tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.account("dex", feed="x.csv", base_url=fleet.sandbox.base_url, key="k", extra='incremental_evry = "5m"')
    answer = place.okasie("sync", "dex", "--json")
    assert answer.status == 2
    error = answer.document["error"]
    assert error["where"] == str(place.config)
    assert "accounts.dex.incremental_evry" in error["message"]
    assert "did you mean incremental_every?" in error["message"]
    plain = place.okasie("sync", "dex")
    assert (plain.status, plain.stdout) == (2, "")
    assert plain.stderr.count("\n") == 1


def test_two_accounts_with_one_key_are_refused(fleet: Fleet, tmp_path: Path) -> None:
    place = Place(tmp_path)
    for name in ("dex", "dax"):
        place.account(name, feed="x.csv", base_url=fleet.sandbox.base_url, key="SAME-KEY-77")
    answer = place.okasie("status")
    assert answer.status == 2
    assert "accounts.dax.api_key" in answer.stderr
    assert "accounts.dex" in answer.stderr
    assert "SAME-KEY-77" not in answer.text


def test_a_second_up_on_one_state_dir_is_refused_and_the_first_goes_on(fleet: Fleet) -> None:
    answer = fleet.place.okasie("up")
    assert answer.status == 2
    assert "state_dir" in answer.stderr
    assert str(fleet.up.process.pid) in answer.stderr
    assert fleet.place.okasie("status").status == 0
    good_run(fleet, "second_up", "--full")


def test_without_workers_a_command_says_so_and_does_not_wait(tmp_path: Path, redis_url: str, client: object) -> None:
    place = Place(tmp_path)
    place.env["OKASIE_REDIS__URL"] = redis_url
    place.account("dex", feed="x.csv", base_url="http://127.0.0.1:9/x", key="k")
    answer = place.okasie("sync", "dex", "--json")
    assert answer.status == 5
    assert "okasie.control" in answer.document["error"]["message"]
    status = place.okasie("status", "--json")
    assert status.status == 5
    assert set(status.document["missing"]) == {"okasie.control", "okasie.urgent", "okasie.api", "okasie.diff"}


def test_without_redis_a_command_says_how_to_get_one(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.account("dex", feed="x.csv", base_url="http://127.0.0.1:9/x", key="k")
    answer = place.okasie("sync", "dex", "--json")
    assert answer.status == 5
    assert "okasie up" in answer.document["error"]["message"]


def test_an_unknown_account_is_a_usage_error_that_lists_the_known(fleet: Fleet) -> None:
    answer = fleet.place.okasie("sync", "nobody", "--json")
    assert answer.status == 2
    assert "good" in answer.document["error"]["message"]
