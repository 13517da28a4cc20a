"""Results are kept and gone on with; what is said of them is what textbooks say."""

import sys
from pathlib import Path

import numpy as np
import pytest

from everest.errors import DataError

sys.path.append(str(Path(__file__).parents[2] / "experiments"))
from results import Results, over_seeds, paired_over_clips, paired_over_seeds


def test_a_second_start_knows_what_the_first_has_made(tmp_path: Path) -> None:
    path = tmp_path / "new" / "results.jsonl"
    first = Results(path, ("arm", "seed"))
    first.add({"arm": "everest", "seed": 0, "top1": 0.5})
    first.add({"arm": "everest", "seed": 1, "top1": 0.7})
    again = Results(path, ("arm", "seed"))
    assert [row["top1"] for row in again] == [0.5, 0.7]
    assert again.knows({"arm": "everest", "seed": 1})
    assert not again.knows({"arm": "none", "seed": 1})


def test_a_line_that_was_cut_off_is_said(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    path.write_text('{"arm": "a", "seed": 0}\n{"arm": "b", "se')
    with pytest.raises(DataError, match="line 2 is not a result"):
        Results(path, ("arm", "seed"))


def test_the_interval_over_seeds_is_that_of_student() -> None:
    found = over_seeds([0.5, 0.6, 0.7, 0.6, 0.6])  # deviation 0.0707, t of 4 degrees 2.776
    assert (found.mean, found.low, found.high) == pytest.approx((0.6, 0.5122, 0.6878), abs=1e-4)
    assert str(found) == "60.0 (51.2 to 68.8)"


def test_pairs_are_compared_by_their_differences() -> None:
    difference, probability = paired_over_seeds([0.5, 0.6, 0.9, 0.4], [0.4, 0.51, 0.79, 0.3])
    assert difference.mean == pytest.approx(0.1)
    assert 0 < probability < 1e-3
    assert paired_over_seeds([0.5, 0.6], [0.5, 0.6])[1] == 1.0
    ours, others = ([hits / 76 for hits in row] for row in ((58, 57, 56, 59, 58), (56, 55, 54, 57, 56)))
    assert len({a - b for a, b in zip(ours, others, strict=True)}) > 1  # by rounding alone
    assert paired_over_seeds(ours, others)[1] == 2 / 2**5
    rng = np.random.default_rng(0)
    same = [paired_over_seeds(rng.random(5).tolist(), rng.random(5).tolist())[1] for _ in range(400)]
    assert 0.02 < float(np.mean(np.asarray(same) < 0.05)) < 0.09  # a true null is refused in one of twenty


def test_clips_of_one_video_are_drawn_together() -> None:
    rng = np.random.default_rng(0)
    videos = rng.random(20) - 0.5
    values = np.repeat(videos, 10)
    groups = [f"{place // 10}" for place in range(200)]
    together = paired_over_clips(values.tolist(), [0.0] * 200, groups)
    apart = paired_over_clips(values.tolist(), [0.0] * 200, [str(place) for place in range(200)])
    assert together.mean == apart.mean == pytest.approx(videos.mean())
    assert (together.high - together.low) / (apart.high - apart.low) == pytest.approx(10**0.5, rel=0.1)
