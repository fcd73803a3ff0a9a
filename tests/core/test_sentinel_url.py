"""The address of a Redis behind Sentinel, in each library's spelling, and without its passwords in any message."""

from __future__ import annotations

import pytest

from okasie_tasks.core.sentinel_url import parse_sentinel_url
from okasie_tasks.errors import ConfigurationError
from okasie_tasks.masking import MASK, know_url, mask
from okasie_tasks.settings.redis_url import redis_urls
from okasie_tasks.settings.secret import masked

URL = "sentinel://app:pa%40ss@h1:26380,h2/3?master=okasie&sentinel_username=watch&sentinel_password=s%2Fecret"


def test_every_part_of_an_address() -> None:
    found = parse_sentinel_url(URL)
    assert found.hosts == (("h1", 26380), ("h2", 26379))
    assert (found.master, found.database) == ("okasie", 3)
    assert found.login == {"username": "app", "password": "pa@ss"}
    assert found.sentinel_login == {"username": "watch", "password": "s/ecret"}
    assert not found.tls


def test_the_spellings_of_kombu_and_of_celery() -> None:
    urls = redis_urls(URL)
    assert urls.broker == "sentinel://app:pa%40ss@h1:26380/3;sentinel://app:pa%40ss@h2:26379/3"
    assert urls.backend == "sentinel://app:pa%40ss@h1:26380/3;sentinel://h2:26379/3"
    assert redis_urls("sentinel://:only@h/?master=m").broker == "sentinel://:only@h:26379/0"


def test_tls_checks_certificates_unless_told_otherwise() -> None:
    assert parse_sentinel_url("sentinels://h?master=m").tls == {"ssl_cert_reqs": "required"}
    found = parse_sentinel_url("sentinels://h?master=m&ssl_ca_certs=/ca.pem&ssl_cert_reqs=none")
    assert found.tls == {"ssl_cert_reqs": "none", "ssl_ca_certs": "/ca.pem"}
    assert found.sentinel_options()["ssl"] is True


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("sentinel://:hidden@h1,h2/0", "no name of the master"),
        ("sentinel://:hidden@h1:port?master=m", "address cannot be read"),
        ("sentinel://:hidden@h1,,h2?master=m", "address cannot be read"),
        ("sentinel://:hidden@h1/one?master=m", "address cannot be read"),
        ("sentinel://:hidden@?master=m", "address cannot be read"),
        ("sentinel://:hidden@h1?master=m&db=2", "unknown option 'db'"),
    ],
)
def test_a_wrong_address_is_refused_without_showing_its_login(url: str, problem: str) -> None:
    with pytest.raises(ConfigurationError, match=problem) as caught:
        parse_sentinel_url(url)
    assert "hidden" not in str(caught.value)


def test_no_message_shows_a_password() -> None:
    assert masked(URL) == "sentinel://***@h1:26380,h2/3?***"
    know_url(URL)
    text = mask(f"{URL} pa@ss s/ecret")
    assert MASK in text
    assert not any(secret in text for secret in ("pa%40ss", "pa@ss", "s%2Fecret", "s/ecret"))
