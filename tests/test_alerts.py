"""Alerts: found in the records, sent once by the fleet, few enough to be read; a real web server and a real mail server."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from email.message import EmailMessage
from email.parser import BytesParser
from email.policy import default
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import redis
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult
from click.testing import CliRunner

from okasie_tasks import masking
from okasie_tasks.adapters.alert_box import AlertBox
from okasie_tasks.adapters.alert_channels import NotDelivered, channels
from okasie_tasks.celery import Services
from okasie_tasks.cli import cli
from okasie_tasks.cli.local import free_port
from okasie_tasks.core.alerts import Alert, is_stale, stale_seconds
from okasie_tasks.core.plan import Held, HeldPlan
from okasie_tasks.errors import FixConfiguration
from okasie_tasks.settings import AlertSettings, load_settings
from okasie_tasks.sync import alerting
from okasie_tasks.sync.alerting import Desk, deliver, look

# A login in the clear: it is loopback.
pytestmark = pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS")

PASSWORD = "CANARY-mail-77d1"
TOKEN = "CANARY-hook-77d1"


# -- real servers --------------------------------------------------------------------------------------------------


class Hook:
    """A web server on loopback that keeps what it was sent, and answers what it is told to."""

    def __init__(self) -> None:
        self.got: list[dict[str, Any]] = []
        self.status, self.headers = 204, dict[str, str]()
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                hook.got.append(json.loads(body))
                self.send_response(hook.status)
                for name, value in hook.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/{TOKEN}"

    def __enter__(self) -> Hook:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class Post:
    """A mail server on loopback that asks for a login."""

    def __init__(self) -> None:
        self.got: list[EmailMessage] = []
        self.port = free_port(8_100)
        self._controller = Controller(
            self, hostname="127.0.0.1", port=self.port, auth_required=True, auth_require_tls=False,
            authenticator=lambda *given: AuthResult(success=given[4].password == PASSWORD.encode(), handled=False),
        )  # fmt: skip

    async def handle_DATA(self, _: Any, __: Any, envelope: Any) -> str:
        found = BytesParser(policy=default).parsebytes(envelope.content)
        assert isinstance(found, EmailMessage)
        self.got.append(found)
        return "250 OK"

    def __enter__(self) -> Post:
        self._controller.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._controller.stop()


@pytest.fixture
def hook() -> Iterator[Hook]:
    with Hook() as found:
        yield found


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(masking, "_known", ())


# -- a fleet -------------------------------------------------------------------------------------------------------


CONFIG = """
[redis]
url = "{redis}"
[accounts.dex]
api_key = "CANARY-key-77d1"
base_url = "http://127.0.0.1:1"
[accounts.dex.source]
url = "feed.csv"
reference = "r"
"""


class Fleet:
    """The desks of some control workers, over one Redis."""

    def __init__(self, folder: Path, redis_url: str, alerts: str, **environ: str) -> None:
        self.config = folder / "okasie.toml"
        self.config.write_text(CONFIG.format(redis=redis_url) + alerts)
        self._environ = environ
        self._services: list[Services] = []
        self.services = self.worker()
        self.desk = self.services.alerting()
        self.runs = self.services.runs

    def worker(self) -> Services:
        found = Services(load_settings(self.config, self._environ))
        self._services.append(found)
        return found

    def ended(self, state: str, *, account: str = "dex", **facts: str) -> str:
        """A run that ended so."""
        name, _ = self.runs.request(account, "full")
        assert self.runs.begin(account) == name
        self.runs.note(name, noted=1, **facts)
        run = self.runs.get(name)
        assert run is not None
        self.runs.end(run, state)
        return name

    def tick(self, desk: Desk | None = None) -> int:
        """One look, and what it sends."""
        self.forget_looks()
        look(desk or self.desk)
        return deliver(desk or self.desk)

    def forget_looks(self) -> None:
        """So long a time passes between two ticks that somebody may look again."""
        self.services.redis.delete("okasie:alerts:look:ended", "okasie:alerts:look:stale")

    def passes(self, seconds: float) -> None:
        """Time passes for the box: every moment that it knows moves back."""
        client, base = self.services.redis, "okasie:alerts:"
        for name in ("due", "hour"):
            for member, ms in client.zrange(base + name, 0, -1, withscores=True):
                client.zadd(base + name, {member: ms - seconds * 1000})
        for slot, value in client.hgetall(base + "last").items():
            ms, key = value.split(b" ", 1)
            client.hset(base + "last", slot, f"{int(ms) - int(seconds * 1000)} ".encode() + key)

    def close(self) -> None:
        for services in self._services:
            services.redis.close()


@pytest.fixture
def fleet(tmp_path: Path, redis_url: str, client: redis.Redis, hook: Hook) -> Iterator[Fleet]:
    found = Fleet(tmp_path, redis_url, '[alerts]\nwebhook = "env:HOOK"\n', HOOK=hook.url)
    with contextlib.closing(found):
        yield found


# -- what is told --------------------------------------------------------------------------------------------------


def test_a_failed_run_is_told_with_its_reason_and_what_to_do(fleet: Fleet, hook: Hook) -> None:
    error = {"code": "unauthorized", "message": "HTTP 401; the API key is not accepted", "where": "GET /listings"}
    run = fleet.ended("failed", error=json.dumps(error))
    assert fleet.tick() == 1
    (told,) = hook.got
    assert told.pop("at").endswith("Z")
    text = told.pop("text")
    assert told == {
        "account": "dex", "run": run, "kind": "failed", "more": 0, "test": False,
        "reason": "GET /listings: HTTP 401; the API key is not accepted",
        "what_to_do": "`okasie doctor dex` checks the key and the source and says how to mend them",
    }  # fmt: skip
    assert text.splitlines()[0] == "okasie-tasks: dex: a run failed"


def test_a_held_plan_is_told_once_however_many_runs_meet_it(fleet: Fleet, hook: Hook) -> None:
    held = Held(guard="sold_count", dealer=None, what="sells", count=40, reason="40 sells are more than 10 %")
    facts = json.dumps([{"guard": "sold_count", "dealer": None, "what": "sells", "count": 40, "reason": held.reason}])
    name, _ = fleet.runs.request("dex", "full")
    fleet.runs.begin("dex")
    now = fleet.runs.now_ms()
    plan = HeldPlan(run=name, mode="full", created_ms=now, expires_ms=now + 1000_000, holds=[held], items=["sell A"])
    fleet.services.plans.keep("dex", plan)
    fleet.runs.note(name, held=facts, held_run=name)
    run = fleet.runs.get(name)
    assert run is not None
    fleet.runs.end(run, "held")
    fleet.tick()
    fleet.ended("held", held=facts, held_run=name)
    fleet.passes(7200)
    fleet.tick()
    (told,) = hook.got
    assert (told["kind"], told["run"], told["reason"]) == ("held", name, held.reason)
    assert f"`okasie approve {name}` or `okasie reject {name}`" in told["what_to_do"]
    assert "it expires 20" in told["what_to_do"]


@pytest.mark.parametrize("state", ["done", "cancelled"])
def test_what_is_well_is_not_told(fleet: Fleet, hook: Hook, state: str) -> None:
    fleet.ended(state)
    assert fleet.tick() == 0
    assert hook.got == []


def test_kinds_that_nobody_asked_for_are_not_told(
    tmp_path: Path, redis_url: str, client: redis.Redis, hook: Hook
) -> None:
    found = Fleet(tmp_path, redis_url, f'[alerts]\nwebhook = "{hook.url}"\nkinds = ["failed"]\n')
    with contextlib.closing(found):
        found.ended("partial")
        found.ended("failed")
        assert found.tick() == 1
    assert [told["kind"] for told in hook.got] == ["failed"]


def test_what_ended_long_ago_or_is_of_an_account_that_is_gone_is_not_told(fleet: Fleet, hook: Hook) -> None:
    old = fleet.ended("failed")
    fleet.runs.note(old, ended_ms=fleet.runs.now_ms() - 25 * 3600 * 1000)
    fleet.ended("failed", account="gone")
    assert fleet.tick() == 0
    assert fleet.desk.box.ended() == []


# -- stale ---------------------------------------------------------------------------------------------------------


def test_an_account_without_success_is_told_until_it_succeeds(fleet: Fleet, hook: Hook) -> None:
    after = fleet.desk.after["dex"]
    assert after == 45 * 60, "three times 15 minutes"
    fleet.ended("done")
    assert fleet.tick() == 0
    past = fleet.runs.now_ms() - int(after * 1000) - 60_000
    fleet.services.redis.hset("okasie:account:dex:metrics", "success_ms:full", past)
    assert fleet.tick() == 1
    fleet.passes(7200)
    assert fleet.tick() == 0, "the same trouble is told once"
    (told,) = hook.got
    assert (told["kind"], told["account"], told["run"]) == ("stale", "dex", None)
    assert told["reason"].startswith("no run has succeeded for 46 min, the last one 20")


def test_who_is_paused_or_at_work_is_not_stale(fleet: Fleet, hook: Hook) -> None:
    fleet.services.redis.hset("okasie:alerts:since", "dex", fleet.runs.now_ms() - 86_400_000)
    fleet.runs.stops.pause("dex")
    assert fleet.tick() == 0
    fleet.runs.stops.resume("dex")
    assert fleet.tick() == 0, "it has had no time yet"
    fleet.services.redis.hdel("okasie:account:dex", "resumed_ms")
    run, _ = fleet.runs.request("dex", "full")
    fleet.runs.begin("dex")
    fleet.runs.note(run, progress_ms=fleet.runs.now_ms())
    assert fleet.tick() == 0
    fleet.runs.note(run, progress_ms=fleet.runs.now_ms() - 16 * 60_000)
    assert fleet.tick() == 1
    assert hook.got[0]["reason"] == "no run has succeeded for 24 h 0 min; none ever did"


@pytest.mark.parametrize(
    ("incremental", "full", "wanted", "seconds"),
    [
        (900.0, True, None, 2700.0),
        (60.0, True, None, 1800.0),
        (None, True, None, 93_600.0),
        (None, False, None, None),
        (900.0, True, 60.0, 60.0),
    ],
)
def test_when_an_account_is_stale(
    incremental: float | None, full: bool, wanted: float | None, seconds: float | None
) -> None:
    assert stale_seconds(incremental, full, wanted) == seconds


def test_stale_is_strictly_after() -> None:
    assert not is_stale(since_ms=0, now_ms=60_000, after_seconds=60)
    assert is_stale(since_ms=0, now_ms=60_001, after_seconds=60, moved_ms=-900_000)
    assert not is_stale(since_ms=0, now_ms=60_001, after_seconds=60, moved_ms=59_000)


# -- once, and not too often ---------------------------------------------------------------------------------------


def test_a_fleet_sends_each_alert_once(fleet: Fleet, hook: Hook) -> None:
    desks = [fleet.worker().alerting() for _ in range(6)]
    fleet.ended("failed")
    start = threading.Barrier(len(desks))

    def work(desk: Desk) -> None:
        start.wait()
        look(desk)
        deliver(desk)

    threads = [threading.Thread(target=work, args=(desk,)) for desk in desks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    fleet.tick()
    assert len(hook.got) == 1


def test_a_storm_is_one_message_and_the_next_tells_how_many(fleet: Fleet, hook: Hook) -> None:
    runs = [fleet.ended("failed") for _ in range(4)]
    fleet.tick()
    assert [(told["run"], told["more"]) for told in hook.got] == [(runs[3], 3)]
    runs += [fleet.ended("failed") for _ in range(3)]
    fleet.tick()
    assert len(hook.got) == 1, "within the hour"
    fleet.passes(3601)
    fleet.tick()
    assert [(told["run"], told["more"]) for told in hook.got[1:]] == [(runs[6], 2)]
    assert "2 more of this kind since the last message." in hook.got[1]["text"]


def test_kinds_and_accounts_do_not_hold_each_other_up(fleet: Fleet, hook: Hook) -> None:
    fleet.ended("failed")
    fleet.ended("partial")
    fleet.tick()
    assert sorted(told["kind"] for told in hook.got) == ["failed", "partial"]


def test_no_more_than_so_many_go_out_in_an_hour(
    tmp_path: Path, redis_url: str, client: redis.Redis, hook: Hook
) -> None:
    settings = AlertSettings(max_per_hour=3)
    box = AlertBox(client, prefix="okasie:", settings=settings)
    for number in range(5):
        box.put(alert(account=f"a{number}"), ["webhook"])
    box.put(alert(account="a0"), ["email"])
    taken = [box.take() for _ in range(6)]
    assert sorted(one.slot.split()[0] for one in taken if one) == ["email", "webhook", "webhook", "webhook"]
    for one in taken:
        if one:
            box.over(one)
    found = Fleet(tmp_path, redis_url, f'[alerts]\nwebhook = "{hook.url}"\nmax_per_hour = 3\n')
    with contextlib.closing(found):
        found.passes(3602)
        later = [box.take() for _ in range(3)]
    assert len([one for one in later if one]) == 2, "held back, not lost"


def test_what_comes_while_a_message_is_under_way_is_told_next(client: redis.Redis) -> None:
    box = AlertBox(client, prefix="okasie:", settings=AlertSettings())
    box.put(alert("1"), ["webhook"])
    box.put(alert("2"), ["webhook"])
    taken = box.take()
    assert taken is not None
    assert (taken.key, taken.stands_for) == ("2", 2)
    assert not box.put(alert("2"), ["webhook"]), "known"
    box.put(alert("3"), ["webhook"])
    box.over(taken)
    assert [(slot, stands_for, tries) for slot, _, stands_for, tries in box.waiting()] == [("webhook failed dex", 1, 0)]
    assert box.take() is None


def test_a_sender_that_died_is_followed_by_another(fleet: Fleet, hook: Hook) -> None:
    fleet.ended("failed")
    fleet.forget_looks()
    look(fleet.desk)
    assert fleet.desk.box.take() is not None, "and then it is killed"
    assert fleet.tick() == 0
    fleet.passes(61)
    assert fleet.tick() == 1


def test_a_failed_delivery_is_tried_again_and_given_up_in_the_end(
    fleet: Fleet, hook: Hook, caplog: pytest.LogCaptureFixture
) -> None:
    hook.status = 503
    fleet.ended("failed")
    for wait in alerting._WAITS:
        fleet.tick()
        due = fleet.desk.box.waiting()[0][1]
        assert abs(due - fleet.runs.now_ms() - wait * 1000) < 5000
        fleet.passes(wait + 1)
    fleet.tick()
    assert len(hook.got) == len(alerting._WAITS) + 1
    assert fleet.desk.box.waiting() == []
    assert [record.getMessage() for record in caplog.records].count("alert given up") == 1
    hook.status = 204
    fleet.ended("failed")
    fleet.passes(3601)
    assert fleet.tick() == 1, "the next one is sent"


def alert(key: str = "1", *, account: str = "dex") -> Alert:
    return Alert(key=key, kind="failed", account=account, reason="r", what_to_do="w", at_ms=1)


# -- the channels --------------------------------------------------------------------------------------------------


TOLD = {
    "account": "dex", "run": "01J", "kind": "failed", "reason": "r", "what_to_do": "w", "at": "2026", "more": 0,
    "test": False, "text": "okasie-tasks: dex: a run failed\nbecause of ä",
}  # fmt: skip


def mail_settings(tmp_path: Path, port: int, *, password: str = PASSWORD, more: str = 'tls = "off"') -> AlertSettings:
    file = tmp_path / "okasie.toml"
    file.write_text(
        f'[alerts.email]\nhost = "127.0.0.1"\nport = {port}\n{more}\nuser = "okasie"\npassword = "env:PW"\n'
        'sender = "okasie@dealer.example"\nto = ["a@dealer.example", "b@dealer.example"]\n'
    )
    return load_settings(file, {"PW": password}).alerts


def test_a_mail_arrives(tmp_path: Path) -> None:
    with Post() as post:
        channels(mail_settings(tmp_path, post.port))["email"](TOLD)
    (mail,) = post.got
    assert mail["Subject"] == "okasie-tasks: dex: a run failed"
    assert mail["To"] == "a@dealer.example, b@dealer.example"
    assert mail.get_content().splitlines() == [
        "because of ä",
        "",
        "Account: dex",
        "Run: 01J",
        "Kind: failed",
        "At: 2026",
    ]


def test_a_mail_server_that_refuses_is_told_without_the_password(tmp_path: Path) -> None:
    with Post() as post, pytest.raises(NotDelivered, match="the mail server answered 535") as caught:
        channels(mail_settings(tmp_path, post.port, password="CANARY-wrong"))["email"](TOLD)
    assert "CANARY" not in str(caught.value)
    with Post() as post, pytest.raises(NotDelivered, match="SMTPNotSupportedError"):
        channels(mail_settings(tmp_path, post.port, more=""))["email"](TOLD)  # no STARTTLS there: no login in the clear
    assert post.got == []


def test_no_mail_server_is_told(tmp_path: Path) -> None:
    with pytest.raises(NotDelivered, match="ConnectionRefusedError"):
        channels(mail_settings(tmp_path, 1))["email"](TOLD)


def test_a_redirect_of_a_webhook_is_not_followed(hook: Hook) -> None:
    hook.status, hook.headers = 302, {"Location": hook.url}
    with pytest.raises(NotDelivered, match="the webhook answered 302"):
        channels(AlertSettings(webhook=hook.url))["webhook"](TOLD)
    assert len(hook.got) == 1


def test_the_address_of_a_webhook_is_shown_nowhere(tmp_path: Path) -> None:
    url = f"http://127.0.0.1:1/{TOKEN}"
    with pytest.raises(NotDelivered, match=r"was not reached \(ConnectionError\)") as caught:
        channels(AlertSettings(webhook=url))["webhook"](TOLD)
    assert TOKEN not in str(caught.value)
    assert masking.mask(f"POST {url} failed") == "POST *** failed"


def test_no_secret_leaves_in_an_alert(fleet: Fleet, hook: Hook) -> None:
    fleet.services.settings.accounts["dex"].api_key.reveal()
    error = FixConfiguration("the server said: no such key CANARY-key-77d1", where="GET /listings")
    fleet.ended("failed", error=json.dumps({"code": error.code, "message": error.message, "where": error.where}))
    fleet.tick()
    assert "CANARY" not in json.dumps(hook.got)
    assert "no such key ***" in hook.got[0]["reason"]
    kept = [fleet.services.redis.hgetall(f"okasie:alerts:{name}") for name in ("waits", "last")]
    assert b"CANARY" not in repr(kept).encode()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('[alerts]\nwebhook = "http://hooks.example/CANARY"', "alerts.webhook: got another address, expected https://"),
        ('[alerts]\nkinds = ["held", "sold"]', "alerts.kinds.1: got "),
        ("[alerts.email]\nport = 25", "alerts.email.host: is missing"),
        ('[alerts.email]\nhost = "mx"\nto = ["a"]', "alerts.email.sender: is missing"),
        ('[alerts.email]\nhost = "mx"\nsender = "a"', "alerts.email.to: is missing"),
        (
            '[alerts.email]\nhost = "mx"\nsender = "a"\nto = ["b"]\ntls = "off"',
            "plain mail is only allowed on loopback",
        ),
        ('[alerts.email]\nhost = "mx"\nsender = "a"\nto = ["b"]\nuser = "u"', "got one of user and password"),
    ],
)
def test_a_wrong_setting_is_refused(tmp_path: Path, text: str, told: str) -> None:
    file = tmp_path / "okasie.toml"
    file.write_text(text)
    with pytest.raises(FixConfiguration) as caught:
        load_settings(file, {})
    assert told in str(caught.value)
    assert "CANARY" not in str(caught.value)


def test_lists_may_come_from_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "okasie.toml"
    file.write_text('[alerts.email]\nhost = "mx"\nsender = "a"\n')
    found = load_settings(file, {"OKASIE_ALERTS__EMAIL__TO": "b, c", "OKASIE_ALERTS__KINDS": "held"}).alerts
    assert (found.email.to, found.kinds) == (("b", "c"), ("held",))


# -- the command ---------------------------------------------------------------------------------------------------


def command(config: Path, *arguments: str, **environ: str) -> Any:
    return CliRunner().invoke(cli, ["alerts", "--config", str(config), *arguments], env=environ)


def test_a_test_alert_tells_how_it_went_by_each_channel(tmp_path: Path, hook: Hook) -> None:
    config = tmp_path / "okasie.toml"
    with Post() as post:
        config.write_text(
            f'[alerts]\nwebhook = "env:HOOK"\n[alerts.email]\nhost = "127.0.0.1"\nport = {post.port}\ntls = "off"\n'
            f'user = "okasie"\npassword = "env:PW"\nsender = "a@dealer.example"\nto = ["b@dealer.example"]\n'
        )
        good = command(config, "--test", "--json", HOOK=hook.url, PW=PASSWORD)
        assert good.exit_code == 0, good.output
        assert json.loads(good.stdout)["channels"] == [
            {"name": "webhook", "to": "env:HOOK", "ok": True, "message": None},
            {"name": "email", "to": "b@dealer.example", "ok": True, "message": None},
        ]
        hook.status = 500
        bad = command(config, "--test", HOOK=hook.url, PW=PASSWORD)
    assert bad.exit_code == 1
    assert "FAILED: alerts.webhook: the webhook answered 500" in bad.output
    assert (hook.got[0]["test"], hook.got[0]["kind"], post.got[0]["Subject"]) == (
        True,
        "test",
        "okasie-tasks: test alert",
    )
    assert "CANARY" not in good.output + bad.output


def test_the_command_shows_what_waits(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK", "http://127.0.0.1:1/x")
    fleet.ended("failed")
    fleet.tick()
    shown = command(fleet.config, "--json")
    assert shown.exit_code == 0, shown.output
    document = json.loads(shown.stdout)
    assert (document["kinds"], document["every_seconds"]) == (["held", "failed", "partial", "stale"], 3600.0)
    assert document["waiting"] == []


def test_without_channels_it_says_so(tmp_path: Path) -> None:
    config = tmp_path / "okasie.toml"
    config.write_text("")
    found = command(config, "--test")
    assert isinstance(found.exception, FixConfiguration)
    assert "set webhook, or email, under [alerts]" in str(found.exception)
