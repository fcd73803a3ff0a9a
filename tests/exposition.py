"""An exposition as tests read it: through prometheus_client's own parser."""

from __future__ import annotations

from typing import NamedTuple

from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from okasie_tasks.cli.exposition import registry
from okasie_tasks.services import Services


class Exposition(NamedTuple):
    types: dict[str, str]
    """Family -> type, counters with their ``_total``."""
    labels: dict[str, set[str]]
    """Family -> names of its labels, ``le`` left out."""
    samples: dict[str, float]
    """``name{label="value",...}``, labels sorted -> value."""

    def __getitem__(self, name: str) -> float:
        return self.samples[name]


def parse(text: str) -> Exposition:
    found = Exposition({}, {}, {})
    for family in text_string_to_metric_families(text):
        name = f"{family.name}_total" if family.type == "counter" else family.name
        found.types[name] = family.type
        for sample in family.samples:
            found.labels.setdefault(name, set()).update(set(sample.labels) - {"le"})
            shown = ",".join(f'{label}="{sample.labels[label]}"' for label in sorted(sample.labels))
            key = f"{sample.name}{{{shown}}}" if shown else sample.name
            assert key not in found.samples, f"{key} twice"
            found.samples[key] = sample.value
    return found


def scrape(services: Services) -> Exposition:
    """What Prometheus would get now."""
    return parse(generate_latest(registry(services)).decode())
