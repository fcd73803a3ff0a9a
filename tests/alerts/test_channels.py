"""The webhook, the mail, their settings and `okasie alerts`; a real web server and a real mail server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from okasie_tasks import masking
from okasie_tasks.alerting.channels import NotDelivered, channels
from okasie_tasks.cli import cli
from okasie_tasks.errors import ConfigurationError
from okasie_tasks.settings import AlertSettings, load_settings
from tests.alerts.scenario import PASSWORD, TOKEN, Hook, Post, Senders

# A login in the clear: it is loopback.
pytestmark = pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS")

# -- the channels --------------------------------------------------------------------------------------------------


PAYLOAD = {
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
        channels(mail_settings(tmp_path, post.port))["email"](PAYLOAD)
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


def test_the_error_of_a_refusing_mail_server_hides_the_password(tmp_path: Path) -> None:
    with Post() as post, pytest.raises(NotDelivered, match="the mail server answered 535") as caught:
        channels(mail_settings(tmp_path, post.port, password="CANARY-wrong"))["email"](PAYLOAD)
    assert "CANARY" not in str(caught.value)
    with Post() as post, pytest.raises(NotDelivered, match="SMTPNotSupportedError"):
        channels(mail_settings(tmp_path, post.port, more=""))["email"](
            PAYLOAD
        )  # no STARTTLS there: no login in the clear
    assert post.got == []


def test_a_missing_mail_server_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(NotDelivered, match="ConnectionRefusedError"):
        channels(mail_settings(tmp_path, 1))["email"](PAYLOAD)


def test_a_redirect_of_a_webhook_is_not_followed(hook: Hook) -> None:
    hook.status, hook.headers = 302, {"Location": hook.url}
    with pytest.raises(NotDelivered, match="the webhook answered 302"):
        channels(AlertSettings(webhook=hook.url))["webhook"](PAYLOAD)
    assert len(hook.got) == 1


def test_the_address_of_a_webhook_is_shown_nowhere(tmp_path: Path) -> None:
    url = f"http://127.0.0.1:1/{TOKEN}"
    with pytest.raises(NotDelivered, match=r"was not reached \(ConnectionError\)") as caught:
        channels(AlertSettings(webhook=url))["webhook"](PAYLOAD)
    assert TOKEN not in str(caught.value)
    assert masking.mask(f"POST {url} failed") == "POST *** failed"


def test_no_secret_leaves_in_an_alert(fleet: Senders, hook: Hook) -> None:
    fleet.services.settings.accounts["dex"].api_key.reveal()
    error = ConfigurationError("the server said: no such key CANARY-key-77d1", where="GET /listings")
    fleet.ended("failed", error=json.dumps({"code": error.code, "message": error.message, "where": error.where}))
    fleet.tick()
    assert "CANARY" not in json.dumps(hook.got)
    assert "no such key ***" in hook.got[0]["reason"]
    kept = [fleet.services.redis.hgetall(f"okasie:alerts:{name}") for name in ("waits", "last")]
    assert b"CANARY" not in repr(kept).encode()


@pytest.mark.parametrize(
    ("text", "message"),
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
def test_a_wrong_setting_is_refused(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "okasie.toml"
    file.write_text(text)
    with pytest.raises(ConfigurationError) as caught:
        load_settings(file, {})
    assert message in str(caught.value)
    assert "CANARY" not in str(caught.value)


def test_lists_may_come_from_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "okasie.toml"
    file.write_text('[alerts.email]\nhost = "mx"\nsender = "a"\n')
    alerts = load_settings(file, {"OKASIE_ALERTS__EMAIL__TO": "b, c", "OKASIE_ALERTS__KINDS": "held"}).alerts
    assert (alerts.email.to, alerts.kinds) == (("b", "c"), ("held",))


# -- the command ---------------------------------------------------------------------------------------------------


def command(config: Path, *arguments: str, **environ: str) -> Any:
    return CliRunner().invoke(cli, ["alerts", "--config", str(config), *arguments], env=environ)


def test_a_test_alert_shows_the_result_of_each_channel(tmp_path: Path, hook: Hook) -> None:
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


def test_the_command_shows_what_waits(fleet: Senders, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK", "http://127.0.0.1:1/x")
    fleet.ended("failed")
    fleet.tick()
    shown = command(fleet.config, "--json")
    assert shown.exit_code == 0, shown.output
    document = json.loads(shown.stdout)
    assert (document["kinds"], document["every_seconds"]) == (
        [
            "held",
            "failed",
            "partial",
            "stale",
            "lost_fields",
            "sells_waiting",
            "rejects",
            "refused_key",
            "workers_gone",
        ],
        3600.0,
    )
    assert document["waiting"] == []


def test_without_channels_it_is_an_error(tmp_path: Path) -> None:
    config = tmp_path / "okasie.toml"
    config.write_text("")
    result = command(config, "--test")
    assert isinstance(result.exception, ConfigurationError)
    assert "set `webhook` or `email` under [alerts]" in str(result.exception)
