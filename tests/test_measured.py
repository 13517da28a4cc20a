"""Tables of measured numbers are those of the measurements that lie beside them."""

import json
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "speed.md"
MEASURED = sorted((ROOT / "docs" / "measured").glob("*.json"))
sys.path.append(str(ROOT / "docs"))


def test_tables_of_the_page_are_what_was_measured() -> None:
    from building.measured import with_tables

    assert with_tables(PAGE) == PAGE.read_text(encoding="utf-8")


def test_every_measurement_has_its_table() -> None:
    places = re.findall(r"^<!-- measured: (\S+) -->$", PAGE.read_text(encoding="utf-8"), re.M)
    assert sorted(places) == sorted([*(path.stem for path in MEASURED), "aims"])
    assert places


@pytest.mark.parametrize("path", MEASURED, ids=lambda path: path.stem)
def test_a_measurement_says_of_which_commit_it_is(path: Path) -> None:
    environment = json.loads(path.read_text(encoding="utf-8"))["hardware"]["environment"]
    assert re.fullmatch("[0-9a-f]{40}", environment["everest_git"]["commit"])
    assert not environment["everest_git"]["dirty"]


def test_a_table_follows_its_numbers(tmp_path: Path) -> None:
    from building.measured import with_tables

    values = json.loads(MEASURED[0].read_text(encoding="utf-8"))
    page, folder = tmp_path / "page.md", tmp_path / "measured"
    folder.mkdir()
    page.write_text("before\n<!-- measured: this -->\nold\n<!-- end -->\nafter\n")
    (folder / "this.json").write_text(json.dumps(values))
    first = with_tables(page)
    assert "old" not in first
    assert first.startswith("before\n<!-- measured: this -->\n\n| ")
    assert first.endswith(" |\n\n<!-- end -->\nafter\n") or first.endswith(".\n\n<!-- end -->\nafter\n")
    values["hardware"]["name"] = "Another one"
    (folder / "this.json").write_text(json.dumps(values))
    assert with_tables(page) == first.replace("AMD EPYC", "Another one")
