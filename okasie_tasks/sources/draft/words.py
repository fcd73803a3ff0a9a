"""What the words in a feed's cells mean, in Dutch, French, German and English; compared as `plain` writes them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from okasie_tasks.sources.draft.columns import plain

_VALUES: Final = {
    "status": {
        "active": """
            active actief tekoop available beschikbaar forsale stock instock envente disponible actif enligne
            online verfugbar aktiv zuverkaufen lieferbar""",
        "pending": "pending reserved gereserveerd inoptie optie reserve reservee enoption reserviert",
        "sold": "sold verkocht vendu vendue verkauft",
        "draft": "draft concept brouillon entwurf inactive inactief inactif inaktiv offline",
    },
    "fuelType": {
        "petrol": "petrol gasoline benzine benzin essence super superbenzin euro95 e10 unleaded",
        "diesel": "diesel gasoil gazole",
        "electric": "electric elektrisch elektriciteit elektro elektrizitat electrique electricite strom bev ev",
        "hybrid": """
            hybrid hybride plugin pluginhybrid pluginhybride phev hev mhev mildhybrid rechargeable
            benzineelektrisch essenceelectrique benzinelektro elektrobenzin hybridbenzinelektro""",
        "lpg": "lpg autogas gpl",
        "cng": "cng aardgas erdgas gnv gaznaturel",
        "other": """
            other others overig overige andere anders autre autres sonstige andere waterstof hydrogen hydrogene
            wasserstoff ethanol bioethanol""",
    },
    "transmission": {
        "manual": """
            manual manueel handgeschakeld hand handbak handmatig manuelle manuel mecanique bvm schaltgetriebe
            manuell handschaltung manuellesgetriebe""",
        "automatic": "automatic automaat automatisch automatique auto bva automatik automatikgetriebe dsg cvt",
        "semi-automatic": """
            semiautomatic halfautomaat halfautomatisch semiautomaat semiautomatisch semiautomatique robotisee
            halbautomatik halbautomatisch semiautomatik""",
        "other": "other overig andere autre sonstige",
    },
    "bodyType": {
        "hatchback": """
            hatchback hatch stadswagen compact citadine hayon berlinecompacte compacte kleinwagen kompakt
            kompaktklasse schragheck steilheck""",
        "sedan": "sedan saloon berline limousine stufenheck",
        "suv": """
            suv terreinwagen crossover offroad offroader 4x4 suv4x4 toutterrain gelandewagen suvgelandewagen
            gelandewagenpickup""",
        "wagon": "wagon estate stationwagon stationwagen stationcar station break familiale kombi touring",
        "convertible": "convertible cabrio cabriolet cabriolets roadster decapotable cabrioroadster spider",
        "van": """
            van mpv monovolume minivan minibus bestelwagen lichtevracht bedrijfswagen monospace ludospace
            utilitaire fourgon fourgonnette camionnette transporter kastenwagen kleinbus vanbus vankleinbus""",
        "coupe": "coupe sportwagen sportscoupe sportwagencoupe",
        "other": "other overig overige andere autre autres sonstige pickup",
    },
    "vehicleType": {
        "btw": """
            btw btwaftrekbaar btwwagen aftrekbaar inclusiefbtw vat vatdeductible deductible tva tvadeductible
            tvarecuperable recuperable mwst mwstausweisbar ausweisbar regelbesteuert regelbesteuerung yes ja oui
            true y j 1 21 20 19""",
        "margin": """
            margin marge margeregeling margewagen btwnietaftrekbaar nietaftrekbaar tvanonrecuperable
            tvanondeductible nonrecuperable nondeductible regimedelamarge differenzbesteuert differenzbesteuerung
            25a mwstnichtausweisbar nichtausweisbar no nee non nein false n 0""",
    },
    "condition": {
        "new": "new nieuw nieuwwagen neuf neuve neu neuwagen neufahrzeug",
        "used": """
            used secondhand tweedehands gebruikt gebruikte occasion occasie occasionwagen vo doccasion gebraucht
            gebrauchtwagen gebrauchtfahrzeug employeescar""",
        "demo": """
            demo demonstration demonstratie demowagen directiewagen stockwagen demonstrationvehicle voituredemo
            vehiculededemonstration vehiculededirection vorfuhrwagen vorfuhrfahrzeug tageszulassung preregistered
            jahreswagen dienstwagen""",
        "oldtimer": "oldtimer classic klassieker collection ancetre voituredecollection",
        "damaged": """
            damaged schade schadewagen beschadigd ongevalwagen accidente accidentee endommage unfall unfallwagen
            unfallfahrzeug beschadigt""",
    },
    "driveType": {
        "FWD": """
            fwd voorwielaandrijving voorwiel voorwielen voor traction tractionavant avant vorderradantrieb
            frontantrieb front frontwheeldrive""",
        "RWD": """
            rwd achterwielaandrijving achterwiel achterwielen achter propulsion propulsionarriere arriere
            heckantrieb hinterradantrieb heck rear rearwheeldrive""",
        "AWD": """
            awd allwheeldrive vierwielaandrijving vierwielaangedreven integrale transmissionintegrale quatreroues
            allrad allradantrieb quattro xdrive 4motion 4matic""",
        "4WD": "4wd fourwheeldrive",
        "4x4": "4x4",
    },
    "interiorMaterial": {
        "Leder": "leder leer vollleder volleder cuir leather fullleather cuirintegral",
        "Stof": "stof stoffen tissu stoff textil textiel textile cloth fabric",
        "Alcantara": "alcantara",
        "Kunstleder": "kunstleder kunstleer similicuir simili skai imitationleather artificialleather leatherette",
        "Leder/Stof": "lederstof stofleder halfleder halfleer teilleder demicuir partleather cuirtissu tissucuir",
        "Leder/Alcantara": "lederalcantara alcantaraleder cuiralcantara alcantaracuir",
    },
    "paintType": {
        "Metallic": "metallic metaal metaallak metallise metallisee metalliclack",
        "Parelmoer": "parelmoer parelmoerlak nacre nacree pearl pearlescent perleffekt perlmutt",
        "Mat": "mat mate matt matte mattlack",
        "Uni": "uni unie unilak unilack effen solid opaque",
    },
    "co2Type": {
        "WLTP": "wltp",
        "NEDC": "nedc nefz",
    },
}  # fmt: skip

WORDS: Final[Mapping[str, Mapping[str, str]]] = {
    field: {word: value for value, words in table.items() for word in (plain(value), *words.split())}
    for field, table in _VALUES.items()
}
"""Field -> word as `plain` writes it -> Okasie's value."""

_LONG_ENOUGH: Final = 4


def value_of(field: str, cell: str) -> str | None:
    """What a cell means for a field; None when no word of it is known, or several that disagree."""
    words = WORDS[field]
    if (found := words.get(plain(cell))) is not None:
        return found
    parts = [plain(part) for part in re.split(r"[^\w]+|_", cell)]
    meant = {words[part] for part in parts if part in words and len(part) >= _LONG_ENOUGH}
    if field == "fuelType" and ("hybrid" in meant or {"electric"} < meant):
        return "hybrid"
    return meant.pop() if len(meant) == 1 and not any(part in _NOT for part in parts) else None


_NOT: Final = frozenset(("niet", "geen", "non", "pas", "sans", "nicht", "kein", "ohne", "not", "without"))
