"""All that is asked in one table, clips of scenes that training has seen, and what was trained twice."""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[2] / "experiments"))
from asked import all_asked, beside_numbers, made_twice, seen_scenes, unseen, without_seen
from found import Experiment
from plots import with_cost
from results import (
    Interval,
    as_hex,
    holm,
    over_seeds,
    paired_over_both,
    paired_over_clips,
    paired_over_seeds,
    sign_changes,
)
from time_tasks import scene_name

HOME, STREET = scene_name("fights", "1"), scene_name("fights", "79")  # the second is on the list


def row(arm: str, seed: int, right: list[int], **more: object) -> dict[str, object]:
    known = {"profile": "cpu", "equal": "steps", "task": "fights", "arm": arm, "how": "60 %", "seed": seed}
    known |= {"made_of": "x", "settings": arm, "majority": 0.5, "num_test": len(right)}
    return known | {"top1": sum(right) / len(right), "right": as_hex(right)} | more


def test_scenes_that_training_has_seen_are_listed_and_left_out() -> None:
    assert len(seen_scenes()) == 11
    assert unseen([HOME, STREET, HOME]) == [0, 2]
    rows = [row("everest", seed, [1, 1, 1, seed % 2]) for seed in (0, 1)]
    rows += [row("random", seed, [1, 0, 0, seed % 2]) for seed in (0, 1)]
    both = ("everest", "60 %"), ("random", "60 %")
    experiment = Experiment(rows, {"x": [HOME, HOME, STREET, STREET]})
    assert without_seen(experiment, "fights", *both) == "50.0 (50.0 to 50.0)"  # of the first two clips
    assert without_seen(Experiment(rows, {"x": [HOME] * 4}), "fights", *both) == ""
    one = Experiment([each for each in rows if each["seed"] == 0], {"x": [HOME, HOME, STREET, STREET]})
    assert without_seen(one, "fights", *both) == "50.0"


def test_p_is_adjusted_among_its_own_and_among_all() -> None:
    def runs(arm: str, how: str, hits: list[int]) -> list[dict[str, object]]:
        return [row(arm, seed, [1] * n + [0] * (20 - n), how=how) for seed, n in enumerate(hits)]

    better, worse = [15, 16, 14, 17, 15], [12, 11, 12, 12, 11]
    a = Experiment(runs("everest", "60 %", better) + runs("random", "60 %", worse), {})
    c = Experiment(runs("alpha 1.5", "60%", better) + runs("evenly spread", "60%", [14, 17, 13, 16, 15]), {})
    lines = all_asked({"a": a, "c": c})
    assert len(lines) == 2 + 2 + 1
    ps = [
        paired_over_seeds([n / 20 for n in one], [n / 20 for n in other])[1]
        for one, other in ((better, worse), (better, [14, 17, 13, 16, 15]))
    ]
    ends = [line.rstrip(" |").rpartition(" | ") for line in lines[2:4]]
    assert [end[2] for end in ends] == [f"{max(p, 0.001):.3f}" for p in holm(ps)]
    assert [end[0].rpartition(" | ")[2] for end in ends] == [f"{max(p, 0.001):.3f}" for p in ps]  # one each


def test_where_runs_have_learnt_nothing_p_is_of_changing_signs() -> None:
    assert sign_changes([0.1] * 5) == 2 / 2**5
    assert sign_changes([0.3, -0.3]) == 1.0
    assert sign_changes([0.5, 0.4, 0.3, 0.2, -0.1]) == pytest.approx(4 / 2**5)  # itself, the last one's sign; twice
    ours = [row("everest", seed, [1] * 8 + [0] * 2, losses=[0.7, 0.3]) for seed in range(5)]
    stuck = [row("random", seed, [1] * 5 + [0] * 5, losses=[0.7, 0.69]) for seed in range(5)]
    for number, seed in zip((6, 7, 5, 6, 7), range(5), strict=True):
        ours[seed] |= row("everest", seed, [1] * number + [0] * (10 - number))
    for others, expected in ((stuck, 2 / 2**4), ([r | {"losses": [0.7, 0.2]} for r in stuck], None)):
        found = Experiment([*ours, *others], {}).difference("fights", ("everest", "60 %"), ("random", "60 %"))
        assert found is not None
        if expected is None:
            assert found.p == pytest.approx(paired_over_seeds([0.6, 0.7, 0.5, 0.6, 0.7], [0.5] * 5)[1])
        else:
            assert found.p == pytest.approx(expected)  # one difference is zero: its sign changes nothing


def test_over_seeds_and_videos_is_no_narrower_than_over_either() -> None:
    groups = [f"scene {place // 2}" for place in range(12)]
    nothing = [[0] * 12] * 5
    assert paired_over_both(nothing, nothing, groups) == (Interval(0.0, 0.0, 0.0, 5), 1.0)
    ours = [[int((place + seed) % 3 != 0 or place < 4) for place in range(12)] for seed in range(5)]
    both, p = paired_over_both(ours, nothing, groups)
    means, shares = [sum(each) / 12 for each in ours], [sum(each) / 5 for each in zip(*ours, strict=True)]
    seeds, clips = over_seeds(means), paired_over_clips(shares, [0.0] * 12, groups)
    assert both.mean == pytest.approx(seeds.mean) == pytest.approx(clips.mean)
    assert both.high - both.low > max(seeds.high - seeds.low, clips.high - clips.low)
    assert 0 < p < 0.05


def test_where_scenes_do_not_differ_only_seeds_count() -> None:
    groups = [f"scene {place // 2}" for place in range(12)]
    ours = [[int(place % 2 < right) for place in range(12)] for right in (0, 1, 1, 2, 1)]  # the same in every scene
    both, p = paired_over_both(ours, [[0] * 12] * 5, groups)
    seeds, expected = paired_over_seeds([sum(each) / 12 for each in ours], [0.0] * 5)
    assert (both.low, both.high, p) == pytest.approx((seeds.low, seeds.high, expected))


def test_the_same_training_on_two_machines_is_set_side_by_side() -> None:
    rows = [row("everest", seed, [1, 1, 0, 0], hardware="one") for seed in (0, 1)]
    rows += [row("l2", 0, [1, 1, 1, 0], hardware="two", settings="everest", how="60%")]
    rows += [row("everest", 1, [1, 1, 0, 0], hardware="one", how="60%")]  # the same result in another file
    assert made_twice(rows)[2] == "| fights | 60% | 1 | 50.0 | 75.0 | 25.0 | 25.0 |"
    assert made_twice(rows[:2]) == []


def test_networks_stand_beside_numbers_without_one() -> None:
    rows = [row("everest", seed, [1, 1, 1, seed]) for seed in (0, 1)]
    rows.append(row("frame differences", 0, [1, 0, 0, 0], how="frozen", right_by={"linear": as_hex([1, 0, 0, 0])}))
    lines = beside_numbers(Experiment(rows, {"x": [HOME, HOME, STREET, STREET]}))
    assert lines[2].startswith("| everest | 60 % | 62.5 (")
    assert len(lines) == 4


def test_cost_is_what_training_took_on_the_machine_with_the_most() -> None:
    rows = [row("everest", seed, [1], rate=rate, hardware="one") for seed, rate in enumerate((100.0, 200.0, 400.0))]
    rows.append(row("everest", 3, [1], rate=1.0, hardware="two"))
    assert [each["cost"] for each in with_cost(rows)] == [5.0] * 4
