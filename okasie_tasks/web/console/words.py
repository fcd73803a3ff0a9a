"""The words of the documents as people read them. Each is translated where it is shown.

A document's word that is missing here is shown as it is, so a new word never breaks a page.
"""

from __future__ import annotations

from typing import Final

from okasie_tasks.web.console.languages import _

RUN_STATES: Final = {
    "queued": _("waiting to start"),
    "running": _("running"),
    "held": _("waits for approval"),
    "done": _("done"),
    "partial": _("ended with errors"),
    "failed": _("failed"),
    "cancelled": _("cancelled"),
    "dropped": _("plan rejected"),
    "expired": _("plan expired"),
}
LISTING_STATES: Final = {
    "live": _("online"),
    "active": _("online"),
    "sold": _("sold"),
    "pending": _("reserved"),
    "draft": _("draft"),
    "rejected": _("rejected"),
    "waiting": _("waits to be sent"),
    "held": _("waits for approval"),
    "unknown": _("unknown"),
}
PURPOSES: Final = {
    "incremental": _("Sync of the changes"),
    "full": _("Full sync"),
    "plan": _("Dry run"),
    "approved": _("Sending of an approved plan"),
}
ACTIONS: Final = {
    "create": _("goes online"),
    "update": _("change"),
    "sell": _("mark as sold"),
    "take-over": _("take over and mark as sold"),
    "invalid": _("clear fields"),
    "scope": _("no longer reachable"),
}
CHANGE_KINDS: Final = {
    "price": _("price changes"),
    "status": _("status changes"),
    "fields": _("changes of other fields"),
    "new": _("new cars"),
    "gone": _("cars to mark as sold"),
}
GUARDS: Final = {
    "source_empty": _("The source is empty."),
    "source_shrunk": _("The source has far fewer cars than last time."),
    "scope_narrowed": _("The API key reaches fewer dealers than before."),
    "sold_count": _("More cars than usual would be marked as sold."),
    "sold_percent": _("A large share of the cars would be marked as sold."),
    "changed": _("Most cars would change at once."),
    "field_loss": _("Many cars would lose the value of a field."),
    "price_change": _("Prices would move by more than is allowed."),
    "take_over": _("These cars were online before the first sync, and the source does not have them."),
    "rekeyed": _("Many cars would be sold and put online again under another reference."),
}
ATTENTION: Final = {
    "held": _("Changes wait for your approval"),
    "sells_waiting": _("Sold cars stay online"),
    "ledger_behind": _("After a failover of Redis, sold cars stay online for now"),
    "rejected": _("Cars cannot be put online as they are"),
    "failed": _("The last sync failed"),
    "stale": _("No sync succeeded for a long time"),
    "paused": _("The account is paused"),
    "key_refused": _("The marketplace refuses the API key"),
    "quarantine": _("Malformed messages were set aside"),
    "discarded": _("Requests were discarded"),
    "conflicts": _("Both sides changed the same car"),
}
COUNTS: Final = {
    "local": _("in the source"),
    "remote": _("on the marketplace"),
    "unchanged": _("unchanged"),
    "created": _("put online"),
    "updated": _("changed"),
    "sold": _("sold"),
    "rejected": _("rejected"),
    "held": _("wait for approval"),
    "drifted": _("edited on the marketplace"),
    "conflicts": _("changed on both sides"),
    "foreign": _("not ours"),
    "skipped": _("skipped"),
    "warnings": _("with warnings"),
    "sells_waiting": _("sells that wait"),
}
EVENTS: Final = {
    "created": _("put online"),
    "updated": _("changed"),
    "sold": _("marked as sold"),
    "pushed": _("pushed"),
    "refused": _("refused"),
    "drift": _("edited on the marketplace"),
    "conflict": _("changed on both sides"),
    "held": _("waited for approval"),
    "invalid": _("invalid row"),
    "failed": _("failed"),
    "warning": _("warning"),
}
REJECT_STATES: Final = {
    "invalid": _("The row in the source is invalid."),
    "refused": _("The marketplace refused it."),
    "free": _("The next sync tries again."),
}
OUTCOMES: Final = {
    "created": _("put online"),
    "updated": _("updated"),
    "sold": _("marked as sold"),
    "rejected": _("rejected"),
    "not_found": _("not found in the source"),
    "overtaken": _("overtaken by a newer change"),
    "failed": _("failed"),
    "waiting": _("waits to be sent"),
}
FIELDS: Final = {
    "externalReference": _("Reference"),
    "dealerProfileId": _("Dealer"),
    "dealerLocationCode": _("Branch"),
    "status": _("Status"),
    "title": _("Title"),
    "description": _("Description"),
    "price": _("Price"),
    "currency": _("Currency"),
    "brand": _("Make"),
    "model": _("Model"),
    "variant": _("Version"),
    "customType": _("Own type"),
    "year": _("Year"),
    "mileage": _("Mileage"),
    "fuelType": _("Fuel"),
    "transmission": _("Gearbox"),
    "bodyType": _("Body"),
    "engine": _("Engine"),
    "driveType": _("Drive"),
    "gears": _("Gears"),
    "color": _("Colour"),
    "interiorColor": _("Interior colour"),
    "interiorMaterial": _("Interior material"),
    "doors": _("Doors"),
    "seats": _("Seats"),
    "powerKw": _("Power (kW)"),
    "weight": _("Weight"),
    "paintType": _("Paint"),
    "vin": _("VIN"),
    "firstRegistration": _("First registration"),
    "previousOwners": _("Previous owners"),
    "serviceHistory": _("Service history"),
    "warranty": _("Warranty"),
    "warrantyMonths": _("Warranty (months)"),
    "conditionTags": _("Condition tags"),
    "vehicleType": _("VAT scheme"),
    "condition": _("Condition"),
    "carPassUrl": _("Car-Pass"),
    "co2Emission": _("CO₂ emission"),
    "co2Type": _("CO₂ norm"),
    "emissionClass": _("Emission class"),
    "fuelConsumption": _("Fuel consumption"),
    "postalCode": _("Postal code"),
    "city": _("City"),
    "province": _("Province"),
    "latitude": _("Latitude"),
    "longitude": _("Longitude"),
    "location": _("Place"),
    "features": _("Options"),
    "images": _("Pictures"),
}
PHASES: Final = {
    "first page": _("first page"),
    "read the source": _("reading the source"),
    "compare": _("comparing"),
    "send": _("sending"),
    "first": _("reading the marketplace"),
    "walk": _("reading the marketplace"),
    "load": _("reading the source"),
    "diff": _("comparing"),
    "apply": _("sending"),
    "count": _("counting"),
    "queued": _("waiting to start"),
    "other pages": _("reading the marketplace"),
    "control count": _("counting"),
    "spool": _("preparing"),
    "upsert": _("sending"),
    "confirm": _("checking sold cars"),
    "sell": _("marking as sold"),
}
NOTICES: Final = {
    "sync": _("The sync was requested."),
    "paused": _("The account is paused. Nothing is sent until you resume it."),
    "resumed": _("The account works again."),
    "approved": _("Approved. The changes are being sent."),
    "dropped": _("Rejected. None of the held changes was sent."),
    "cancelled": _("The run ends as soon as its requests in flight are answered."),
    "retry": _("Released. A sync tries them again."),
}
"""What a page says after a form was sent. The address carries only the name, so no link can put words on a page."""
LOGIN: Final = {
    "refused": _("This token is not known."),
    "limited": _("Too many attempts. Wait a minute, then try again."),
}
"""Why a person is not signed in."""
VALUES: Final = {
    True: _("yes"),
    False: _("no"),
    "active": _("online"),
    "sold": _("sold"),
    "pending": _("reserved"),
    "draft": _("draft"),
}
