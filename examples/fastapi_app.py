"""FastAPI: a price is changed and pushed; the answer does not wait for the broker.

pip install fastapi uvicorn okasie-tasks
OKASIE_BROKER=redis://127.0.0.1:6379/0 uvicorn fastapi_app:app
"""

from __future__ import annotations

import logging
import os

from fastapi import BackgroundTasks, FastAPI
from pydantic import BaseModel, PositiveInt

from okasie_tasks.client import Client
from okasie_tasks.errors import NotReachable

log = logging.getLogger(__name__)
app = FastAPI()
okasie = Client(os.environ.get("OKASIE_BROKER", "redis://127.0.0.1:6379/0"))


class NewPrice(BaseModel):
    price: PositiveInt


@app.put("/vehicles/{reference}/price", status_code=202)
def change_price(reference: str, new: NewPrice, after: BackgroundTasks) -> dict[str, str]:
    """Store the price, then have the car pushed. The workers read it from the account's source: commit before."""
    save(reference, new.price)
    after.add_task(hand_over, reference)
    return {"reference": reference, "push": "asked for"}


def hand_over(reference: str) -> None:
    """Runs in a thread after the answer: `Client.push` waits for the broker's word."""
    try:
        okasie.push("dex", [reference])
    except NotReachable:
        log.warning("the change of %s was not handed to okasie-tasks; its next run finds it", reference)


def save(reference: str, price: int) -> None:
    """Your own database."""
    log.info("%s costs %d now", reference, price)
