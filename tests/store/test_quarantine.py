"""The quarantine on a real Redis: bounded, cut, without secrets and control characters."""

from __future__ import annotations

import redis

from okasie_tasks.masking import know
from okasie_tasks.store.quarantine import KEEP_CHARACTERS, KEEP_MESSAGES, Quarantine


def test_the_newest_are_kept_and_all_are_counted(client: redis.Redis) -> None:
    quarantine = Quarantine(client, prefix="okasie:")
    assert quarantine.summary(5) == (0, [])
    for number in range(KEEP_MESSAGES + 3):
        quarantine.add("okasie.api", b"%d" % number, "no message")
    total, last = quarantine.summary(KEEP_MESSAGES + 10)
    assert (total, len(last)) == (KEEP_MESSAGES + 3, KEEP_MESSAGES)
    assert (last[0].message, last[-1].message) == (str(KEEP_MESSAGES + 2), "3")
    assert last[0].at_ms > 0


def test_what_is_kept_is_short_masked_ascii(client: redis.Redis) -> None:
    know("a-very-secret-key")
    quarantine = Quarantine(client, prefix="okasie:")
    raw = b'\xff\x1b[2J\nforged "a-very-secret-key" ' + b"x" * 100_000
    quarantine.add("okasie.api", raw, "header 'a-very-secret-key'\n\x1b[2J")
    (kept,) = quarantine.summary(5).last
    assert kept.bytes == len(raw)
    assert len(kept.message) == KEEP_CHARACTERS
    assert kept.message.startswith(r"\\xff\x1b[2J\nforged " + '"***" xx')
    assert kept.reason == r"header '***'\n\x1b[2J"
