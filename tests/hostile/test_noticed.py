"""A sample of the rules whose absence the rounds notice; all of them: ``python -m tests.hostile.mutations``."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.hostile.mutations import MUTATIONS, noticed
from tests.mutation import mutated


@pytest.mark.slow
@pytest.mark.parametrize("name", ["spelling", "absent_is_unknown", "sell_undone"])
def test_a_round_goes_wrong_without_the_rule_and_only_then(tmp_path: Path, name: str) -> None:
    assert mutated(tmp_path, [MUTATIONS[name]]) == ""
    without, with_it = noticed(tmp_path, name)
    assert without, "not noticed"
    assert with_it == ""
