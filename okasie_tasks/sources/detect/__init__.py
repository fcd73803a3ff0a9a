"""Drafts an ``okasie.toml`` for an unknown feed from its header and first rows."""

from __future__ import annotations

from okasie_tasks.settings.placeholders import FILL_IN
from okasie_tasks.sources.detect.draft import Draft
from okasie_tasks.sources.detect.head import is_web, read_head
from okasie_tasks.sources.detect.propose import best_row, propose
from okasie_tasks.sources.detect.render import key_variable, render

__all__ = ["FILL_IN", "Draft", "best_row", "is_web", "key_variable", "propose", "read_head", "render"]
