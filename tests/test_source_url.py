"""Where a feed may be: unknown schemes and settings of another scheme are refused when the configuration is read."""

from __future__ import annotations

from pathlib import Path

import pytest

from okasie_tasks.errors import ConfigurationError
from okasie_tasks.masking import mask
from okasie_tasks.settings import load_settings, masked
from okasie_tasks.settings.model import SourceSettings

ACCOUNT = '[accounts.dex]\napi_key = "env:K"\n[accounts.dex.source]\n'
KEY = "accounts.dex.source"


def load(folder: Path, text: str, **environ: str) -> SourceSettings:
    (folder / "okasie.toml").write_text(ACCOUNT + text)
    return load_settings(folder / "okasie.toml", environ).accounts["dex"].source


def refused(folder: Path, text: str, **environ: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        load(folder, text, **environ)
    return str(caught.value)


@pytest.mark.parametrize(
    ("url", "got"),
    [
        ("gopher://user:pa55w0rd@host/x.csv", "gopher:"),
        ("webdav://host/x.csv", "webdav:"),
        ("mailto:someone", "mailto:"),
        ("ftp:host/x.csv", "ftp: without //"),
        ("HTTPX://host", "httpx:"),
    ],
)
def test_a_scheme_that_is_not_served_is_refused(tmp_path: Path, url: str, got: str) -> None:
    served = "expected a path or file://, http://, https://, ftp://, ftps://, sftp:// or s3://"
    assert f"{KEY}.url: got {got}, {served}" in refused(tmp_path, f'url = "{url}"')
    message = refused(tmp_path, 'url = "env:FEED"', FEED=url)
    assert f"got {got}, {served}" in message
    assert "pa55w0rd" not in message


@pytest.mark.parametrize(
    "url",
    [
        "stock.csv", "/srv/stock*.csv", "file:stock.csv", "file:///srv/x.csv", "C:/feeds/x.csv", "https://h/x.csv?a=*",
        "FTP://host/x", "ftps://host:990/x", "sftp://user@host:2222/~/x*.zip", "s3://bucket/a/b.csv", "env:NOT_SET",
    ],
)  # fmt: skip
def test_what_is_served_is_accepted(tmp_path: Path, url: str) -> None:
    assert load(tmp_path, f'url = "{url}"').url == url


@pytest.mark.parametrize(
    "url",
    [
        "ftp://u:pa55/w0rd@host/x",
        "ftp://u:12/w0rd@host/x",
        "sftp://u:pa55#w0rd@host/x",
        "ftp:///x",
        "ftp://u:w0rd?@h/x",
    ],
)
def test_a_password_that_breaks_the_url_is_refused_and_not_shown(tmp_path: Path, url: str) -> None:
    message = refused(tmp_path, f'url = "{url}"')
    assert "written %2F" in message
    assert "w0rd" not in message
    assert "w0rd" not in masked(url)


def test_a_pattern_needs_a_list_of_files(tmp_path: Path) -> None:
    assert "https has no list of files" in refused(tmp_path, 'url = "https://host/stock-*.csv"')


@pytest.mark.parametrize(
    ("setting", "url", "schemes"),
    [
        ("host_key", "ftps://host/x", "sftp:"),
        ("private_key", "ftp://host/x", "sftp:"),
        ("ca_file", "sftp://host/x", "ftps: and https: and s3:"),
        ("region", "x.csv", "s3:"),
    ],
)
def test_a_setting_of_another_scheme_is_refused(tmp_path: Path, setting: str, url: str, schemes: str) -> None:
    message = refused(tmp_path, f'url = "{url}"\n{setting} = "file:x"')
    assert f"{KEY}.{setting}: is a setting for {schemes}, and url is" in message


def test_one_key_of_two_is_refused(tmp_path: Path) -> None:
    message = refused(tmp_path, 'url = "s3://b/k"\naccess_key = "env:A"')
    assert "got one of access_key and secret_key" in message


def test_files_of_secrets_are_relative_to_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "id").write_text("the private key\n")
    source = load(tmp_path, 'url = "sftp://h/x"\nprivate_key = "file:id"\nhost_key = "file:id"\n')
    assert source.private_key is not None
    assert source.private_key.reveal() == "the private key"
    assert load(tmp_path, 'url = "ftps://h/x"\nca_file = "file:ca.pem"').ca_file == str(tmp_path / "ca.pem")


@pytest.mark.parametrize("scheme", ["ftp", "ftps", "sftp", "https", "redis", "postgresql+psycopg"])
def test_passwords_are_masked_for_every_scheme(tmp_path: Path, scheme: str) -> None:
    url = f"{scheme}://dealer:Tr0ub4dor@host/x.csv"
    (tmp_path / "okasie.toml").write_text(f'{ACCOUNT}url = "{url}"\nunknown = 1')
    with pytest.raises(ConfigurationError):
        load_settings(tmp_path / "okasie.toml", {})
    assert "Tr0ub4dor" not in mask(f"a log line with {url}")
    assert masked(url) == f"{scheme}://***@host/x.csv"


def test_a_user_alone_is_no_secret_on_a_server_of_files(tmp_path: Path) -> None:
    load(tmp_path, 'url = "sftp://stockexport@host/x.csv"')
    assert mask("the stockexport of today") == "the stockexport of today"
    load(tmp_path, 'url = "https://stocktoken@host/x.csv"')
    assert "stocktoken" not in mask("GET https://stocktoken@host/")
