"""FastAPI: change a price and push it; the response does not wait for the broker.

pip install fastapi uvicorn okasie-tasks
OKASIE_BROKER=redis://127.0.0.1:6379/0 uvicorn fastapi_app:app
"""

from __future__ import annotations

import logging
import os

from fastapi import BackgroundTasks, FastAPI
from pydantic import BaseModel, PositiveInt

from okasie_tasks.client import Client
from okasie_tasks.errors import ConnectionFailed

log = logging.getLogger(__name__)
app = FastAPI()
okasie = Client(os.environ.get("OKASIE_BROKER", "redis://127.0.0.1:6379/0"))


class NewPrice(BaseModel):
    price: PositiveInt


@app.put("/vehicles/{reference}/price", status_code=202)
def change_price(reference: str, new: NewPrice, after: BackgroundTasks) -> dict[str, str]:
    """Store the price, then push the car. A worker reads it from the account's source, so commit first."""
    save(reference, new.price)
    after.add_task(enqueue, reference)
    return {"reference": reference, "push": "requested"}


def enqueue(reference: str) -> None:
    """Runs in a thread after the response: `Client.push` waits for the broker."""
    try:
        okasie.push("dex", [reference])
    except ConnectionFailed:
        log.warning("the change of %s was not enqueued; the next run finds it", reference)


def save(reference: str, price: int) -> None:
    """Your own database."""
    log.info("new price of %s: %d", reference, price)
