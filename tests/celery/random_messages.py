"""Random list entries: bytes, JSON of random shape, and real messages of every task with something changed."""

from __future__ import annotations

import base64
import copy
import json
import random
import uuid
from collections.abc import Iterator
from typing import Any

from celery.app.task import Context

from okasie_tasks.worker.settings import QUEUE_OF

ARGUMENTS: dict[str, dict[str, Any]] = {
    "okasie.sync": {"account": "dex", "mode": "incremental"},
    "okasie.advance": {"account": "dex", "run": "01M8AG1Y5VC20GM7N7ZWC224KR"},
    "okasie.watchdog": {},
    "okasie.resume": {"account": "dex"},
    "okasie.push": {"account": "dex", "references": ["DG-00001", "NOBODYS-2"]},
    "okasie.sell": {"account": "dex", "references": ["NOBODYS-1"]},
    "okasie.send_urgent": {"account": "dex"},
    "okasie.preview": {"account": "dex", "reference": "NOBODYS-3"},
    "okasie.fetch_page": {"account": "dex", "run": "01M8AG1Y5VC20GM7N7ZWC224KR", "page": 3, "of": 7},
} | {
    name: {"account": "dex", "run": "01M8AG1Y5VC20GM7N7ZWC224KR", "part": 3, "of": 7}
    for name in (
        "okasie.upsert_chunk", "okasie.confirm_sells", "okasie.mark_sold", "okasie.count_listings", "okasie.load_inventory", "okasie.spool",
        "okasie.diff_chunk",
    )
}  # fmt: skip
"""Every task with arguments that fit; a run that does not exist, and only one reference that does."""

TEXTS = (
    "", "x", "dex", "okasie.push", "celery.chord_unlock", "\ud800", "\x00\x1b[2J\n", "2026-01-01T00:00:00",
    "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59", "base64", "application/x-python-serialize", "zlib", "utf-16",
    "idna", "binary", "é" * 300, "A" * 5_000,
)  # fmt: skip
NUMBERS = (0, 1, -1, 3, 1.5, 10**30, -(10**30), 2**63, 1e308, float("inf"), float("nan"))
RAW = (
    b"", b"null", b"[]", b"{}", b"0", b'"text"', b"true", b"\xff\xfe", b"\x80\x04N.", b"[" * 5_000, b'{"a":' * 5_000,
    b"9" * 5_000, b'{"properties": null}', b'{"__type__": "uuid", "__value__": 7}', b"*1\r\n$4\r\nPING\r\n",
)  # fmt: skip


def messages(seed: int, count: int) -> Iterator[tuple[str, bytes]]:
    """Yield ``(queue, entry)``."""
    rng, queues = random.Random(seed), sorted(set(QUEUE_OF.values()))
    for _ in range(count):
        kind = rng.random()
        if kind < 0.1:
            yield rng.choice(queues), rng.randbytes(rng.randrange(200)) if kind < 0.05 else rng.choice(RAW)
        elif kind < 0.3:
            yield rng.choice(queues), _json(_value(rng, 4))
        else:
            name = rng.choice(list(ARGUMENTS))
            yield (QUEUE_OF[name] if rng.random() < 0.9 else rng.choice(queues)), _mutated(rng, name)


def real(name: str, kwargs: dict[str, Any], **headers: Any) -> dict[str, Any]:
    """A message as Celery sends it, with its body not encoded yet."""
    task = str(uuid.uuid4())
    return {
        "body": [[], kwargs, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}],
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {
            "lang": "py", "task": name, "id": task, "shadow": None, "eta": None, "expires": None, "group": None,
            "group_index": None, "retries": 0, "timelimit": [None, None], "root_id": task, "parent_id": None,
            "argsrepr": "()", "kwargsrepr": "{}", "origin": "gen1@host", "ignore_result": True,
            "replaced_task_nesting": 0, "stamped_headers": None, "stamps": {}, **headers,
        },
        "properties": {
            "correlation_id": task, "reply_to": str(uuid.uuid4()), "delivery_mode": 2,
            "delivery_info": {"exchange": QUEUE_OF[name], "routing_key": QUEUE_OF[name]}, "priority": 0,
            "body_encoding": "base64", "delivery_tag": str(uuid.uuid4()),
        },
    }  # fmt: skip


def encoded(message: dict[str, Any]) -> bytes:
    """The list entry of a message of `real`."""
    if not isinstance(message.get("body"), str):
        message["body"] = base64.b64encode(json.dumps(message.get("body")).encode()).decode()
    return json.dumps(message).encode()


def _mutated(rng: random.Random, name: str) -> bytes:
    message = real(name, copy.deepcopy(ARGUMENTS[name]))
    if rng.random() < 0.2:
        part = {"task": "okasie.advance", "args": [], "kwargs": dict(ARGUMENTS["okasie.advance"]), "options": {}}
        message["body"][2]["chord"] = part | {"subtask_type": None, "immutable": True, "chord_size": 2}
        message["headers"]["group"] = str(uuid.uuid4())
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        _mutate(rng, message)
    entry = encoded(message)
    if rng.random() < 0.1:
        cut = rng.randrange(len(entry))
        entry = entry[:cut] if rng.random() < 0.5 else entry[:cut] + rng.randbytes(1) + entry[cut + 1 :]
    return entry


def _mutate(rng: random.Random, message: dict[str, Any]) -> None:
    """Replace, remove or add one value anywhere in the message."""
    holder: Any = message
    while True:
        keys = list(holder) if isinstance(holder, dict) else range(len(holder))
        if not keys:
            return
        key = rng.choice(list(keys))
        if isinstance(holder[key], dict | list) and rng.random() < 0.8:
            holder = holder[key]
            continue
        break
    action = rng.random()
    if action < 0.2:
        del holder[key]
    elif action < 0.3 and isinstance(holder, dict):
        name = rng.choice([name for name in dir(Context) if not name.startswith("__")])
        holder[name] = _value(rng, 2)
    else:
        holder[key] = _value(rng, 2)


def _value(rng: random.Random, levels: int) -> Any:
    kind = rng.randrange(8 if levels else 5)
    if kind < 2:
        return rng.choice(TEXTS)
    if kind < 4:
        return rng.choice(NUMBERS)
    if kind == 4:
        return rng.choice((None, True, False))
    if kind == 5:
        return [_value(rng, levels - 1) for _ in range(rng.randrange(4))]
    names = ("body", "headers", "properties", "task", "id", "timelimit", "account", "delivery_info", "__type__")
    return {rng.choice(names): _value(rng, levels - 1) for _ in range(rng.randrange(4))}


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()
