"""Trials of experiments: what cannot be measured whole leaves nothing behind."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from everest.errors import DataError

sys.path.append(str(Path(__file__).parents[2] / "experiments"))
import trials
from lists import Bench
from profiles import PROFILES, Settings
from results import Results
from trials import KEYS, Arm


def an_empty_bench(folder: Path, equal: str = "steps") -> Bench:
    for place in ("tasks/speed", "footage"):
        (folder / place).mkdir(parents=True, exist_ok=True)
        (folder / place / "manifest.csv").write_text("path,label,split,group\n")
    return Bench(folder, folder / "out", PROFILES["quick"], equal)


def test_features_of_a_clip_too_few_are_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Path] = []

    def embed(_run: Path, _manifest: Path, out: Path, **_: object) -> SimpleNamespace:
        asked.append(out)
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_bytes(b"a table")
        return SimpleNamespace(failures={"gone.mp4": "it is not there"})

    monkeypatch.setattr(trials.everest, "embed", embed)
    bench = an_empty_bench(tmp_path)
    for _ in range(2):  # a second start does not take it for done
        with pytest.raises(DataError, match=r"gone\.mp4: it is not there"):
            trials.probe(bench, "speed", Path("run"), None)
    assert len(asked) == 2
    assert not asked[0].exists()


def test_what_has_all_the_time_by_equal_steps_is_not_made_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tubes: Settings = {"selection.method": "tube"}
    arms = (
        Arm("tubes", tubes, {"60 %": {}}, probed=("frozen",)),
        Arm("none", None, {"60 %": {}, "as long": lambda *_: {}}, probed=()),
        Arm("random", {"selection.method": "random"}, {"60 %": {}}, probed=()),
    )
    made: list[tuple[str, str, str]] = []

    def measure(bench: Bench, arm: Arm, trial: dict[str, str], _: Settings | None) -> dict[str, float]:
        made.append((bench.equal, arm.name, trial["how"]))
        return {"top1": len(made) / 10, "hardware": "here"}

    monkeypatch.setattr(trials, "measure", measure)
    monkeypatch.setattr(trials, "hardware", lambda: "here")
    results = Results(tmp_path / "a.jsonl", KEYS)
    for equal in ("steps", "time"):
        trials.run_all(an_empty_bench(tmp_path, equal), arms, results, [0], reference=tubes)
    assert [each[1:] for each in made if each[0] == "time"] == [("none", "as long"), ("random", "60 %")]
    found = {(row["equal"], row["arm"], row["how"]): row["top1"] for row in Results(results.path, KEYS)}
    assert len(found) == 10
    taken_over = {(row["arm"], row["how"]) for row in Results(results.path, KEYS) if "same_as" in row}
    assert taken_over == {("tubes", "60 %"), ("tubes", "frozen"), ("none", "60 %")}
    for arm, how in (("tubes", "60 %"), ("tubes", "frozen"), ("none", "60 %")):
        assert found["time", arm, how] == found["steps", arm, how]
    made.clear()
    monkeypatch.setattr(trials, "hardware", lambda: "elsewhere")  # made there, they would differ by their machine too
    others = Results(tmp_path / "b.jsonl", KEYS)
    for row in Results(results.path, KEYS):
        if row["equal"] == "steps":
            others.add(row)
    trials.run_all(an_empty_bench(tmp_path, "time"), arms, others, [0], reference=tubes)
    assert len(made) == 5
