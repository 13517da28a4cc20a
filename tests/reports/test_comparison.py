"""Runs side by side: exactly what differs, and nothing that cannot be compared without a word."""

import json
from pathlib import Path

import pytest

from everest.errors import RunError
from everest.reports import compare_reports, make_report
from run_folders import make_run, write_evaluation


def write_predictions(run: Path, right: str, digest: str = "d") -> None:
    """Write an evaluation of clips that are recognised (1) or not (0)."""
    predictions = [
        {"record_index": n, "path": f"{n}.mp4", "start_seconds": None, "end_seconds": None, "label": 0}
        | {"probabilities": [1.0, 0.0] if each == "1" else [0.0, 1.0]}
        for n, each in enumerate(right)
    ]
    hits = right.count("1")
    values = {
        **{"num_clips": len(right), "num_views": 1, "top1": hits / len(right), "top1_interval": [0.1, 0.9]},
        **{"top5": None, "majority": 1.0, "class_names": ["a", "b"], "confusion": [[hits, len(right) - hits], [0, 0]]},
        **{"per_class": [{"name": "a", "num_clips": len(right), "accuracy": hits / len(right)}]},
        **{"part_digest": digest, "predictions": predictions},
    }
    values["per_class"].append({"name": "b", "num_clips": 0, "accuracy": None})
    (run / "evaluation.json").write_text(json.dumps(values, indent=2))


def test_exactly_the_settings_that_differ_are_listed(tmp_path: Path) -> None:
    one = make_run(tmp_path / "one")
    two = make_run(tmp_path / "two", "optim.base_lr=0.125", "selection.keep_ratio=0.5")
    made = compare_reports([one, two])
    assert made.values["differing"] == {"optim.base_lr": [0.005, 0.125], "selection.keep_ratio": [0.3, 0.5]}
    (section,) = [each for each in made.page.sections if each.heading == "What differs"]
    (table,) = section.tables
    assert table.header == ("", "one", "two")
    assert table.rows == (("selection.keep_ratio", "0.3", "0.5"), ("optim.base_lr", "0.005", "0.125"))
    same = compare_reports([one, make_run(tmp_path / "three")]).page.render()
    assert "All settings, the data and the versions are the same" in same


def test_cost_follows_the_settings(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / f"k{keep}", f"selection.keep_ratio={keep}") for keep in (0.2, 0.4, 0.8)]
    values = compare_reports(runs).values["runs"]
    costs = [row["cost"][0]["gmacs_training"] for row in values]
    assert costs == sorted(costs)
    assert len({row["cost"][1]["gmacs_training"] for row in values}) == 1  # of all tokens


def test_same_clips_tell_runs_apart(tmp_path: Path) -> None:
    one = make_run(tmp_path / "one", task="finetune")
    two = make_run(tmp_path / "two", task="finetune")
    write_predictions(one, "1111111111110000")
    write_predictions(two, "0000011111110000")
    (duel,) = compare_reports([one, two]).values["duels"]
    assert (duel["only_first"], duel["only_second"]) == (5, 0)
    assert duel["chance"] == pytest.approx(2 / 2**5)
    assert duel["verdict"] == "they cannot be told apart"
    write_predictions(two, "0000001111110000")
    (duel,) = compare_reports([one, two]).values["duels"]
    assert duel["verdict"] == "one is better"
    write_predictions(two, "0000011111110000", digest="other clips")
    made = compare_reports([one, two])
    assert made.values["duels"] == []
    assert "evaluations are of different clips" in made.page.render()


def write_confusion(run: Path, confusion: list[list[int]]) -> None:
    """Write an evaluation of two classes, by its matrix alone."""
    write_predictions(run, "1")
    values = json.loads((run / "evaluation.json").read_text())
    top1, sums = (confusion[0][0] + confusion[1][1]) / 100, [sum(row) for row in confusion]
    classes = [{"name": "ab"[n], "num_clips": sums[n], "accuracy": confusion[n][n] / sums[n]} for n in range(2)]
    values |= {
        "num_clips": 100,
        "top1": top1,
        "top1_interval": [max(0, top1 - 0.1), top1 + 0.1],
        "majority": max(sums) / 100,
    }
    values |= {"confusion": confusion, "per_class": classes, "predictions": []}
    (run / "evaluation.json").write_text(json.dumps(values))


def test_accuracies_stand_beside_naming_the_most_frequent_class(tmp_path: Path) -> None:
    one, two, three = (make_run(tmp_path / name, task="finetune") for name in ("one", "two", "three"))
    write_confusion(one, [[50, 5], [10, 35]])
    write_confusion(two, [[5, 50], [4, 41]])
    write_confusion(three, [[2, 53], [40, 5]])
    (accuracy,) = [each for each in compare_reports([one, two, three]).page.sections if each.heading == "Accuracy"]
    column = accuracy.tables[0].header.index("always the most frequent class")
    assert [row[column] for row in accuracy.tables[0].rows] == ["55.0%"] * 3
    words = "is no better than naming the most frequent class every time: that gives 55.0%, and"
    assert accuracy.notes == (
        f"By these clips, two {words} its interval reaches that.",
        "Of 100 clips, two takes 91 for b; 45 are.",
        f"By these clips, three {words} all of its interval is below that.",
    )
    cards = make_report(two).page.cards
    assert cards[1].label == "naming the most frequent class every time; the run is no better"
    (section,) = [each for each in make_report(two).page.sections if each.heading.startswith("Accuracy")]
    assert "Of 100 clips, this run takes 91 for b; 45 are." in section.notes
    good = make_report(one).page
    assert good.cards[1].label == "naming the most frequent class every time"
    assert "no better" not in good.render()


def test_what_cannot_be_compared_is_said(tmp_path: Path) -> None:
    pre = make_run(tmp_path / "pre")
    fine = make_run(tmp_path / "fine", task="finetune", top1=0.5)
    other = make_run(tmp_path / "other")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.json").write_text("{")
    page = compare_reports([pre, fine, other, tmp_path / "broken"]).page.render()
    assert "must not be compared" in page
    assert "Not finished: pre, fine, other" in page
    assert "broken is not the folder of a run" in page
    assert page.count('src="data:image/png') >= 2  # a picture of curves for each task
    (data := json.loads((other / "data.json").read_text()))["part_digest"] = "cd" * 32
    (other / "data.json").write_text(json.dumps(data))
    assert "learnt from different clips" in compare_reports([pre, other]).page.render()


def test_a_damaged_evaluation_becomes_a_sentence(tmp_path: Path) -> None:
    one = make_run(tmp_path / "one", task="finetune")
    two = make_run(tmp_path / "two", task="finetune")
    write_predictions(one, "10")
    write_evaluation(two, 0.5)  # lacks the confusion
    made = compare_reports([one, two])
    assert any("two/evaluation.json does not hold an evaluation" in text for text in made.values["problems"])
    assert "does not hold an evaluation" in made.page.render()


def test_without_a_run_there_is_nothing(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="not the folder of a run"):
        compare_reports([tmp_path])
