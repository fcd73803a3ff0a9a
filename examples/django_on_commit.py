"""Django: a saved vehicle is pushed when, and only when, its transaction is committed.

In a project, put `connect(Vehicle, ...)` into ``AppConfig.ready``. Run as a script, this file creates a
project with one model and changes a price in it::

    python django_on_commit.py REDIS_URL ACCOUNT REFERENCE PRICE < LISTING.json
"""

from __future__ import annotations

import json
import logging
import sys
from typing import Any

from django.db import models, transaction
from django.db.models.signals import post_delete, post_save

from okasie_tasks.client import Client
from okasie_tasks.errors import ConnectionFailed

log = logging.getLogger(__name__)


def connect(model: type[models.Model], okasie: Client, account: str) -> None:
    """Push each saved row of ``model``, and sell each deleted one, once its transaction is committed.

    The model must have ``reference`` and ``as_listing()``, which returns the marketplace's write shape. A rollback
    sends nothing. ``robust``: an unreachable broker must not turn a committed save into an error for the user; the
    next run finds the change. If it must not wait for that, use an outbox instead: docs/integrations.md.
    """

    def saved(instance: Any, **_: object) -> None:
        transaction.on_commit(lambda: _send(okasie.push, account, listings=[instance.as_listing()]), robust=True)

    def deleted(instance: Any, **_: object) -> None:
        transaction.on_commit(lambda: _send(okasie.sell, account, [instance.reference]), robust=True)

    # The signals would drop weak references to these local functions.
    post_save.connect(saved, sender=model, weak=False)
    post_delete.connect(deleted, sender=model, weak=False)


def _send(call: Any, *arguments: Any, **named: Any) -> None:
    try:
        call(*arguments, **named)
    except ConnectionFailed:
        log.warning("a change of account %s was not enqueued; its next run finds it", arguments[0])


def main(url: str, account: str, reference: str, price: int, listing: dict[str, Any]) -> None:
    """A project of one model: save a car, change its price, and roll a third price back."""
    import django  # noqa: PLC0415 - a project's own settings come first
    from django.conf import settings  # noqa: PLC0415

    settings.configure(
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    )
    django.setup()

    class Vehicle(models.Model):
        reference = models.CharField(max_length=64, unique=True)
        price = models.PositiveIntegerField()

        class Meta:
            app_label = "stock"

        def as_listing(self) -> dict[str, Any]:
            return {**listing, "externalReference": self.reference, "price": self.price}

    from django.db import connection  # noqa: PLC0415

    with connection.schema_editor() as editor:
        editor.create_model(Vehicle)
    car = Vehicle.objects.create(reference=reference, price=price + 1)
    connect(Vehicle, Client(url), account)
    with transaction.atomic():
        car.price = price
        car.save()
    try:
        with transaction.atomic():
            car.price = 1
            car.save()
            raise RuntimeError("something else in the same transaction failed")
    except RuntimeError:
        pass


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), json.load(sys.stdin))
