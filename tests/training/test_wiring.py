"""Every setting of a recipe reaches the place where it acts."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from everest.config import AugmentConfig, FinetuneConfig
from everest.datasets import Batch, Manifest, load_data
from everest.errors import DataError, RunError, SelectionError
from everest.models import Classifier, MaskedAutoencoder, build_classifier, select_input
from everest.recipes import get_recipe
from everest.settings import override
from everest.training import run_finetuning, run_pretraining
from everest.training.losses import finetuning_loss
from everest.training.mixup import mix_clips, soft_targets
from everest.training.runs import describe_checkpoint
from everest.training.state import latest_state
from everest.video import normalize

SMALL = [
    "model.size=tiny",
    *("clip.height=32", "clip.width=32", "optim.global_batch_size=4", "optim.epochs=2", "optim.warmup_epochs=0"),
    *("data.num_workers=0", "data.batch_size=4", "run.tensorboard=false", "run.device=cpu", "model.drop_path=0"),
]


def finetune_config(*settings: str) -> FinetuneConfig:
    config = get_recipe("demo").finetune
    assert config is not None
    return override(config, [*SMALL, *settings])


@pytest.fixture(scope="module")
def data() -> Manifest:
    """Four labelled clips; some classes have none."""
    bundled = load_data("bundled").split("train")
    chosen = [next(i for i, r in enumerate(bundled.records) if r.label == label) for label in (0, 1)]
    return replace(bundled, records=tuple(bundled.records[i + j] for i in chosen for j in (0, 1)))


def quiet(_: str) -> None:
    """Say nothing."""


def run_classifier(data: Manifest, out: Path, *settings: str) -> Any:
    return run_finetuning(finetune_config(*settings), data, out, say=quiet)


def batch_of(config: FinetuneConfig) -> Batch:
    clip = config.clip
    generator = torch.Generator().manual_seed(0)
    shape = (4, 3, clip.num_frames, clip.height, clip.width)
    frames = torch.randint(256, shape, generator=generator).to(torch.uint8)
    return Batch(frames, torch.tensor([0, 1, 2, 0]), torch.arange(4))


@pytest.mark.parametrize("augment", [{}, {"mixup_alpha": 0.8}, {"cutmix_alpha": 1.0}])
@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_labels_are_smoothed_and_clips_mixed_as_asked(smoothing: float, augment: dict[str, float]) -> None:
    config = finetune_config(f"optim.label_smoothing={smoothing}")
    config = config.model_copy(update={"augment": AugmentConfig(**augment)})
    info = describe_checkpoint(config, ("a", "b", "c"))
    torch.manual_seed(0)
    model = build_classifier(config.model, config.clip, 3).eval()
    torch.nn.init.normal_(model.head.weight)
    batch = batch_of(config)
    found = finetuning_loss(model, info, config)(model, batch, torch.Generator().manual_seed(3)).value

    generator = torch.Generator().manual_seed(3)
    targets = soft_targets(batch.labels, 3, smoothing)
    clips = normalize(batch.frames, info.mean, info.std)
    alphas = {"mixup_alpha": 0.0, "cutmix_alpha": 0.0} | augment
    clips, targets = mix_clips(clips, targets, draws=generator, **alphas)
    chosen = select_input(model.encoder, clips, info, generator=generator)
    logits = model(chosen.patches, chosen.selection)
    torch.testing.assert_close(found, F.cross_entropy(logits, targets), rtol=1e-5, atol=1e-6)
    plain = F.cross_entropy(logits, batch.labels)
    assert (abs(float((found - plain).detach())) < 1e-5) == (smoothing == 0 and not augment)


def test_drop_path_grows_over_the_blocks_and_the_head_drops_out(data: Manifest, tmp_path: Path) -> None:
    run = run_classifier(data, tmp_path / "run", "model.drop_path=0.2", "model.head_dropout=0.4", "optim.epochs=1")
    assert isinstance(run.model, Classifier)
    rates = [block.skip1.rate for block in run.model.encoder.blocks]  # type: ignore[union-attr]
    assert rates == pytest.approx([0.2 * i / (len(rates) - 1) for i in range(len(rates))])
    assert run.model.dropout.rate == 0.4


def test_weights_are_averaged_at_every_step(data: Manifest, tmp_path: Path) -> None:
    """With next to no memory, the average is the last weights; without updates it would be the first ones."""
    settings = ("model.head_dropout=0", "optim.ema_decay=1e-9")
    averaged = run_classifier(data, tmp_path / "averaged", *settings)
    state = torch.load(latest_state(averaged.folder.checkpoints), weights_only=True)
    plain = run_classifier(data, tmp_path / "plain", "model.head_dropout=0", "optim.ema_decay=none")
    fresh = dict(
        run_classifier(data, tmp_path / "fresh", "optim.base_lr=1e-20", "optim.ema_decay=none").model.state_dict()
    )
    for name, value in averaged.model.state_dict().items():
        torch.testing.assert_close(value, state["model"][name])
        torch.testing.assert_close(value, plain.model.state_dict()[name])
    assert not torch.allclose(averaged.model.state_dict()["head.weight"], fresh["head.weight"])


def test_gradients_are_clipped(data: Manifest, tmp_path: Path) -> None:
    """Adam's first moment is a tenth of the gradient after one step, as large as clipping left it."""
    norms = []
    for limit in ("none", "0.001"):
        run = run_classifier(data, tmp_path / limit, f"optim.clip_grad_norm={limit}", "optim.epochs=1")
        state = torch.load(latest_state(run.folder.checkpoints), weights_only=True)["optimizer"]["state"]
        norms.append(float(torch.stack([values["exp_avg"].norm() for values in state.values()]).norm()))
    assert norms[1] == pytest.approx(1e-4, rel=1e-3)
    assert norms[0] > 10 * norms[1]


def test_pre_training_that_predicts_nothing_leaves_no_folder(data: Manifest, tmp_path: Path) -> None:
    config = get_recipe("demo").pretrain
    assert config is not None
    for settings in (["selection.keep_ratio=0.1"], ["selection.method=tube", "selection.encode_ratio=0.99"]):
        with pytest.raises(SelectionError, match="no token is left to predict"):
            run_pretraining(override(config, [*SMALL, *settings]), data, tmp_path / "run", say=quiet)
        assert not (tmp_path / "run").exists()


def test_a_run_that_fails_before_it_saved_anything_can_be_started_again(data: Manifest, tmp_path: Path) -> None:
    out = tmp_path / "run"
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"text")
    spoilt = replace(data, records=(*data.records, replace(data.records[0], path=broken)))
    with pytest.raises(DataError, match=r"broken\.mp4"):
        run_classifier(spoilt, out)
    assert (out / "metrics.jsonl").read_text()  # steps were made, and what is known of them stays
    assert not (out / "weights.safetensors").exists()
    with pytest.raises(RunError, match=r"holds a run with other settings: optim\.epochs"):
        run_classifier(data, out, "optim.epochs=1")
    run_classifier(data, out)  # as it was meant to, once the file is mended
    assert (out / "weights.safetensors").exists()
    out.joinpath("notes.txt").write_text("mine")
    with pytest.raises(DataError, match="two classes"):
        run_classifier(replace(data, records=data.records[:2]), tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_classes_without_a_clip_and_batches_larger_than_the_data_are_said(data: Manifest, tmp_path: Path) -> None:
    said: list[str] = []
    run = run_finetuning(
        finetune_config("optim.epochs=1", "optim.global_batch_size=8"), data, tmp_path / "a", say=said.append
    )
    text = "\n".join(said)
    absent = [name for n, name in enumerate(data.class_names) if n not in {record.label for record in data.records}]
    assert f"{len(absent)} of {data.num_classes} classes have no clip to learn from: {', '.join(absent)}" in text
    assert "a step takes 8 clips, more than there are: some come again" in text
    assert not isinstance(run.model, MaskedAutoencoder)
