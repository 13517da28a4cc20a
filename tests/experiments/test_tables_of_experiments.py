"""Tables and plots of results: what they say, what is tested, what is not mixed."""

import json
import sys
from pathlib import Path

import pytest

from everest.errors import DataError

sys.path.append(str(Path(__file__).parents[2] / "experiments"))
import command
from costs import gmacs_of
from found import Experiment
from plots import draw
from profiles import PROFILES
from questions import asked_of
from report import blocks, compared, fill, stuck
from results import as_hex, from_hex, holm
from trials import Arm


def write_groups(folder: Path, groups: list[str]) -> None:
    (folder / "groups").mkdir()
    (folder / "groups" / "x.json").write_text(json.dumps(groups))


def result(arm: str, seed: int, right: list[int]) -> str:
    known = {
        "profile": "cpu",
        "equal": "steps",
        "task": "speed",
        "arm": arm,
        "how": "60 %",
        "seed": seed,
        "made_of": "x",
        "settings": "y",
    }
    found = {"top1": sum(right) / len(right), "majority": 0.25, "right": as_hex(right), "num_test": len(right)}
    return json.dumps(known | found) + "\n"


@pytest.mark.parametrize("num", [0, 1, 4, 7, 33])
def test_hits_are_written_and_read(num: int) -> None:
    right = [place % 3 == 0 for place in range(num)]
    assert from_hex(as_hex([int(each) for each in right]), num) == [int(each) for each in right]


def test_p_is_adjusted_as_holm_did() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_rates_are_of_the_machine_with_the_most_arms() -> None:
    def trained(arm: str, seed: int, hardware: str, rate: float) -> dict[str, object]:
        return json.loads(result(arm, seed, [1, 0])) | {"hardware": hardware, "rate": rate, "pretrain_rate": 2 * rate}

    rows = [trained("everest", 0, "slow", 10.0), trained("everest", 1, "fast", 100.0)]
    rows += [trained("random", seed, "fast", 90.0) | {"pretrain_clips": 1, "pretrain_seconds": 1} for seed in (0, 1)]
    rows = [row | {"pretrain_clips": 1, "pretrain_seconds": 1} for row in rows]
    rates = Experiment(rows, {}).rates
    assert rates["everest", "60 %"] == [100.0]
    assert rates["random", "60 %"] == [90.0, 90.0]
    assert Experiment(rows[:2], {}).rates["everest", "60 %"] == [10.0]


def test_results_of_different_settings_are_not_mixed() -> None:
    row = json.loads(result("everest", 0, [1, 0]))
    Experiment([row, row | {"seed": 1}], {})
    with pytest.raises(DataError, match="speed, everest, 60 %: results of different settings"):
        Experiment([row, row | {"seed": 1, "settings": "z"}], {})
    with pytest.raises(DataError, match="results of different hardware"):
        Experiment([row | {"equal": "time", "hardware": name, "seed": n} for n, name in enumerate(("one", "two"))], {})
    taken_over = {"equal": "time", "hardware": "two", "seed": 1, "same_as": "equal steps"}
    Experiment([row | {"equal": "time", "hardware": "one"}, row | taken_over], {})


def test_only_what_was_asked_before_is_tested() -> None:
    rows = [
        json.loads(result(arm, seed, [1, 1, 1, seed % 2] if arm == "everest" else [1, 0, 0, (seed // 2) % 2]))
        for arm in ("everest", "random", "none")
        for seed in range(5)
    ]
    experiment = Experiment(rows, {})
    table = compared(experiment, [(("everest", "60 %"), (other, "60 %")) for other in ("random", "none")], "a")
    assert ", p 0.0" in table[2]
    assert ", p " not in table[3]
    assert "5 of 5" in table[3]
    assert ", p " not in compared(experiment, [(("everest", "60 %"), ("random", "60 %"))], "b")[2]


def test_runs_that_learnt_nothing_are_counted() -> None:
    known = [json.loads(result("none", seed, [1, 0, 0, 0])) for seed in range(2)]
    rows = [row | {"losses": [1.4, end]} for row, end in zip(known, (1.38, 0.9), strict=True)]
    assert stuck(Experiment(rows, {}))[2] == "| speed | none | 60 % | 1 of 2 |"  # a majority of 0.25: four classes
    assert stuck(Experiment(rows[1:], {})) == ["All have learnt.", ""]
    right = json.loads(result("none", 0, [1] * 4)) | {"losses": [1.4, 1.38]}
    assert stuck(Experiment([right], {})) == ["All have learnt.", ""]  # by little, and rightly


def test_few_labels_stand_beside_all(tmp_path: Path) -> None:
    few = [
        result(arm, 0, right).replace('"speed"', '"speed-few"')
        for arm, right in (("everest", [1, 1]), ("none", [0, 1]))
    ]
    (tmp_path / "a.jsonl").write_text("".join([*few, result("everest", 0, [1, 1]), result("none", 0, [1, 1])]))
    (tmp_path / "groups").mkdir()
    made = blocks(tmp_path)
    assert made["a, cpu, equal steps, few labels"] == [
        "|  | measure | speed, a fifth of the labels | speed, all |",
        "| --- | --- | --- | --- |",
        "| everest | 60 % | 100.0 | 100.0 |",
        "| none | 60 % | 50.0 | 100.0 |",
        "",
        "| measure | this | less that | speed-few |",
        "| --- | --- | --- | --- |",
        "| 60 % | everest | none | 50.0 |",
        "",
    ]
    assert "speed-few" not in "".join(made["a, cpu, equal steps, accuracy"] + made["a, cpu, equal steps, differences"])


def test_every_experiment_has_its_plot(tmp_path: Path) -> None:
    for letter in "acf":
        rows = [result(arm, seed, [1, 0, 1, 0]) for seed in (0, 1) for arm in ("none", "everest")[letter == "f" :]]
        (tmp_path / f"{letter}.jsonl").write_text("".join(rows))
    (tmp_path / "d.jsonl").write_text(result("none", 0, [1]).replace('"cpu"', '"gpu"'))  # not to be mixed with others
    probed = json.loads(result("everest", 0, [1])) | {"how": "frozen", "linear": 0.5}
    with (tmp_path / "a.jsonl").open("a") as file:
        file.write(json.dumps(probed) + "\n")
    written = draw(tmp_path, tmp_path / "images")
    names = ["results-a.png", "results-a-frozen.png", "results-c.png", "results-f.png"]
    assert [path.name for path in written] == names
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in written)


def test_tables_say_what_results_say(tmp_path: Path) -> None:
    lines = [
        result("everest", seed, [1, 1, 1, seed % 2]) + result("none", seed, [1, 0, 0, seed % 2]) for seed in (0, 1)
    ]
    (tmp_path / "a.jsonl").write_text("".join(lines))
    write_groups(tmp_path, ["home/a", "home/a", "street/b", "street/b"])
    made = blocks(tmp_path)
    text = "\n".join(made["a, cpu, equal steps, accuracy"])
    assert "**speed** (always the most frequent class: 25.0 %; seeds: 2)" in text
    assert "| everest | 87.5 " in text
    assert "| none | 37.5 " in text
    difference = made["a, cpu, equal steps, differences"][2]
    assert difference == "| 60 % | everest | none | 50.0 in each, 2 of 2; videos 50.0 to 50.0; both 50.0 to 50.0 |"
    sources = made["a, cpu, equal steps, by source"]
    assert sources[2] == "|  | fine-tuned | home (2) | street (2) |"
    assert sources[4:6] == [
        "| everest | 60 % | 100.0 | 75.0 |",
        "| none | 60 % | 50.0 | 25.0 |",
    ]
    page = "# Mine\n\n<!-- table: a, cpu, equal steps, accuracy -->\nold\n<!-- end -->\n\nThe end.\n"
    filled = fill(page, made)
    assert "old" not in filled
    assert text in filled
    assert filled.endswith("The end.\n")
    assert fill(filled, made) == filled
    with pytest.raises(DataError, match="asks for the table 'z'; there are: a, cpu"):
        fill("<!-- table: z -->\n<!-- end -->", made)


def test_what_decides_is_known_in_other_forms_too() -> None:
    of_e = [f"{task}-{kind}" for task in ("falls", "fights", "speed") for kind in ("still", "pan", "shake")]
    assert asked_of(of_e) == ["fights-pan", "fights-shake", "speed-pan", "speed-shake"]
    assert asked_of(["direction", "falls", "fights", "speed"]) == ["fights", "speed"]
    assert asked_of(["fights-few", "speed-few"]) == ["fights-few", "speed-few"]
    assert asked_of(["ucf101", "hmdb51"]) == ["ucf101", "hmdb51"]


def test_less_to_encode_costs_less_in_both_stages() -> None:
    for task in ("pretrain", "finetune"):
        costs = [gmacs_of("cpu", ratio, task) for ratio in (0.5, 0.3, 0.2)]  # type: ignore[arg-type]
        assert costs == sorted(costs, reverse=True)
        assert costs[0] > costs[2] > 0
    assert gmacs_of("cpu", 1.0) > gmacs_of("cpu", 0.6)


def test_the_page_says_how_long_arms_were_pretrained(tmp_path: Path) -> None:
    known = {"pretrain_rate": 2.0, "pretrain_clips": 1200}
    rows = [
        json.loads(result("everest", seed, [1])) | known | {"pretrain_seconds": 600.0 + 10 * seed} for seed in range(3)
    ]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "groups").mkdir()
    assert blocks(tmp_path)["a, cpu, equal steps, pre-training"][2] == "| everest | 1,200 | 610 | 600 to 620 |"


def test_the_page_says_how_fast_each_arm_trained(tmp_path: Path) -> None:
    trained = {"pretrain_rate": 400.0, "pretrain_clips": 1200, "pretrain_seconds": 3.0}
    rows = [json.loads(result("pixels", seed, [1])) | trained | {"rate": 300.0 + seed} for seed in range(3)]
    rows.append(json.loads(result("l1 of the embedding", 0, [1])) | {"rate": 250.0})
    (tmp_path / "d.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "groups").mkdir()
    assert blocks(tmp_path)["d, cpu, rates"] == [
        "| clips a second | pre-training | fine-tuning, 60 % |",
        "| --- | --- | --- |",
        "| pixels | 400 | 301 |",
        "| l1 of the embedding |  | 250 |",
        "",
    ]


def test_what_is_measured_once_is_measured_anew_for_other_clips(tmp_path: Path) -> None:
    class Stub:
        profile = PROFILES["quick"]
        results = tmp_path
        equal, minutes = "steps", None

    calls: list[int] = []
    clips = tmp_path / "manifest.csv"

    def measured(_: object) -> int:
        calls.append(len(calls))
        return calls[-1]

    for text in ("path\n", "path\n", "path,split\n"):
        clips.write_text(text)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(command, "replace", lambda bench, **_: bench)
            patch.setattr(Stub, "tasks", lambda _: (), raising=False)
            command._measure_once(Stub(), "e_budget", measured, [clips])  # type: ignore[arg-type]
    assert calls == [0, 1]
    Stub.equal = "time"  # the encoder that it is measured with is another one
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(command, "replace", lambda bench, **_: bench)
        patch.setattr(Stub, "tasks", lambda _: (), raising=False)
        for _ in range(2):
            command._measure_once(Stub(), "e_budget", measured, [clips])  # type: ignore[arg-type]
    assert calls == [0, 1, 2]
    assert json.loads((tmp_path / "e_budget-quick.json").read_text())["found"] == 2


def test_what_is_measured_once_waits_for_the_encoders_of_all_arms(tmp_path: Path) -> None:
    measured: list[str] = []

    def run(*words: str) -> None:
        given = command.parser_of(None).parse_args(["--data", str(tmp_path), "--out", str(tmp_path), *words])
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(command, "run_all", lambda *_, **__: None)
            patch.setattr(command, "_measure_once", lambda _, name, *__: measured.append(name))
            assert command.run_from(given, "c", [Arm("one", {})], once=("c_chosen", len)) == 0

    run("--arms", "one")
    run("--seeds", "1", "2")
    assert measured == []
    run("--seeds", "1", "0")
    assert measured == ["c_chosen"]
