"""``okasie run RUN --html FILE``: a self-contained page without scripts, network access or other files."""

from __future__ import annotations

from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined

from okasie_tasks import __version__
from okasie_tasks.masking import cleaned
from okasie_tasks.reports.charts import counts, timeline, use

_GOOD: Final = {"done": "good", "held": "waits", "queued": "waits", "running": "waits"}


def render(document: dict[str, Any]) -> str:
    """Return a run's page, from the document of ``okasie run --json``. Texts of feeds and responses are escaped."""
    document = cleaned(document)
    outcomes = [(name, count) for name, count in document["listings"].items() if name not in ("local", "remote")]
    environment = Environment(
        loader=PackageLoader("okasie_tasks.cli"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("run.html").render(
        run=document,
        mood=_GOOD.get(document["state"], "bad"),
        sent=sum(document["requests"][kind] for kind in ("list", "bulk", "put", "delete")),
        timeline=timeline(document["timeline"]),
        use=use(document["requests_over_time"]),
        outcomes=outcomes,
        counts=counts(outcomes),
        version=__version__,
    )
