"""Cells of a real PostgreSQL and a real MariaDB, as their drivers return them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest

from okasie_tasks.core.listing import Feature, Listing
from okasie_tasks.errors import ConfigurationError, SourceError
from okasie_tasks.ports import SourceRow
from tests import databases
from tests.sources.support import source

FIELDS = """
[accounts.dex.source.fields]
title = "{make} {built}"
year = "built"
firstRegistration = "registered"
"""
UUID_TEXT = "5b1c2d3e-0000-4000-8000-00000000d001"


@pytest.fixture(scope="module")
def postgresql() -> Iterator[str]:
    with databases.postgresql() as url:
        yield url


@pytest.fixture(scope="module")
def mariadb() -> Iterator[str]:
    with databases.mariadb() as url:
        yield url


def rows(folder: Path, url: str, query: str, fields: str = FIELDS) -> list[SourceRow]:
    options = f"type = \"sql\"\nquery = '''{query}'''\n{fields}"
    return list(source(folder, url, options).rows())


def only(folder: Path, url: str, query: str, fields: str = FIELDS) -> tuple[Listing, list[str]]:
    (row,) = rows(folder, url, query, fields)
    assert row.listing is not None, row.issues
    return row.listing, [str(warning) for warning in row.warnings]


# -- PostgreSQL ----------------------------------------------------------------------------------------------------


def test_the_types_of_postgresql(tmp_path: Path, postgresql: str) -> None:
    car, warnings = only(tmp_path, postgresql, f"""
        select '{UUID_TEXT}'::uuid as ref, 'Skoda' as make, 2020::numeric(4,0) as built, 17450.50::numeric(10,2) as price,
               date '2019-03-15' as registered, B'1' as warranty, true as "serviceHistory", 88200::bigint as km,
               array['eerste eigenaar', null, 'car-pass']::text[] as "conditionTags",
               array['https://x.test/1.jpg', 'https://x.test/2.jpg'] as images,
               110.5::double precision as "powerKw", 'grijs  '::char(7) as color
    """)  # fmt: skip
    assert (car.external_reference, car.title, car.year) == (UUID_TEXT, "Skoda 2020", 2020)
    assert (car.price, car.first_registration, car.power_kw) == (17450.5, "2019-03", 110.5)
    assert (car.warranty, car.service_history, car.color) == (True, True, "grijs")
    assert car.condition_tags == ("eerste eigenaar", "car-pass")
    assert car.images == ("https://x.test/1.jpg", "https://x.test/2.jpg")
    assert warnings == []


@pytest.mark.parametrize(
    "cell", ["1::int", "1::numeric(2,0)", "1.0::numeric(3,1)", "1.0::float8", "'1'::text", "' 1 '::char(3)"]
)
def test_a_code_of_any_type_finds_its_word(tmp_path: Path, postgresql: str, cell: str) -> None:
    words = '[accounts.dex.source.values.fuelType]\n1 = "petrol"'
    car, _ = only(
        tmp_path, postgresql, f"select 'A' as ref, 'Golf' as title, 1 as price, {cell} as \"fuelType\"", words
    )
    assert car.fuel_type == "petrol"


@pytest.mark.parametrize("kind", ["jsonb", "json", "text"])
def test_columns_are_paths_into_nested_columns(tmp_path: Path, postgresql: str, kind: str) -> None:
    engine = '{"power_kw": 110, "fuel": {"name": "Diesel"}}'
    photos = '[{"url": "https://x.test/2.jpg", "order": 2}, {"url": "https://x.test/1.jpg", "order": 1}]'
    fields = """
[accounts.dex.source.fields]
title = "{make} {engine.fuel.name}"
powerKw = "engine.power_kw"
images = "photos[].url"
features = "options[]"
"""
    car, warnings = only(tmp_path, postgresql, f"""
        select 7::numeric as ref, 'Skoda' as make, 100 as price, '{engine}'::{kind} as engine,
               '{photos}'::{kind} as photos, '["ABS", "comfort:airco"]'::{kind} as options
    """, fields)  # fmt: skip
    assert (car.external_reference, car.title, car.power_kw) == ("7", "Skoda Diesel", 110)
    assert car.images == ("https://x.test/1.jpg", "https://x.test/2.jpg")
    assert car.features == (Feature("ABS"), Feature("airco", "comfort"))
    assert warnings == []


def test_a_path_into_a_column_that_is_no_json_costs_its_field(tmp_path: Path, postgresql: str) -> None:
    fields = '[accounts.dex.source.fields]\npowerKw = "engine.power_kw"'
    query = "select 'A' as ref, 'Golf' as title, 100 as price, '110 kW' as engine"
    car, warnings = only(tmp_path, postgresql, query, fields)
    assert car.power_kw is None
    assert warnings == ["engine.power_kw: left out: expected JSON in column engine"]


def test_a_path_into_a_column_that_the_query_lacks_is_refused(tmp_path: Path, postgresql: str) -> None:
    fields = '[accounts.dex.source.fields]\npowerKw = "motor.power_kw"'
    with pytest.raises(SourceError, match=r"has no column motor\.power_kw"):
        rows(tmp_path, postgresql, "select 'A' as ref, '{}'::jsonb as engine", fields)


@pytest.mark.parametrize(
    ("cell", "reference"),
    [("'00123'::text", "00123"), ("123::numeric(10,2)", "123"), ("123::int", "123"), (f"'{UUID(int=9)}'::uuid", str(UUID(int=9))),
     ("1.5::numeric", None), ("'NaN'::numeric", None), ("'Infinity'::numeric", None), ("true", None), ("null", None), ("array['A']", None)],
)  # fmt: skip
def test_a_reference_of_any_type(tmp_path: Path, postgresql: str, cell: str, reference: str | None) -> None:
    (row,) = rows(tmp_path, postgresql, f"select {cell} as ref, 'Golf' as title, 100 as price", "")
    assert row.reference == reference


@pytest.mark.parametrize("cell", ["'NaN'::numeric", "'Infinity'::numeric", "'NaN'::float8", "1e400::numeric"])
def test_a_number_that_is_none_rejects_or_costs_its_field(tmp_path: Path, postgresql: str, cell: str) -> None:
    (row,) = rows(tmp_path, postgresql, f"select 'A' as ref, 'Golf' as title, {cell} as price", "")
    assert [issue.field for issue in row.issues] == ["price"]
    car, warnings = only(tmp_path, postgresql, f"select 'A' as ref, 'Golf' as title, 1 as price, {cell} as weight", "")
    assert (car.weight, len(warnings)) == (None, 1)


def test_times_of_change_are_read(tmp_path: Path, postgresql: str) -> None:
    for cell in ("timestamptz '2026-11-23 16:00:00+00'", "1795449600::numeric", "1795449600000::bigint"):
        query = f"select 'A' as ref, 'Golf' as title, 1 as price, {cell} as changed"
        options = f"type = \"sql\"\nquery = '''{query}'''\nupdated_at = \"changed\""
        (row,) = source(tmp_path, postgresql, options).rows()
        assert row.version == 1795449600000, cell


# -- MariaDB -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def vehicles(mariadb: str) -> str:
    databases.execute(
        mariadb,
        "create or replace table vehicles (ref decimal(10,0) primary key, make varchar(50), built decimal(4,0),"
        " price decimal(10,2), registered date, changed datetime, warranty bit(1), serviceHistory tinyint(1),"
        " engine json, photos longtext, mileage int unsigned)",
        "insert into vehicles values"
        """ (1, 'Škoda', 2020, 17450.50, '2019-03-15', '2026-11-23 16:00:00', b'1', 1, '{"power_kw": 110}',"""
        """  '["https://x.test/1.jpg", "https://x.test/2.jpg"]', 88200),"""
        " (2, 'VW', 0, 100, '0000-00-00', '0000-00-00 00:00:00', b'0', 0, null, null, null),"
        " (3, 'VW', 2018, 100, '2019-00-00', null, null, null, null, 'x', 0)",
    )
    return mariadb


NESTED = FIELDS + 'powerKw = "engine.power_kw"\nimages = "photos[]"\n'


def test_the_types_of_mariadb(tmp_path: Path, vehicles: str) -> None:
    car, warnings = only(tmp_path, vehicles, "select * from vehicles where ref = 1", NESTED)
    assert (car.external_reference, car.title, car.year) == ("1", "Škoda 2020", 2020)
    assert (car.price, car.first_registration, car.power_kw) == (17450.5, "2019-03", 110)
    assert (car.warranty, car.service_history, car.mileage) == (True, True, 88200)
    assert car.images == ("https://x.test/1.jpg", "https://x.test/2.jpg")
    assert warnings == []


def test_a_zero_date_is_empty_and_reported(tmp_path: Path, vehicles: str) -> None:
    fields = NESTED.replace("{make} {built}", "{make} {registered}")
    car, warnings = only(tmp_path, vehicles, "select * from vehicles where ref = 2", fields)
    assert (car.title, car.first_registration, car.warranty, car.service_history) == ("VW", None, False, False)
    assert "registered: a zero date counts as empty, got '0000-00-00'" in warnings
    assert not any("changed" in warning for warning in warnings), "no field is read from it"
    (row,) = source(
        tmp_path, vehicles,
        f'type = "sql"\nquery = "select * from vehicles where ref = 2"\nupdated_at = "changed"\n{NESTED}',
    ).rows()  # fmt: skip
    assert (row.version, sum("zero date" in str(warning) for warning in row.warnings)) == (0, 2)


def test_a_date_that_is_half_zero_and_a_column_that_is_no_json_cost_their_fields(tmp_path: Path, vehicles: str) -> None:
    car, warnings = only(tmp_path, vehicles, "select * from vehicles where ref = 3", NESTED)
    assert (car.first_registration, car.power_kw, car.images, car.year) == (None, None, (), 2018)
    assert sorted(warnings) == [
        "firstRegistration: left out: expected YYYY-MM, got '2019-00-00'",
        "photos[]: left out: expected JSON in column photos",
    ]


def test_a_binary_text_is_a_text(tmp_path: Path, mariadb: str) -> None:
    query = "select cast('A-1' as binary) as ref, cast('Golf é' as binary) as title, 100 as price"
    car, _ = only(tmp_path, mariadb, query, "")
    assert (car.external_reference, car.title) == ("A-1", "Golf é")


# -- both ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["postgresql", "mariadb"])
def test_a_line_that_is_cut_in_the_middle_is_an_error_after_some_rows(
    tmp_path: Path, request: pytest.FixtureRequest, name: str
) -> None:
    url = request.getfixturevalue(name)
    table = "generate_series(1, 200000) as s(seq)" if name == "postgresql" else "seq_1_to_200000"
    query = f"select seq as ref, 'Golf' as title, 100 as price from {table}"
    with databases.Line(url) as line:
        line.most = 1_000_000
        seen = _rows_before_the_error(tmp_path, line.url, query)
    assert 0 < seen < 200_000


def _rows_before_the_error(folder: Path, url: str, query: str) -> int:
    seen = 0
    with pytest.raises(SourceError, match="the database returned an error: OperationalError"):
        for _ in source(folder, url, f'type = "sql"\nquery = "{query}"').rows():
            seen += 1
    return seen


def test_a_driver_that_is_not_installed_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="its database driver is not installed: pyodbc"):
        rows(tmp_path, "mssql+pyodbc://x", "select 1", "")
