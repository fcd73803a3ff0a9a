"""Who gets in: the Host, proxies, start tokens, sessions; what the server refuses to start with; a Redis that is away."""

from __future__ import annotations

import re
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
import redis
import requests
from click.testing import CliRunner

from okasie_tasks.cli import cli
from okasie_tasks.errors import ConfigurationError
from okasie_tasks.services import Services
from okasie_tasks.settings import load_settings
from okasie_tasks.settings.web import START_TOKEN
from okasie_tasks.web.server import Server
from tests.web.serving import CONFIG, ENVIRON, TOKENS, Site, serving

ACCOUNT = """
[accounts.dex]
api_key = "env:KEY"
base_url = "http://127.0.0.1:9/api"
[accounts.dex.source]
url = "feed.csv"
reference = "stock_no"
"""
START = "start-token-0123456789"


def services(folder: Path, redis_url: str, more: str = "", **environ: str) -> Services:
    config = folder / "okasie.toml"
    config.write_text(f'{ACCOUNT}\n[redis]\nurl = "{redis_url}"\n{more}')
    return Services(load_settings(config, environ={"KEY": "k" * 20, **ENVIRON, **environ}))


@pytest.fixture
def local(tmp_path: Path, redis_url: str, client: redis.Redis) -> Iterator[Site]:
    """A server without configured tokens."""
    found = services(tmp_path, redis_url, '[web]\nlisten = "127.0.0.1:0"\n')
    with serving(found, start_token=START) as (site, _):
        yield site


@pytest.fixture
def configured(tmp_path: Path, redis_url: str, client: redis.Redis) -> Iterator[Site]:
    proxy = CONFIG.replace(
        "[web]\n", '[web]\npublic_url = "https://sync.dealer.example"\ntrusted_proxies = ["127.0.0.1"]\n', 1
    )
    with serving(services(tmp_path, redis_url, proxy)) as (site, _):
        yield site


def cookie_of(answer: Any) -> str:
    found = re.match(r"okasie_session=([^;]+)", answer.headers.get("Set-Cookie", ""))
    assert found, answer.headers
    return found[1]


# -- the start token -----------------------------------------------------------------------------------------------


def test_the_printed_address_signs_in_and_the_token_leaves_the_address(local: Site) -> None:
    answer = local("GET", f"/accounts/dex?token={START}&done=x", None)
    assert (answer.status_code, answer.headers["Location"]) == (303, "/accounts/dex?done=x")
    flags = answer.headers["Set-Cookie"]
    assert "HttpOnly" in flags
    assert "SameSite=strict" in flags
    cookies = {"okasie_session": cookie_of(answer)}
    assert local("GET", "/", None, cookies=cookies).status_code == 200
    assert local("GET", "/", None).headers["Location"] == "/login"
    assert START not in local("GET", "/", None, cookies=cookies).text


def test_a_wrong_start_token_opens_nothing_and_locks_nobody_out(local: Site) -> None:
    for number in range(11):
        answer = local("GET", f"/?token=guess-{number}", None)
        assert (answer.status_code, answer.headers["Location"]) == (303, "/")
        assert "Set-Cookie" not in answer.headers
    assert "Set-Cookie" in local("GET", f"/?token={START}", None).headers, "any page can request such an address"


def test_the_address_with_a_token_leads_to_no_other_host(local: Site) -> None:
    connection = HTTPConnection(local.origin.removeprefix("http://"), timeout=60)
    connection.request("GET", f"//evil.example/?token={START}")
    answer = connection.getresponse()
    assert (answer.status, answer.headers["Location"]) == (303, "/")
    connection.close()


def test_a_session_of_a_start_token_ends_with_its_server(tmp_path: Path, redis_url: str, client: redis.Redis) -> None:
    more = '[web]\nlisten = "127.0.0.1:0"\n'
    with serving(services(tmp_path, redis_url, more), start_token=START) as (site, _):
        cookies = {"okasie_session": cookie_of(site("GET", f"/?token={START}", None))}
    with serving(services(tmp_path, redis_url, more), start_token=START) as (site, _):
        assert site("GET", "/", None, cookies=cookies).status_code == 200, "`okasie up` has restarted its server"
    with serving(services(tmp_path, redis_url, more), start_token=f"{START}-of-another-start") as (site, _):
        assert site("GET", "/", None, cookies=cookies).headers["Location"] == "/login"


def test_the_start_token_is_a_bearer_token_too(local: Site) -> None:
    assert local.get("/accounts", START).status_code == 200
    assert local.get("/accounts", None).status_code == 401


def test_a_session_ends_when_one_signs_out(local: Site) -> None:
    cookies = {"okasie_session": cookie_of(local("GET", f"/?token={START}", None))}
    page = local("GET", "/", None, cookies=cookies).text
    csrf = re.search(r'name="csrf" value="([^"]+)"', page)
    assert csrf
    assert local("POST", "/logout", None, cookies=cookies, data={"csrf": "forged"}).status_code == 403
    assert local("POST", "/logout", None, cookies=cookies, data={"csrf": csrf[1]}).status_code == 303
    assert local("GET", "/", None, cookies=cookies).headers["Location"] == "/login"


# -- configured tokens ---------------------------------------------------------------------------------------------


def test_a_configured_token_signs_in_and_there_is_no_start_token(configured: Site) -> None:
    answer = configured("POST", "/login", None, data={"token": TOKENS["reader"], "next": "/accounts/dex"})
    assert (answer.status_code, answer.headers["Location"]) == (303, "/accounts/dex")
    assert "Set-Cookie" in answer.headers
    assert "Set-Cookie" not in configured("GET", f"/?token={START}", None).headers
    assert configured("POST", "/login", None, data={"token": "wrong", "next": "/"}).status_code == 401


def test_signing_in_leads_to_no_other_host(configured: Site) -> None:
    for place in ("https://evil.example/", "//evil.example/", "/\\evil.example", "javascript:alert(1)"):
        answer = configured("POST", "/login", None, data={"token": TOKENS["boss"], "next": place})
        assert answer.headers["Location"] == "/", place


def test_a_form_of_another_site_is_refused_and_not_counted(configured: Site) -> None:
    for site in ("cross-site", "same-site") * 6:
        form = {"token": "guess", "next": "/"}
        answer = configured("POST", "/login", None, data=form, headers={"Sec-Fetch-Site": site})
        assert answer.status_code == 403
    form = {"token": TOKENS["boss"], "next": "/"}
    answer = configured("POST", "/login", None, data=form, headers={"Sec-Fetch-Site": "same-origin"})
    assert answer.status_code == 303


def test_a_token_that_cannot_be_read_lets_nobody_in_and_stops_no_other(
    tmp_path: Path, redis_url: str, client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "reader").write_text(TOKENS["reader"])
    with serving(services(tmp_path, redis_url, CONFIG.replace("env:TOKEN_READER", "file:reader"))) as (site, _):
        assert site.get("/accounts", "reader").status_code == 200
        (tmp_path / "reader").unlink()
        assert site.get("/accounts", "boss").status_code == 200
        assert site("POST", "/login", None, data={"token": TOKENS["boss"], "next": "/"}).status_code == 303
        refused = site.get("/accounts", "reader")
        assert (refused.status_code, "file:" in refused.text) == (401, False)
        statuses = [site.get("/accounts", "reader").status_code for _ in range(11)]
        assert statuses[-1] == 429, "failed attempts count"
        (tmp_path / "reader").write_text(TOKENS["reader"][:31])
        client.delete(*client.keys("*web:failed:*"))
        assert site.get("/accounts", TOKENS["reader"][:31]).status_code == 401, "too short"
    logged = [record for record in caplog.records if "a token of the web server is unusable" in record.message]
    assert len(logged) == 1


def test_a_session_ends_when_its_token_is_rotated(tmp_path: Path, redis_url: str, client: redis.Redis) -> None:
    (tmp_path / "boss").write_text(TOKENS["boss"])
    with serving(services(tmp_path, redis_url, CONFIG.replace("env:TOKEN_BOSS", "file:boss"))) as (site, _):
        cookies = {"okasie_session": cookie_of(site("POST", "/login", None, data={"token": TOKENS["boss"]}))}
        assert site("GET", "/", None, cookies=cookies).status_code == 200
        (tmp_path / "boss").write_text(TOKENS["boss"][::-1])
        assert site("GET", "/", None, cookies=cookies).headers["Location"] == "/login"
        assert site.get("/accounts", None, cookies=cookies).status_code == 401


def test_a_session_is_worth_what_its_token_is_worth_now(tmp_path: Path, redis_url: str, client: redis.Redis) -> None:
    with serving(services(tmp_path, redis_url, CONFIG)) as (site, _):
        cookie = cookie_of(site("POST", "/login", None, data={"token": TOKENS["boss"], "next": "/"}))
    less = CONFIG.replace("[web.tokens.boss]", "[web.tokens.renamed]")
    with serving(services(tmp_path, redis_url, less)) as (site, _):
        assert site("GET", "/", None, cookies={"okasie_session": cookie}).headers["Location"] == "/login"


# -- hosts and proxies ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "localhost@evil.example", "", "[::1", "evil.example:80"]
)
def test_a_forged_host_is_refused(local: Site, host: str) -> None:
    answer = local("GET", "/api/v1/accounts", START, headers={"Host": host})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "host")


def test_a_server_on_another_loopback_address_knows_its_own(
    tmp_path: Path, redis_url: str, client: redis.Redis
) -> None:
    found = services(tmp_path, redis_url, '[web]\nlisten = "127.0.0.2:0"\n')
    with serving(found, start_token=START) as (site, _):
        assert site.get("/accounts", START).status_code == 200
        forged = {"Host": "127.0.0.3"}
        assert site.get("/accounts", START, headers=forged).status_code == 400


def test_forwarded_headers_count_only_from_a_trusted_proxy(local: Site, configured: Site) -> None:
    forged = {"X-Forwarded-Host": "127.0.0.1", "Host": "evil.example"}
    assert local("GET", "/api/v1/accounts", START, headers=forged).status_code == 400
    through = {"X-Forwarded-Host": "sync.dealer.example", "X-Forwarded-Proto": "https", "Host": "internal"}
    answer = configured("POST", "/login", None, headers=through, data={"token": TOKENS["boss"], "next": "/"})
    assert answer.status_code == 303
    assert "Secure" in answer.headers["Set-Cookie"], "people use https"
    wrong = through | {"X-Forwarded-Host": "evil.example"}
    assert configured("GET", "/login", None, headers=wrong).status_code == 400


def test_failures_are_counted_by_the_address_behind_the_proxy(configured: Site) -> None:
    for _ in range(11):
        last = configured.get("/accounts", "guess", headers={"X-Forwarded-For": "198.51.100.7, 127.0.0.1"})
    assert last.status_code == 429
    assert configured.get("/accounts", "boss", headers={"X-Forwarded-For": "198.51.100.8"}).status_code == 200


def test_a_client_cannot_choose_its_address(local: Site) -> None:
    statuses = [
        local.get("/accounts", "guess", headers={"X-Forwarded-For": f"198.51.100.{number}"}).status_code
        for number in range(12)
    ]
    assert statuses[-1] == 429


def test_probes_answer_under_any_name(local: Site) -> None:
    for path in ("/healthz", "/readyz", "/api/v1/healthz", "/api/v1/readyz"):
        answer = local("GET", path, None, headers={"Host": "10.0.0.7:8600"})
        assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


@pytest.mark.parametrize(
    "path", ["/static/../app.py", "/static/%2e%2e/app.py", "/static/..%2f..%2fapp.py", "//etc/passwd"]
)
def test_paths_lead_to_no_file(local: Site, path: str) -> None:
    cookies = {"okasie_session": cookie_of(local("GET", f"/?token={START}", None))}
    raw = requests.Request("GET", local.origin, cookies=cookies).prepare()
    raw.url = f"{local.origin}{path}"  # as it is, not normalised
    answer = local.session.send(raw, timeout=60, allow_redirects=False)
    assert answer.status_code in (303, 404)
    assert "create_app" not in answer.text


def test_every_answer_has_the_headers_that_protect_people(local: Site) -> None:
    for path in ("/login", "/api/v1/accounts", "/nothing", "/static/console.css"):
        headers = local("GET", path, None).headers
        assert "default-src 'none'" in headers["Content-Security-Policy"], path
        assert "unsafe" not in headers["Content-Security-Policy"]
        assert (headers["X-Content-Type-Options"], headers["Referrer-Policy"]) == ("nosniff", "no-referrer")
        assert "Server" not in headers


# -- the start -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ('[web]\nlisten = "0.0.0.0:0"', r"expected \[web.tokens.NAME\]"),
        (CONFIG.replace('"127.0.0.1:0"', '"0.0.0.0:0"'), "expected web.public_url"),
        (CONFIG.replace("env:TOKEN_BOSS", "env:NOT_SET"), "NOT_SET"),
        (
            CONFIG.replace("env:TOKEN_BOSS", "env:KEY"),
            r"web.tokens.boss.token: got 20 characters, expected at least 32",
        ),
    ],
)
def test_the_server_refuses_to_start_unsafely(tmp_path: Path, redis_url: str, more: str, expected: str) -> None:
    with pytest.raises(ConfigurationError, match=expected):
        Server(services(tmp_path, redis_url, more))


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ('[web]\nlisten = "8600"', "expected HOST:PORT"),
        ('[web]\npublic_url = "http://sync.dealer.example"', "expected https://"),
        ('[web.tokens.a]\ntoken = "literal-secret"', "expected env:NAME or file:/path"),
        ('[web.tokens.a]\ntoken = "env:X"\naccounts = ["nobody"]', "there is no account 'nobody'"),
        ('[web.tokens.a]\ntoken = "env:X"\nrole = "admin"', "role"),
    ],
)
def test_bad_settings_are_refused_by_name(tmp_path: Path, redis_url: str, more: str, expected: str) -> None:
    with pytest.raises(ConfigurationError, match=expected) as caught:
        services(tmp_path, redis_url, more)
    assert "literal-secret" not in str(caught.value)


@pytest.mark.parametrize("by_fleet", [True, False])
def test_only_a_terminal_shows_the_start_token(
    tmp_path: Path, redis_url: str, client: redis.Redis, monkeypatch: pytest.MonkeyPatch, by_fleet: bool
) -> None:
    """The output of the server that `okasie up` starts is a log file."""
    services(tmp_path, redis_url, '[web]\nlisten = "127.0.0.1:0"\n')
    monkeypatch.setenv("KEY", "k" * 20)
    monkeypatch.setattr(Server, "run", lambda self: self._socket.close())
    if by_fleet:
        monkeypatch.setenv(START_TOKEN, START)
    answer = CliRunner().invoke(cli, ["--config", str(tmp_path / "okasie.toml"), "web"])
    assert "console and API at http://127.0.0.1:" in answer.output
    assert ("token=" in answer.output) == (not by_fleet)


def test_a_port_in_use_is_one_clear_error(tmp_path: Path, redis_url: str, client: redis.Redis) -> None:
    with serving(services(tmp_path, redis_url, '[web]\nlisten = "127.0.0.1:0"\n'), start_token=START) as (_, server):
        more = f'[web]\nlisten = "127.0.0.1:{server.bound[1]}"\n'
        with pytest.raises(ConfigurationError, match="cannot be listened on"):
            Server(services(tmp_path, redis_url, more))


# -- Redis ---------------------------------------------------------------------------------------------------------


def test_a_redis_that_is_away_is_503_with_the_cause(tmp_path: Path) -> None:
    found = services(tmp_path, "redis://127.0.0.1:1/0", CONFIG)
    with serving(found) as (site, _):
        assert site.get("/healthz").status_code == 200, "the process is alive"
        for path in ("/readyz", "/accounts/dex"):
            answer = site.get(path)
            assert answer.status_code == 503, answer.text
            assert answer.json()["error"]["message"].startswith("Redis does not answer")
        sent = site.post("/accounts/dex/sell", {"references": ["A"]})
        assert (sent.status_code, sent.json()["error"]["code"]) == (503, "not_reachable")
