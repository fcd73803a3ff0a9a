"""Ports of a fleet: no two fleets get the same one, and an unusual port of Flower is reported."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from pathlib import Path

import pytest

from okasie_tasks.errors import ConnectionFailed
from okasie_tasks.local import fleet as local
from okasie_tasks.local.fleet import LocalFleet, reserved_port
from okasie_tasks.sandbox.sample import config_text


def test_a_reserved_port_is_no_other_fleets_before_anything_listens_there() -> None:
    with reserved_port(7_400) as first:
        with reserved_port(first) as second:
            assert second > first
        with pytest.raises(ConnectionFailed):
            reserved_port(first, tries=1).__enter__()
    with reserved_port(first, tries=1) as again:
        assert again == first


def test_port_0_is_any_port() -> None:
    with reserved_port(0) as port:
        assert port > 0


WEB = '[web]\nlisten = "127.0.0.1:8600"\n'
TOKEN = '[web.tokens.boss]\ntoken = "env:HOME"\n'


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (WEB, WEB.replace("8600", "8700"), "web.listen has changed"),
        (WEB, '[web]\nlisten = "off"\n', "web.listen has changed"),
        (WEB, WEB + TOKEN, "the first or last [web.tokens.NAME]"),
        (WEB + TOKEN, WEB, "the first or last [web.tokens.NAME]"),
        (
            f'[web]\nlisten = "0.0.0.0:8600"\npublic_url = "https://a.example"\n{TOKEN}',
            f'[web]\nlisten = "0.0.0.0:8600"\n{TOKEN}',
            "expected web.public_url",
        ),
        (WEB + TOKEN, WEB + TOKEN + 'role = "operate"\n', ""),
    ],
)
def test_a_reload_refuses_web_settings_that_it_cannot_change(
    tmp_path: Path, before: str, after: str, expected: str
) -> None:
    config, messages = tmp_path / "okasie.toml", list[str]()
    config.write_text(before)
    fleet = LocalFleet(config, messages.append)
    config.write_text(after)
    fleet.reload()
    assert len(messages) == 1
    assert ("not reloaded" in messages[0]) == bool(expected)
    assert expected in messages[0]


def test_flower_gets_the_next_port_when_its_own_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "okasie.toml").write_text(
        config_text(feed="x.csv", base_url="http://127.0.0.1:9", key="k", account="dex")
    )
    messages: list[str] = []
    started: list[tuple[str, ...]] = []
    fleet = LocalFleet(tmp_path / "okasie.toml", messages.append)
    monkeypatch.setattr(fleet, "_celery", lambda *words: started.append(words))
    with socket.socket() as squatter, ExitStack() as starting:
        squatter.bind(("127.0.0.1", 0))
        squatter.listen()
        taken = squatter.getsockname()[1]
        monkeypatch.setattr(local, "_FLOWER_PORT", taken)
        fleet._start_celery(starting)
    (words,) = [words for words in started if words[0] == "flower"]
    (port,) = [int(word.removeprefix("--port=")) for word in words if word.startswith("--port=")]
    assert port > taken
    assert fleet.flower_url == f"http://127.0.0.1:{port}"
    assert messages == [f"port {taken} is in use; Flower listens on {port}"]
