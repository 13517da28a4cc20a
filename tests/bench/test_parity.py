"""Parity with the release, and that a difference from it is found and told."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from everest.bench.parity import Comparison, compare_folder, main
from everest.errors import DataError

RECORDED = Path(__file__).parents[1] / "data" / "release_mini"

EXPECTED = {
    "pretrain_mcm_stable": {
        *("patch_embed", "importance", "ids_sorted", "input_mask", "target_mask", "encoder_in", "encoder_block0"),
        *("encoder_out", "decoder_in", "decoder_out", "labels", "loss", "grad_norm", "noise_argsort", "ids_restore"),
        *("ids_sorted_shuffled", "encoder_pos_embed", "decoder_pos_embed"),
    },
    "pretrain_tube": {
        *("patch_embed", "bool_masked_pos", "encoder_pos_embed", "decoder_pos_embed"),
        *("encoder_in", "encoder_block0", "encoder_out", "decoder_in", "decoder_out", "labels", "loss", "grad_norm"),
    },
    "finetune_mcm_stable": {
        *("patch_embed", "importance", "ids_sorted", "input_mask", "blocks_in", "blocks_out", "features", "logits"),
        *("loss", "loss_plain_ce", "grad_norm", "ids_restore", "finetune_pos_embed"),
    },
    "finetune_full": {
        "patch_embed",
        "finetune_pos_embed",
        "blocks_in",
        "blocks_out",
        "features",
        "logits",
        "loss",
        "loss_plain_ce",
        "grad_norm",
    },
}
RUNS = {
    *("pretrain_mcm_stable_f32", "pretrain_mcm_stable_f64", "pretrain_tube_f32"),
    *("finetune_mcm_stable_f32", "finetune_mcm_stable_f64", "finetune_full_f32"),
}


@pytest.fixture(scope="module")
def comparisons() -> list[Comparison]:
    return list(compare_folder(RECORDED))


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A fixture folder with one run, to be spoilt."""
    folder = tmp_path / "fixture"
    folder.mkdir()
    names = ("input", "pos_embed", "finetune_state", "finetune_mcm_stable_f32")
    for name in ("info.json", *(f"{name}.safetensors" for name in names)):
        shutil.copy(RECORDED / name, folder / name)
    return folder


def tamper(path: Path, change: Callable[[dict[str, Tensor]], object]) -> None:
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


class TestTheRecordedRuns:
    def test_are_repeated_within_the_tolerance(self, comparisons: list[Comparison]) -> None:
        assert [str(comparison) for comparison in comparisons if not comparison.passed] == []

    def test_are_all_compared(self, comparisons: list[Comparison]) -> None:
        assert {comparison.run for comparison in comparisons} == RUNS

    @pytest.mark.parametrize("run", sorted(RUNS))
    def test_are_compared_in_every_stage(self, run: str, comparisons: list[Comparison]) -> None:
        compared = {comparison.quantity for comparison in comparisons if comparison.run == run}
        assert compared >= EXPECTED[run.rsplit("_", 1)[0]]
        recorded = load_file(RECORDED / f"{run}.safetensors")
        parameters = {name for name in recorded if name.startswith(("grad.", "step1."))}
        assert {name for name in compared if name.startswith(("grad.", "step1."))} == parameters
        assert len(parameters) > 30

    def test_have_tolerances_that_mean_something(self, comparisons: list[Comparison]) -> None:
        for comparison in comparisons:
            exact = comparison.quantity in {
                *("ids_sorted", "ids_restore", "ids_sorted_shuffled", "noise_argsort"),
                *("input_mask", "target_mask", "bool_masked_pos"),
            }
            assert comparison.tolerance == (0.0 if exact else 1e-5 if comparison.run.endswith("f32") else 1e-10)

    def test_choose_by_scores_that_are_no_ties(self) -> None:
        scores = load_file(RECORDED / "finetune_mcm_stable_f64.safetensors")["importance"]
        assert len(torch.unique(scores[0])) == 7 * 16  # slot 0 repeats slot 1

    def test_are_small(self) -> None:
        assert sum(path.stat().st_size for path in RECORDED.iterdir()) < 4_000_000

    def test_leave_nothing_recorded_uncompared(self) -> None:
        skipped: list[str] = []
        list(compare_folder(RECORDED, on_skipped=skipped.append))
        assert skipped == []


class TestADifference:
    @pytest.mark.parametrize("quantity", ["logits", "importance", "features", "grad.head.weight", "step1.head.bias"])
    def test_in_one_number_is_found(self, quantity: str, copy: Path) -> None:
        def change(tensors: dict[str, Tensor]) -> None:
            flat = tensors[quantity].view(-1)
            flat[0] += 1e-4 * tensors[quantity].abs().max()

        tamper(copy / "finetune_mcm_stable_f32.safetensors", change)
        failed = {comparison.quantity for comparison in compare_folder(copy) if not comparison.passed}
        assert quantity in failed
        # the optimiser steps on the recorded gradients, so a changed gradient changes the step as well
        assert failed <= {quantity, quantity.replace("grad.", "step1.")}

    def test_in_one_selected_token_is_found(self, copy: Path) -> None:
        def change(tensors: dict[str, Tensor]) -> None:
            tensors["input_mask"][0, :2] = tensors["input_mask"][0, :2].flip(0) ^ 1

        tamper(copy / "finetune_mcm_stable_f32.safetensors", change)
        failed = [comparison for comparison in compare_folder(copy) if not comparison.passed]
        assert [(comparison.quantity, comparison.error) for comparison in failed] == [("input_mask", float("inf"))]

    def test_in_shape_is_found(self, copy: Path) -> None:
        tamper(
            copy / "finetune_mcm_stable_f32.safetensors",
            lambda tensors: tensors.update(logits=tensors["logits"][:, :6].contiguous()),
        )
        failed = [comparison.quantity for comparison in compare_folder(copy) if not comparison.passed]
        assert failed == ["logits [2, 7] != [2, 6]"]

    def test_in_the_weights_is_found(self, copy: Path) -> None:
        tamper(copy / "finetune_state.safetensors", lambda tensors: tensors["patch_embed.proj.weight"].mul_(1.0001))
        failed = {comparison.quantity for comparison in compare_folder(copy) if not comparison.passed}
        assert {"patch_embed", "importance", "logits"} <= failed

    def test_in_what_is_recorded_is_found_or_said(self, copy: Path) -> None:
        tamper(
            copy / "finetune_mcm_stable_f32.safetensors",
            lambda tensors: tensors.update({"grad.extra": torch.ones(1), "attention": torch.ones(2)}),
        )
        skipped: list[str] = []
        failed = [c.quantity for c in compare_folder(copy, on_skipped=skipped.append) if not c.passed]
        assert failed == ["grad.extra: nothing of ours"]
        assert skipped == ["finetune_mcm_stable_f32: attention is recorded, but nothing of ours is compared with it"]

    def test_in_a_position_is_found_where_tables_were_recorded(self, copy: Path) -> None:
        tamper(copy / "pos_embed.safetensors", lambda tensors: tensors["finetune_pos_embed"][0, 3].add_(0.01))
        assert [c.quantity for c in compare_folder(copy) if not c.passed] == ["finetune_pos_embed"]
        (copy / "pos_embed.safetensors").unlink()
        assert all(c.passed for c in compare_folder(copy))

    def test_that_is_no_number_is_found(self) -> None:
        assert not Comparison("run", "quantity", float("nan"), 1e-5).passed
        assert Comparison("run", "quantity", 1e-5, 1e-5).passed
        assert str(Comparison("run", "quantity", 2e-5, 1e-5)).endswith("2.00e-05  (allowed 1e-05)  FAILED")


def broken(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:100])


def without(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).unlink()


def with_config(**values: int) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        info = json.loads((folder / "info.json").read_text())
        info["config"] |= values
        (folder / "info.json").write_text(json.dumps(info))

    return change


def without_tensor(name: str, tensor: str) -> Callable[[Path], object]:
    return lambda folder: tamper(folder / name, lambda tensors: tensors.pop(tensor))


def described_by(text: str) -> Callable[[Path], object]:
    return lambda folder: (folder / "info.json").write_text(text)


class TestTheCommand:
    def test_returns_0_where_all_is_equal(self, copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main([str(copy), str(copy)]) == 0
        printed = capsys.readouterr()
        num_quantities = len(list(compare_folder(copy)))
        assert printed.out.splitlines()[-1] == f"{2 * num_quantities} quantities compared, 0 over the tolerance"
        assert len(printed.out.splitlines()) == 2 * num_quantities + 1
        assert printed.err == ""

    def test_returns_1_where_something_differs(self, copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
        tamper(copy / "finetune_mcm_stable_f32.safetensors", lambda tensors: tensors["logits"].add_(1e-4))
        assert main([str(copy)]) == 1
        *lines, total = capsys.readouterr().out.splitlines()
        assert total.endswith("1 over the tolerance")
        assert [line.split()[1] for line in lines if line.endswith("FAILED")] == ["logits"]

    @pytest.mark.parametrize(
        "spoil",
        [
            pytest.param(shutil.rmtree, id="no folder"),
            pytest.param(lambda folder: [path.unlink() for path in folder.iterdir()], id="empty folder"),
            pytest.param(without("finetune_mcm_stable_f32.safetensors"), id="no run"),
            pytest.param(without("finetune_state.safetensors"), id="no weights"),
            pytest.param(without("input.safetensors"), id="no input"),
            pytest.param(broken("finetune_state.safetensors"), id="broken weights"),
            pytest.param(broken("input.safetensors"), id="broken input"),
            pytest.param(broken("finetune_mcm_stable_f32.safetensors"), id="broken run"),
            pytest.param(without_tensor("finetune_state.safetensors", "head.bias"), id="weights short of a tensor"),
            pytest.param(without_tensor("input.safetensors", "videos"), id="input short of a tensor"),
            pytest.param(without_tensor("finetune_mcm_stable_f32.safetensors", "logits"), id="run short of a tensor"),
            pytest.param(
                without_tensor("finetune_mcm_stable_f32.safetensors", "grad.head.bias"), id="run short of a gradient"
            ),
            pytest.param(broken("info.json"), id="broken description"),
            pytest.param(lambda folder: (folder / "info.json").write_bytes(b"\xff\xfe"), id="description in no UTF-8"),
            pytest.param(described_by("{"), id="no JSON"),
            pytest.param(described_by("{}"), id="description without a configuration"),
            pytest.param(described_by('{"config": {}}'), id="description without sizes"),
            pytest.param(described_by("[]"), id="description that is a list"),
            pytest.param(with_config(heads=5), id="description of another model"),
            pytest.param(with_config(num_classes=3), id="description of fewer classes"),
        ],
    )
    def test_returns_2_and_one_line_where_a_folder_is_unusable(
        self, spoil: Callable[[Path], object], copy: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        spoil(copy)
        assert main([str(copy)]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("error: ")

    def test_runs_as_a_module(self, tmp_path: Path) -> None:
        command = [sys.executable, "-m", "everest.bench.parity", str(tmp_path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert done.stdout == ""
        assert done.stderr.startswith(f"error: {tmp_path}: not a fixture folder")
        assert len(done.stderr.splitlines()) == 1


def test_a_folder_without_a_run_names_what_it_expects(copy: Path) -> None:
    (copy / "finetune_mcm_stable_f32.safetensors").unlink()
    with pytest.raises(DataError, match=r"expected files such as pretrain_mcm_stable_f32\.safetensors"):
        list(compare_folder(copy))


def test_the_description_says_what_was_recorded() -> None:
    info = json.loads((RECORDED / "info.json").read_text(encoding="utf-8"))
    assert (info["num_compressed_tokens"], info["num_input_tokens"], info["finetune_kept_tokens"]) == (38, 12, 76)
