"""``sentinels://``: every library is told to use TLS, to the sentinels and to Redis. Nothing is connected here."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import redis.sentinel
from celery import Celery

from okasie_tasks.celery import configuration
from okasie_tasks.client import Client
from okasie_tasks.settings import load_settings
from okasie_tasks.store.connections import connect

URL = "sentinels://:pw-1234@h1,h2/0?master=okasie&ssl_ca_certs=/ca.pem"
TLS = {"ssl_cert_reqs": "required", "ssl_ca_certs": "/ca.pem"}


def test_our_own_connections() -> None:
    pool: Any = connect(URL).connection_pool
    assert pool.connection_class is redis.sentinel.SentinelManagedSSLConnection
    assert TLS.items() <= pool.connection_kwargs.items()
    for sentinel in pool.sentinel_manager.sentinels:
        assert sentinel.connection_pool.connection_class is redis.SSLConnection
        assert TLS.items() <= sentinel.connection_pool.connection_kwargs.items()


def test_the_broker_the_backend_and_redbeat(tmp_path: Path) -> None:
    (tmp_path / "okasie.toml").write_text(f'[redis]\nurl = "{URL}"\n')
    app = Celery("any", set_as_current=False)
    app.conf.update(configuration(load_settings(tmp_path / "okasie.toml", {})))
    backend: Any = app.backend
    assert app.connection_for_write().ssl == TLS
    assert issubclass(backend.connparams["connection_class"], redis.SSLConnection)
    assert backend.connparams["ssl_ca_certs"] == "/ca.pem"
    assert backend.connparams["ssl_cert_reqs"] in ("required", ssl.CERT_REQUIRED)
    assert app.conf.redbeat_redis_use_ssl == TLS
    assert app.conf.broker_transport_options["sentinel_kwargs"]["ssl"] is True


def test_the_client_of_an_application() -> None:
    app = Client(URL)._connected()
    assert app.connection_for_write().ssl == TLS
    assert app.conf.broker_transport_options["sentinel_kwargs"]["ssl"] is True
