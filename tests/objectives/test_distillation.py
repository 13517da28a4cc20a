"""Features of teachers against the teacher run alone, and laws of the loss and of a run.

Shapes: B clips, T frames, H height, W width, N tokens, M targets, D width of a teacher.
"""

from argparse import Namespace
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from everest.config import CheckpointInfo, ClipConfig, ModelConfig, ObjectiveConfig, SelectionConfig
from everest.datasets import Batch
from everest.errors import ConfigError, SelectionError, WeightsError
from everest.models import (
    Encoder,
    ModelInput,
    Prediction,
    build_autoencoder,
    build_classifier,
    build_masked_model,
    grid_of,
    save_weights,
    select_input,
)
from everest.models.tubelets import Tubelets
from everest.objectives import (
    DistillationObjective,
    Teacher,
    build_objective,
    describe_objective,
    load_teacher,
    with_objective,
)
from everest.objectives import distillation as module
from everest.tokens import TokenGrid, TokenSelection, gather_tokens, patchify
from everest.video import normalize

CLIP = ClipConfig(num_frames=4, height=32, width=48)
MODEL = ModelConfig(size="tiny", decoder_depth=1)
GRID = grid_of(MODEL, CLIP)
OTHER_MEAN, OTHER_STD = (0.5, 0.4, 0.3), (0.25, 0.5, 0.2)
CPU = torch.device("cpu")


def info_of(task: str = "pretrain", *, model: ModelConfig = MODEL, clip: ClipConfig = CLIP, **more) -> CheckpointInfo:
    selection = SelectionConfig(method="rero", keep_ratio=0.5, encode_ratio=0.2)
    names = ("a", "b") if task == "finetune" else ()
    return CheckpointInfo(task=task, model=model, clip=clip, selection=selection, class_names=names, **more)


def save_teacher(path: Path, info: CheckpointInfo, seed: int = 0) -> Encoder:
    """Write a teacher with weights of its own, and give its encoder."""
    torch.manual_seed(seed)
    model = (
        build_autoencoder(info.model, info.clip) if info.task == "pretrain" else build_classifier(info.model, CLIP, 2)
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    save_weights(model, info, path)
    return model.encoder.eval()


def u8_clips(batch: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (batch, 3, 4, 32, 48), dtype=torch.uint8, generator=generator)


def before_norm(encoder: Encoder, clips: Tensor, info: CheckpointInfo) -> Tensor:
    """Run an encoder by hand on all tokens: embedding, positions, blocks."""
    with torch.no_grad():
        x = encoder.patch_embed.proj(normalize(clips, info.mean, info.std)).flatten(2).transpose(1, 2)  # [B, N, D]
        x = x + encoder.positions[:, : x.shape[1]]
        for block in encoder.blocks:
            x = block(x)
    return x


def batch_of(clips: Tensor) -> Batch:
    numbers = torch.zeros(len(clips), dtype=torch.int64)
    return Batch(clips, numbers, numbers)


def objective_of(config: ObjectiveConfig, grid: TokenGrid = GRID) -> DistillationObjective:
    objective = build_objective(info_of(objective=config), grid, CPU)
    assert isinstance(objective, DistillationObjective)
    return objective


def chosen(clips: Tensor, method: str = "random") -> ModelInput:
    torch.manual_seed(3)
    config = SelectionConfig(method=method, keep_ratio=0.8, encode_ratio=0.2)
    encoder = build_autoencoder(MODEL, CLIP).encoder
    info = info_of().model_copy(update={"selection": config})
    return select_input(encoder, clips, info, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("task", ["pretrain", "finetune"])
def test_a_video_teacher_sees_all_tokens_and_speaks_before_its_last_norm(task: str, tmp_path: Path) -> None:
    info = info_of(task, mean=OTHER_MEAN, std=OTHER_STD)
    encoder = save_teacher(tmp_path / "weights.safetensors", info)
    teacher = load_teacher(str(tmp_path), "video", GRID)
    clips = u8_clips()
    assert teacher.width == 192
    torch.testing.assert_close(teacher(clips / 255), before_norm(encoder, clips, info), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("name", ["videomae.pth", "mvd.pth"])
def test_files_of_others_teach_as_their_encoder_does(name: str, tmp_path: Path) -> None:
    """A file of VideoMAE, and one of MVD with nothing but its encoder and its teachers' widths."""
    clip = ClipConfig(num_frames=4, height=32, width=32)
    is_mvd = name == "mvd.pth"
    model = ModelConfig(size="tiny", decoder_depth=1, positions="sine_3d" if is_mvd else "sine")
    kind = ObjectiveConfig(name="mvd", image_width=8, video_width=8) if is_mvd else ObjectiveConfig()
    torch.manual_seed(0)
    network = build_masked_model(model, clip, kind)
    state = {key.removeprefix("encoder.") if is_mvd else key: value for key, value in network.state_dict().items()}
    args = Namespace(num_frames=4, input_size=32)
    torch.save({"model": state, "args": args}, tmp_path / name)
    if is_mvd:
        torch.save({"model": state | {"pos_embed": network.encoder.positions}, "args": args}, tmp_path / name)
    clips = u8_clips()[..., :32]
    teacher = load_teacher(str(tmp_path / name), "video", grid_of(model, clip))
    info = info_of(model=model, clip=clip)
    expected = before_norm(network.encoder.eval(), clips, info)
    torch.testing.assert_close(teacher(clips / 255), expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("tubelet_size", [1, 2])
def test_an_image_teacher_sees_the_first_frame_of_each_tubelet(tubelet_size: int, tmp_path: Path) -> None:
    model = ModelConfig(size="tiny", tubelet_size=tubelet_size, decoder_depth=1)
    info = info_of(model=model, clip=CLIP.model_copy(update={"num_frames": 4 * tubelet_size}))
    encoder = save_teacher(tmp_path / "teacher.safetensors", info)
    teacher = load_teacher(str(tmp_path / "teacher.safetensors"), "image", GRID)
    clips = u8_clips()
    features = teacher(clips / 255)
    assert features.shape == (3, GRID.num_tokens, 192)
    for slot in range(2):
        frame = clips[:, :, 2 * slot : 2 * slot + 1].expand(-1, -1, tubelet_size, -1, -1)
        ours = features[:, slot * 6 : slot * 6 + 6]
        torch.testing.assert_close(ours, before_norm(encoder, frame, info), rtol=1e-5, atol=1e-4)
    spoilt = clips.clone()
    spoilt[:, :, 1::2] = 7
    assert torch.equal(teacher(spoilt / 255), features)


@pytest.mark.parametrize("method", ["random", "tube", "rero"])
def test_targets_are_the_full_features_gathered(method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image, video = (tmp_path / f"{name}.safetensors" for name in ("image", "video"))
    for seed, path in enumerate((image, video)):
        save_teacher(path, info_of(), seed)
    objective = objective_of(ObjectiveConfig(name="mvd", image_teacher=str(image), video_teacher=str(video)))
    clips = u8_clips()
    given = chosen(clips, method)
    full = torch.cat([load_teacher(str(p), k, GRID)(clips / 255) for p, k in ((image, "image"), (video, "video"))], -1)
    expected = gather_tokens(full, given.selection.target)
    torch.testing.assert_close(objective.targets(given, batch_of(clips)), expected, rtol=1e-5, atol=1e-4)
    monkeypatch.setattr(module, "MAX_TOGETHER", 2)  # in chunks it is the same
    torch.testing.assert_close(objective.targets(given, batch_of(clips)), expected, rtol=1e-5, atol=1e-4)


def test_normalised_patches_give_the_same_targets_as_bytes(tmp_path: Path) -> None:
    save_teacher(tmp_path / "t.safetensors", info_of(mean=OTHER_MEAN, std=OTHER_STD))
    objective = objective_of(ObjectiveConfig(name="mvd", video_teacher=str(tmp_path / "t.safetensors")))
    clips, info = u8_clips(), info_of()
    given = chosen(clips)
    assert isinstance(given.patches, Tubelets)
    normal = replace(given, patches=patchify(normalize(clips, info.mean, info.std), GRID))
    batch = batch_of(clips)
    torch.testing.assert_close(objective.targets(normal, batch), objective.targets(given, batch), rtol=1e-5, atol=1e-4)


def test_teachers_compute_in_the_precision_of_the_run(tmp_path: Path) -> None:
    save_teacher(tmp_path / "t.safetensors", info_of())
    objective = objective_of(ObjectiveConfig(name="mvd", video_teacher=str(tmp_path / "t.safetensors")))
    given, batch = chosen(u8_clips()), batch_of(u8_clips())
    exact = objective.targets(given, batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = objective.targets(given, batch)
        loss = objective.loss(Prediction(rough, given.selection), exact)
    assert loss.dtype == torch.float32
    assert 0 < float(loss) < 0.01 * float(exact.abs().mean())


def test_teachers_learn_nothing(tmp_path: Path) -> None:
    save_teacher(tmp_path / "t.safetensors", info_of(model=MODEL.model_copy(update={"drop_path": 0.9})))
    objective = objective_of(ObjectiveConfig(name="mvd", video_teacher=str(tmp_path / "t.safetensors")))
    (teacher,) = objective.teachers
    teacher.train()
    assert not any(module.training for module in teacher.modules())
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    clips = u8_clips().float().div_(255).requires_grad_()
    assert not teacher(clips).requires_grad
    given = chosen(u8_clips())
    targets = objective.targets(given, batch_of(u8_clips()))
    values = torch.zeros_like(targets, requires_grad=True)
    objective.loss(Prediction(values, given.selection), targets).backward()
    assert values.grad is not None
    assert all(parameter.grad is None for parameter in teacher.parameters())


def two_teachers(**weights: float) -> tuple[DistillationObjective, TokenSelection]:
    """An objective whose teachers have 2 and 3 values a token, and a selection."""
    settings = {"grid": GRID, "mean": (0, 0, 0), "std": (1, 1, 1), "name": "none"}
    pair = (("image", 2), ("video", 3))
    teachers = tuple(Teacher(torch.nn.Identity(), kind=kind, width=width, **settings) for kind, width in pair)
    config = ObjectiveConfig(name="mvd", **weights)
    objective = DistillationObjective(config, GRID, mean=(0, 0, 0), std=(1, 1, 1), teachers=teachers)
    return objective, TokenSelection(torch.tensor([[0]]), torch.tensor([[1, 2]]), GRID)


def test_a_student_that_equals_its_targets_has_no_loss() -> None:
    objective, selection = two_teachers()
    targets = torch.randn(1, 2, 5)
    assert float(objective.loss(Prediction(targets.clone(), selection), targets)) == 0.0


def test_the_loss_is_a_weighted_sum_of_means() -> None:
    objective, selection = two_teachers(image_weight=2.0, video_weight=10.0)
    targets = torch.zeros(1, 2, 5, dtype=torch.bfloat16)
    values = torch.zeros(1, 2, 5)
    values[0, 0, 0] = 3.0  # beyond 1 smooth-l1 is linear: 3 - 1/2
    values[0, 1, 4] = -0.5  # below it is half of the square
    loss = objective.loss(Prediction(values, selection), targets)
    assert loss.dtype == torch.float32
    assert float(loss) == pytest.approx(2.0 * 2.5 / 4 + 10.0 * 0.125 / 6)
    with pytest.raises(SelectionError, match=r"needs targets of its shape, given: \[1, 2, 4\]"):
        objective.loss(Prediction(values, selection), targets[..., :4])


def test_the_widths_travel_with_the_student(tmp_path: Path) -> None:
    save_teacher(tmp_path / "t.safetensors", info_of())
    config = ObjectiveConfig(name="mvd", video_teacher=str(tmp_path / "t.safetensors"))
    objective = objective_of(config)
    assert with_objective(info_of(objective=config), objective).objective == config.model_copy(
        update={"video_width": 192}
    )
    (line,) = describe_objective(objective)
    assert line.startswith("video teacher")
    assert "192 values a token, mean 0.485 0.456 0.406" in line


def test_loading_a_teacher_does_not_move_the_random_state_on(tmp_path: Path) -> None:
    save_teacher(tmp_path / "t.safetensors", info_of())
    before = torch.get_rng_state()
    load_teacher(str(tmp_path / "t.safetensors"), "video", GRID)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, r"learns from teachers, and none is given: add --set objective\.video_teacher=PATH"),
        ({"video_teacher": "no/such/run"}, r"objective\.video_teacher: no/such/run: expected a run folder"),
        ({"video_teacher": "t.safetensors", "video_width": 7}, r"objective\.video_width is 7, found: 192"),
        ({"video_teacher": "t.safetensors", "image_width": 7}, r"objective\.image_width is 7, found: no teacher"),
    ],
)
def test_missing_teachers_and_wrong_widths_are_refused(
    given: dict[str, object], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    save_teacher(tmp_path / "t.safetensors", info_of())
    with pytest.raises((ConfigError, WeightsError), match=message):
        objective_of(ObjectiveConfig(name="mvd", **given))


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("video", {"num_frames": 8}),
        ("video", {"height": 48}),
        ("video", {"tubelet_size": 1, "num_frames": 2}),
        ("image", {"width": 32}),
        ("image", {"patch_size": 8, "height": 16, "width": 24}),
    ],
)
def test_a_teacher_of_other_places_is_refused(kind: str, change: dict[str, int], tmp_path: Path) -> None:
    model = MODEL.model_copy(update={k: v for k, v in change.items() if k in ModelConfig.model_fields})
    clip = CLIP.model_copy(update={k: v for k, v in change.items() if k in ClipConfig.model_fields})
    save_teacher(tmp_path / "t.safetensors", info_of(model=model, clip=clip))
    with pytest.raises(WeightsError, match=rf"objective\.{kind}_teacher: .* describes .*, the student needs TokenGrid"):
        load_teacher(str(tmp_path / "t.safetensors"), kind, GRID)


def test_a_network_without_features_of_tokens_is_no_teacher(tmp_path: Path) -> None:
    save_teacher(tmp_path / "t.safetensors", info_of("finetune", model=ModelConfig(size="tiny", arch="xvit")))
    with pytest.raises(WeightsError, match=r"objective\.video_teacher: .* is a xvit, .* give a plain ViT"):
        load_teacher(str(tmp_path / "t.safetensors"), "video", GRID)


def test_a_teacher_is_for_distillation_only() -> None:
    with pytest.raises(ValueError, match="video_teacher: only name=mvd learns from teachers, given: name=pixels"):
        ObjectiveConfig(name="pixels", video_teacher="run")
