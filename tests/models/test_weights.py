"""Saving, loading and refusing weights: a checkpoint either fits as a whole or changes nothing."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from small_models import jitter, tiny_info
from torch import Tensor, nn

from everest.config import CheckpointInfo
from everest.errors import SelectionError, WeightsError
from everest.models import (
    Classifier,
    MaskedAutoencoder,
    build_autoencoder,
    build_classifier,
    initialize_from,
    load_model,
    save_weights,
)
from everest.models.weights import METADATA_KEY, WEIGHTS_NAME, find_weights, from_release, load_state, read_info

RECORDED = Path(__file__).parents[1] / "data" / "release_mini"


def tiny_autoencoder(seed: int = 0) -> MaskedAutoencoder:
    torch.manual_seed(seed)
    info = tiny_info("pretrain")
    return jitter(build_autoencoder(info.model, info.clip))


def tiny_classifier(seed: int = 0, num_classes: int = 3) -> Classifier:
    torch.manual_seed(seed)
    info = tiny_info("finetune")
    return jitter(build_classifier(info.model, info.clip, num_classes))


def copied_state(model: nn.Module) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in model.state_dict().items()}


def same_state(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


@pytest.fixture
def pretrained(tmp_path: Path) -> Path:
    path = tmp_path / "pretrained.safetensors"
    save_weights(tiny_autoencoder(seed=7), tiny_info("pretrain"), path)
    return path


@pytest.fixture
def finetuned(tmp_path: Path) -> Path:
    path = tmp_path / "finetuned.safetensors"
    save_weights(tiny_classifier(seed=8), tiny_info("finetune"), path)
    return path


def rewritten(path: Path, change: Callable[[dict[str, Tensor]], object], info: CheckpointInfo) -> Path:
    """Write a weights file again with other tensors."""
    state = load_file(path)
    change(state)
    other = path.with_name("rewritten.safetensors")
    save_file(state, other, metadata={METADATA_KEY: info.model_dump_json()})
    return other


class TestRoundTrip:
    @pytest.mark.parametrize("task", ["pretrain", "finetune"])
    def test_gives_back_every_bit_and_what_travels_with_it(self, task: str, tmp_path: Path) -> None:
        model = tiny_autoencoder() if task == "pretrain" else tiny_classifier()
        info, path = tiny_info(task), tmp_path / "run" / WEIGHTS_NAME
        save_weights(model, info, path)
        for checkpoint in (path, path.parent):
            loaded, loaded_info = load_model(checkpoint)
            assert type(loaded) is type(model)
            assert same_state(loaded.state_dict(), model.state_dict())
            assert loaded_info == info
            assert not loaded.training

    def test_reads_the_description_alone(self, finetuned: Path) -> None:
        assert read_info(finetuned) == tiny_info("finetune")

    def test_replaces_a_file_and_leaves_nothing_else(self, finetuned: Path) -> None:
        info = tiny_info("finetune", class_names=("a", "b", "c"))
        model = tiny_classifier(seed=9)
        save_weights(model, info, finetuned)
        assert [path.name for path in finetuned.parent.iterdir()] == [finetuned.name]
        assert same_state(load_file(finetuned), model.state_dict())
        assert read_info(finetuned).class_names == ("a", "b", "c")


class TestRefused:
    def test_nothing_there(self, tmp_path: Path) -> None:
        with pytest.raises(WeightsError, match="expected a run folder or a weights file"):
            load_model(tmp_path / "none.safetensors")
        with pytest.raises(WeightsError, match=f"expected a run folder that holds {WEIGHTS_NAME}"):
            find_weights(tmp_path)
        with pytest.raises(WeightsError, match="no such weights file"):
            read_info(tmp_path / "none.safetensors")

    @pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
    def test_a_damaged_file(self, share: float, finetuned: Path) -> None:
        content = finetuned.read_bytes()
        finetuned.write_bytes(content[: int(share * len(content))])
        model = tiny_classifier()
        before = copied_state(model)
        for load in (load_model, lambda path: initialize_from(model, path)):
            with pytest.raises(WeightsError, match="not a readable safetensors file") as caught:
                load(finetuned)
            assert str(caught.value).startswith(str(finetuned))
            assert "\n" not in str(caught.value)
        assert same_state(model.state_dict(), before)

    def test_a_file_of_another_kind(self, tmp_path: Path) -> None:
        path = tmp_path / "notes.safetensors"
        path.write_text("these are no weights, but enough text to be read as a header")
        with pytest.raises(WeightsError, match="not a readable safetensors file"):
            load_model(path)

    def test_weights_of_somebody_else(self, tmp_path: Path) -> None:
        path = tmp_path / "foreign.safetensors"
        save_file({"weight": torch.zeros(3)}, path)
        with pytest.raises(WeightsError, match="not written by EVEREST"):
            load_model(path)
        model = tiny_classifier()
        before = copied_state(model)
        with pytest.raises(WeightsError, match="not written by EVEREST"):
            initialize_from(model, path)
        assert same_state(model.state_dict(), before)

    @pytest.mark.parametrize(
        "description", ["{", "[]", '{"format_version": 2}', '{"task": "finetune"}', '{"unknown": 1}']
    )
    def test_a_description_of_another_version(self, description: str, tmp_path: Path) -> None:
        path = tmp_path / "later.safetensors"
        save_file({"weight": torch.zeros(3)}, path, metadata={METADATA_KEY: description})
        with pytest.raises(WeightsError, match="written by another version of EVEREST") as caught:
            load_model(path)
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize(
        ("change", "told"),
        [
            (lambda state: state.pop("encoder.blocks.3.mlp.fc1.bias"), r"1 \(encoder.blocks.3.mlp.fc1.bias\) missing"),
            (lambda state: state.update(surplus=torch.zeros(1)), r"1 \(surplus\) unexpected"),
            (
                lambda state: state.update({"head.bias": torch.zeros(4)}),
                r"1 \(head.bias \[4\] instead of \[3\]\) of another shape",
            ),
        ],
        ids=["missing", "unexpected", "shape"],
    )
    def test_tensors_that_do_not_fit_their_description(
        self, change: Callable[[dict[str, Tensor]], object], told: str, finetuned: Path
    ) -> None:
        with pytest.raises(WeightsError, match=told) as caught:
            load_model(rewritten(finetuned, change, tiny_info("finetune")))
        assert "use the network, size and shape it was trained with" in str(caught.value)

    def test_a_description_of_a_larger_model(self, finetuned: Path) -> None:
        larger = tiny_info("finetune", size="small")
        with pytest.raises(WeightsError, match="of another shape"):
            load_model(rewritten(finetuned, lambda _: None, larger))

    def test_a_description_without_a_token_grid(self, finetuned: Path) -> None:
        values = json.loads(tiny_info("finetune").model_dump_json())
        values["clip"]["height"] = 33
        with pytest.raises((WeightsError, SelectionError), match="33 pixels of height"):
            load_model(rewritten(finetuned, lambda _: None, CheckpointInfo.model_validate(values)))


class TestInitializeFrom:
    def test_pretrained_weights_give_encoder_and_norm_and_leave_the_head(self, pretrained: Path) -> None:
        model, source = tiny_classifier(), load_file(pretrained)
        before = copied_state(model)
        report = initialize_from(model, pretrained)
        for key, value in model.state_dict().items():
            if key.startswith("encoder."):
                assert torch.equal(value, source[key]), key
        assert torch.equal(model.fc_norm.weight, source["encoder.norm.weight"])
        assert torch.equal(model.fc_norm.bias, source["encoder.norm.bias"])
        assert torch.equal(model.head.weight, before["head.weight"])
        assert report.missing == ("head.weight", "head.bias")
        assert set(report.matched) == set(before) - {"head.weight", "head.bias"}
        assert set(report.unexpected) == {
            key for key in source if key.startswith(("decoder.", "mask_token", "encoder_to_decoder."))
        }
        assert str(report).startswith(f"{len(report.matched)} tensors loaded, 2 (head.weight, head.bias) fresh")

    def test_finetuned_weights_give_everything(self, finetuned: Path) -> None:
        model = tiny_classifier()
        report = initialize_from(model, finetuned, read_info(finetuned).class_names)
        assert same_state(model.state_dict(), load_file(finetuned))
        assert report.missing == report.unexpected == ()

    def test_a_head_of_other_classes_starts_fresh(self, finetuned: Path) -> None:
        model = tiny_classifier()
        fresh = model.head.weight.clone()
        report = initialize_from(model, finetuned, ("x", "y", "z"))
        assert torch.equal(model.head.weight, fresh)
        assert set(report.missing) == {"head.weight", "head.bias"}

    def test_a_head_of_other_classes_stays_fresh(self, finetuned: Path) -> None:
        model = tiny_classifier(num_classes=5)
        before = copied_state(model)
        report = initialize_from(model, finetuned)
        assert report.missing == ("head.weight", "head.bias")
        assert torch.equal(model.head.weight, before["head.weight"])
        assert torch.equal(model.fc_norm.weight, load_file(finetuned)["fc_norm.weight"])

    def test_another_size_is_refused_and_changes_nothing(self, pretrained: Path) -> None:
        info = tiny_info("finetune", size="small")
        model = build_classifier(info.model, info.clip, 3)
        before = copied_state(model)
        with pytest.raises(WeightsError, match="of another shape"):
            initialize_from(model, pretrained)
        assert same_state(model.state_dict(), before)

    def test_a_missing_tensor_of_the_encoder_is_refused_and_changes_nothing(self, pretrained: Path) -> None:
        key = "encoder.blocks.5.attn.q_bias"
        path = rewritten(pretrained, lambda state: state.pop(key), tiny_info("pretrain"))
        model = tiny_classifier()
        before = copied_state(model)
        with pytest.raises(WeightsError, match=rf"1 \({key}\) missing"):
            initialize_from(model, path)
        assert same_state(model.state_dict(), before)


class TestFromRelease:
    def test_pretraining_weights_keep_their_names(self) -> None:
        state = load_file(RECORDED / "pretrain_state.safetensors")
        assert same_state(from_release(state), state)

    def test_finetuned_weights_get_the_prefix_of_the_encoder(self) -> None:
        state = load_file(RECORDED / "finetune_state.safetensors")
        renamed = from_release(state)
        assert {key.removeprefix("encoder.") for key in renamed} == set(state)
        for key, value in renamed.items():
            assert key.startswith("encoder.") is not key.startswith(("fc_norm.", "head."))
            assert value is state[key.removeprefix("encoder.")]

    def test_both_load_strictly(self) -> None:
        autoencoder, classifier = tiny_autoencoder(), tiny_classifier()
        release = {key.removeprefix("encoder."): value for key, value in tiny_classifier(seed=5).state_dict().items()}
        load_state(classifier, from_release(release), source="finetuned", strict=True)
        assert same_state(classifier.state_dict(), tiny_classifier(seed=5).state_dict())
        pretrain = tiny_autoencoder(seed=5).state_dict()
        load_state(autoencoder, from_release(pretrain), source="pre-trained", strict=True)
        assert same_state(autoencoder.state_dict(), pretrain)
