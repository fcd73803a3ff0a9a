"""Does the model-based test notice when a rule of the decisions is gone? Takes one away at a time, in a copy of the tree.

    python -m tests.sync.mutations
    python -m tests.sync.mutations ownership missing_reads

Each must be noticed by the random steps alone, which know nothing of `okasie_tasks.core`, and by the tests that tell
single stories; those of `KNOWN`, by `tests.sync.test_known_rows`. Exit status 1 when one survives, or when the code has moved on and there is nothing left to take away.
"""

from __future__ import annotations

import sys
from typing import Final

from tests.mutation import Cut, each, failing

_STORIES: Final = (
    "tests/core", "tests/sync/test_model_regressions.py", "tests/sync/test_scenarios.py", "tests/sync/test_guards.py",
    "tests/sync/test_beside_a_run.py", "tests/sync/test_first_run.py", "tests/sync/test_policies.py",
    "tests/sync/test_failing_content.py",
)  # fmt: skip
_CORE: Final = "okasie_tasks/core"
_SYNC: Final = "okasie_tasks/sync"

MUTATIONS: Final[dict[str, Cut | list[Cut]]] = {
    "completeness": Cut(
        f"{_CORE}/reconcile.py", "    if not evidence.source_complete:\n        return", "    if False:\n        return"
    ),
    "ownership": Cut(
        f"{_CORE}/reconcile.py",
        '    if base is None:\n        return Decision(action="none", reason="never ours"',
        '    if base is None and remote is None:\n        return Decision(action="none", reason="never ours"',
    ),
    "missing_reads": Cut(f"{_CORE}/reconcile.py", "missed.missed < evidence.missing_reads", "missed.missed < 1"),
    "in_source": Cut(f"{_CORE}/reconcile.py", "if not base.has(Flag.IN_SOURCE):\n        return _pushed", "if False:\n        return _pushed"),
    "sold_by_hand": Cut(f"{_SYNC}/writes.py", "entry.has(Flag.SOLD_BY_HAND) or Version", "Version"),
    # A write looks at the versions once more: random steps notice only that both looks are gone.
    "older_rows": [
        Cut(f"{_CORE}/reconcile.py", "if changed and Version(local.version, evidence.source_began_ms).older_than(base.stamp):", "if False:"),
        Cut(f"{_SYNC}/writes.py", "or Version(item.version, item.seen_ms).older_than(entry.stamp)", ""),
    ],
    "older_pushes": Cut(f"{_CORE}/pending.py", "return change.stamp.older_than(entry.stamp)", "return False"),
    "sold_there": Cut(f"{_CORE}/reconcile.py", '    if picture.status == "sold":\n        return _sold_there(local, base, picture, changed=changed)\n    if base.sold', "    if base.sold"),
    "policy": Cut(f"{_CORE}/reconcile.py", 'return evidence.policy == "local"', "return True"),
    "left_out": Cut(f"{_SYNC}/writes.py", 'if one.outcome == "accepted"]', 'if one.outcome != "refused"]'),
    "a_look": Cut(f"{_SYNC}/compare.py", "        if plan_only:\n            return\n", ""),
    "rejects": Cut(f"{_SYNC}/compare.py", 'if decision.action == "none" or not rejects', "if True or not rejects"),
    "drift": Cut(f"{_CORE}/reconcile.py", "drifted = remote.rendering != base.rendering or", "drifted ="),
}  # fmt: skip

_ROWS: Final = "okasie_tasks/store/known_rows.py"
KNOWN: Final[dict[str, Cut]] = {
    "sum": Cut(f"{_CORE}/records.py", "return len(numbers), sum(numbers) % 2**64", "return 0, 0"),
    "row_of_the_sum": Cut(f"{_CORE}/records.py", "numbers = list(keys)", "numbers = [key for key in keys if key % 4]"),
    "mapping": Cut(f"{_CORE}/row_cache.py", "if kept[:_WIDTH] != version or", "if"),
    "touched": Cut("okasie_tasks/store/lua/ledger_swap.lua", "redis.call('HSET', KEYS[1], unpack(touched))", ""),
    "touched_seal": Cut(_ROWS, "if int(number) >= seal.number and", "if False and"),
    "touched_row": Cut(f"{_SYNC}/load.py", "written_since(noted_by, keys) | ", "written_since(10**9, keys) | "),
    "touched_listing": Cut(f"{_SYNC}/fetch.py", "if key not in written:", "if True:"),
    "others": Cut(f"{_SYNC}/seals.py", "if entry != ABSENT}", "if False}"),
    "either_side": Cut(f"{_SYNC}/seals.py", "for side in sides)", "for side in sides[:1])"),
    "written_and_changed": Cut(f"{_SYNC}/seals.py", "map(hash8, others)", "keys"),
    "counted": Cut(f"{_SYNC}/seals.py", "    settled.subtract(entry[SHARED] for entry in packed.values())\n", ""),
    "kept_others": Cut(f"{_SYNC}/seals.py", "sorted(unlisted.union(partition.base))", "sorted(unlisted)"),
    "lost_entries": Cut(
        _ROWS, "entries < int(got):\n            self.forget()", "entries < int(got):\n            pass"
    ),
    "lost_beside_new": Cut("okasie_tasks/store/lua/ledger_swap.lua", "if now == '' then new = new + 1 end", ""),
}


CUTS: Final = {name: cut if isinstance(cut, list) else [cut] for name, cut in (MUTATIONS | KNOWN).items()}


def main() -> int:
    survived = []
    for name, folder in each(__doc__, CUTS):
        if folder is None:
            survived.append(name)
            continue
        if name in KNOWN:
            noticed = failing(folder, "tests/sync/test_known_rows.py", PYTHONHASHSEED="0")
            print(f"without {name}: {', '.join(noticed) or 'NOT NOTICED'}", flush=True)
            survived += [] if noticed else [name]
            continue
        steps = failing(folder, "tests/sync/test_model.py", MODEL_QUICK="1", MODEL_STEPS="10000", PYTHONHASHSEED="0")
        stories = failing(folder, *_STORIES)
        told = f"{len(stories)} stories, {stories[0]}" if stories else "NO REGRESSION TEST"
        print(f"without {name}: {'the random steps' if steps else 'NOT THE RANDOM STEPS'}, {told}", flush=True)
        if not steps or not stories:
            survived.append(name)
    print(f"survived: {', '.join(survived)}" if survived else "all were noticed, by random steps and by stories")
    return int(bool(survived))


if __name__ == "__main__":
    sys.exit(main())
