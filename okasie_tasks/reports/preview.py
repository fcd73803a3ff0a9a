"""Both sides of one listing, as ``okasie.preview`` has read them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from okasie_tasks.services import Services


def preview_document(services: Services, preview: str) -> dict[str, Any] | None:
    """Return the preview with this id; None while no worker has made it, and ten minutes after it was made."""
    return services.previews.get(preview)
