"""The comparison of selections runs on the same clips and tells what they keep."""

import json

import pytest

from everest.bench.macs import count_macs
from everest.bench.selections import ARMS, bench_selections, format_selections
from everest.datasets import load_data
from everest.errors import ConfigError

BUNDLED = load_data("bundled")


def test_every_selection_is_measured() -> None:
    values = bench_selections(BUNDLED, size="tiny", num_clips=3)
    rows = {row["name"]: row for row in values["selections"]}
    assert tuple(rows) == tuple(name for name, _ in ARMS)
    assert rows["all tokens"]["tokens"] == {"mean": 1568, "lowest": 1568, "highest": 1568}
    assert rows["ReRo, 60 %"]["tokens"]["mean"] == rows["K-centred, 60 %"]["tokens"]["highest"] == 940
    quiet, busy = (rows[f"adaptive, {share} % of the change"]["tokens"] for share in (80, 95))
    assert quiet["mean"] < busy["mean"]
    assert quiet["lowest"] < quiet["highest"]
    assert rows["all tokens"]["gmacs"] == pytest.approx(count_macs("tiny", "finetune", "all")["gmacs"])
    by_tokens = sorted(rows.values(), key=lambda row: row["tokens"]["mean"])
    assert [row["gmacs"] for row in by_tokens] == sorted(row["gmacs"] for row in rows.values())
    assert all(row["choose_ms"] >= 0 and row["forward_ms"] > 0 for row in rows.values())
    assert json.loads(json.dumps(values)) == values
    assert "fewest to most" in format_selections(values)


def test_no_clips_are_refused() -> None:
    with pytest.raises(ConfigError, match="at least one clip"):
        bench_selections(BUNDLED, num_clips=0)
