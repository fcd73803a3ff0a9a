"""Do the hostile rounds notice when a rule is gone? Takes one away at a time, in a copy of the tree, and plays rounds.

    python -m tests.hostile.mutations
    python -m tests.hostile.mutations verdict settled

Plays until a round goes wrong. Exit status 1 when none does, or when the code has moved on and there is nothing left to
take away.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Final

from tests.mutation import Cut, each, play

_MOST_ROUNDS: Final = 120
_CORE: Final = "okasie_tasks/core"
_SYNC: Final = "okasie_tasks/sync"

MUTATIONS: Final[dict[str, Cut]] = {
    "absent_is_unknown": Cut(f"{_CORE}/reconcile.py", "        remote, lacking = completed(", "        _ = completed("),
    "mass_loss": Cut(
        f"{_SYNC}/lost_fields.py", "        if 100.0 * count / of[field] > limits.max_field_loss_percent", "        if False"
    ),
    "odd_words": Cut(f"{_CORE}/remote_rows.py", "    if status not in _WORDS and status is not None:", "    if False:"),
    "empty_page": Cut(f"{_SYNC}/executor.py", "        fetch.end_walk(ctx, run, number)", "        pass"),
    "past_the_end": Cut(f"{_SYNC}/phases.py", "    if missing and fetch.read_on(ctx, run):", "    if False:"),
    "spelling": Cut(
        f"{_SYNC}/absences.py",
        "if len(ours) == len(theirs) == 1}",
        "if len(ours) == len(theirs) == 0}",
    ),
    "verdict": Cut(
        "okasie_tasks/marketplace/refusals.py",
        'return "refused" if code and status in PERMANENT else "failed"',
        'return "refused" if status < 500 else "failed"',
    ),
    "item_verdict": Cut(
        "okasie_tasks/marketplace/responses.py",
        'outcome="refused" if status in PERMANENT and not scope else "unknown"',
        'outcome="refused"',
    ),
    "culprit": Cut(f"{_SYNC}/rejects.py", "    return status >= 500 or status == 413", "    return False"),
    "without_body": Cut(
        "okasie_tasks/marketplace/responses.py", "data = {} if body is None else _table(body, ", "data = _table(body, "
    ),
    "at_rest": Cut(f"{_SYNC}/reading.py", 'settling.is_settled(ctx, run, "load", source, version)', "True"),
    "confirm": Cut(
        f"{_SYNC}/confirm.py",
        "    return [change for change in planned if _still_holds(change, contents)]",
        "    return planned",
    ),
    "rekeyed": Cut(f"{_CORE}/rekeyed.py", "    return Rekeyed(pairs, frozenset(left if doubtful", "    return None and Rekeyed(pairs, frozenset(left if doubtful"),
}  # fmt: skip


def noticed(folder: Path) -> str:
    """What went wrong there first."""
    said = play(folder, "tests.hostile", "--first", "--rounds", str(_MOST_ROUNDS), seconds=1_800)
    found = re.search(r"WRONG: (.*)", said.stdout)
    return found[1] if found else said.stderr[-300:] if said.returncode else ""


def main() -> int:
    survived = []
    for name, folder in each(__doc__, {name: [cut] for name, cut in MUTATIONS.items()}):
        wrong = noticed(folder) if folder is not None else ""
        if not wrong:
            survived.append(name)
        print(f"without {name}: {wrong[:200] or 'NOT NOTICED'}", flush=True)
    print(f"survived: {', '.join(survived)}" if survived else "all were noticed")
    return int(bool(survived))


if __name__ == "__main__":
    sys.exit(main())
