"""Formats in csv."""

from __future__ import annotations

from typing import Any

_PHOTO = "https://cdn.example/1.jpg"
_MOBILE = ["4711", "A-1", "Limousine", "Skoda", "Octavia", "110", "", "", "03.2019", "88200", "17450", "1"]

FEEDS: dict[str, tuple[Any, ...]] = {
    "Google vehicle listings": (
        "cars.csv",
        "vin,id,store_code,dealership_name,make,model,year,price,mileage,image_url\n"
        f'TMBEXAMPLE0000001,A-1,GENT,"Janssens, Gent",Skoda,Octavia,2019,17450,88200,"{_PHOTO},https://cdn.example/2.jpg"\n',
        """
        type = "csv"
        reference = "id"
        [accounts.dex.source.fields]
        title = "{make} {model} {year}"
        brand = "make"
        images = { column = "image_url", split_on = "," }
        """,
        ("A-1", "Skoda Octavia 2019", 17450, 88200, 2),
    ),
    "Google Merchant Center vehicle ads, tab-separated": (
        "cars.tsv",
        "id\tvin\tbrand\tmodel\tyear\tprice\tmileage\timage_link\tadditional_image_link\n"
        f"A-1\tTMBEXAMPLE0000001\tSkoda\tOctavia\t2019\t17450 EUR\t88200 km\t{_PHOTO}\thttps://cdn.example/2.jpg\n",
        """
        type = "csv"
        delimiter = "\\t"
        reference = "id"
        [accounts.dex.source.fields]
        title = "{brand} {model} {year}"
        images = { columns = ["image_link", "additional_image_link"] }
        """,
        ("A-1", "Skoda Octavia 2019", 17450, 88200, 2),
    ),
    "Meta automotive inventory, csv": (
        "cars.csv",
        "vehicle_id,title,url,make,model,year,mileage.value,mileage.unit,image[0].url,image[1].url,price\n"
        f"A-1,Skoda Octavia,https://dealer.example/A-1,Skoda,Octavia,2019,88200,KM,{_PHOTO},https://cdn.example/2.jpg,17450 EUR\n",
        """
        type = "csv"
        reference = "vehicle_id"
        [accounts.dex.source.fields]
        brand = "make"
        mileage = "{mileage.value} {mileage.unit}"
        images = { columns = "image[*].url" }
        """,
        ("A-1", "Skoda Octavia", 17450, 88200, 2),
    ),
    "TikTok automotive inventory": (
        "cars.csv",
        "vehicle_id,title,description,url,make,model,year,mileage.value,mileage.unit,image[0].url,price\n"
        f"A-1,Skoda Octavia,Neat,https://dealer.example/A-1,Skoda,Octavia,2019,54805,MI,{_PHOTO},17450 EUR\n",
        """
        type = "csv"
        reference = "vehicle_id"
        [accounts.dex.source.fields]
        brand = "make"
        mileage = "{mileage.value} {mileage.unit}"
        images = { columns = "image[*].url" }
        """,
        ("A-1", "Skoda Octavia", 17450, 88200, 1),
    ),
    "mobile.de, csv": (
        "cars.csv",
        ";".join(_MOBILE) + ';"17"" wheels, ""Gamma"" radio";€\r\n',
        """
        type = "csv"
        header = false
        delimiter = ";"
        encoding = "iso-8859-15"
        reference = "2"
        [accounts.dex.source.fields]
        title = "{4} {5}"
        brand = "4"
        model = "5"
        powerKw = "6"
        firstRegistration = "9"
        mileage = "10"
        price = "11"
        """,
        ("A-1", "Skoda Octavia", 17450, 88200, 0),
        "iso-8859-15",
    ),
    "Dealer Studio": (
        "cars.csv",
        "Stock number,Car type,Make,Model,EGC Price,Badge,Year,Odometer,Build date\n"
        'A-1,used,Skoda,Octavia,"17,450",Style,2019,"88,200",15/03/2019\n',
        """
        type = "csv"
        reference = "Stock number"
        [accounts.dex.source.fields]
        title = "{Make} {Model} {Badge}"
        price = "EGC Price"
        mileage = "Odometer"
        year = "Year"
        condition = "Car type"
        """,
        ("A-1", "Skoda Octavia Style", 17450, 88200, 0),
    ),
    "AutoXloo AX10": (
        "cars.csv",
        '"stock","title","vin","year","make","model","trim","free_text","body","mileage","price_current"\n'
        '"A-1","Used","TMBEXAMPLE0000001","2019","Skoda","Octavia","Style","Neat","Wagon","88200","17450"\n',
        """
        type = "csv"
        reference = "stock"
        [accounts.dex.source.fields]
        title = "{make} {model} {trim}"
        description = "free_text"
        price = "price_current"
        condition = "title"
        [accounts.dex.source.values.condition]
        Used = "used"
        """,
        ("A-1", "Skoda Octavia Style", 17450, 88200, 0),
    ),
    "eRepairables": (
        "cars.txt",
        f"Skoda|Octavia|Car|Repaired|2019|17450|Neat|Clean|88200|TMBEXAMPLE0000001|A-1|2027-01-31 00:00:00||{_PHOTO}"
        "|https://cdn.example/2.jpg||||||||||Buy it Now\n",
        """
        type = "csv"
        header = false
        delimiter = "|"
        reference = "11"
        [accounts.dex.source.fields]
        title = "{1} {2} {5}"
        price = "6"
        mileage = "9"
        images = { columns = ["14", "15", "16", "17", "18", "19", "20", "21", "22", "23"] }
        """,
        ("A-1", "Skoda Octavia 2019", 17450, 88200, 2),
    ),
    "DMS14 (Carsnip)": (
        "cars.csv",
        "Feed_Id,Vehicle_Id,Make,Model,Variant,Year,Price,Mileage,PictureRefs\n"
        f'GENT,A-1,Skoda,Octavia,Style,2019,17450,54805,"{_PHOTO},https://cdn.example/2.jpg"\n',
        """
        type = "csv"
        reference = "Vehicle_Id"
        [accounts.dex.source.fields]
        title = "{Make} {Model} {Variant}"
        price = "Price"
        mileage = "Mileage"
        dealerLocationCode = "Feed_Id"
        images = { column = "PictureRefs", split_on = "," }
        [accounts.dex.source.units]
        mileage = "mi"
        """,
        ("A-1", "Skoda Octavia Style", 17450, 88200, 2),
    ),
    "LTV Wiz": (
        "cars.csv",
        "New / Used,Stock Number,Age,Year,Make,Model,Trim,Mileage,Price,Unit Cost\n"
        "Used,A-1,12,2019,Skoda,Octavia,Style,88200,17450,15000\n",
        """
        type = "csv"
        reference = "Stock Number"
        [accounts.dex.source.fields]
        title = "{Make} {Model} {Trim}"
        price = "Price"
        mileage = "Mileage"
        condition = "New / Used"
        [accounts.dex.source.values.condition]
        Used = "used"
        New = "new"
        """,
        ("A-1", "Skoda Octavia Style", 17450, 88200, 0),
    ),
    "MarketCheck inventory": (
        "cars.csv",
        "id,vin,heading,price,miles,make,model,trim,photo_links\n"
        "TMBEXAMPLE0000001-978c1374-c562,TMBEXAMPLE0000001,Skoda Octavia,17450,54805,Skoda,Octavia,Style,"
        f"{_PHOTO}|https://cdn.example/2.jpg\n",
        """
        type = "csv"
        reference = "id"
        [accounts.dex.source.fields]
        title = "heading"
        mileage = "miles"
        images = { column = "photo_links", split_on = "|" }
        [accounts.dex.source.units]
        mileage = "mi"
        """,
        ("TMBEXAMPLE0000001-978c1374-c562", "Skoda Octavia", 17450, 88200, 2),
    ),
}
