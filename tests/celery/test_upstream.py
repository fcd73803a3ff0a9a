"""The functions of Celery and kombu that this project relies on are unchanged: an upgrade that changes one fails here.

Then review the change, check whether the protection built on it still works and is still needed, break it once to see
its test in this folder fail, and update the digest.
"""

from __future__ import annotations

import hashlib
import inspect
import io
import textwrap
import tokenize

import pytest
from celery.backends.redis import CHORD_PART_RETURN_LUA
from kombu.utils.imports import symbol_by_name

from okasie_tasks.worker.result_backend import _HAS_CLAIM, _TAKES_CLAIM

READ = {
    # worker.result_backend: the order of the two steps, who calls them, what a second count does
    "celery.backends.base:Backend.mark_as_done": "b8be94cfde98",
    "celery.backends.base:Backend.mark_as_failure": "ae1f1777f093",
    "celery.backends.redis:RedisBackend.on_chord_part_return": "00675c5da71c",
    "celery.backends.redis:RedisBackend.set_chord_size": "ae4ec2e0aef2",
    "celery.worker.request:Request.on_failure": "2544a457702b",
    # LeaseKeeper: what kombu writes for a delivered message, what it sweeps, what a worker holds
    "kombu.transport.redis:QoS.append": "937f94e3e47b",
    "kombu.transport.redis:QoS.ack": "dee7d6b71ded",
    "kombu.transport.redis:QoS.restore_visible": "4abe3c66b385",
    "kombu.transport.virtual.base:QoS": "93ebc0d19eb2",
    "celery.worker.state:task_ready": "f55e4d35bc62",
    "celery.concurrency.thread:TaskPool.on_stop": "494a8b204572",
    # ChildWatch: the end of a child
    "celery.concurrency.asynpool:AsynPool._event_process_exit": "08734d9e28a2",
    "celery.concurrency.asynpool:AsynPool.register_with_event_loop": "fc67ec3044b9",
    # KeepAddress: how a broken connection is taken apart
    "celery.worker.consumer.consumer:Consumer.on_connection_error_after_connected": "b97248251477",
    "kombu.connection:Connection.collect": "20c46be28b6e",
    "kombu.transport.redis:Channel._connparams": "12dd147d269a",
    "kombu.transport.redis:Channel.close": "bcaf5609dae2",
    "kombu.transport.redis:SentinelChannel._sentinel_managed_pool": "93d39d7ca017",
    # QuarantineStep: how an entry is read, decoded and restored, and which fields are used without a check
    "kombu.transport.redis:Channel._brpop_read": "a7dd408c36d6",
    "kombu.transport.redis:QoS.restore_by_tag": "1805f94c6d18",
    "kombu.transport.redis:MultiChannelPoller.on_readable": "39cf3d960619",
    "kombu.transport.virtual.base:Message": "09f0e6dd8370",
    "celery.worker.request:Request.__init__": "94bbdb059f6e",
    "celery.app.task:Context": "b1efac9becc2",
    "celery.worker.strategy:default": "757d5e87aa75",
}
"""Function -> digest of its source without comments and layout."""


def digest(name: str) -> str:
    module, _, path = name.partition(":")
    value = symbol_by_name(f"{module}:{path.split('.', maxsplit=1)[0]}")
    for part in path.split(".")[1:]:
        value = getattr(value, part)
    source = textwrap.dedent(inspect.getsource(value))
    skipped = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT)
    words = [t.string for t in tokenize.generate_tokens(io.StringIO(source).readline) if t.type not in skipped]
    return hashlib.sha256(" ".join(words).encode()).hexdigest()[:12]


@pytest.mark.parametrize("name", list(READ))
def test_upstream_is_as_it_was_read(name: str) -> None:
    assert digest(name) == READ[name]


def test_the_claim_is_taken_at_one_place_of_the_script() -> None:
    assert CHORD_PART_RETURN_LUA.count(_TAKES_CLAIM) == 1
    assert CHORD_PART_RETURN_LUA.count("local done_marker = redis.call('GET', ckey)") == 1
    assert _HAS_CLAIM.startswith("if done_marker == claim_token or ")
