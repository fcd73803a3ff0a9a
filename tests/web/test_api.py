"""The HTTP API over the real server: who may do what, what is refused, and what comes back."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import redis
import requests
from celery import Celery

from okasie_tasks.web import events
from okasie_tasks.web.app import create_app
from tests.support import poll
from tests.sync.http_scenario import HttpScenario, varied
from tests.web.serving import CONFIG, ENVIRON, TOKENS, Site, serving

GUARD = "free_sold_count = 0\nmax_sold_percent = 5\nmax_price_change_percent = 50"
HOSTILE = """<script>alert(1)</script>"'&"""
LISTING = {"externalReference": "API-1", "title": "Golf", "price": 9_500}


class World:
    def __init__(self, scenario: HttpScenario, site: Site) -> None:
        self.scenario, self.site = scenario, site

    @property
    def held_run(self) -> str:
        return str(self.site.get("/accounts/dex/plan").json()["run"])

    @property
    def client(self) -> redis.Redis:
        return self.scenario.services.redis

    def forgive(self) -> None:
        """Forget the failed attempts."""
        self.client.delete("none", *self.client.keys("*web:failed:*"))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, redis_url: str) -> Iterator[World]:
    rows = varied(8, seed=5)
    rows[0]["make"] = HOSTILE
    folder = tmp_path_factory.mktemp("api")
    with HttpScenario(
        folder, redis_url, rows=rows, guarded=True, guard=GUARD, more=CONFIG, environ=ENVIRON
    ) as scenario:
        assert scenario.run().state == "done"
        rows[1]["price_eur"] = HOSTILE
        scenario.rows = rows[:-2]
        assert scenario.run("incremental").state == "held"
        with serving(scenario.services) as (site, _):
            yield World(scenario, site)


@pytest.fixture
def site(world: World) -> Site:
    return world.site


READ, SEND, OPERATE, OPEN = ("reader", "boss"), ("pusher", "boss"), ("boss",), ("reader", "pusher", "boss", None)
ALLOWED: dict[str, tuple[str | None, ...]] = {
    "GET /api/v1/accounts": ("reader", "boss", "other"),
    "GET /api/v1/accounts/{account}": READ,
    "GET /api/v1/accounts/{account}/runs": READ,
    "GET /api/v1/accounts/{account}/listings": READ,
    "GET /api/v1/accounts/{account}/listings/{reference}": READ,
    "GET /api/v1/accounts/{account}/rejects": READ,
    "GET /api/v1/accounts/{account}/plan": READ,
    "POST /api/v1/accounts/{account}/sync": SEND,
    "POST /api/v1/accounts/{account}/push": SEND,
    "POST /api/v1/accounts/{account}/sell": SEND,
    "POST /api/v1/accounts/{account}/pause": OPERATE,
    "POST /api/v1/accounts/{account}/resume": OPERATE,
    "POST /api/v1/accounts/{account}/retry": OPERATE,
    "GET /api/v1/runs/{run}": READ,
    "POST /api/v1/runs/{run}/cancel": OPERATE,
    "POST /api/v1/runs/{run}/approve": OPERATE,
    "POST /api/v1/runs/{run}/reject": OPERATE,
    "GET /api/v1/requests/{request}": READ,
    "GET /api/v1/events": ("reader", "boss", "other"),
    "GET /api/v1/healthz": (*TOKENS, None),
    "GET /api/v1/readyz": (*TOKENS, None),
}
"""Every route, and the tokens that it answers. ``other`` sees another account only."""
BODIES = {"push": {"references": ["DG-00001"]}, "sell": {"references": ["NOBODY"]}}


def routes(world: World) -> list[str]:
    paths = create_app(world.scenario.services).openapi()["paths"]
    return [f"{method.upper()} {path}" for path, methods in paths.items() for method in methods]


def test_every_route_of_the_api_is_in_the_table(world: World) -> None:
    assert sorted(routes(world)) == sorted(ALLOWED)


@pytest.mark.parametrize("token", [*TOKENS, None, "no-token-of-ours"])
@pytest.mark.parametrize("route", sorted(ALLOWED))
def test_each_role_may_do_what_it_may_and_no_more(world: World, route: str, token: str | None) -> None:
    method, path = route.split(" ")
    ended = world.scenario.ctx.runs.history("dex", 5)[-1]
    request = world.site.post("/accounts/dex/sell", {"references": ["NOBODY"]}).json()["request"]
    for name, value in {
        "{account}": "dex", "{reference}": "DG-00001", "{run}": ended, "{request}": request,
    }.items():  # fmt: skip
        path = path.replace(name, value)
    world.forgive()
    answer = world.site(method, path, token, json=BODIES.get(path.rsplit("/", 1)[-1]), stream=path.endswith("/events"))
    status = answer.status_code
    if path.endswith("/events") and status == 200:
        answer.close()
    allowed = token in ALLOWED[route]
    if allowed:
        # A run that has ended can be neither cancelled nor approved.
        assert status in ((409, 422) if "/runs/" in path and method == "POST" else (200, 202)), answer.text
    elif None in ALLOWED[route]:
        assert status == 200
    elif token is None or token not in TOKENS:
        assert (status, answer.json()["error"]["code"]) == (401, "unauthorized")
    else:
        assert status == (404 if token == "other" or "/requests/" in path else 403), answer.text
        assert answer.json()["error"]["message"]


def test_another_accounts_token_sees_nothing_of_it(site: Site) -> None:
    unknown, hidden = site.get("/accounts/nobody", "other").json(), site.get("/accounts/dex", "other").json()
    assert json.dumps(hidden).replace("dex", "nobody") == json.dumps(unknown), "it is as if it did not exist"
    listed = site.get("/accounts", "other").json()
    assert [account["account"] for account in listed["accounts"]] == ["other"]
    assert {entry["account"] for entry in listed["attention"]} <= {"other"}


def test_a_program_sees_the_outcome_of_its_own_requests_only(site: Site) -> None:
    mine = site.post("/accounts/dex/push", {"references": ["DG-00001"]}, "pusher").json()["request"]
    theirs = site.post("/accounts/dex/push", {"references": ["DG-00001"]}, "boss").json()["request"]
    answer = site.get(f"/requests/{mine}", "pusher").json()
    assert (answer["state"], answer["by"], answer["kind"], answer["account"]) == (
        "waiting",
        "token:pusher",
        "push",
        "dex",
    )
    assert site.get(f"/requests/{theirs}", "pusher").status_code == 404
    assert site.get(f"/requests/{mine}", "reader").status_code == 200


def test_reads_say_what_the_commands_say(site: Site, world: World) -> None:
    assert site.get("/accounts/dex").json()["held_plan"]["run"] == world.held_run
    run = site.get(f"/runs/{world.held_run}").json()
    assert (run["run"], run["state"]) == (world.held_run, "held")
    runs = site.get("/accounts/dex/runs?limit=1").json()
    later = site.get(f"/accounts/dex/runs?after={runs['next']}").json()
    listed = [one["run"] for one in (*runs["runs"], *later["runs"])]
    assert world.held_run in listed
    assert listed == sorted(listed, reverse=True)
    found = site.get("/accounts/dex/listings", params={"search": "script"}).json()
    assert [(row["reference"], HOSTILE in row["title"]) for row in found["listings"]] == [("DG-00001", True)]
    assert site.get("/accounts/dex/listings/DG-00001").json()["ledger"]["status"] == "active"
    assert site.get("/accounts/dex/rejects").json()["rejects"][0]["reference"] == "DG-00002"
    plan = site.get("/accounts/dex/plan").json()
    assert {item["action"] for item in plan["items"]} == {"sell"}
    assert plan["items"][0]["changes"]["status"] == {"old": "active", "new": "sold"}


def test_a_reference_may_hold_any_character_of_a_path(site: Site) -> None:
    for reference in ("A/B", "..%2F..%2Fetc%2Fpasswd", "%3Cscript%3E", "a b"):
        answer = site.get(f"/accounts/dex/listings/{reference}")
        assert answer.status_code == 200
        assert answer.json()["reference"] == requests.utils.unquote(reference)


@pytest.mark.parametrize(
    ("path", "body", "status", "where"),
    [
        ("/accounts/dex/push", {"references": []}, 422, "references"),
        ("/accounts/dex/push", {"references": ["A"], "listings": [LISTING]}, 422, "body"),
        ("/accounts/dex/push", {"listings": [LISTING], "version": -1}, 422, "version"),
        ("/accounts/dex/push", {"references": ["A"] * 1001}, 422, "references"),
        ("/accounts/dex/push", {"references": [".."]}, 422, "push"),
        ("/accounts/dex/push", {"reference": "A"}, 422, "reference"),
        ("/accounts/dex/sell", {"references": "A"}, 422, "references"),
        ("/accounts/dex/sync", {"mode": "everything"}, 422, "mode"),
        ("/accounts/dex/sell", None, 422, "body"),
    ],
)
def test_a_bad_body_is_one_clear_error(site: Site, path: str, body: object, status: int, where: str) -> None:
    answer = site.post(path, body)
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert (error["where"], bool(error["message"])) == (where, True)


def test_malformed_json_and_oversized_bodies_are_refused(site: Site) -> None:
    path = "/api/v1/accounts/dex/push"
    answer = site("POST", path, data=b'{"references": [', headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "bad_request")
    large = site("POST", path, data=b" " * (9 * 1024 * 1024), headers={"Content-Type": "application/json"})
    assert (large.status_code, large.json()["error"]["code"]) == (413, "too_large")
    pieces = (b" " * 1024 * 1024 for _ in range(9))
    chunked = site("POST", path, data=pieces, headers={"Content-Type": "application/json"})
    assert (chunked.status_code, chunked.json()["error"]["code"]) == (413, "too_large")


def test_the_body_of_a_stranger_is_not_read(site: Site) -> None:
    form = {"Content-Type": "application/json"}
    for token in (None, "no-token-of-ours"):
        answer = site("POST", "/api/v1/accounts/dex/push", token, data=b'{"references": [', headers=form)
        assert answer.status_code == 401, "else its fault would be reported: 400"


def test_an_unknown_address_is_a_document_too(site: Site) -> None:
    for path, method, status in (("/api/v1/nothing", "GET", 404), ("/api/v1/accounts", "DELETE", 405)):
        answer = site(method, path)
        assert (answer.status_code, set(answer.json()["error"])) == (status, {"code", "message", "where"})


# -- idempotency ---------------------------------------------------------------------------------------------------


def unreachable(*_: object, **__: object) -> None:
    raise redis.ConnectionError("the broker is away")


def queued(world: World) -> int:
    return int(world.client.hlen(f"{world.scenario.services.settings.redis.key_prefix}outbox"))


def test_the_same_key_is_the_same_request(world: World) -> None:
    site, key = world.site, {"Idempotency-Key": "order-1"}
    before = queued(world)
    first = site.post("/accounts/dex/push", {"references": ["DG-00003"]}, headers=key)
    again = site.post("/accounts/dex/push", {"references": ["DG-00003"]}, headers=key)
    assert (first.status_code, again.status_code) == (202, 202)
    assert first.json() == again.json()
    assert queued(world) == before + 1
    other = site.post("/accounts/dex/push", {"references": ["DG-00004"]}, headers=key)
    assert (other.status_code, other.json()["error"]["where"]) == (422, "Idempotency-Key")
    theirs = site.post("/accounts/dex/push", {"references": ["DG-00003"]}, "pusher", headers=key)
    assert theirs.json()["request"] != first.json()["request"], "a key belongs to its token"


def test_a_process_that_died_before_its_answer_stores_nothing_twice(world: World) -> None:
    site, key = world.site, {"Idempotency-Key": "order-2"}
    before = queued(world)
    first = site.post("/accounts/dex/sell", {"references": ["NOBODY"]}, headers=key).json()
    for kept in world.client.keys("*web:idempotent:*"):
        world.client.delete(kept)  # the answer was never kept
    assert site.post("/accounts/dex/sell", {"references": ["NOBODY"]}, headers=key).json() == first
    assert queued(world) == before + 1


def test_another_request_with_the_key_of_one_that_failed_is_not_taken_for_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first one is stored, but its message cannot be published: its answer is an error, and it is sent later."""
    site, key = world.site, {"Idempotency-Key": "order-4"}
    before = queued(world)
    with monkeypatch.context() as broken:
        broken.setattr(Celery, "send_task", unreachable)
        assert site.post("/accounts/dex/push", {"references": ["DG-00003"]}, headers=key).status_code == 503
    assert queued(world) == before + 1
    more = {"references": ["DG-00003", "DG-00004"]}
    assert site.post("/accounts/dex/push", more, headers=key).status_code == 202
    assert queued(world) == before + 2


def test_requests_at_the_same_time_with_one_key_are_one(world: World) -> None:
    before, answers = queued(world), list[requests.Response]()

    def one() -> None:
        session = Site(world.site.origin)
        key = {"Idempotency-Key": "order-3"}
        answers.append(session.post("/accounts/dex/sell", {"references": ["NOBODY"]}, headers=key))

    threads = [threading.Thread(target=one) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {answer.status_code for answer in answers} <= {202, 409}
    assert len({answer.json()["request"] for answer in answers if answer.status_code == 202}) == 1
    assert queued(world) == before + 1


# -- what is away --------------------------------------------------------------------------------------------------


def test_attempts_with_wrong_tokens_are_limited(world: World) -> None:
    world.forgive()
    statuses = [world.site.get("/accounts", f"guess-{number}").status_code for number in range(12)]
    assert statuses == [401] * 10 + [429] * 2
    limited = world.site.get("/accounts", "boss")
    assert (limited.status_code, limited.headers["Retry-After"]) == (429, "60"), "the right one must wait too"
    world.forgive()
    assert world.site.get("/accounts", "boss").status_code == 200


def test_a_stream_ends_so_that_its_access_is_checked_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "_LONGEST_SECONDS", 0.01)
    with world.site.get("/events?account=dex", stream=True) as answer:
        assert "event: held" in answer.text


def test_a_token_has_so_many_streams_and_no_more(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "_MOST", 1)
    first = Site(world.site.origin).get("/events", "reader", stream=True)
    lines = first.iter_lines()
    assert next(lines)
    refused = world.site.get("/events", "reader")
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "too_many_streams")
    with world.site.get("/events", "boss", stream=True) as other:
        assert other.status_code == 200, "each token has its own"
    first.close()

    def again() -> bool:
        with world.site.get("/events", "reader", stream=True) as answer:
            return answer.status_code == 200

    poll(again, what="the end of the first stream")


def test_events_tell_how_things_are_and_what_changes(world: World) -> None:
    with world.site.get("/events?account=dex", stream=True) as answer:
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        found: dict[str, Any] = {}
        kind = ""
        for line in answer.iter_lines(decode_unicode=True):
            if line.startswith("event: "):
                kind = line.removeprefix("event: ")
            if line.startswith("data: "):
                found[kind] = json.loads(line.removeprefix("data: "))
            if len(found) == 3:
                break
    assert found["held"] == {"account": "dex", "run": world.held_run, "count": 2}
    assert (found["progress"]["account"], found["rejects"]["count"]) == ("dex", 1)
