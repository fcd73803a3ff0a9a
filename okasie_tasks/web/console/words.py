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
    "dropped": _("changes rejected"),
    "expired": _("approval came too late"),
    "superseded": _("no longer waits for approval"),
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
    "plan": _("Trial: nothing is sent"),
    "approved": _("Sending of approved changes"),
}
ACTIONS: Final = {
    "create": _("goes online"),
    "update": _("change"),
    "sell": _("mark as sold"),
    "take-over": _("mark as sold"),
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
    "quarantine": _("Unreadable messages were set aside"),
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
    "already_sold": _("already sold"),
    "warnings": _("with warnings"),
    "sells_waiting": _("sold cars waiting"),
}
EVENTS: Final = {
    "created": _("put online"),
    "updated": _("changed"),
    "sold": _("marked as sold"),
    "pushed": _("sent directly"),
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
ISSUES: Final = {
    "required": _("is missing"),
    "unreadable": _("cannot be read"),
    "not_an_object": _("cannot be read"),
    "not_a_number": _("is not a number"),
    "not_an_integer": _("is not a whole number"),
    "out_of_range": _("is too low or too high"),
    "not_text": _("is not a text"),
    "not_allowed": _("is not one of the allowed values"),
    "not_a_boolean": _("is neither yes nor no"),
    "not_a_list": _("is not a list"),
    "not_a_url": _("is not a web address"),
    "not_a_uuid": _("is not a dealer's id"),
    "not_a_feature": _("is not an option"),
    "too_long": _("is too long"),
    "too_many": _("are too many"),
    "bad_reference": _("is missing or not allowed"),
    "bad_month": _("is not a month such as 2021-05"),
    "bad_car_pass": _("is not a Car-Pass link or number"),
    "given_twice": _("is given twice"),
    "unknown_field": _("is not a field of a car"),
    "duplicate_reference": _("is used for several cars"),
    "columns": _("has too many or too few columns"),
    "cell_error": _("has an error in a cell"),
    "total_line": _("is a line of totals, not a car"),
}
"""What is wrong with a field, by the code."""
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
    "row": _("Row"),
}
_DAMAGED: Final = _("The source is damaged or incomplete.")
_SERVER: Final = _("The server of the source does not answer as it should.")
_SIGN_IN: Final = _("The server of the source refuses the connection.")
_KEY: Final = _("The marketplace refuses the API key.")
ERRORS: Final = {
    "unauthorized": _KEY,
    "scope": _KEY,
    "source": _("The source cannot be read."),
    "source_missing": _("The source was not found."),
    "unsettled": _("The source was being written. The next sync reads it again."),
    **dict.fromkeys(
        (
            "cut",
            "damaged",
            "dtd",
            "encoding",
            "encrypted",
            "markup",
            "member",
            "no_list",
            "not_json",
            "not_xlsx",
            "not_xml",
            "quoting",
            "too_deep",
            "too_large",
            "zip",
        ),
        _DAMAGED,
    ),
    **dict.fromkeys(("changing", "ftp", "http", "lost", "not_delivered", "s3", "sftp", "too_slow"), _SERVER),
    **dict.fromkeys(("certificate", "host_key", "login"), _SIGN_IN),
    "not_reachable": _("The marketplace or a server does not answer."),
    "unavailable": _("The marketplace does not answer."),
    "unknown_account": _("The service does not know this account yet."),
}
"""Why a sync failed, by the code."""
REMARKS: Final = {
    "cancelled": _("It was cancelled. The next sync begins where this one did."),
    "sells_waiting": _("Sold cars stay online, because the source was not read completely."),
    "walk_moved": _("The marketplace changed while it was read. The next sync looks for missing cars again."),
    "unproven": _("%(count)s cars may be missing on the marketplace. The next sync looks for them again."),
    "fields_lost": _("The marketplace returns a field of many cars empty. This field is not compared."),
    "lacking": _("%(count)s adverts came back without all fields. What is missing is not compared."),
    "unoffered": _("%(count)s changes made on the marketplace could not be written to the source yet."),
    "counts_differ": _("The marketplace counts %(theirs)s cars online, the source has %(ours)s."),
    "outdated": _("Nothing was sent: the approved changes were no longer the current ones."),
    "replaced": _("A later sync looked again: its list of changes took the place of this one."),
    "released": _("The changes were approved and sent."),
}
"""What to know about a sync, by the code."""
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
    "cancelled": _("The sync stops as soon as its open requests are answered."),
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
