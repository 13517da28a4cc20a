"""The page of results says what the results say."""

import re
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[2] / "experiments"))
from report import blocks, fill

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
    plots = {f"images/results-{path.stem}.png" for path in RESULTS.glob("?.jsonl")} | {"images/results-a-frozen.png"}
    assert set(re.findall(r"images/results-[\w-]+\.png", pages)) == plots
    assert all((ROOT / "docs" / plot).is_file() for plot in plots)
