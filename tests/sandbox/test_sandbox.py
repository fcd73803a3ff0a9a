"""The sandbox as users see it: over HTTP, by the contract."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import pytest
import requests

from okasie_tasks.sandbox import Key, Sandbox
from tests.support import HANG_SECONDS, poll

ITEM = {
    "status": "active", "title": "Golf", "price": 100, "dealerLocationCode": "GENT", "postalCode": "9000",
    "city": "Gent", "province": "Oost-Vlaanderen",
}  # fmt: skip


class Clock:
    def __init__(self) -> None:
        self.now = 1_795_449_600.0

    def __call__(self) -> float:
        return self.now


class Caller:
    """Requests with a key."""

    def __init__(self, sandbox: Sandbox, key: str = "full") -> None:
        self._sandbox, self._headers = sandbox, {"Authorization": f"Bearer {key}"}

    def __call__(self, method: str, path: str, **more: Any) -> requests.Response:
        return requests.request(method, f"{self._sandbox.base_url}{path}", headers=self._headers, timeout=60, **more)

    def put(self, reference: str, **changes: Any) -> requests.Response:
        return self("PUT", f"/listings/{reference}", json=ITEM | changes)

    def list(self, **query: Any) -> dict[str, Any]:
        document: dict[str, Any] = self("GET", "/listings", params=query).json()
        return document

    def references(self, **query: Any) -> list[str]:
        return [row["externalReference"] for row in self.list(**query)["data"]]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def sandbox(clock: Clock) -> Iterator[Sandbox]:
    keys = [Key("full", "full"), Key("reader", "reader", scopes=("read:listings",)), Key("own", "own", codes=("GENT",))]
    with Sandbox(keys, limit=0, clock=clock) as sandbox:
        yield sandbox


@pytest.fixture
def call(sandbox: Sandbox) -> Caller:
    return Caller(sandbox)


# -- keys ----------------------------------------------------------------------------------------------------------


def test_a_key_comes_as_bearer_or_in_its_own_header(sandbox: Sandbox) -> None:
    url = f"{sandbox.base_url}/listings"
    assert requests.get(url, headers={"X-API-Key": "full"}, timeout=60).status_code == 200
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"X-API-Key": ""}):
        refused = requests.get(url, headers=headers, timeout=60)
        assert (refused.status_code, refused.json()["error"]["code"]) == (401, "UNAUTHORIZED")


def test_scopes_and_locations_are_kept(sandbox: Sandbox) -> None:
    reader, own = Caller(sandbox, "reader"), Caller(sandbox, "own")
    assert reader("GET", "/listings").status_code == 200
    for refused in (reader.put("A"), reader("DELETE", "/listings/A"), reader("GET", "/locations")):
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "SCOPE_DENIED")
    assert own.put("A").status_code == 201
    assert own.put("B", dealerLocationCode="BRUGGE").json()["error"]["code"] == "PROFILE_FORBIDDEN"


def test_partners_do_not_see_each_other(sandbox: Sandbox, call: Caller) -> None:
    call.put("A")
    assert Caller(sandbox, "own").references(status="all") == []
    assert Caller(sandbox, "own")("DELETE", "/listings/A").status_code == 404


# -- writing -------------------------------------------------------------------------------------------------------


def test_put_creates_then_replaces_in_full(call: Caller) -> None:
    created = call.put("A", description="old")
    assert (created.status_code, created.json()["data"]["created"]) == (201, True)
    replaced = call.put("A", price=90)
    assert (replaced.status_code, replaced.json()["data"]["created"]) == (200, False)
    (row,) = call.list()["data"]
    assert (row["price"], row["description"], row["id"]) == (90, None, created.json()["data"]["listingId"])


def test_a_bulk_call_is_partial(call: Caller) -> None:
    items = [ITEM | {"externalReference": "A"}, ITEM | {"externalReference": "B", "price": -1}, {"title": "x"}, 7]
    answer = call("POST", "/listings/bulk-upsert", json={"items": items})
    data = answer.json()["data"]
    assert (answer.status_code, data["successCount"], data["errorCount"]) == (200, 1, 3)
    assert data["results"][0]["index"] == 0
    assert [(e["index"], e["code"]) for e in data["errors"]] == [
        (1, "VALIDATION_FAILED"), (2, "INVALID_REFERENCE"), (3, "INVALID_REFERENCE"),
    ]  # fmt: skip
    assert data["errors"][0]["issues"][0]["path"] == "price"
    assert call.references() == ["A"]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"{", 400, "INVALID_JSON"),
        (b"[]", 400, "EMPTY_PAYLOAD"),
        (b'{"items":7}', 400, "INVALID_BODY"),
        (json.dumps([ITEM] * 101).encode(), 400, "TOO_MANY_ITEMS"),
    ],
)
def test_a_bulk_call_that_is_wrong_as_a_whole(call: Caller, body: bytes, status: int, code: str) -> None:
    answer = call("POST", "/listings/bulk-upsert", data=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


def test_a_bare_array_is_a_bulk_call_too(call: Caller) -> None:
    assert call("POST", "/listings/bulk-upsert", json=[ITEM | {"external_reference": "A"}]).json()["data"][
        "successCount"
    ]


def test_delete_is_soft_and_idempotent(call: Caller) -> None:
    call.put("A")
    first, second = (call("DELETE", "/listings/A").json() for _ in range(2))
    assert first == second
    assert first["data"]["status"] == "sold"
    assert call.references() == []
    assert call.references(status="sold") == call.references(status="all") == ["A"]
    assert call("DELETE", "/listings/nobody").json()["error"]["code"] == "NOT_FOUND"


def test_status_changes_without_the_listing(call: Caller) -> None:
    call.put("A")
    assert call("POST", "/listings/A/status", json={"status": "pending"}).json()["data"]["status"] == "pending"
    assert call("POST", "/listings/A/status", json={"status": "gone"}).status_code == 422
    assert call.references(status="pending") == ["A"]


# -- reading -------------------------------------------------------------------------------------------------------


def test_pages_filters_and_totals(call: Caller, clock: Clock) -> None:
    for number in range(5):
        clock.now += 10
        call.put(f"R{number}", status="draft" if number == 3 else "active")
    assert call.references() == ["R0", "R1", "R2", "R4"], "active ones, unless asked otherwise"
    page = call.list(status="all", page=2, pageSize=2)
    assert [row["externalReference"] for row in page["data"]] == ["R2", "R3"]
    assert page["pagination"] == {"page": 2, "pageSize": 2, "totalItems": 5, "totalPages": 3}
    since = call.list(status="all")["data"][3]["updatedAt"]
    assert call.references(status="all", updatedSince=since) == ["R3", "R4"]
    assert call("GET", "/listings?pageSize=201").status_code == 422
    assert call("GET", "/listings?updatedSince=yesterday").status_code == 422
    assert call.references(locationCode="gent", status="draft") == ["R3"]


def test_images_come_back_from_the_cdn(call: Caller) -> None:
    call.put("A", images=["https://x.test/1.jpg", {"url": "https://x.test/2.jpg"}])
    (row,) = call.list()["data"]
    assert [image["position"] for image in row["images"]] == [0, 1]
    assert all("x.test" not in image["url"] for image in row["images"])
    assert row["mainImageUrl"] == row["images"][0]["url"]


def test_answers_carry_the_request_id_and_the_sandboxs_time(call: Caller, sandbox: Sandbox, clock: Clock) -> None:
    headers = {"Authorization": "Bearer full", "X-Request-Id": "mine"}
    answer = requests.get(f"{sandbox.base_url}/listings", headers=headers, timeout=60)
    assert answer.headers["X-Request-Id"] == "mine"
    assert parsedate_to_datetime(answer.headers["Date"]).timestamp() == clock.now


def test_locations_are_those_that_have_listings(call: Caller) -> None:
    call.put("A")
    (place,) = call("GET", "/locations").json()["data"]
    assert (place["locationCode"], place["stats"]) == ("GENT", {"activeListings": 1, "totalListings": 1})


# -- limits --------------------------------------------------------------------------------------------------------


def statuses(call: Caller, clock: Clock, moments: list[float]) -> list[int]:
    statuses, start = [], clock.now
    for moment in moments:
        clock.now = start + moment
        statuses.append(call("GET", "/listings").status_code)
    clock.now = start
    return statuses


@pytest.mark.parametrize(
    ("window", "moments", "expected"),
    [
        # three a minute, at 0, 30, 59: the fourth waits for the window of its kind
        ("fixed", [0, 30, 59, 59.5, 60, 60.5, 61, 61.5], [200, 200, 200, 429, 200, 200, 200, 429]),
        ("sliding", [0, 30, 59, 59.5, 60, 60.1, 89, 90.1], [200, 200, 200, 429, 429, 200, 429, 200]),
        ("bucket", [0, 0.1, 0.2, 0.3, 20.3, 20.4], [200, 200, 200, 429, 200, 429]),
    ],
)
def test_each_kind_of_window(window: Any, moments: list[float], expected: list[int], clock: Clock) -> None:
    with Sandbox([Key("full")], limit=3, window=window, clock=clock) as sandbox:
        assert statuses(Caller(sandbox), clock, moments) == expected


def test_five_a_second_and_its_headers(clock: Clock) -> None:
    with Sandbox([Key("full")], limit=120, clock=clock) as sandbox:
        call = Caller(sandbox)
        answers = [call("GET", "/listings") for _ in range(6)]
        assert [answer.status_code for answer in answers] == [200] * 5 + [429]
        assert [answers[0].headers[f"X-RateLimit-{n}"] for n in ("Limit", "Remaining")] == ["120", "119"]
        assert int(answers[0].headers["X-RateLimit-Reset"]) == clock.now + 60
        refused = answers[5]
        assert refused.headers["Retry-After"] == "1"
        assert refused.json()["error"]["code"] == "RATE_LIMITED"
        assert "retryAt" in refused.json()["error"]
        state = requests.get(f"{sandbox.admin_url}/state", timeout=60).json()["sandbox"]
        assert (state["rate_limited"], state["busiest_second"], state["busiest_minute"]) == (1, 5, 5)


# -- faults --------------------------------------------------------------------------------------------------------


def test_every_fault_does_what_it_says(sandbox: Sandbox, call: Caller) -> None:
    def with_fault(kind: str, **more: Any) -> requests.Response | str:
        rule = {"kind": kind, "times": 1, "match": {"path": "put"}, "seconds": 0.05, **more}
        requests.post(f"{sandbox.admin_url}/faults", json=rule, timeout=60).raise_for_status()
        try:
            return call("PUT", f"/listings/{kind}", json=ITEM, allow_redirects=False)
        except requests.RequestException as error:
            return type(error).__name__

    done = {row["externalReference"] for row in call.list(status="all")["data"]}
    assert done == set()
    answers = {kind: with_fault(kind) for kind in (
        "500", "503_html", "html", "slow", "drop_before", "drop_after", "truncated", "garbage", "data_not_list", "429",
        "400", "401", "redirect",
    )}  # fmt: skip
    codes = {k: a.status_code for k, a in answers.items() if isinstance(a, requests.Response)}
    assert codes == {
        "500": 500, "503_html": 503, "html": 200, "slow": 201, "garbage": 201, "data_not_list": 200, "429": 429,
        "400": 400, "401": 401, "redirect": 302,
    }  # fmt: skip
    assert {k for k, a in answers.items() if isinstance(a, str)} == {"drop_before", "drop_after", "truncated"}
    assert set(call.references(status="all")) == {"slow", "drop_after", "truncated", "garbage"}, "these did the work"
    assert call.put("after").status_code == 201


def test_removing_the_faults_answers_the_requests_that_one_delays(sandbox: Sandbox, call: Caller) -> None:
    rule = {"kind": "slow", "times": 1, "seconds": 600}
    requests.post(f"{sandbox.admin_url}/faults", json=rule, timeout=60).raise_for_status()
    with ThreadPoolExecutor() as pool:
        answer = pool.submit(call, "PUT", "/listings/slow", json=ITEM)
        poll(lambda: sandbox.faults._rules[0].expired, what="the request")
        requests.delete(f"{sandbox.admin_url}/faults", timeout=60).raise_for_status()
        assert answer.result(HANG_SECONDS).status_code == 201


def test_a_fault_that_is_invalid_is_refused(sandbox: Sandbox) -> None:
    for rule in ({"kind": "earthquake"}, {"kind": "500", "tmies": 1}):
        answer = requests.post(f"{sandbox.admin_url}/faults", json=rule, timeout=60)
        assert answer.status_code == 400


# -- the file, the command -----------------------------------------------------------------------------------------


def test_listings_are_kept_in_a_file(tmp_path: Path, clock: Clock) -> None:
    for expected in ([], ["A"]):
        with Sandbox([Key("full")], limit=0, data=tmp_path / "listings.db", clock=clock) as sandbox:
            call = Caller(sandbox)
            assert call.references(status="all") == expected
            call.put("A")
    assert call is not None


def test_the_command_prints_its_address_and_ends_on_sigterm(tmp_path: Path) -> None:
    log = tmp_path / "log"
    argv = [
        sys.executable,
        "-m",
        "okasie_tasks",
        "sandbox",
        "--port",
        "0",
        "--key",
        "k1",
        "--key",
        "k2",
        "--limit",
        "9",
    ]
    with log.open("wb") as out, subprocess.Popen(argv, stdout=out, stderr=out) as process:
        try:
            line = poll(log.read_text, what="the ready line")
            assert line.startswith("sandbox ready: http://127.0.0.1:")
            url = line.split(": ", 1)[1].strip()
            for key in ("k1", "k2"):
                answer = requests.get(f"{url}/listings", headers={"X-API-Key": key}, timeout=60)
                assert (answer.status_code, answer.headers["X-RateLimit-Limit"]) == (200, "9")
            taken = subprocess.run(
                [*argv[:5], url.split(":")[2].split("/")[0]], capture_output=True, text=True, timeout=300, check=False
            )
            assert (taken.returncode, taken.stderr.count("\n")) == (2, 1)
            assert "cannot listen" in taken.stderr
        finally:
            process.terminate()
        assert process.wait(10) == 0
    assert log.read_text().count("\n") == 1
