"""The page of results says what the results say."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2] / "experiments"))
from report import blocks, fill

ROOT = Path(__file__).parents[2]


def test_tables_are_those_of_the_results() -> None:
    page = (ROOT / "docs" / "results.md").read_text()
    assert fill(page, blocks(ROOT / "experiments" / "results")) == page, (
        "run: python experiments/report.py experiments/results --page docs/results.md"
    )
