"""Every format becomes our tensors, all of them and bit for bit, and a model that they fit without being asked."""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from small_models import jitter
from torch import Tensor

from everest.config import ClipConfig, ModelConfig, ObjectiveConfig
from everest.errors import WeightsError
from everest.models import build_autoencoder, build_classifier, build_masked_model, initialize_from
from everest.models.positions import position_table
from everest.models.weights import Given, build_model, load_model, read_weights
from everest.models.weights.describe import describe
from everest.models.weights.files import DEEPSPEED_NAME, Raw
from everest.models.weights.formats import choose_adapter
from everest.models.weights.mme import DECODER_KEYS as MME_KEYS
from everest.models.weights.mvd import DECODER_KEYS as MVD_KEYS
from everest.tokens import TokenSelection

RELEASE_KEYS = json.loads((Path(__file__).parents[1] / "data" / "weights" / "release_keys.json").read_text())["models"]
CLIP = ClipConfig(num_frames=4, height=32, width=48)
SMALL = Given(num_frames=4, height=32, width=48)
TINY = ModelConfig(size="tiny", decoder_depth=2)
GRID = (2, 2, 3)


def pretrained(seed: int = 0) -> dict[str, Tensor]:
    """A tiny pre-training model by the keys of VideoMAE, which are ours."""
    torch.manual_seed(seed)
    return jitter(build_autoencoder(TINY, CLIP)).state_dict()


def finetuned(seed: int = 0) -> dict[str, Tensor]:
    """A tiny classifier by the keys of VideoMAE: without the prefix of the encoder."""
    torch.manual_seed(seed)
    return {k.removeprefix("encoder."): v for k, v in jitter(build_classifier(TINY, CLIP, 3)).state_dict().items()}


def mme() -> dict[str, Tensor]:
    state = {key: value for key, value in pretrained().items() if key.startswith("encoder.")}
    decoder = {key: value for key, value in pretrained().items() if key.startswith("decoder.")}
    state |= {key.replace("decoder.", "decoder.0."): value for key, value in decoder.items() if ".head." not in key}
    for head, values in ((0, 108), (1, 32)):
        state |= {
            f"decoder.0.head.{head}.0.weight": torch.randn(512, 96),
            f"decoder.0.head.{head}.0.bias": torch.randn(512),
        }
        state |= {f"decoder.0.head.{head}.2.weight": torch.randn(values, 512)}
        state |= {f"decoder.0.head.{head}.2.bias": torch.randn(values)}
    return state | {"encoder_to_decoder.0.weight": torch.randn(96, 192), "mask_token": torch.randn(1, 1, 96)}


def mvd() -> dict[str, Tensor]:
    encoder = {k.removeprefix("encoder."): v for k, v in pretrained().items() if k.startswith("encoder.")}
    table = position_table("sine_3d", GRID, 192)
    state = encoder | {"pos_embed": table}
    for name in ("img", "vid"):
        state |= {f"mask_token_{name}": torch.randn(1, 1, 192), f"pos_embed_{name}": table}
        state |= {f"down_{name}.weight": torch.randn(192, 192), f"down_{name}.bias": torch.randn(192)}
        blocks = {k: v for k, v in encoder.items() if k.startswith(("blocks.0.", "blocks.1."))}
        state |= {f"decoder_{name}.{key}": value for key, value in blocks.items()}
        state |= {f"decoder_{name}.norm.weight": torch.randn(192), f"decoder_{name}.norm.bias": torch.randn(192)}
        state |= {f"decoder_{name}.head.weight": torch.randn(768, 192), f"decoder_{name}.head.bias": torch.randn(768)}
    return state


def same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def saved(path: Path, content: Any) -> Path:
    path.parent.mkdir(exist_ok=True)
    torch.save(content, path)
    return path


@pytest.mark.parametrize("name", RELEASE_KEYS)
def test_keys_of_the_release_are_matched_completely(name: str) -> None:
    """Sizes S and B, without memory for their weights."""
    recorded = RELEASE_KEYS[name]
    shapes = recorded["state_dict"]
    raw = Raw(Path(name), "test", {key: torch.empty(shape, device="meta") for key, shape in shapes.items()})
    adapter, _ = choose_adapter(raw)
    renamed = adapter.read(raw)
    found = describe(raw.path, renamed, Given())
    assert adapter.name == "videomae"
    assert found.info.model.size in name
    assert found.info.task == ("pretrain" if name.startswith("pretrain") else "finetune")
    with torch.device("meta"):
        if renamed.part == "pretrain":
            model = build_masked_model(found.info.model, found.info.clip, ObjectiveConfig())
        else:
            model = build_classifier(found.info.model, found.info.clip, len(found.info.class_names))
    ours = {key: list(value.shape) for key, value in model.state_dict().items()}
    assert ours == {key: list(value.shape) for key, value in renamed.state.items()}
    assert sum(value.numel() for value in renamed.state.values()) == recorded["num_params"]
    assert renamed.unused == {}


class TestVideoMAE:
    @pytest.mark.parametrize("around", ["{}", "model", "module"])
    def test_both_layouts_give_a_model_with_every_bit(self, around: str, tmp_path: Path) -> None:
        for state in (pretrained(), finetuned()):
            path = saved(tmp_path / "weights.pth", state if around == "{}" else {around: state, "epoch": 1})
            model, info = load_model(path, SMALL)
            given = {key.removeprefix("encoder."): value for key, value in state.items()}
            assert same({k.removeprefix("encoder."): v for k, v in model.state_dict().items()}, given)
            assert (info.model.size, info.model.tubelet_size, info.model.patch_size) == ("tiny", 2, 16)
            assert info.clip == CLIP
            if info.task == "pretrain":
                assert info.model.decoder_depth == 2
                assert (info.selection.method, info.selection.encode_ratio) == ("tube", 0.1)
            else:
                assert info.class_names == ("class 0", "class 1", "class 2")
                assert info.selection.method == "all"

    def test_arguments_of_the_scripts_say_what_tensors_do_not(self, tmp_path: Path) -> None:
        args = argparse.Namespace(num_frames=4, input_size=32, sampling_rate=2, mcm=True, mcm_ratio=0.4)
        reading = read_weights(saved(tmp_path / "a.pth", {"model": finetuned(), "args": args}))
        assert reading.info.clip == ClipConfig(num_frames=4, height=32, width=32, stride=2)
        assert (reading.info.selection.method, reading.info.selection.keep_ratio) == ("rero", 0.6)
        assert [line for line in reading.assumed if "names of the classes" not in line] == []
        args = argparse.Namespace(mask_type="motion-centric", mask_ratio=0.9, motion_centric_masking_ratio=0.7)
        selection = read_weights(saved(tmp_path / "b.pth", {"model": pretrained(), "args": args})).info.selection
        assert (selection.method, selection.keep_ratio, selection.encode_ratio) == ("rero", 0.3, 0.1)

    def test_arguments_that_make_no_sense_are_not_believed(self, tmp_path: Path) -> None:
        args = argparse.Namespace(num_frames="16", input_size=-3, sampling_rate=True, mcm=True, mcm_ratio=7)
        reading = read_weights(saved(tmp_path / "a.pth", {"model": finetuned(), "args": args}))
        assert reading.info.clip == ClipConfig()
        assert any("clips of 16x224x224" in line for line in reading.assumed)

    def test_what_nobody_knows_is_assumed_and_said(self, tmp_path: Path) -> None:
        reading = read_weights(saved(tmp_path / "a.pth", finetuned()))
        assert reading.info.clip == ClipConfig()
        assert len(reading.assumed) == 4
        named = read_weights(saved(tmp_path / "a.pth", finetuned()), Given(4, 32, 48, 3, ("a", "b", "c")))
        assert named.info.class_names == ("a", "b", "c")
        assert len(named.assumed) == 1
        with pytest.raises(WeightsError, match="has 3 classes, given: 2 names"):
            read_weights(saved(tmp_path / "a.pth", finetuned()), Given(class_names=("a", "b")))

    def test_biases_in_one_piece_are_taken_apart_and_that_of_the_keys_is_left_out(self, tmp_path: Path) -> None:
        state = finetuned()
        for index in range(6):
            q, v = state.pop(f"blocks.{index}.attn.q_bias"), state.pop(f"blocks.{index}.attn.v_bias")
            state[f"blocks.{index}.attn.qkv.bias"] = torch.cat([q, torch.ones(192), v])
        reading = read_weights(saved(tmp_path / "a.pth", state), SMALL)
        assert same(
            build_model(reading).state_dict(),
            {f"encoder.{k}" if k.startswith(("patch", "blocks")) else k: v for k, v in finetuned().items()},
        )
        assert any("key biases of 6 blocks left out" in note and "softmax cancels" in note for note in reading.notes)

    def test_half_precision_is_kept_exactly_and_said(self, tmp_path: Path) -> None:
        state = {key: value.half() for key, value in finetuned().items()}
        reading = read_weights(saved(tmp_path / DEEPSPEED_NAME, {"module": state, "ds_version": "0.7.3"}), SMALL)
        assert reading.raw.container == "DeepSpeed"
        assert "float16 in the file, exactly float32 here" in reading.notes
        model = build_model(reading).state_dict()
        assert torch.equal(model["head.weight"], state["head.weight"].float())

    def test_a_head_without_a_norm_before_it_is_no_classifier_of_ours(self, tmp_path: Path) -> None:
        state = {k.replace("fc_norm.", "norm."): v for k, v in finetuned().items()}
        path = saved(tmp_path / "a.pth", state)
        reading = read_weights(path, SMALL)
        assert reading.part == "encoder"
        assert set(reading.unused) == {"head.weight", "head.bias"}
        with pytest.raises(WeightsError, match="start fine-tuning from it"):
            load_model(path)


class TestVideoMAEV2:
    def test_an_encoder_of_the_hub(self, tmp_path: Path) -> None:
        state = {f"model.{key}": value for key, value in finetuned().items() if not key.startswith("head.")}
        sizes = {"img_size": 32, "num_frames": 4, "num_heads": 3, "cos_attn": False, "use_learnable_pos_emb": False}
        config = {"model_type": "VideoMAEv2_Base", "model_config": sizes}
        (tmp_path / "config.json").write_text(json.dumps(config))
        save_file(state, tmp_path / "model.safetensors")
        reading = read_weights(tmp_path)
        assert (reading.format_name, reading.part) == ("videomae-v2", "encoder")
        assert reading.info.clip == ClipConfig(num_frames=4, height=32, width=32)
        expected = {k.removeprefix("model."): v for k, v in state.items()}
        assert same({key.removeprefix("encoder."): value for key, value in reading.state.items()}, expected)
        (tmp_path / "config.json").write_text(json.dumps(config | {"model_config": sizes | {"cos_attn": True}}))
        with pytest.raises(WeightsError, match="cosine attention"):
            read_weights(tmp_path)

    def test_dual_masking_in_the_arguments(self, tmp_path: Path) -> None:
        args = argparse.Namespace(
            decoder_mask_type="run_cell", decoder_mask_ratio=0.5, mask_type="tube", mask_ratio=0.9
        )
        path = saved(tmp_path / "a.pth", {"model": pretrained(), "args": args})
        reading = read_weights(path, SMALL)
        assert reading.format_name == "videomae-v2"
        assert same(build_model(reading).state_dict(), pretrained())


class TestTheirDecoders:
    @pytest.mark.parametrize(("make", "name"), [(mme, "mme"), (mvd, "mvd")])
    def test_every_tensor_is_there_by_our_name(self, make: Any, name: str, tmp_path: Path) -> None:
        torch.manual_seed(1)
        state = make()
        reading = read_weights(saved(tmp_path / "a.pth", {"model": state}), SMALL)
        assert (reading.format_name, reading.part, reading.info.objective.name) == (name, "pretrain", name)
        back = {}
        keys = {ours: theirs for theirs, ours in (MME_KEYS if name == "mme" else MVD_KEYS).items()}
        for key, value in reading.state.items():
            prefix = next((ours for ours in keys if key.startswith(ours)), "")
            plain = key.removeprefix("encoder.") if name == "mvd" else key
            back[keys[prefix] + key.removeprefix(prefix) if prefix else plain] = value
        tables = {key for key in state if key.startswith("pos_embed")}
        assert same(back, {key: value for key, value in state.items() if key not in tables})
        assert set(reading.unused) == tables - {"pos_embed"}
        assert reading.info.model.positions == ("sine" if name == "mme" else "sine_3d")
        assert reading.info.model.decoder_depth == 2

    @pytest.mark.parametrize("make", [mme, mvd])
    def test_fine_tuning_starts_from_their_encoders(self, make: Any, tmp_path: Path) -> None:
        path = saved(tmp_path / "a.pth", {"model": make()})
        classifier = build_classifier(TINY, CLIP, 3)
        report = initialize_from(classifier, read_weights(path, SMALL))
        assert report.missing == ("head.weight", "head.bias")
        for key, value in pretrained().items():
            if key.startswith("encoder.") and "norm." not in key.split("blocks")[0]:
                assert torch.equal(classifier.state_dict()[key], value), key
        assert torch.equal(classifier.fc_norm.weight, pretrained()["encoder.norm.weight"])
        assert all(key in report.reasons for key in report.unexpected)
        assert "the decoder is not needed for fine-tuning" in str(report)

    @pytest.mark.parametrize("name", ["mme", "mvd"])
    def test_their_models_are_ours_bit_for_bit(self, name: Any, tmp_path: Path) -> None:
        widths = {"image_width": 48, "video_width": 64} if name == "mvd" else {}
        network = ModelConfig(size="tiny", positions="sine_3d" if name == "mvd" else "sine")
        torch.manual_seed(3)
        model = jitter(build_masked_model(network, CLIP, ObjectiveConfig(name=name, **widths))).eval()
        state = model.state_dict()
        if name == "mvd":
            state = {key.removeprefix("encoder."): value for key, value in state.items()}
            state |= {
                key: position_table("sine_3d", GRID, 192) for key in ("pos_embed", "pos_embed_img", "pos_embed_vid")
            }
        loaded, info = load_model(saved(tmp_path / "a.pth", {"model": state}), SMALL)
        assert same(loaded.state_dict(), model.state_dict())
        assert (info.objective.image_width, info.objective.video_width) == tuple(widths.values() or (None, None))
        patches = torch.randn(2, 12, 1536)
        selection = TokenSelection(torch.tensor([[0, 5], [3, 9]]), torch.tensor([[1, 2, 11], [0, 1, 2]]), model.grid)
        assert torch.equal(loaded(patches, selection).values, model(patches, selection).values)

    def test_a_finetuned_mvd_has_its_positions(self, tmp_path: Path) -> None:
        state = finetuned() | {"pos_embed": position_table("sine_3d", GRID, 192)}
        model, info = load_model(saved(tmp_path / "a.pth", {"module": state}), SMALL)
        assert info.model.positions == "sine_3d"
        assert torch.equal(model.encoder.positions, state["pos_embed"])


class TestSavedPositions:
    @pytest.mark.parametrize("kind", ["sine", "sine_3d"])
    def test_they_tell_the_clip_where_it_is_square(self, kind: Any, tmp_path: Path) -> None:
        state = finetuned() | {"pos_embed": position_table(kind, (8, 6, 6), 192)}
        info = read_weights(saved(tmp_path / "a.pth", state)).info
        assert (info.clip.num_frames, info.clip.height, info.clip.width) == (16, 96, 96)
        assert info.model.positions == kind

    def test_a_learnt_table_is_refused(self, tmp_path: Path) -> None:
        state = finetuned() | {"pos_embed": torch.randn(1, 12, 192)}
        with pytest.raises(WeightsError, match="neither the 1-D nor the 3-D sine table") as caught:
            read_weights(saved(tmp_path / "a.pth", state), SMALL)
        assert "\n" not in str(caught.value)


class TestRefused:
    def test_keys_of_two_formats(self, tmp_path: Path) -> None:
        with pytest.raises(WeightsError, match=r"looks like mme \(it has .+\) and mvd \(it has .+\) at once"):
            read_weights(saved(tmp_path / "a.pth", mme() | mvd()))

    def test_keys_of_no_format(self, tmp_path: Path) -> None:
        with pytest.raises(WeightsError, match=r"nor in a format that is known \(videomae, hf, .+first keys are x"):
            read_weights(saved(tmp_path / "a.pth", {"x": torch.zeros(3)}))

    @pytest.mark.parametrize("value", [torch.tensor(1.0), torch.zeros(3, 192, dtype=torch.int8)], ids=["0-d", "int8"])
    def test_tensors_that_are_no_weights(self, value: Tensor, tmp_path: Path) -> None:
        for key in ("head.weight", "blocks.0.attn.qkv.weight"):
            with pytest.raises(WeightsError, match=f"{key} (is int8|should be a matrix)"):
                read_weights(saved(tmp_path / "a.pth", finetuned() | {key: value}))

    def test_a_width_that_no_model_has(self, tmp_path: Path) -> None:
        state = {
            "patch_embed.proj.weight": torch.zeros(24, 3, 2, 8, 8),
            "blocks.0.attn.qkv.weight": torch.zeros(72, 24),
        }
        with pytest.raises(WeightsError, match="no model has its width 24 and 1 blocks; known are nano 96 and 4, tiny"):
            read_weights(saved(tmp_path / "a.pth", state))

    def test_an_embedding_that_is_not_of_video(self, tmp_path: Path) -> None:
        state = finetuned() | {"patch_embed.proj.weight": torch.zeros(192, 3, 16, 16)}
        with pytest.raises(WeightsError, match=r"should be \[D, 3, frames, pixels, pixels\]"):
            read_weights(saved(tmp_path / "a.pth", state))

    @pytest.mark.parametrize(
        ("key", "told"),
        [("blocks.2.gamma_1", "unexpected"), ("blocks.3.attn.proj.weight", "missing"), ("cls_token", "unexpected")],
    )
    def test_tensors_that_are_too_many_or_too_few(self, key: str, told: str, tmp_path: Path) -> None:
        state = finetuned()
        if told == "missing":
            del state[key]
        else:
            state[key] = torch.zeros(192)
        path = saved(tmp_path / "a.pth", state)
        with pytest.raises(WeightsError, match=told):
            load_model(path, SMALL)
        if key != "cls_token":
            with pytest.raises(WeightsError, match=told):
                initialize_from(build_classifier(TINY, CLIP, 3), path)


class TestInitializeFromOthers:
    @pytest.mark.parametrize(
        "change", [{"size": "small"}, {"patch_size": 8}, {"tubelet_size": 1}], ids=["size", "patch", "tubelet"]
    )
    def test_another_model_is_refused_and_keeps_its_weights(self, change: dict[str, Any], tmp_path: Path) -> None:
        path = saved(tmp_path / "a.pth", {"model": pretrained()})
        classifier = build_classifier(TINY.model_copy(update=change), CLIP, 3)
        before = {key: value.clone() for key, value in classifier.state_dict().items()}
        with pytest.raises(WeightsError, match=r"\(size tiny, tubelets of 2x16x16\) does not fit the model"):
            initialize_from(classifier, path)
        assert same(classifier.state_dict(), before)

    def test_a_deeper_encoder_is_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "a.pth"
        reading = read_weights(saved(path, pretrained()), SMALL)
        extra = {f"encoder.blocks.6.{key}": torch.zeros(192) for key in ("norm1.weight", "norm1.bias")}
        reading.state.update(extra)
        with pytest.raises(WeightsError, match=r"2 \(encoder.blocks.6.norm1.weight, .+\) unexpected"):
            initialize_from(build_classifier(TINY, CLIP, 3), reading)

    def test_a_head_is_only_taken_for_classes_that_are_known_to_be_the_same(self, tmp_path: Path) -> None:
        path = saved(tmp_path / "a.pth", finetuned())
        numbered = tuple(f"class {index}" for index in range(3))
        report = initialize_from(build_classifier(TINY, CLIP, 3), path, numbered)
        assert report.missing == ("head.weight", "head.bias")
        assert "does not name" in report.reasons["head.weight"]
        assert report.fresh_reasons["head.weight"] == "that of the file is not used"
        names = ("a", "b", "c")
        classifier = build_classifier(TINY, CLIP, 3)
        report = initialize_from(classifier, read_weights(path, Given(class_names=names)), names)
        assert report.missing == report.unexpected == ()
        assert torch.equal(classifier.head.weight, finetuned()["head.weight"])
        values = report.to_dict()
        assert len(values["matched"]) == len(finetuned())
