"""The application: the API under /api/v1, the console everywhere else."""

from __future__ import annotations

from fastapi import FastAPI

from okasie_tasks import __version__
from okasie_tasks.services import Services
from okasie_tasks.web import entrance
from okasie_tasks.web.api import add_api
from okasie_tasks.web.console import router as console
from okasie_tasks.web.doors import Doors
from okasie_tasks.web.events import Streams
from okasie_tasks.web.gate import Gate


def create_app(services: Services, *, start_token: str = "") -> FastAPI:
    """Return the application of one process. ``start_token``: signs in where no tokens are configured."""
    app = FastAPI(
        title="okasie-tasks",
        version=__version__,
        description="Keeps a car dealer's inventory in step with the Okasie marketplace.",
        openapi_url="/api/openapi.json",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.services, app.state.doors, app.state.streams = services, Doors(services, start_token), Streams()
    add_api(app)
    app.include_router(entrance.routes)
    app.include_router(console())
    app.add_middleware(entrance.StartToken)
    app.add_middleware(Gate, web=services.settings.web)
    return app
