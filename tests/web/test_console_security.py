"""What the console refuses or escapes: hostile texts, forms of others, other accounts, foreign addresses."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import Request
from fastapi.routing import APIRoute

from okasie_tasks.services import Services
from okasie_tasks.settings import load_settings
from okasie_tasks.web import console, entrance
from okasie_tasks.web.app import create_app
from okasie_tasks.web.console import page
from tests.sync.http_scenario import HttpScenario, varied
from tests.web.server import Browser, serve
from tests.web.test_console_templates import Parsed

HOSTILE = """<script>alert(1)</script><img src=x onerror=alert(2)>"'&{{ 7*7 }}"""
REFERENCE = """<img src=x onerror=alert(3)>"'/&"""
TOKENS = {name: f"token-of-{name}-0123456789abcdef0123456789abcdef" for name in ("jan", "eva", "otto")}
_MORE = """
[web.tokens.jan]
token = "env:TOKEN_JAN"
role = "operate"
accounts = ["dex"]
[web.tokens.eva]
token = "env:TOKEN_EVA"
role = "read"
[web.tokens.otto]
token = "env:TOKEN_OTTO"
role = "operate"
accounts = ["other"]

[accounts.other]
api_key = "env:OTHER_KEY"
base_url = "https://www.okasie.be/api/external/v1"
[accounts.other.source]
type = "csv"
url = "other.csv"
reference = "stock_no"
"""
GUARD = "free_sold_count = 0\nmax_sold_percent = 5\nmax_price_change_percent = 50"


class World:
    """A scenario with hostile texts in every part, and browsers that are signed in."""

    def __init__(self, scenario: HttpScenario, url: str) -> None:
        self.scenario, self._url = scenario, url

    def browser(self, token: str | None = None) -> Browser:
        browser = Browser(self._url)
        if token is not None:
            answer = browser.post("/login", data={"token": TOKENS[token], "next": "/"})
            assert answer.status_code == 303, answer.text
        return browser

    @property
    def held_run(self) -> str:
        plan = self.scenario.services.plans.get("dex", now_ms=0)
        assert plan is not None
        return plan.run

    @property
    def addresses(self) -> list[str]:
        run = self.scenario.ctx.runs.history("dex", 5)[0]
        reference = {"reference": REFERENCE}
        return [
            "/", "/accounts/dex", "/accounts/dex/plan", f"/accounts/dex/plan/approve?run={self.held_run}",
            f"/accounts/dex/plan/reject?run={self.held_run}", "/accounts/dex/listings", "/accounts/dex/rejects", f"/runs/{run}",
            *(f"/accounts/dex/{page}?{encoded(reference)}" for page in ("listing", "listing/push", "listing/sell")),
        ]  # fmt: skip


def encoded(query: dict[str, str]) -> str:
    from urllib.parse import urlencode

    return urlencode(query)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, redis_url: str) -> Iterator[World]:
    rows = varied(8, seed=5)
    rows[0] |= {"stock_no": REFERENCE, "make": HOSTILE, "notes": HOSTILE}
    environ = {f"TOKEN_{name.upper()}": token for name, token in TOKENS.items()} | {"OTHER_KEY": "k" * 20}
    folder = tmp_path_factory.mktemp("console")
    with HttpScenario(folder, redis_url, rows=rows, guarded=True, guard=GUARD, more=_MORE, environ=environ) as scenario:
        assert scenario.run().state == "done"
        rows[0]["price_eur"] = "1"
        rows[1]["price_eur"] = HOSTILE
        scenario.rows = rows[:-2]
        assert scenario.run("incremental").state == "held"
        with serve(create_app(scenario.services)) as url:
            yield World(scenario, url)


def test_hostile_texts_are_text_on_every_page(world: World) -> None:
    jan = world.browser("jan")
    searched = [
        f"/accounts/dex/{page}?{encoded({'search': HOSTILE, 'dealer': HOSTILE, 'after': HOSTILE})}"
        for page in ("plan", "listings")
    ]
    other = [
        f"/?{encoded({'done': HOSTILE})}",
        f"/accounts/dex/listing?{encoded({'reference': HOSTILE})}",
        f"/runs/{encoded({HOSTILE: ''})}",
    ]
    seen = ""
    for address in [*world.addresses, *searched, *other]:
        answer = jan.get(address, headers={"Accept-Language": HOSTILE, "Referer": HOSTILE, "X-Forwarded-Host": HOSTILE})
        assert answer.status_code in (200, 404), address
        seen += answer.text
        page = Parsed(answer.text)
        assert [a.get("src") for tag, a in page.elements if tag == "script"] == [
            a["src"]
            for tag, a in page.elements
            if tag == "script" and (a["src"] or "").startswith("/static/console.js?")
        ]
        assert not [(tag, a) for tag, a in page.elements if any(name.startswith("on") or name == "style" for name in a)]
        assert all((a.get("src") or "").startswith("/static/") for tag, a in page.elements if tag == "img"), address
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in seen, "the title is shown"
    assert "&lt;img src=x onerror=alert(3)&gt;" in seen, "the reference too"
    assert "{{ 7*7 }}" in seen


def forms(world: World) -> list[tuple[str, dict[str, str]]]:
    """Every form of the console that changes something, with good fields."""
    fields = {
        "/accounts/{account}/sync": {"mode": "full"},
        "/accounts/{account}/listing/{what}": {"reference": REFERENCE},
        "/accounts/{account}/plan/{decision}": {"run": world.held_run},
    }
    names = {"account": "dex", "run": world.held_run, "what": "sell", "decision": "approve"}
    routes = [
        route.path
        for part in (entrance, *console.PARTS)
        for route in part.routes.routes
        if isinstance(route, APIRoute) and "POST" in route.methods
    ]
    open_to_all = {"/login", "/language"}
    return [(path.format(**names), fields.get(path, {})) for path in routes if path not in open_to_all]


def csrf(browser: Browser) -> str:
    found = re.search(r'name="csrf" value="([^"]+)"', browser.get("/").text)
    assert found
    return found[1]


def unchanged(world: World) -> tuple[object, ...]:
    services = world.scenario.services
    return (
        services.runs.history("dex", 50), services.runs.controls.paused_ms("dex"), world.held_run,
services.redis.hlen(f"{world.scenario.prefix}outbox"), len(world.scenario.writes),
    )  # fmt: skip


@pytest.mark.parametrize("secret", [None, "", "wrong", "eva's"])
def test_a_form_without_the_secret_of_its_session_changes_nothing(world: World, secret: str | None) -> None:
    before = unchanged(world)
    jan = world.browser("jan")
    value = csrf(world.browser("eva")) if secret == "eva's" else secret
    assert len(forms(world)) >= 7
    for path, fields in forms(world):
        answer = jan.post(path, data=fields | ({} if value is None else {"csrf": value}))
        assert answer.status_code == 403, path
    assert unchanged(world) == before
    assert jan.get("/").status_code == 200, "the session is still there"


def test_without_a_session_every_page_leads_to_the_login_and_every_form_is_refused(world: World) -> None:
    before, nobody = unchanged(world), world.browser()
    for address in world.addresses:
        answer = nobody.get(address)
        assert answer.status_code in (302, 303, 307), address
        assert answer.headers["location"].startswith("/login"), address
    for path, fields in forms(world):
        assert nobody.post(path, data=fields | {"csrf": "x"}).status_code in (303, 401, 403), path
    assert unchanged(world) == before


def test_another_accounts_person_finds_nothing_of_this_one(world: World) -> None:
    before, otto = unchanged(world), world.browser("otto")
    for address in world.addresses[1:]:
        assert otto.get(address).status_code == 404, address
    assert "dex" not in Parsed(otto.get("/").text).text
    secret = csrf(otto)
    for path, fields in forms(world):
        if path != "/logout":
            assert otto.post(path, data=fields | {"csrf": secret}).status_code == 404, path
    assert unchanged(world) == before


def test_a_person_who_may_only_look_changes_nothing(world: World) -> None:
    before, eva = unchanged(world), world.browser("eva")
    secret = csrf(eva)
    for path, fields in forms(world):
        if path != "/logout":
            assert eva.post(path, data=fields | {"csrf": secret}).status_code == 403, path
    assert unchanged(world) == before


@pytest.mark.parametrize(
    "path",
    [
        "/static/page.py", "/static/../page.py", "/static/%2e%2e/page.py", "/static/..%2fpage.py", "/static/%2fetc%2fpasswd",
        "/static/console.css%00", "/accounts/..%2f..%2fetc", "/accounts/dex%00", "/runs/..%2f..", "/runs/*", "/accounts/DEX",
    ],
)  # fmt: skip
def test_paths_lead_nowhere_else(world: World, path: str) -> None:
    assert world.browser("jan").get(path).status_code in (400, 404)


@pytest.mark.parametrize(
    "back",
    ["https://evil.example/", "//evil.example", "/\\evil.example", "javascript:alert(1)", "/a\r\nSet-Cookie: x=1", ""],
)
def test_the_language_never_leads_to_another_host(world: World, back: str) -> None:
    answer = world.browser().post("/language", data={"language": "nl", "back": back})
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    assert "evil" not in str(answer.headers)
    assert "HttpOnly" in answer.headers["set-cookie"]


def test_a_language_that_there_is_not_is_not_kept(world: World) -> None:
    answer = world.browser().post("/language", data={"language": "../../etc/passwd", "back": "/accounts/dex?x=1"})
    assert answer.headers["location"] == "/accounts/dex?x=1"
    assert "set-cookie" not in answer.headers


def test_a_form_of_any_size_is_refused(world: World) -> None:
    assert world.browser().post("/language", data=b"x" * 100_000).status_code == 413


def test_no_page_holds_a_secret(world: World) -> None:
    jan = world.browser("jan")
    for address in world.addresses:
        text = jan.get(address).text
        assert not [token for token in TOKENS.values() if token in text], address
        assert "http-world-secret" not in text


def test_every_page_forbids_inline_scripts_and_frames(world: World) -> None:
    for browser in (world.browser(), world.browser("jan")):
        for address in [*world.addresses, "/login", "/static/console.js", "/nowhere"]:
            policy = browser.get(address).headers["content-security-policy"]
            assert "script-src 'self'" in policy
            assert "frame-ancestors 'none'" in policy
            assert "unsafe" not in policy


def test_the_page_of_an_error_keeps_no_other_request_waiting(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """It reads the session from Redis, which must not happen in the event loop."""
    inside: list[bool] = []

    def session_of(request: Request) -> None:
        with contextlib.suppress(RuntimeError):
            inside.append(asyncio.get_running_loop() is not None)

    monkeypatch.setattr(page, "session_of", session_of)
    assert world.browser("jan").get("/accounts/nobody").status_code == 404
    assert inside == []


def test_without_redis_each_page_says_so(tmp_path: Path) -> None:
    config = tmp_path / "okasie.toml"
    config.write_text('[redis]\nurl = "redis://127.0.0.1:9/0"\n')
    with serve(create_app(Services(load_settings(config, environ={})), start_token="x" * 32)) as url:
        browser = Browser(url)
        browser.cookies["okasie_session"] = "x"
        answer = browser.get("/")
        assert answer.status_code == 503
        page = Parsed(answer.text)
        assert "Not available at the moment" in page.text
        assert "Redis does not answer" in page.text, "the cause"
        assert browser.get("/nowhere").status_code == 404
