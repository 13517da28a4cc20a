"""The page of results says what the results say."""

import re
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[2] / "experiments"))
from plots import figures_of
from report import blocks, fill
from results import Results
from trials import KEYS

ROOT = Path(__file__).parents[2]


RESULTS = ROOT / "experiments" / "results"
PAGES = ("results.md", "ready-made.md")


@pytest.mark.parametrize("name", PAGES)
def test_tables_are_those_of_the_results(name: str) -> None:
    page = (ROOT / "docs" / name).read_text()
    assert fill(page, blocks(RESULTS)) == page, (
        f"run: python experiments/report.py experiments/results --page docs/{name}"
    )


def test_every_table_is_on_a_page_and_every_plot() -> None:
    pages = "".join((ROOT / "docs" / name).read_text() for name in PAGES)
    assert set(re.findall(r"<!-- table: (.+?) -->", pages)) == set(blocks(RESULTS))
    files = RESULTS.glob("?.jsonl")
    names = {name for path in files for name in figures_of(path.stem, list(Results(path, KEYS)))}
    assert {"a", "a-frozen", "a-losses", "b", "c", "d", "e", "f"} <= names
    plots = {f"images/results-{name}.png" for name in names}
    assert set(re.findall(r"images/results-[\w-]+\.png", pages)) == plots
    assert all((ROOT / "docs" / plot).is_file() for plot in plots)
