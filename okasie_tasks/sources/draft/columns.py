"""What feeds call their columns in Dutch, French, German and English.

Names are compared as `plain` writes them: lower case, without accents, letters and digits only.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from okasie_tasks.core.fields import FIELDS


def plain(text: str) -> str:
    """``Première immatriculation`` -> ``premiereimmatriculation``; ``Türen`` -> ``turen``; ``Maß`` -> ``mass``."""
    spread = unicodedata.normalize("NFKD", text.casefold())
    return "".join(letter for letter in spread if letter.isalnum() and letter.isascii())


class Meaning(NamedTuple):
    """A field, how good a name for it this is (0 is best), and the unit that the name tells."""

    field: str
    rank: int
    unit: str = ""


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


REFERENCE: Final = _words("""
    externalreference stockno stocknumber stocknr stockid stockref stock sku reference ref listingid offerid adid
    vehicleid voorraadnummer stocknummer voertuignummer voertuigid referentie refnr referentienummer kenmerk
    advertentienummer advertentieid numerostock nostock numstock numerodestock refstock refvehicule referencevehicule
    idvehicule numeroannonce fahrzeugnummer fahrzeugnr fahrzeugid bestandsnummer internenummer interne angebotsnummer
    inseratnummer inseratid lagernummer objektnummer objectid id nummer numero
""")
"""The best first; the car's own number is tried last."""

UPDATED_AT: Final = _words("""
    updatedat updated lastupdate lastupdated lastmodified modifiedat modified modificationdate changedat gewijzigdop
    gewijzigd laatstgewijzigd wijzigingsdatum datumwijziging modifiele datemodification datemodif datemaj majle maj
    geandertam geaendertam geandert aenderungsdatum anderungsdatum letzteanderung letzteaenderung
""")

IMAGES: Final = _words("""
    images image imageurls imageurl imagesurl photos photo photourls photourl pictures picture pictureurls fotos foto
    fotourls fotourl afbeeldingen afbeelding bilder bild bildurls bildurl urlphotos urlphoto urlimages lienphotos
""")

BRANCH: Final = _words("""
    branch branchcode dealer dealercode dealerid location locationid site vestiging vestigingcode filiaal locatie
    garage concession succursale agence etablissement codeconcession filiale standort standortcode handlernummer
    haendlernummer
""")
"""Where the car stands, by a code of the feed's own: a person must tell which of Okasie's codes is meant."""

_COLUMNS: Final = {
    "dealerLocationCode": "locationcode okasiecode",
    "status": "availability beschikbaarheid beschikbaar statut disponibilite disponible verfugbarkeit verfugbar",
    "title": "headline titel titre kop intitule bezeichnung designation uberschrift ueberschrift",
    "description": """
        omschrijving beschrijving opmerkingen opmerking vrijetekst descriptif commentaire commentaires remarques
        texte beschreibung bemerkungen bemerkung freitext beschreibungstext notes note remarks comments comment
        text""",
    "price": """
        sellingprice saleprice askingprice retailprice grossprice pricegross amount vraagprijs verkoopprijs prijs
        prijsinclbtw prijsincl prixdevente prixvente prixttc prixaffiche prix verkaufspreis bruttopreis
        preisbrutto endpreis preis""",
    "brand": "make manufacturer merk automerk marque constructeur marke hersteller fabrikat",
    "model": "modelname modele modell modellbezeichnung modelnaam gamme",
    "variant": """
        version versie uitvoering finition trim trimlevel ausstattungslinie ausfuhrung ausfuehrung variante typ
        type subtype modelversie derivate""",
    "year": """
        modelyear buildyear yearbuilt built yearofmanufacture productionyear bouwjaar modeljaar jaar annee
        anneemodele anneemodel anneedeconstruction anneeconstruction millesime baujahr modelljahr jahr""",
    "mileage": """
        odometer kilometers kilometres kmstand kilometerstand tellerstand km kms kilometrage compteur laufleistung
        kilometer""",
    "fuelType": "fuel brandstof brandstoftype carburant energie typecarburant kraftstoff kraftstoffart treibstoff",
    "transmission": """
        gearbox gear gearboxtype transmissie versnellingsbak versnelling schakeling bak boite boitedevitesse
        boitedevitesses boitevitesse typeboite getriebe getriebeart schaltung""",
    "bodyType": """
        body bodystyle carrosserie carrosserietype carrosserievorm koetswerk typecarrosserie karosserie
        karosserieform aufbau aufbauart bauform""",
    "engine": "enginetype motor motortype motorisering moteur motorisation motorisierung",
    "driveType": """
        drive drivetrain wheeldrive aandrijving motricite typetransmission rouesmotrices antrieb antriebsart""",
    "gears": "numberofgears versnellingen nombredevitesses nombrevitesses rapports vitesses gange gaenge",
    "color": "colour exteriorcolor exteriorcolour kleur buitenkleur couleur teinte farbe aussenfarbe lackfarbe",
    "interiorColor": """
        interiorcolour interieurkleur kleurinterieur binnenkleur couleurinterieur couleurinterieure innenfarbe
        farbeinnen""",
    "interiorMaterial": "upholstery bekleding interieur sellerie garnissage polster polsterung innenausstattung",
    "doors": "numberofdoors deuren portes turen tueren",
    "seats": "numberofseats zitplaatsen zetels places sieges sitze sitzplatze sitzplaetze",
    "powerKw": "kw power enginepower vermogen motorvermogen puissance puissancemoteur leistung motorleistung",
    "weight": """
        kerbweight emptyweight leeggewicht rijklaargewicht gewicht massa poids poidsavide masse leergewicht
        fahrzeuggewicht""",
    "paintType": "paint laksoort laktype lak typepeinture peinture lackierung lackart",
    "vin": """
        vinnumber chassisnumber chassisno chassis chassisnummer numerochassis numerodechassis numerodeserie
        fahrgestellnummer fahrgestellnr fahrzeugidentifikationsnummer fin""",
    "firstRegistration": """
        firstreg firstregistrationdate dateoffirstregistration registrationdate regdate eerstetoelating
        datumeerstetoelating eersteinschrijving datumeersteinschrijving eersteregistratie inschrijvingsdatum
        premiereimmatriculation datepremiereimmatriculation datedepremiereimmatriculation premiereinscription
        miseencirculation datemiseencirculation datedemiseencirculation dateimmatriculation mec
        premieremiseencirculation date1eremiseencirculation erstzulassung erstzulassungsdatum ez""",
    "previousOwners": """
        owners numberofowners eigenaars eigenaren vorigeeigenaars proprietaires proprietairesprecedents
        vorbesitzer fahrzeughalter halter""",
    "serviceHistory": """
        fullservicehistory onderhoudsboekje onderhoudshistoriek onderhoudsboek carnetdentretien carnetentretien
        scheckheft scheckheftgepflegt serviceheft""",
    "warranty": "guarantee garantie waarborg",
    "warrantyMonths": """
        guaranteemonths garantiemaanden maandengarantie waarborgmaanden garantiemois moisgarantie moisdegarantie
        garantiemonate""",
    "vehicleType": """
        vat vatregime vatdeductible vatreclaimable btw btwregime btwmarge margebtw btwaftrekbaar btwstelsel tva
        regimetva tvadeductible tvarecuperable recuperationtva mwst mwstausweisbar mehrwertsteuer besteuerung""",
    "condition": """
        vehiclecondition offertype staat toestand soortaanbod etat etatvehicule zustand fahrzeugzustand
        fahrzeugart angebotsart""",
    "carPassUrl": "carpass carpassurl carpassnumber carpassnummer numerocarpass liencarpass",
    "co2Emission": """
        co2 co2emissions co2uitstoot uitstootco2 emissionco2 emissionsco2 emissionsdeco2 rejetco2 co2emissionen
        co2ausstoss""",
    "co2Type": "co2norm co2cyclus cycleco2 emissiontest messverfahren prufverfahren",
    "emissionClass": """
        emissionstandard euronorm euroklasse emissieklasse emissienorm milieuklasse norme normeeuro euronorme
        schadstoffklasse abgasnorm emissionsklasse""",
    "fuelConsumption": """
        consumption verbruik gemiddeldverbruik consommation consommationmixte verbrauch kraftstoffverbrauch""",
    "postalCode": "zip zipcode postcode codepostal cp plz postleitzahl",
    "city": "town gemeente stad plaats woonplaats ville localite commune stadt ort",
    "province": "provincie provinz region bundesland departement",
    "latitude": "lat breedtegraad breitengrad",
    "longitude": "lon lng long lengtegraad langengrad laengengrad",
    "features": "options equipment opties uitrusting accessoires equipements equipement ausstattung extras",
    "conditionTags": "tags labels",
}  # fmt: skip
"""Field -> names, the best first."""

_WITH_UNIT: Final = {
    ("powerKw", "hp"): """
        hp ps pk ch cv bhp din dinhp pkdin horsepower vermogenpk puissancech puissancecv puissancedin chevaux
        leistungps""",
    ("mileage", "mi"): """
        miles mileagemi mileagemiles odometermiles mileageinmiles""",
    ("price", "cent"): """
        pricecents pricecent priceincents priceincent prijscent prijscenten prijsincent prijsincenten prixcents
        prixencents prixcentimes prixencentimes preiscent preisincent""",
}  # fmt: skip

_UNIT_OF: Final = {
    "hp": "hp", "ps": "hp", "pk": "hp", "ch": "hp", "cv": "hp", "bhp": "hp", "kw": "", "km": "", "kms": "",
    "miles": "mi", "mi": "mi", "cent": "cent", "cents": "cent", "eur": "", "euro": "", "euros": "", "kg": "",
}  # fmt: skip
_FILLERS: Final = frozenset(
    _words("""
    aantal nombre nb nbre anzahl number of de du des la le l d der vehicle vehicule voertuig fahrzeug car auto incl
    inclusive ttc in en g gr l 100 maanden mois monate months nr no
""")
)
"""Words that a name may have besides the one that matters."""


def _own_names() -> Iterator[tuple[str, Meaning]]:
    for spec in FIELDS.values():
        for name in (spec.name, *spec.aliases):
            yield plain(name), Meaning(spec.name, 0)


def _listed() -> Iterator[tuple[str, Meaning]]:
    for field, names in _COLUMNS.items():
        yield from ((name, Meaning(field, rank)) for rank, name in enumerate(names.split(), start=1))
    for (field, unit), names in _WITH_UNIT.items():
        # Okasie's own unit is better, where a feed has both.
        yield from ((name, Meaning(field, rank, unit)) for rank, name in enumerate(names.split(), start=100))


_BY_NAME: Final[Mapping[str, Meaning]] = dict((*_listed(), *_own_names()))


_SPLITS: Final = (r"[^\W_]+", r"[A-Z]?[^\W\d_A-Z]+|[A-Z]+(?![a-z])|\d+")
"""A name into words: at signs and blanks, else also where a capital begins one."""


def meaning_of(column: str) -> Meaning | None:
    """Which field a column of this name holds; None when no table knows it."""
    if found := _BY_NAME.get(plain(column)):
        return found
    for split in _SPLITS:
        words = [plain(word) for word in re.findall(split, column)]
        units = [word for word in words if word in _UNIT_OF]
        found = _BY_NAME.get("".join(word for word in words if word not in _UNIT_OF and word not in _FILLERS))
        if found is not None:
            told = {_UNIT_OF[word] for word in units} - {""}
            fits = {"powerKw": "hp", "mileage": "mi", "price": "cent"}.get(found.field)
            unit = fits if fits in told else found.unit
            # A name with Okasie's own unit in it beats one with another, where a feed has both.
            return Meaning(found.field, found.rank + (200 if unit or not units else 50), unit or "")
    return None
