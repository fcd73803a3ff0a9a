"""Compression by content: gzip and zip, whatever the name; damaged, hostile and ambiguous archives."""

from __future__ import annotations

import gzip
import struct
import tracemalloc
import zipfile
from pathlib import Path

import pytest

from okasie_tasks.errors import SourceError
from okasie_tasks.sources import content
from tests.sources.support import brief, source

CSV = b"ref,title,price\nA,Golf,100\nB,Polo,200\n"
EXPECTED = [(1, "A", "Golf"), (2, "B", "Polo")]


def archive(path: Path, files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as file:
        for name, data in files.items():
            file.writestr(name, data)
    return path


def failure(folder: Path, name: str, options: str = "") -> SourceError:
    with pytest.raises(SourceError) as caught:
        list(source(folder, name, options).rows())
    return caught.value


@pytest.mark.parametrize("name", ["stock.csv", "stock.csv.gz", "stock.zip", "stock"])
def test_what_a_file_is_decides_and_not_its_name(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    for data in (CSV, gzip.compress(CSV), gzip.compress(CSV[:20]) + gzip.compress(CSV[20:])):
        path.write_bytes(data)
        assert brief(source(tmp_path, name).rows()) == EXPECTED
    for files in ({"stock.csv": CSV}, {"stock.csv.gz": gzip.compress(CSV)}):
        archive(path, files)
        assert brief(source(tmp_path, name).rows()) == EXPECTED


@pytest.mark.parametrize(
    ("kind", "member"),
    [("csv", "Export/STOCK.TXT"), ("jsonl", "stock.json"), ("json", "stock.json"), ("csv", "export.dat")],
)
def test_the_one_file_that_fits_is_read_and_named(tmp_path: Path, kind: str, member: str) -> None:
    documents = {"csv": CSV, "jsonl": b'{"ref":"A","title":"Golf"}\n', "json": b'[{"ref":"A","title":"Golf"}]'}
    others = (
        {}
        if member.endswith("dat")
        else {"photos/A.jpg": b"\xff\xd8", "__MACOSX/._stock.csv": b"?", "readme.pdf": b"%"}
    )
    archive(tmp_path / "feed.zip", {**others, member: documents[kind]}, zipfile.ZIP_BZIP2)
    feed = source(tmp_path, "feed.zip", f'type = "{kind}"')
    first = next(iter(feed.rows()))
    assert first.reference == "A"
    assert first.where.startswith(f"feed.zip:{member}:")
    assert [row.where for row in feed.get(["A"])] == [first.where]


def test_two_files_that_fit_are_an_error_that_names_both(tmp_path: Path) -> None:
    archive(tmp_path / "feed.zip", {"cars.csv": CSV, "vans.csv": CSV, "A.jpg": b"", "notes.md": b""})
    error = failure(tmp_path, "feed.zip")
    assert error.message == (
        "has 2 that fit among its files: cars.csv, vans.csv; expected one csv file, or member = the name of the one to read"
    )
    assert brief(source(tmp_path, "feed.zip", 'member = "CARS*"').rows()) == EXPECTED
    assert "has 2 that fit" in failure(tmp_path, "feed.zip", 'member = "*.csv"').message
    assert "notes.md" in failure(tmp_path, "feed.zip", 'member = "stock.csv"').message
    archive(tmp_path / "feed.zip", {})
    assert "(none)" in failure(tmp_path, "feed.zip").message


def test_an_encrypted_file_is_named(tmp_path: Path) -> None:
    path = archive(tmp_path / "feed.zip", {"stock.csv": CSV})
    data = bytearray(path.read_bytes())
    for sign, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(sign) + offset] |= 1
    path.write_bytes(data)
    error = failure(tmp_path, "feed.zip")
    assert (error.where, error.code) == ("feed.zip:stock.csv", "encrypted")


def test_a_method_that_lets_the_archive_decide_on_memory_is_refused(tmp_path: Path) -> None:
    archive(tmp_path / "feed.zip", {"stock.csv": CSV}, zipfile.ZIP_LZMA)
    assert "is compressed with lzma, expected deflate" in failure(tmp_path, "feed.zip").message


@pytest.mark.parametrize("keep", [30, -30, -1])
def test_a_cut_archive_is_refused(tmp_path: Path, keep: int) -> None:
    path = archive(tmp_path / "feed.zip", {"stock.csv": CSV * 50})
    path.write_bytes(path.read_bytes()[:keep])
    error = failure(tmp_path, "feed.zip")
    assert error.code == "damaged"
    assert error.where == "feed.zip"


def test_changed_bytes_are_refused_or_harmless(tmp_path: Path) -> None:
    """No byte of an archive can be changed so that a read ends with other rows."""
    path = archive(tmp_path / "feed.zip", {"stock.csv": CSV})
    whole = path.read_bytes()
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :])
        try:
            assert brief(source(tmp_path, "feed.zip").rows()) == EXPECTED, at
        except SourceError as error:
            assert (error.where or "").startswith("feed.zip")


@pytest.mark.parametrize("options", ["max_mb = 1", ""])
def test_a_bomb_is_refused_within_bounds(tmp_path: Path, options: str) -> None:
    with (
        zipfile.ZipFile(tmp_path / "feed.zip", "w", zipfile.ZIP_DEFLATED) as file,
        file.open("stock.csv", "w") as member,
    ):
        member.write(CSV)
        for _ in range(100):
            member.write(b"0" * 1_000_000)
    tracemalloc.start()
    try:
        error = failure(tmp_path, "feed.zip", options)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert error.code in ("too_large", "long_row")
    assert most < 25_000_000


def test_a_list_of_files_without_end_is_not_held_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(content, "_INDEX_BYTES", 40_000)
    archive(tmp_path / "feed.zip", {"stock.csv": CSV, **{f"{number}.jpg": b"" for number in range(1_000)}})
    assert "its list of files is larger than" in failure(tmp_path, "feed.zip").message
    data = bytearray(archive(tmp_path / "feed.zip", {"stock.csv": CSV}).read_bytes())
    size = data.index(b"PK\x05\x06") + 12
    data[size : size + 4] = struct.pack("<I", 0x7FFFFFFF)
    (tmp_path / "feed.zip").write_bytes(data)
    assert failure(tmp_path, "feed.zip").code == "damaged"


def test_nothing_of_an_archive_is_written_to_disk(tmp_path: Path) -> None:
    archive(tmp_path / "feed.zip", {"../../stock.csv": CSV})
    assert brief(source(tmp_path, "feed.zip").rows()) == EXPECTED
    assert sorted(path.name for path in tmp_path.iterdir()) == ["feed.zip", "okasie.toml"]


def test_a_link_is_followed_to_a_file_only(tmp_path: Path) -> None:
    (tmp_path / "real.csv").write_bytes(CSV)
    (tmp_path / "stock.csv").symlink_to(tmp_path / "real.csv")
    assert brief(source(tmp_path, "stock.csv").rows()) == EXPECTED
    for target in ("/dev/zero", str(tmp_path), str(tmp_path / "missing")):
        (tmp_path / "stock.csv").unlink()
        (tmp_path / "stock.csv").symlink_to(target)
        assert failure(tmp_path, "stock.csv").code == "source_missing"
