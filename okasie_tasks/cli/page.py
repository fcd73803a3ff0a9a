"""``okasie run RUN --html FILE``: one page that needs nothing but itself: no network, no script, no other file."""

from __future__ import annotations

from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined

from okasie_tasks import __version__
from okasie_tasks.cli import charts

_GOOD: Final = {"done": "good", "held": "waits", "queued": "waits", "running": "waits"}


def render(document: dict[str, Any]) -> str:
    """The page of a run, from the document of ``okasie run --json``. What a feed or an answer said is text there."""
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
        timeline=charts.timeline(document["timeline"]),
        use=charts.use(document["requests_over_time"]),
        outcomes=outcomes,
        counts=charts.counts(outcomes),
        charts=charts,
        version=__version__,
    )
