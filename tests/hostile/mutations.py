"""Do the hostile rounds notice when a rule is gone? Takes one away at a time, in a copy of the tree, and plays rounds.

    python -m tests.hostile.mutations
    python -m tests.hostile.mutations verdict settled

A rule is missed if a round goes wrong in a way in which it does not go wrong with the rule: what the copy says is held
against the same round of this tree. Each has its seeds, with which that is seen. Exit status 1 when one is not missed,
when a round goes wrong in this tree, or when the code has moved on and there is nothing left to take away.

Two rules are not missed by rounds: that a page past the announced end is read, and that planned sells are looked up
again in a source that has changed (a car that was away in a version that could be read may be sold, and comes back with
the next run). The tests in `TESTS` miss them.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from subprocess import TimeoutExpired
from typing import Final

from tests.mutation import ROOT, Cut, each, failing, play

_SECONDS: Final = 120
"""For one round, which takes one or two; on a machine with much else to do, ten."""
_CORE: Final = "okasie_tasks/core"
_SYNC: Final = "okasie_tasks/sync"

MUTATIONS: Final[dict[str, Cut]] = {
    "absent_is_unknown": Cut(f"{_CORE}/reconcile.py", "        remote, lacking = completed(", "        _ = completed("),
    "mass_loss": Cut(
        f"{_SYNC}/lost_fields.py", "        if 100.0 * count / of[field] > limits.max_field_loss_percent", "        if False"
    ),
    "odd_words": Cut(f"{_CORE}/remote_rows.py", "    if status not in _WORDS and status is not None:", "    if False:"),
    "empty_page": Cut(f"{_SYNC}/executor.py", "        fetch.end_walk(ctx, run, number)", "        pass"),
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
    "rekeyed": Cut(f"{_CORE}/rekeyed.py", "    return Rekeyed(pairs, frozenset(left if doubtful", "    return None and Rekeyed(pairs, frozenset(left if doubtful"),
    "sell_undone": Cut(f"{_CORE}/decision.py", "    return remote.status in LIVE and is_from_before_write(base, remote)", "    return False"),
    "sell_in_doubt": Cut(f"{_CORE}/reconcile.py", " or base.has(Flag.SELL_IN_DOUBT):\n", ":\n"),
    "past_the_end": Cut(f"{_SYNC}/phases.py", "    if missing and fetch.read_on(ctx, run):", "    if False:"),
    "confirm": Cut(
        f"{_SYNC}/confirm.py",
        "    return [change for change in planned if _still_holds(change, contents)]",
        "    return planned",
    ),
}  # fmt: skip

TESTS: Final[dict[str, str]] = {
    "past_the_end": "tests/sync/test_odd_answers.py",
    "confirm": "tests/sync/test_written_in_place.py",
}
"""The tests that miss a rule which no round misses."""

SEEDS: Final[dict[str, tuple[int, ...]]] = {
    "absent_is_unknown": (3,),
    "mass_loss": (30,),
    "culprit": (4,),
    "odd_words": (1,),
    "empty_page": (1,),
    "spelling": (1,),
    "verdict": (39,),
    "item_verdict": (22,),
    "without_body": (21,),
    "at_rest": (6,),
    "rekeyed": (20,),
    "sell_undone": (135,),
    "sell_in_doubt": (90,),
}
"""The rounds in which each is seen."""
FOCUS: Final = {
    "odd_words": "unknown_status",
    "empty_page": "many_pages",
    "culprit": "item_errors",
}
"""The focus of its rounds."""


def verdicts(folder: Path, seeds: Sequence[int], focus: str = "") -> dict[int, set[str]]:
    """What goes wrong there in these rounds, by seed."""
    asked = ["--rounds", "1", "--seed", *map(str, seeds), *(["--focus", focus] if focus else [])]
    try:
        said = play(folder, "tests.hostile", *asked, seconds=_SECONDS * len(seeds), PYTHONHASHSEED="0")
    except TimeoutExpired:
        return {seed: {f"no end after {_SECONDS} s"} for seed in seeds}
    found: dict[int, set[str]] = {seed: set() for seed in seeds}
    if "fewest possible" not in said.stdout:
        return {seed: {said.stderr[-300:]} for seed in seeds}
    seed = 0
    for line in said.stdout.splitlines():
        if begins := re.match(r"(\d+) .*, [\d.]+ s$", line):
            seed = int(begins[1])
        elif line.startswith("  WRONG: "):
            found[seed].add(line.removeprefix("  WRONG: "))
    return found


def noticed(folder: Path, name: str) -> tuple[str, str]:
    """What goes wrong there and not here, and what goes wrong here."""
    focus = FOCUS.get(name, "")
    there = {seed: texts for seed, texts in verdicts(folder, SEEDS[name], focus).items() if texts}
    here = verdicts(ROOT, list(there), focus) if there else {}
    new = [f"{seed}: {text}" for seed, texts in there.items() for text in sorted(texts - here[seed])]
    return next(iter(new), ""), "; ".join(f"{seed}: {text}" for seed, texts in here.items() for text in sorted(texts))


def main() -> int:
    failed = []
    for name, folder in each(__doc__, {name: [cut] for name, cut in MUTATIONS.items()}):
        wrong, before = "", ""
        if folder is not None and name in TESTS:
            wrong = ", ".join(failing(folder, TESTS[name]))
        elif folder is not None:
            wrong, before = noticed(folder, name)
        if before or not wrong:
            failed.append(name)
        print(f"without {name}: {wrong[:200] or 'NOT NOTICED'}", flush=True)
        if before:
            print(f"  with it: {before[:400]}", flush=True)
    print(f"failed: {', '.join(failed)}" if failed else "all were noticed, and nothing goes wrong with them")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
