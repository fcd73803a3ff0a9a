"""The configuration: every default of the documentation, every problem named, secrets never shown."""

from __future__ import annotations

import copy
import pickle
from datetime import time, timedelta
from pathlib import Path

import pytest

from okasie_tasks.errors import ConfigurationError
from okasie_tasks.settings import (
    Secret,
    Settings,
    WriteBackSettings,
    configuration_hash,
    is_loopback,
    load_settings,
    masked,
)

MINIMAL = """\
[accounts.dex]
api_key = "env:DEX_API_KEY"
[accounts.dex.source]
url = "feed.csv"
reference = "stock_no"
"""


def load(tmp_path: Path, text: str, **environ: str) -> Settings:
    file = tmp_path / "okasie.toml"
    file.write_text(text)
    return load_settings(file, {"DEX_API_KEY": "k", **environ})


def refused(tmp_path: Path, text: str, **environ: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        load(tmp_path, text, **environ)
    assert caught.value.where == str(tmp_path / "okasie.toml")
    return caught.value.message


def test_the_defaults_are_those_of_the_documentation(tmp_path: Path) -> None:
    settings = load(tmp_path, MINIMAL)
    assert settings.redis.url is None
    assert settings.redis.key_prefix == "okasie:"
    assert settings.redis.state_dir == tmp_path / ".okasie"
    account = settings.accounts["dex"]
    assert account.base_url == "https://www.okasie.be/api/external/v1"
    assert (account.incremental_every, account.full_at) == (timedelta(minutes=15), time(3, 30))
    assert (account.timezone, account.overlap) == ("Europe/Brussels", timedelta(minutes=2))
    assert (account.read_timeout, account.write_timeout) == (20, 120)
    assert (account.requests_per_minute, account.burst_per_second, account.adapt_limit) == (120, 5, False)
    assert account.conflict == "local"
    guard = account.guard
    assert (guard.sells, guard.missing_reads, guard.first_full_sells) == ("guarded", 1, "hold")
    assert (guard.max_sold_percent, guard.max_sold_count, guard.free_sold_count) == (10.0, 250, 5)
    assert (guard.max_source_shrink_percent, guard.max_changed_percent, guard.free_changed_count) == (30.0, 60.0, 50)
    assert (guard.max_field_loss_percent, guard.free_field_loss_count) == (20.0, 5)
    assert guard.max_price_change_percent == 50.0
    assert guard.plan_expires == timedelta(hours=72)
    assert account.api_key.reveal() == "k"
    assert account.source.location() == f"file://{tmp_path / 'feed.csv'}"


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("[accounts.dex]", "[accounts.dex]\nincremental_evry = '5m'", "accounts.dex.incremental_evry: is not a setting (did you mean incremental_every?)"),
        ("[accounts.dex]", "[rediss]\nurl='x'\n[accounts.dex]", "rediss: is not a setting (did you mean redis?)"),
        ("[accounts.dex]", "[accounts.dex]\noverlap = 'soon'", "accounts.dex.overlap: got 'soon', expected a duration"),
        ("[accounts.dex]", "[accounts.dex]\nincremental_every = '0m'", "accounts.dex.incremental_every: got '0m', expected a duration longer"),
        ("[accounts.dex]", "[accounts.dex]\nfull_at = '25:00'", "accounts.dex.full_at: got '25:00', expected a time"),
        ("[accounts.dex]", "[accounts.dex]\ntimezone = 'Mars/Base'", "accounts.dex.timezone: got 'Mars/Base', expected a time zone"),
        ("[accounts.dex]", "[accounts.dex]\nconflict = 'mine'", "accounts.dex.conflict: got 'mine', expected 'local', 'remote' or 'newest'"),
        ("[accounts.dex]", "[accounts.dex]\nrequests_per_minute = 0", "accounts.dex.requests_per_minute: got 0, expected"),
        ("[accounts.dex]", "[accounts.dex]\nbase_url = 'http://okasie.be/api'", "accounts.dex.base_url: got 'http://okasie.be/api', expected https://"),
        ("env:DEX_API_KEY", "a-literal-key", "accounts.dex.api_key: got a literal key, expected env:NAME or file:/path"),
        ("url = \"feed.csv\"", "", "accounts.dex.source.url: is missing"),
        ("url = \"feed.csv\"", "url='x'\ntype='xls'", "accounts.dex.source.type: got 'xls', expected csv, jsonl, json, xml, xlsx, sql or python:NAME"),
        ("url = \"feed.csv\"", "url='FILL-IN'", "accounts.dex.source.url (line "),
        ("url = \"feed.csv\"", "url='sqlite://'\ntype='sql'", "accounts.dex.source.query: is missing"),
        ("reference = \"stock_no\"", "[accounts.dex.source.fields]\nprise = 'p'", "accounts.dex.source.fields.prise: is not a field of a listing (did you mean price?)"),
        ("reference = \"stock_no\"", "[accounts.dex.source.units]\npowerKw = 'bhp'", "accounts.dex.source.units.powerKw: got 'bhp', expected kW or hp"),
        ("reference = \"stock_no\"", "[accounts.dex.source.units]\ntitle = 'x'", "no unit for this field"),
        ("reference = \"stock_no\"", "[accounts.dex.source.write_back]\nfile = 'a'\ntable = 'b'", "accounts.dex.source.write_back: got file = 'a' and table = 'b', expected one of the two"),
        ("reference = \"stock_no\"", "[accounts.dex.source.write_back]", "accounts.dex.source.write_back: got neither, expected file ="),
        ("reference = \"stock_no\"", "[accounts.dex.source.write_back]\ntable = 'cars'", "accounts.dex.source.write_back.table: got 'cars', expected file: only type = \"sql\" has tables, not 'csv'"),
        ("reference = \"stock_no\"", "[accounts.dex.source.write_back]\nfile = 'feed.csv'", "accounts.dex.source.write_back.file: got 'feed.csv', which is the inventory itself"),
        ("reference = \"stock_no\"", "[accounts.dex.source.write_back]\nfile = ''", "accounts.dex.source.write_back.file: got '', expected"),
        ("reference = \"stock_no\"", "type = 'sql'\nquery = 'select 1'\nreference = '{a}-{b}'\n[accounts.dex.source.write_back]\ntable = 'cars'", "accounts.dex.source.write_back.table: got 'cars', expected file: the reference is a template"),
        ("reference = \"stock_no\"", "reference = '{a}-{b'", "accounts.dex.source.reference: got '{a}-{b', which is no valid template: "),
        ("reference = \"stock_no\"", "skip = 3", "accounts.dex.source.skip: got 3, expected"),
        ("reference = \"stock_no\"", "[accounts.dex.source.skip]\nstatus = []", "accounts.dex.source.skip.status: got [], expected"),
        ("reference = \"stock_no\"", "write_back = 'x.jsonl'", "accounts.dex.source.write_back: got 'x.jsonl', expected"),
        ("reference = \"stock_no\"", "[accounts.dex.source.write_back]\nfiel = 'a'", "accounts.dex.source.write_back.fiel: is not a setting (did you mean file?)"),
        ("[accounts.dex.source]", "[accounts.dex.guard]\nmax_sold_percent = 101\n[accounts.dex.source]", "accounts.dex.guard.max_sold_percent: got 101, expected"),
    ],
)  # fmt: skip
def test_a_bad_setting_is_named_with_what_was_expected(tmp_path: Path, old: str, new: str, told: str) -> None:
    assert old in MINIMAL
    message = refused(tmp_path, MINIMAL.replace(old, new, 1))
    assert told in message
    assert "a-literal-key" not in message


def test_a_change_feed_lies_beside_the_configuration_and_a_table_is_of_sql(tmp_path: Path) -> None:
    assert load(tmp_path, MINIMAL).accounts["dex"].source.write_back == WriteBackSettings()
    told = load(tmp_path, MINIMAL, OKASIE_ACCOUNTS__DEX__SOURCE__WRITE_BACK__FILE="changes.jsonl")
    assert told.accounts["dex"].source.write_back.file == str(tmp_path / "changes.jsonl")
    text = MINIMAL.replace('url = "feed.csv"', 'url = "sqlite://"\ntype = "sql"\nquery = "select 1"')
    table = load(tmp_path, f"{text}[accounts.dex.source.write_back]\ntable = 'stock.cars'").accounts["dex"]
    assert table.source.write_back == WriteBackSettings(table="stock.cars")


def test_the_name_of_an_account_is_plain(tmp_path: Path) -> None:
    message = refused(tmp_path, MINIMAL.replace("accounts.dex", "accounts.Dex"))
    assert "accounts.Dex: expected a name of a-z, 0-9 and _" in message


def test_every_problem_is_told_at_once(tmp_path: Path) -> None:
    text = MINIMAL.replace("[accounts.dex]", "[accounts.dex]\nconflict = 'mine'\nburst_per_second = 'x'", 1)
    message = refused(tmp_path, text, OKASIE_ACCOUNTS__DEX__OVERLAPP="1m")
    for key in ("conflict", "burst_per_second", "OKASIE_ACCOUNTS__DEX__OVERLAPP"):
        assert key in message


@pytest.mark.parametrize("spoiled", [b"[accounts", b"\xff\xfe", b"a = 1\na = 2"])
def test_a_file_that_is_not_toml_is_named(tmp_path: Path, spoiled: bytes) -> None:
    file = tmp_path / "okasie.toml"
    file.write_bytes(spoiled)
    with pytest.raises(ConfigurationError) as caught:
        load_settings(file, {})
    assert str(file) in str(caught.value)


def test_a_file_that_is_not_there_is_named_with_the_ways_out(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="--config or OKASIE_CONFIG"):
        load_settings(tmp_path / "none.toml", {})


# -- the environment -----------------------------------------------------------------------------------------------


def test_every_scalar_can_be_overridden(tmp_path: Path) -> None:
    settings = load(
        tmp_path, MINIMAL, OKASIE_REDIS__URL="redis://r/0", OKASIE_REDIS__KEY_PREFIX="g:",
        OKASIE_ACCOUNTS__DEX__REQUESTS_PER_MINUTE="60", OKASIE_ACCOUNTS__DEX__ADAPT_LIMIT="true",
        OKASIE_ACCOUNTS__DEX__GUARD__MAX_SOLD_PERCENT="2.5", OKASIE_ACCOUNTS__DEX__SOURCE__DELIMITER=";",
        OKASIE_ACCOUNTS__DEX__SOURCE__DEFAULTS__DEALERLOCATIONCODE="GENT", OKASIE_ACCOUNTS__DEX__FULL_AT="off",
    )  # fmt: skip
    account = settings.accounts["dex"]
    assert (settings.redis.url, settings.redis.key_prefix) == ("redis://r/0", "g:")
    assert (account.requests_per_minute, account.adapt_limit, account.full_at) == (60, True, None)
    assert account.guard.max_sold_percent == 2.5
    assert account.source.delimiter == ";"
    assert account.source.defaults == {"dealerLocationCode": "GENT"}


@pytest.mark.parametrize("variable", ["OKASIE_REDIS__ULR", "OKASIE_ACCOUNTS__DAX__API_KEY", "OKASIE_REDSI__URL"])
def test_an_override_that_names_nothing_is_refused(tmp_path: Path, variable: str) -> None:
    assert variable in refused(tmp_path, MINIMAL, **{variable: "x"})


def test_embedded_may_be_said_in_words(tmp_path: Path) -> None:
    assert load(tmp_path, MINIMAL, OKASIE_REDIS__URL="embedded").redis.url is None


# -- secrets -------------------------------------------------------------------------------------------------------


def test_secrets_are_read_from_the_environment_or_a_file_beside_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("from-file\n")
    text = MINIMAL.replace("env:DEX_API_KEY", "file:./key")
    assert load(tmp_path, text).accounts["dex"].api_key.reveal() == "from-file"
    (tmp_path / "key").write_text("")
    with pytest.raises(ConfigurationError, match="empty"):
        load(tmp_path, text).accounts["dex"].api_key.reveal()


def test_a_secret_that_is_missing_names_its_variable_and_only_when_it_is_needed(tmp_path: Path) -> None:
    settings = load(tmp_path, MINIMAL, DEX_API_KEY="")
    with pytest.raises(ConfigurationError, match="DEX_API_KEY"):
        settings.accounts["dex"].api_key.reveal()


def test_a_secret_shows_itself_nowhere(tmp_path: Path) -> None:
    account = load(tmp_path, MINIMAL, DEX_API_KEY="t0p").accounts["dex"]
    for text in (repr(account), str(account.api_key), f"{account.api_key!r}", repr(Secret("t0p"))):
        assert "t0p" not in text
    with pytest.raises(TypeError):
        pickle.dumps(account.api_key)
    with pytest.raises(TypeError):
        copy.deepcopy(account.api_key)


def test_two_accounts_with_one_key_are_refused_only_on_the_same_marketplace(tmp_path: Path) -> None:
    second = MINIMAL.replace("accounts.dex", "accounts.dax")
    message = refused(tmp_path, MINIMAL + second)
    assert "accounts.dax.api_key: is the same key as accounts.dex has" in message
    elsewhere = second.replace("[accounts.dax]", '[accounts.dax]\nbase_url = "https://test.okasie.be/v1"')
    assert set(load(tmp_path, MINIMAL + elsewhere).accounts) == {"dex", "dax"}


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://user:pw@db:5432/stock?sslkey=x", "postgresql://***@db:5432/stock?***"),
        ("https://feeds.test/dex.csv", "https://feeds.test/dex.csv"),
        ("https://feeds.test/dex.csv?token=abc", "https://feeds.test/dex.csv?***"),
        ("redis://[bad", "(a URL that cannot be read)"),
    ],
)
def test_urls_are_shown_without_what_may_be_secret(url: str, shown: str) -> None:
    assert masked(url) == shown


def test_loopback_is_this_machine_and_nothing_that_looks_like_it() -> None:
    assert all(is_loopback(f"http://{host}/x") for host in ("localhost:1", "127.0.0.1", "127.1.2.3", "[::1]:80"))
    assert not any(is_loopback(f"http://{host}/x") for host in ("127.0.0.1.evil.test", "localhost.evil", "10.0.0.1"))


def test_settings_cannot_be_changed(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="frozen"):
        load(tmp_path, MINIMAL).accounts["dex"].overlap = timedelta(0)  # type: ignore[misc]


def test_the_hash_of_a_configuration_changes_with_what_a_worker_does(tmp_path: Path) -> None:
    (other := tmp_path / "other").mkdir()
    same = {
        "the same": load(tmp_path, MINIMAL),
        "another folder": load(other, MINIMAL),
        "another value of a secret": load(tmp_path, MINIMAL, DEX_API_KEY="another"),
        "another log": load(tmp_path, MINIMAL + '\n[log]\nlevel = "debug"\n'),
    }
    assert len({configuration_hash(settings, {}) for settings in same.values()}) == 1
    account = load(tmp_path, MINIMAL).accounts["dex"]
    changed = [
        same["the same"],
        load(tmp_path, MINIMAL, OKASIE_ACCOUNTS__DEX__CONFLICT="remote"),
        load(tmp_path, MINIMAL, OKASIE_ACCOUNTS__DEX__API_KEY="env:OTHER"),
        load(tmp_path, MINIMAL, OKASIE_ACCOUNTS__DEX__SOURCE__FIELDS__PRICE="preis"),
        load(tmp_path, MINIMAL, OKASIE_REDIS__KEY_PREFIX="other:"),
        same["the same"].model_copy(update={"accounts": {"dex": account, "new": account}}),
    ]
    assert len({configuration_hash(settings, {}) for settings in changed}) == len(changed)
    assert configuration_hash(changed[1], {"OKASIE_CONFIGURATION_HASH": "as given"}) == "as given"


@pytest.mark.parametrize(("text", "limit"), [("off", None), ("250", 250.0), ("0", 0.0)])
def test_the_price_guard_may_be_off_or_above_100(tmp_path: Path, text: str, limit: float | None) -> None:
    account = load(tmp_path, MINIMAL, OKASIE_ACCOUNTS__DEX__GUARD__MAX_PRICE_CHANGE_PERCENT=text).accounts["dex"]
    assert account.guard.max_price_change_percent == limit
