"""Migrates state of an older layout, one step for each layout, by the worker that starts first.

A worker of the older release reads the layout only when it starts, and cannot read migrated state. So a migration waits
until none of them answers, and the layout is marked (``2>3``) before the last check: one that starts now is refused.
A step is done under a lock and is idempotent, so the next worker repeats one that was interrupted.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Any, Final, cast

import redis

from okasie_tasks.core.fingerprint import reference_key
from okasie_tasks.core.ledger_entry import PACKED_BYTES
from okasie_tasks.errors import ConfigurationError
from okasie_tasks.logs import get_logger
from okasie_tasks.store.layout import LAYOUT, OLDEST, layout_key, usable_layout
from okasie_tasks.store.runs import Runs
from okasie_tasks.store.scripts import script

log = get_logger(__name__)

_LOCK_SECONDS: Final = 60.0
_PAUSE_SECONDS: Final = 1.0
LONGEST_WAIT_SECONDS: Final = 600.0
"""How long a worker waits for older ones. Then it ends, so that its supervisor shows that something is wrong."""
_REPORT_SECONDS: Final = 30.0
_PER_CALL: Final = 250


def prepare(
    client: redis.Redis,
    *,
    prefix: str,
    accounts: Iterable[str],
    older_workers: Callable[[], list[str]],
    waits: Callable[[list[str]], None] = lambda _: None,
    pause: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Return once the state has this release's layout, which this or another worker gives it.

    ``older_workers``: names the workers that consume the queues now. While the layout is an older one, all of them are
    of the older release. ``waits`` is called every few seconds, with what the migration waits for, or nothing during a
    step. ``pause`` waits, and may raise to give up. Raises `ConfigurationError` for state that cannot
    be migrated, and after `LONGEST_WAIT_SECONDS`.
    """
    names, began, reported = list(accounts), clock(), -_REPORT_SECONDS
    while not usable_layout(client, prefix=prefix, accounts=names).current:
        if not (waits_for := older_workers()):
            waits_for = _migrate(client, prefix, names, older_workers, waits)
        if not waits_for:
            continue
        waits(waits_for)
        waited = clock() - began
        if waited > LONGEST_WAIT_SECONDS:
            raise ConfigurationError(
                f"Redis holds state of an older layout, and workers of the older release still run"
                f" ({', '.join(waits_for)}): stop them first",
                where="redis.key_prefix",
            )
        if waited - reported >= _REPORT_SECONDS:
            reported = waited
            log.warning("waiting for workers of an older release to stop", workers=waits_for)
        pause(_PAUSE_SECONDS)


def _migrate(
    client: redis.Redis,
    prefix: str,
    accounts: list[str],
    older_workers: Callable[[], list[str]],
    waits: Callable[[list[str]], None],
) -> list[str]:
    """Migrate to the next layout. Returns what must end before: older workers, or another worker's migration."""
    key, lock = layout_key(prefix), client.lock(f"{prefix}layout:lock", timeout=_LOCK_SECONDS)
    if not lock.acquire(blocking=False):
        return ["another worker's migration"]
    try:
        layout = usable_layout(client, prefix=prefix, accounts=accounts)
        if layout.current:
            return []
        old = layout.number
        client.set(key, f"{old}>{old + 1}")
        if workers := older_workers():
            if not layout.migrating:
                client.set(key, str(old))
            return workers
        log.info("state is migrated", layout=old, to=old + 1)
        began = time.monotonic()
        for done in STEPS[old](client, prefix):
            lock.extend(_LOCK_SECONDS, replace_ttl=True)
            waits([])
            log.debug("state is migrated", done=done)
        client.set(key, str(old + 1))
        log.info("state was migrated", layout=old + 1, seconds=round(time.monotonic() - began, 3))
    except redis.exceptions.LockError:
        return ["another worker's migration"]  # this one was suspended for longer than the lock lasts
    else:
        return []
    finally:
        with contextlib.suppress(redis.exceptions.LockError):
            lock.release()


# -- the steps -----------------------------------------------------------------------------------------------------


def _entries_with_price(client: redis.Redis, prefix: str) -> Iterator[str]:
    """To layout 3: a ledger entry ends with one byte for the price last sent, 0 for unknown.

    The source is read once for a run, into blocks that a run of the older release does not have. So such a run ends,
    and another one is requested in its place.
    """
    swap = script(client, "ledger_swap")
    for key in client.scan_iter(match=f"{_literal(prefix)}ledger:*", count=500):
        account = key.decode().removeprefix(f"{prefix}ledger:").rpartition(":")[0]
        beside = [f"{prefix}touched:{account}", f"{prefix}account:{account}"]
        entries = [(name, old) for name, old in cast("Any", client.hgetall(key)).items() if old[0] == 2]
        for start in range(0, len(entries), _PER_CALL):
            batch = entries[start : start + _PER_CALL]
            changes = [(name, reference_key(name.decode()), old, _with_price(old)) for name, old in batch]
            swap(keys=[*beside, *[key] * len(batch)], args=[*chain.from_iterable(changes)])
        yield key.decode()
    yield from _replace_runs(client, prefix)


def _without_known_rows(client: redis.Redis, prefix: str) -> Iterator[str]:
    """To layout 4: an entry that is written is marked as touched, which workers of layout 3 do not do.

    So what is known of rows is forgotten once no such worker runs. Its format is another one, too.
    """
    for kind in ("rows", "pages", "seals", "touched"):
        for key in client.scan_iter(match=f"{_literal(prefix)}{kind}:*", count=500):
            client.delete(key)
            yield key.decode()


def _with_price(entry: bytes) -> bytes:
    """An entry of layout 3. Between two releases, entries of layout 2 had the last byte already."""
    return (b"\3" + entry[1:]).ljust(PACKED_BYTES, b"\0")


def _replace_runs(client: redis.Redis, prefix: str) -> Iterator[str]:
    """End the active runs, and request another one of the same mode for each. Waiting runs stay."""
    runs = Runs(client, prefix=prefix)
    pattern = f"{_literal(prefix)}account:*:active"
    for key in client.scan_iter(match=pattern, count=500):
        run = runs.get((cast("bytes | None", client.get(key)) or b"").decode())
        if run is None or not run.open:
            continue
        message = "the run was replaced by another one, because its state is of an older release"
        runs.note_once(run.id, "error", json.dumps({"code": "upgraded", "message": message, "where": None}))
        # It waits behind the active run. If this process dies here, the repeated step joins it.
        runs.request(run.account, run.mode, plan_only=run.plan_only, approves=run.facts.get("approves", ""))
        runs.end(run, "cancelled")
        runs.data.clear(run.id)
        log.warning("run was replaced", account=run.account, run=run.id, reason="its state is of an older release")
        yield run.id


def _literal(prefix: str) -> str:
    """The prefix for a pattern of SCAN, in which some characters stand for others."""
    return "".join(f"\\{one}" if one in "*?[]^\\" else one for one in prefix)


STEPS: Final[dict[int, Callable[[redis.Redis, str], Iterator[Any]]]] = {2: _entries_with_price, 3: _without_known_rows}
"""Layout -> the step to the next one, which yields now and then, so that its lock is extended."""
assert set(STEPS) == set(range(OLDEST, LAYOUT))  # noqa: S101
