"""Formats in XML and JSON."""

from __future__ import annotations

from typing import Any

_PHOTO = "https://cdn.example/1.jpg"

FEEDS: dict[str, tuple[Any, ...]] = {
    "Google Merchant Center vehicle ads, XML": (
        "cars.xml",
        f"""<?xml version="1.0"?>
<rss xmlns:g="http://base.google.com/ns/1.0" version="2.0"><channel><title>Cars</title>
<item><g:id>A-1</g:id><g:brand>Skoda</g:brand><g:model>Octavia</g:model><g:year>2019</g:year><g:price>17450 EUR</g:price>
<g:mileage>88200 km</g:mileage><g:image_link>{_PHOTO}</g:image_link>
<g:additional_image_link>https://cdn.example/2.jpg</g:additional_image_link></item>
</channel></rss>
""",
        """
        type = "xml"
        items = "rss/channel/item"
        reference = "id"
        [accounts.dex.source.fields]
        title = "{brand} {model} {year}"
        images = { columns = ["image_link", "additional_image_link"] }
        """,
        ("A-1", "Skoda Octavia 2019", 17450, 88200, 2),
    ),
    "Meta automotive inventory, XML": (
        "cars.xml",
        f"""<?xml version="1.0" encoding="UTF-8"?>
<listings><title>Cars</title><listing><vehicle_id>A-1</vehicle_id><title>Skoda Octavia</title><make>Skoda</make>
<mileage><value>88200</value><unit>KM</unit></mileage><image><url>{_PHOTO}</url><tag>front</tag></image>
<image><url>https://cdn.example/2.jpg</url></image><price>17450 EUR</price></listing></listings>
""",
        """
        type = "xml"
        items = "listings/listing"
        reference = "vehicle_id"
        [accounts.dex.source.fields]
        brand = "make"
        mileage = "{mileage.value} {mileage.unit}"
        images = "image[].url"
        """,
        ("A-1", "Skoda Octavia", 17450, 88200, 2),
    ),
    "mobile.de, XML": (
        "cars.xml",
        """<?xml version="1.0" encoding="UTF-8"?>
<ads xmlns:seller="http://services.mobile.de/schema/seller"><ad key="1"><seller:seller>
<seller:customerNumber value="4711"/></seller:seller><seller-inventory-key value="A-1"/><vehicle><make key="SKODA"/>
<model-description value="Octavia Style"/><specifics><mileage value="88200"/></specifics></vehicle>
<price><consumer-price-amount value="17450"/></price></ad></ads>
""",
        """
        type = "xml"
        items = "ads/ad"
        reference = "seller-inventory-key/@value"
        [accounts.dex.source.fields]
        title = "vehicle/model-description/@value"
        brand = "vehicle/make/@key"
        mileage = "vehicle/specifics/mileage/@value"
        price = "price/consumer-price-amount/@value"
        """,
        ("A-1", "Octavia Style", 17450, 88200, 0),
    ),
    "AllYouCanPost": (
        "cars.xml",
        f"""<?xml version="1.0" encoding="utf-8"?>
<aycp xmlns="http://www.allyoucanpost.com"><ad><id><![CDATA[A-1]]></id><title><![CDATA[Skoda Octavia]]></title>
<content><![CDATA[Neat & clean]]></content><price unit="eur"><![CDATA[17450]]></price><city><![CDATA[Gent]]></city>
<postcode><![CDATA[9000]]></postcode><pictures><picture><picture_url><![CDATA[{_PHOTO}]]></picture_url></picture>
<picture><picture_url><![CDATA[https://cdn.example/2.jpg]]></picture_url></picture></pictures></ad></aycp>
""",
        """
        type = "xml"
        items = "aycp/ad"
        reference = "id"
        [accounts.dex.source.fields]
        description = "content"
        postalCode = "postcode"
        images = "pictures/picture/picture_url"
        """,
        ("A-1", "Skoda Octavia", 17450, 10, 2),
    ),
    "Doplim": (
        "cars.xml",
        """<?xml version="1.0" encoding="UTF-8"?>
<doplim><ads><ad><id>A-1</id><url>https://dealer.example/A-1</url><title>Skoda Octavia Combi 2019</title>
<description>A neat car with a long description.</description><main_category>6</main_category><price>17450</price>
</ad></ads></doplim>
""",
        """
        type = "xml"
        items = "doplim/ads/ad"
        reference = "id"
        """,
        ("A-1", "Skoda Octavia Combi 2019", 17450, 10, 0),
    ),
    "Locanto vehicles": (
        "cars.xml",
        f"""<?xml version="1.0" encoding="UTF-8"?>
<ads><ad><id>A-1</id><title>Skoda Octavia</title><make>Skoda</make><model>Octavia</model><power>110 kW</power>
<price>17450</price><currency>EUR</currency><mileage>88200</mileage><image_url>{_PHOTO}</image_url>
<image_url>https://cdn.example/2.jpg</image_url></ad></ads>
""",
        """
        type = "xml"
        items = "ads/ad"
        reference = "id"
        [accounts.dex.source.fields]
        brand = "make"
        powerKw = "power"
        images = "image_url"
        """,
        ("A-1", "Skoda Octavia", 17450, 88200, 2),
    ),
    "leboncoin mobility (Truckscorner, Agriaffaires)": (
        "cars.xml",
        """<?xml version="1.0" encoding="UTF-8"?>
<importfile version="3.4" type="complete"><equipments><equipment id="A-1"><category id="10">Van</category>
<make>Skoda</make><model>Octavia</model><price currency="EUR">17450</price></equipment></equipments></importfile>
""",
        """
        type = "xml"
        items = "importfile/equipments/equipment"
        reference = "@id"
        [accounts.dex.source.fields]
        title = "{make} {model}"
        """,
        ("A-1", "Skoda Octavia", 17450, 10, 0),
    ),
    "Driveto leasing": (
        "cars.xml",
        """<?xml version="1.0" encoding="utf-8"?>
<leasing xmlns="urn:x-driveto.cz:leasing:feed:v1"><carOffers><carOffer><partnerCarOfferId>123456</partnerCarOfferId>
<car><carSpecification><make>Škoda</make><model>Rapid</model><enginePowerKw>70</enginePowerKw></carSpecification></car>
<price>17450</price></carOffer></carOffers></leasing>
""",
        """
        type = "xml"
        items = "leasing/carOffers/carOffer"
        reference = "partnerCarOfferId"
        [accounts.dex.source.fields]
        title = "{car.carSpecification.make} {car.carSpecification.model}"
        powerKw = "car/carSpecification/enginePowerKw"
        """,
        ("123456", "Škoda Rapid", 17450, 10, 0),
    ),
    "Modera used cars": (
        "cars.json",
        """[{"hash": "guid123456", "vinCode": "TMBEXAMPLE0000001", "title": "Skoda Octavia", "firstRegistration": "2019-03",
 "mileage": 88200, "make": "Skoda", "maxPowerKw": 110, "doors": 5, "seats": 5, "prices": {"price": 17450},
 "equipment": ["abs", "isofix"]}]
""",
        """
        type = "json"
        reference = "hash"
        [accounts.dex.source.fields]
        brand = "make"
        vin = "vinCode"
        powerKw = "maxPowerKw"
        price = "prices.price"
        features = "equipment"
        """,
        ("guid123456", "Skoda Octavia", 17450, 88200, 0),
    ),
    "Doorlinken Voorraad to ofof": (
        "cars.json",
        f"""{{"timestamp": 353453535, "advertisements": [{{"ad_id": 324234, "actie": "create", "odometer": 88200, "prijs": 17450,
 "merk": "Skoda", "titel": "Skoda Octavia", "bouwjaar": 2019, "omschrijving": {{"remarks": "Net"}},
 "media": ["{_PHOTO}", "https://cdn.example/2.jpg"]}}]}}
""",
        """
        type = "json"
        items = "advertisements"
        reference = "ad_id"
        [accounts.dex.source.fields]
        title = "titel"
        brand = "merk"
        price = "prijs"
        mileage = "odometer"
        year = "bouwjaar"
        description = "omschrijving.remarks"
        images = "media"
        """,
        ("324234", "Skoda Octavia", 17450, 88200, 2),
    ),
}
