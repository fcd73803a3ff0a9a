"""``okasie init`` and ``completion`` as commands: what is written where, what is refused, what is said."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from okasie_tasks.cli import main
from okasie_tasks.settings import load_settings
from okasie_tasks.settings.placeholders import FILL_IN
from tests.sources.test_detect import DUTCH
from tests.sources.test_http import Feed, feed

assert feed is not None
"""The fixture: a server of feeds."""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OKASIE_CONFIG", "")  # commands set it for their process, which these tests share
    (tmp_path / "Mijn Stock.csv").write_text(DUTCH, encoding="utf-8")
    return tmp_path


def okasie(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    status = 0
    try:
        main(arguments)
    except SystemExit as ended:
        status = int(ended.code or 0)
    said = capsys.readouterr()
    return status, said.out, said.err


def filled(folder: Path) -> Path:
    """The draft, after an operator has replaced what only they know."""
    config = folder / "okasie.toml"
    config.write_text(config.read_text(encoding="utf-8").replace(FILL_IN, "KTR-1"), encoding="utf-8")
    return config


def document(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    status, out, err = okasie(capsys, *arguments, "--json")
    assert status == 0, err
    found: dict[str, Any] = json.loads(out)
    return found


def test_a_draft_is_written_and_told(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = document(capsys, "init", "Mijn Stock.csv")
    assert (told["config"], told["account"], told["type"]) == ("okasie.toml", "mijn_stock", "csv")
    assert (told["rows_seen"], told["rows_valid"], told["reference"]) == (5, 5, "Voorraadnummer")
    assert told["fill_in"] == ["dealerLocationCode", "postalCode", "city", "province"]
    assert told["environment"] == ["MIJN_STOCK_API_KEY"]
    settings = load_settings(filled(folder), environ={})
    assert settings.accounts["mijn_stock"].source.location() == f"file://{folder}/Mijn Stock.csv"
    status, out, _ = okasie(capsys, "init", "Mijn Stock.csv", "--force")
    assert (status, "5 of 5 rows" in out, "Zonne-energie" in out, "MIJN_STOCK_API_KEY" in out) == (0, True, True, True)


def test_the_mapped_listing_is_shown_before_and_after_the_file_is_written(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (shown,) = document(capsys, "init", "Mijn Stock.csv", "--preview")["rows"]
    assert not (folder / "okasie.toml").exists()
    assert (shown["listing"]["price"], shown["listing"]["city"], shown["rejected"]) == (18950, "FILL-IN", [])
    document(capsys, "init", "Mijn Stock.csv")
    filled(folder)
    told = document(capsys, "plan", "mijn_stock", "--show", "A-1001")
    (row,) = told["rows"]
    assert row["listing"] == {
        **shown["listing"],
        **{name: "KTR-1" for name, v in shown["listing"].items() if v == "FILL-IN"},
    }
    assert row["where"] == "Mijn Stock.csv:2"
    status, out, _ = okasie(capsys, "plan", "mijn_stock", "--show", "A-1001")
    assert (status, '"price": 18950' in out) == (0, True)
    status, _, err = okasie(capsys, "plan", "mijn_stock", "--show", "A-9")
    assert (status, "no row of the source has the reference 'A-9'" in err) == (2, True)


def test_nothing_is_scheduled_before_an_operator_says_so(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A newcomer's cars were created at half past three, while he was still looking at the plan."""

    def scheduled(config: Path) -> list[bool]:
        account = load_settings(config, environ={}).accounts["mijn_stock"]
        _, out, _ = okasie(capsys, "doctor")
        assert ("mijn_stock: schedule: no runs are scheduled" in out) == (account.incremental_every is None)
        return [when is not None for when in (account.incremental_every, account.full_at)]

    document(capsys, "init", "Mijn Stock.csv")
    config = filled(folder)
    assert scheduled(config) == [False, False]
    lines = [line for line in config.read_text().splitlines(keepends=True) if '= "off"' not in line]
    config.write_text("".join(lines))
    assert scheduled(config) == [True, True]


@pytest.mark.parametrize("command", [["doctor"], ["plan", "mijn_stock"], ["sync", "mijn_stock"], ["up"]])
def test_a_draft_is_refused_until_every_placeholder_is_replaced(
    folder: Path, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    """Of 6,000 rows without it, 6,000 listings went live in the city of FILL-IN."""
    document(capsys, "init", "Mijn Stock.csv")
    config = folder / "okasie.toml"
    lines = config.read_text().splitlines()
    status, out, err = okasie(capsys, *command)
    assert status == (1 if command == ["doctor"] else 2)
    for name in ("dealerLocationCode", "postalCode", "city", "province"):
        line = next(number for number, text in enumerate(lines, start=1) if text.startswith(f"{name} = "))
        assert f"accounts.mijn_stock.source.defaults.{name} (line {line}): is still 'FILL-IN'" in out + err


def test_what_is_there_is_not_overwritten(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "okasie.toml").write_text("# mine\n")
    status, _, err = okasie(capsys, "init", "Mijn Stock.csv")
    assert (status, "--force" in err) == (2, True)
    assert (folder / "okasie.toml").read_text() == "# mine\n"
    assert document(capsys, "init", "Mijn Stock.csv", "--output", "other.toml")["config"] == "other.toml"
    assert document(capsys, "init", "Mijn Stock.csv", "--force", "--account", "dex")["account"] == "dex"
    assert "# mine" not in (folder / "okasie.toml").read_text()
    assert sorted(path.name for path in folder.iterdir()) == ["Mijn Stock.csv", "okasie.toml", "other.toml"]


@pytest.mark.parametrize("name", ["--output", "--config"])
@pytest.mark.parametrize(("output", "option"), [("okasie.toml", ""), ("my own.toml", " --config 'my own.toml'")])
def test_the_commands_shown_read_the_file_that_was_written(
    folder: Path, capsys: pytest.CaptureFixture[str], output: str, option: str, name: str
) -> None:
    _, out, _ = okasie(capsys, "init", "Mijn Stock.csv", name, output)
    for command in ("up --sandbox", "plan mijn_stock --full", "doctor"):
        assert f"`okasie {command}{option}`" in out
    assert (folder / output).exists()


def test_a_second_feed_is_appended_and_the_refusal_names_the_command(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = folder / "okasie.toml"
    document(capsys, "init", "Mijn Stock.csv", "--account", "gent")
    config.chmod(0o600)
    status, _, err = okasie(capsys, "init", "Mijn Stock.csv")
    assert (status, "`okasie init 'Mijn Stock.csv' --append` adds the account 'mijn_stock' to it" in err) == (2, True)
    status, out, _ = okasie(capsys, "init", "Mijn Stock.csv", "--append")
    assert (status, "restart   `okasie up`" in out) == (0, True), "one that runs does not know the account"
    assert list(load_settings(filled(folder), environ={}).accounts) == ["gent", "mijn_stock"]
    assert config.stat().st_mode & 0o777 == 0o600
    before = config.read_text()
    for arguments, said in (
        (["--append"], "'Mijn Stock.csv' --append --account NAME` adds another one"),
        ([], "has an account 'mijn_stock': --force overwrites the whole file"),
        (["--append", "--force"], "give one of them"),
    ):
        status, _, err = okasie(capsys, "init", "Mijn Stock.csv", *arguments)
        assert (status, said in err) == (2, True), err
    assert config.read_text() == before
    for text in ("accounts = {}\n", "no toml\n"):
        config.write_text(text)
        status, _, err = okasie(capsys, "init", "Mijn Stock.csv", "--append")
        assert (status, "nothing can be appended" in err, config.read_text()) == (2, True, text)


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["nowhere.csv"], 2, "cannot be read"),
        (["Mijn Stock.csv", "--account", "Dex!"], 2, "a-z, 0-9 and _"),
        (["Mijn Stock.csv", "--output", "nowhere/okasie.toml"], 2, "cannot be written"),
        (["page.csv"], 1, "web page"),
        ([], 2, "FEED"),
    ],
)
def test_what_cannot_be_drafted_is_refused_and_writes_nothing(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], status: int, said: str
) -> None:
    (folder / "page.csv").write_text("<!doctype html><p>not found")
    ended, _, err = okasie(capsys, "init", *arguments)
    assert (ended, said in err) == (status, True), err
    assert not (folder / "okasie.toml").exists()


def test_a_feed_elsewhere_is_named_by_its_whole_path(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "conf").mkdir()
    document(capsys, "init", f"file://{folder}/Mijn Stock.csv", "--output", "conf/okasie.toml")
    settings = load_settings(filled(folder / "conf"), environ={})
    assert settings.accounts["mijn_stock"].source.url == f"{folder}/Mijn Stock.csv"


def test_a_feed_behind_http(folder: Path, capsys: pytest.CaptureFixture[str], feed: str) -> None:
    Feed.answers["body"] = DUTCH.encode()
    told = document(capsys, "init", f"{feed}/stock.csv")
    assert (told["account"], told["rows_valid"]) == ("stock", 5)
    assert load_settings(filled(folder), environ={}).accounts["stock"].source.url == f"{feed}/stock.csv"
    Feed.answers["status"] = 404
    status, _, err = okasie(capsys, "init", f"{feed}/stock.csv", "--force")
    assert (status, "answered 404" in err) == (1, True)


@pytest.mark.parametrize("secret", ["user:s3cret@", "?token=s3cret"])
def test_a_secret_in_the_feeds_url_is_written_and_said_nowhere(
    folder: Path, capsys: pytest.CaptureFixture[str], feed: str, secret: str
) -> None:
    Feed.answers["body"] = DUTCH.encode()
    url = f"{feed}/stock.csv{secret}" if secret.startswith("?") else f"{feed.replace('//', '//' + secret)}/stock.csv"
    status, out, err = okasie(capsys, "init", url)
    text = (folder / "okasie.toml").read_text()
    assert (status, "s3cret" in out + err + text) == (0, False)
    assert "STOCK_FEED_URL" in out
    settings = load_settings(filled(folder), environ={"STOCK_FEED_URL": url})
    assert settings.accounts["stock"].source.location() == url


# -- completion ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_each_shell(capsys: pytest.CaptureFixture[str], shell: str) -> None:
    status, out, _ = okasie(capsys, "completion", shell)
    assert (status, f"_OKASIE_COMPLETE={shell}_complete" in out) == (0, True)
    assert document(capsys, "completion", shell) == {"shell": shell, "script": out.removesuffix("\n")}


def test_another_shell_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert okasie(capsys, "completion", "csh")[0] == 2


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("okasie pa", {"pause"}),
        ("okasie sync dex --no", {"--no-wait"}),
        ("okasie completion ", {"bash", "zsh", "fish"}),
    ],
)
def test_what_the_script_asks_for_is_answered(folder: Path, typed: str, offered: set[str]) -> None:
    words = typed.split(" ")
    env = {**os.environ, "_OKASIE_COMPLETE": "bash_complete", "COMP_WORDS": typed, "COMP_CWORD": str(len(words) - 1)}
    done = subprocess.run(
        [sys.executable, "-m", "okasie_tasks"], env=env, capture_output=True, text=True, timeout=300, check=True
    )
    assert {line.partition(",")[2] for line in done.stdout.splitlines()} == offered


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    from okasie_tasks import __version__

    status, text, _ = okasie(capsys, "--version")
    assert status == 0
    assert re.fullmatch(rf"okasie, version {re.escape(__version__)}( \(commit [0-9a-f]{{7,}}(-dirty)?\))?\n", text)
