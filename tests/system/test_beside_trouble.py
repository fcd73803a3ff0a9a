"""An account in trouble keeps no other from its work: its source drips, a firewall answers, messages are malformed."""

from __future__ import annotations

import pytest
import redis

from okasie_tasks.client import Client
from okasie_tasks.store.requests import Requests
from tests.support import faults, poll, release
from tests.system.conftest import DRIPPING, Fleet
from tests.system.test_push import change, settled, url

pytestmark = pytest.mark.system

OTHERS = ("beside", "calm")
FIREWALL = {
    "kind": "answer", "status": 403, "content_type": "text/html", "body": "<h1>Blocked</h1>", "match": {"key": DRIPPING},
}  # fmt: skip


class Returns:
    """The waiting pushes that the outbox knew to come back later. Any other waiting push is re-sent as lost."""

    def __init__(self, fleet: Fleet, pushes: list[str]) -> None:
        self._url, self._unknown = url(fleet), set(pushes)

    def are_all_known(self) -> bool:
        with redis.Redis.from_url(self._url) as connection:
            seconds, micros = connection.time()
            later = connection.zrangebyscore("okasie:outbox:sent", seconds * 1000 + micros / 1000, "+inf")
        self._unknown -= {name.decode() for name in later}
        # One of them is the reader.
        return len(self._unknown) <= 1


def test_the_other_accounts_sync_and_push_beside_one_in_trouble(fleet: Fleet) -> None:
    held, log = fleet.place.folder / "dripping.held", fleet.place.folder / "dripping.reads"
    log.unlink(missing_ok=True)
    held.touch()
    sender = Client(url(fleet))
    faults(fleet.sandbox, FIREWALL)
    try:
        with redis.Redis.from_url(url(fleet)) as broker:
            for queue in ("okasie.urgent", "okasie.api", "okasie.control", "okasie.diff"):
                broker.rpush(queue, b"not json", b"null", b"[]")
        sender.sync(DRIPPING, "full")
        waiting = [sender.push(DRIPPING, [f"DRIP-{number}"]) for number in range(24)]
        poll(log.exists, what="a read of the dripping source")
        poll(Returns(fleet, waiting).are_all_known, what="a time at which each waiting push comes back")
        for name in OTHERS:
            change(fleet.place, name, lambda rows: [row | {"km": "54321"} for row in rows])
            pushed = settled(fleet, sender.push(name, ["DG-00001"]))
            assert [outcome.outcome for outcome in pushed.outcomes.values()] in (["updated"], ["created"])
            status, document = fleet.place.sync(name, "--full")
            assert (status, document["state"], document["listings"]["local"]) == (0, "done", 12), document
        with redis.Redis.from_url(url(fleet)) as connection:
            pushes = Requests(connection, prefix="okasie:")
            assert not any(pushes.get(push).outcomes for push in waiting), "its source drips until here"
    finally:
        release(fleet.sandbox)
        held.unlink()
    for push in waiting:
        assert settled(fleet, push).outcomes
