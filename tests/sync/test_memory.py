"""What a part has read is freed when it ends, and not only when Python's cyclic collector runs."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from okasie_tasks.core.listing import Listing
from okasie_tasks.core.records import Local, LocalBatch, Outgoing, RemoteBatch
from okasie_tasks.core.row_cache import RowCache
from okasie_tasks.ports import Block, SourceRow
from okasie_tasks.sync.compare import PartitionPlan
from okasie_tasks.sync.load import _Sorter
from okasie_tasks.sync.partition import Partition
from okasie_tasks.sync.spool import Chunk
from tests.sync.guarded_scenario import GuardedScenario
from tests.sync.http_scenario import varied

_LARGE = (
    Block, Chunk, Listing, Local, LocalBatch, Outgoing, Partition, PartitionPlan, RemoteBatch, RowCache, SourceRow, _Sorter
)  # fmt: skip


@pytest.fixture
def scenario(tmp_path: Path, redis_url: str) -> Iterator[GuardedScenario]:
    with GuardedScenario(tmp_path, redis_url, rows=varied(20, seed=5)) as found:
        yield found


@pytest.fixture
def collector_off() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def kept() -> Counter[str]:
    """The large objects that exist, those of other tests included."""
    # Not isinstance: it would ask lazy objects of Celery for their class, and load their configuration.
    return Counter(type(each).__name__ for each in gc.get_objects() if type(each) in _LARGE)


@pytest.mark.usefixtures("collector_off")
def test_what_a_part_has_read_is_in_no_cycle(scenario: GuardedScenario) -> None:
    before = kept()
    scenario.told("full")
    scenario.rows.pop()
    scenario.told("full")
    assert not kept() - before
