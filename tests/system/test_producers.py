"""Producers over TLS, with the rights of docs/security.md and no others: the Python client and Node."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote, unquote, urlsplit

import pytest
import redis

from okasie_tasks.client import Client
from okasie_tasks.errors import ConnectionFailed
from tests.system.test_integrations import EXAMPLES, NODE, needs_node
from tests.system.test_secrets import SECURITY
from tests.system.tls_proxy import tls_proxy
from tests.test_client import only_message

pytestmark = pytest.mark.system
PASSWORD = "p@ss/word"  # both characters have a meaning in a URL


class Door(NamedTuple):
    """Where the producer's user connects."""

    url: str
    unknown_authority: str
    """The same, without the authority that signed the certificate."""


@pytest.fixture
def door(client: redis.Redis, redis_url: str, tmp_path: Path) -> Iterator[Door]:
    found = re.search(r"^user producer (.*)$", SECURITY, re.MULTILINE)
    assert found
    client.execute_command("ACL", "LOG", "RESET")
    client.execute_command("ACL", "SETUSER", "producer", "reset", *found[1].replace("CHANGE-ME", PASSWORD).split())
    with tls_proxy(unquote(urlsplit(redis_url).path), tmp_path) as (port, authority):
        url = f"rediss://producer:{quote(PASSWORD, safe='')}@localhost:{port}/0"
        yield Door(f"{url}?ssl_ca_certs={authority}", url)
    client.execute_command("ACL", "DELUSER", "producer")


def push_with_python(url: str) -> str:
    return Client(url).push("dex", ["DEX-1"])


def push_with_node(url: str) -> str:
    assert NODE is not None
    done = subprocess.run(
        [NODE, str(EXAMPLES / "push.mjs"), "push", "dex", "DEX-1"], env={"REDIS_URL": url, "PATH": os.environ["PATH"]},
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    if done.returncode:
        raise ConnectionFailed(done.stderr)
    return done.stdout.strip()


PRODUCERS = [
    pytest.param(push_with_python, id="python"),
    pytest.param(push_with_node, id="node", marks=needs_node),
]


@pytest.mark.parametrize("push", PRODUCERS)
def test_a_producer_stores_its_request_and_reads_its_outcome(
    client: redis.Redis, door: Door, push: Callable[[str], str]
) -> None:
    request = push(door.url)
    assert only_message(client, "okasie.urgent")["headers"]["id"] == request
    assert client.hkeys("okasie:outbox") == [request.encode()]
    state = Client(door.url).outcome(request)
    assert (state.kind, state.account, state.state) == ("push", "dex", "waiting")
    assert client.execute_command("ACL", "LOG") == [], "no command of it was refused"


@pytest.mark.parametrize("push", PRODUCERS)
def test_a_server_with_an_unknown_certificate_gets_no_password(door: Door, push: Callable[[str], str]) -> None:
    with pytest.raises(ConnectionFailed, match=r"(?i)certificate") as caught:
        push(door.unknown_authority)
    assert PASSWORD not in str(caught.value)


def test_a_producer_can_do_nothing_else(client: redis.Redis, door: Door) -> None:
    client.set("okasie:account:dex:paused", "1")
    with redis.Redis.from_url(door.url) as producer:
        for command in (
            ["GET", "okasie:account:dex:paused"], ["DEL", "okasie:outbox"], ["HSET", "okasie:ledger:dex:1", "A", "x"],
            ["LPUSH", "okasie.api", "{}"], ["LRANGE", "okasie.urgent", "0", "-1"], ["CONFIG", "GET", "*"],
            ["KEYS", "*"], ["EVAL", "return 1", "0"], ["FLUSHALL"], ["SUBSCRIBE", "celeryev"],
        ):  # fmt: skip
            with pytest.raises(redis.exceptions.NoPermissionError):
                producer.execute_command(*command)
