"""Does the suite notice when a protection is gone? Takes one away at a time, in a copy of the tree, and plays the suite.

    python -m tests.chaos.mutations
    python -m tests.chaos.mutations fencing watchdog

Each must be caught twice: by a law, and by a scripted accident with real processes. Tells by which; exit status 1 when
one survives, or when the code has moved on and there is nothing left to take away. About two minutes each.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Final, NamedTuple

from tests.mutation import Cut, each, failing, play

_LAWS: Final = ("tests/chaos/test_invariants.py", "tests/chaos/test_late.py", "tests/store/test_runs.py")
_LUA: Final = "okasie_tasks/store/lua"


class Mutation(NamedTuple):
    cuts: tuple[Cut, ...]
    script: str
    """Of `tests.chaos.scripted`: the accident that it protects from."""


MUTATIONS: Final[dict[str, Mutation]] = {
    "fencing": Mutation(
        (
            Cut(f"{_LUA}/part_close.lua", "if token ~= ARGV[2] then return 0 end", ""),
            Cut(f"{_LUA}/part_release.lua", "if token ~= ARGV[2] then return tonumber(attempts) end", ""),
            Cut(
                f"{_LUA}/part_keep.lua",
                "if token ~= ARGV[2] or untilms == '0' then return 0 end",
                "if not attempts then return 1 end",
            ),
            Cut(
                "okasie_tasks/store/lua/ledger_swap.lua",
                "if now == ARGV[i + 2] or now == ARGV[i + 3] then",
                "if true then",
            ),
        ),
        "worker_stalled",
    ),
    "claim": Mutation(
        (Cut(f"{_LUA}/part_claim.lua", "return {'busy', tonumber(untilms) - now}", "held = held"),), "message_doubled"
    ),
    "cursor": Mutation(
        (Cut(f"{_LUA}/run_end.lua", "if ARGV[3] ~= '' and generation == ARGV[4] then", "if ARGV[3] ~= '' then"),),
        "cursor_moved",
    ),
    "watchdog": Mutation(
        (
            Cut(
                "okasie_tasks/sync/watchdog.py",
                "    run_id = ctx.runs.active(account)\n    run = ctx.runs.get(run_id) if run_id else None\n",
                "    run = run_id = None\n",
            ),
        ),
        "message_lost",
    ),
    "outbox": Mutation(
        (
            Cut(
                "okasie_tasks/client.py",
                '    pipe.hset(f"{key_prefix}outbox", task_id, json.dumps(entry))\n',
                "",
            ),
        ),
        "request_lost",
    ),
}


def invariants(folder: Path) -> list[str]:
    """The laws that fail there."""
    return failing(folder, *_LAWS)


def accident(folder: Path, script: str) -> list[str]:
    """What went wrong there in a scripted accident."""
    said = play(folder, "tests.chaos.scripted", "--quick", script)
    return re.findall(r"WRONG: (.*)", said.stdout) or ([said.stderr[-300:]] if said.returncode else [])


def main() -> int:
    survived = []
    for name, folder in each(__doc__, {name: mutation.cuts for name, mutation in MUTATIONS.items()}):
        if folder is None:
            survived.append(name)
            continue
        script = MUTATIONS[name].script
        broken, wrong = invariants(folder), accident(folder, script)
        print(f"without the {name}:")
        print(f"  laws: {', '.join(broken[:4]) or 'NONE NOTICED'}")
        print(f"  {script}: {'; '.join(wrong)[:300] or 'NOT NOTICED'}", flush=True)
        if not broken or not wrong:
            survived.append(name)
    print(f"survived: {', '.join(survived)}" if survived else "all were noticed, by laws and by accidents")
    return int(bool(survived))


if __name__ == "__main__":
    sys.exit(main())
