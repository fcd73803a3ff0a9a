"""`okasie doctor` warns when most rows of a source cannot be sent, or when one has no readable reference."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from okasie_tasks.cli import doctor
from okasie_tasks.cli.doctor import Check
from okasie_tasks.settings import load_settings
from tests.sources.support import HEAD


def check(folder: Path, *rows: str, options: str = "") -> Check:
    (folder / "feed.csv").write_text("\n".join(["ref,title,price,year", *rows, ""]))
    config = folder / "okasie.toml"
    config.write_text(HEAD.format(url="feed.csv", options=options))
    return doctor._source(load_settings(config, {"K": "key"}), "dex")


def test_a_source_whose_rows_can_be_sent_passes(tmp_path: Path) -> None:
    found = check(tmp_path, "A,Golf,9900,2020", "B,Golf,9900,2020", "C,Golf,no,2020", ",,,")
    assert (found.ok, found.warning, found.fix) == (True, False, None)
    assert found.detail.startswith("3 rows, 2 valid; 1 x feed.csv:4: price: ")


def test_most_rows_invalid_is_a_warning_with_the_most_frequent_reasons(tmp_path: Path) -> None:
    rows = ["A,Golf,9900,2020", *(f"B{n},Golf,no,2020" for n in range(4)), *(f"C{n},,9900,2020" for n in range(2))]
    found = check(tmp_path, *rows)
    assert (found.ok, found.warning) == (True, True)
    assert found.fix == "most rows cannot be sent: correct fields, values, units or skip"
    assert found.detail.startswith("7 rows, 1 valid; 4 x feed.csv:3: price: ")
    assert "; 2 x feed.csv:7: title: " in found.detail


def test_no_valid_row_is_a_failure(tmp_path: Path) -> None:
    found = check(tmp_path, "A,Golf,no,2020")
    assert (found.ok, found.warning) == (False, False)


def test_a_row_without_a_readable_reference_is_a_warning(tmp_path: Path) -> None:
    found = check(tmp_path, "A,Golf,9900,2020", "B,Golf,9900,2020", f"{'X' * 65},Golf,9900,2020")
    assert (found.ok, found.warning) == (True, True)
    assert "1 without a readable reference; 1 x feed.csv:4: externalReference: " in found.detail
    assert "no listing that disappears is sold" in (found.fix or "")


def test_skipped_rows_are_shown_and_do_not_count(tmp_path: Path) -> None:
    skip = '[accounts.dex.source.skip]\ntitle = ["totaal"]'
    found = check(tmp_path, "A,Golf,9900,2020", ",Totaal,1,", options=skip)
    assert (found.ok, found.warning, found.detail) == (True, False, "1 rows, 1 valid, 1 skipped")


def test_a_warning_is_printed_with_its_fix_and_does_not_fail(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = Check("dex: source", True, "7 rows, 1 valid", "correct them", warning=True)
    monkeypatch.setattr(doctor, "_checks", lambda *_: [found])
    for options in ([], ["--json"]):
        with pytest.raises(SystemExit) as ended:
            doctor.doctor.main(["dex", "--config", str(tmp_path / "okasie.toml"), *options])
        assert ended.value.code == 0
    printed, _, document = capsys.readouterr().out.partition("{")
    assert printed.splitlines() == ["warning     dex: source: 7 rows, 1 valid", f"{'':12}to fix: correct them"]
    said: dict[str, Any] = json.loads("{" + document)
    assert (said["ok"], said["checks"][0]["warning"]) == (True, True)
