"""Bytes are the fast path, normalised tubelets the oracle: same tokens, same losses, same gradients."""

import pytest
import torch
from torch import Tensor

from everest.config import CheckpointInfo
from everest.datasets import load_data
from everest.errors import SelectionError
from everest.models import build_autoencoder, build_classifier, classify_clips, select_input
from everest.models.tubelets import Tubelets, cut, take
from everest.objectives import pixel_loss, pixel_targets
from everest.settings import parse
from everest.tokens import TokenGrid, gather_tokens, patchify
from everest.video import VideoReader, normalize

GRID = TokenGrid.of_clip(8, 64, 96, 2, 16)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def info(task: str, method: str = "rero", frames: bool = False) -> CheckpointInfo:
    keep = {"pretrain": 0.5, "finetune": 0.6}[task]
    settings = {
        "task": task,
        "model": {"size": "tiny"},
        "clip": {"num_frames": 8, "height": 64, "width": 96},
        "selection": {"method": method, "keep_ratio": keep, "encode_ratio": 0.2},
        "frame_selection": {"enabled": frames},
        "class_names": ["a", "b", "c"] if task == "finetune" else [],
    }
    return parse(CheckpointInfo, settings)


def real_clips(num_frames: int = 8) -> Tensor:
    """Four real clips, uint8, [B,3,T,H,W]."""
    clips = []
    for record in load_data("bundled").records[:40:10]:
        with VideoReader(record.source) as reader:
            frames = reader.read(list(range(0, 2 * num_frames, 2))).frames
        clips.append(frames.permute(3, 0, 1, 2)[:, :, 32:96, 60:156])
    return torch.stack(clips)


CLIPS = real_clips()


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_tubelets_are_normalised_when_they_are_taken() -> None:
    tubelets = cut(CLIPS, GRID, MEAN, STD)
    normal = patchify(normalize(CLIPS, MEAN, STD), GRID)
    assert isinstance(tubelets, Tubelets)
    assert cut(normalize(CLIPS, MEAN, STD), GRID, MEAN, STD).equal(normal)  # type: ignore[union-attr]
    index = torch.rand(4, GRID.num_tokens, generator=seeded()).argsort(1)[:, :7]
    assert torch.equal(tubelets.take(index), gather_tokens(normal, index))
    assert torch.equal(take(tubelets, index), take(normal, index))
    assert torch.equal(tubelets.take_values(index), gather_tokens(patchify(CLIPS, GRID), index) / 255)
    assert (tubelets.shape, len(tubelets), repr(tubelets)) == (normal.shape, 4, "Tubelets([4, 96, 1536], cpu)")


@pytest.mark.parametrize("pixels", [torch.zeros(2, 3, 4), torch.zeros(3, 4, dtype=torch.uint8)])
def test_tubelets_are_bytes(pixels: Tensor) -> None:
    with pytest.raises(SelectionError, match="uint8 of shape"):
        Tubelets(pixels, MEAN, STD)


def test_embeddings_and_changes_are_those_of_normalised_tubelets() -> None:
    torch.manual_seed(0)
    embed = build_autoencoder(info("pretrain").model, info("pretrain").clip).encoder.patch_embed
    torch.nn.init.normal_(embed.proj.bias)
    tokens, changes = embed.embed_all(cut(CLIPS, GRID, MEAN, STD), GRID)
    expected = embed.embed_all(patchify(normalize(CLIPS, MEAN, STD), GRID), GRID)
    torch.testing.assert_close(tokens, expected[0], rtol=1e-5, atol=2e-6)
    torch.testing.assert_close(changes, expected[1], rtol=1e-5, atol=2e-6)
    still = CLIPS[:, :, :1].expand_as(CLIPS)
    assert not embed.embed_all(cut(still, GRID, MEAN, STD), GRID)[1].any()


@pytest.mark.parametrize("frames", [False, True])
@pytest.mark.parametrize("method", ["rero", "tube", "random", "all"])
def test_pre_training_is_the_same(method: str, frames: bool) -> None:
    given = info("pretrain", method, frames)
    clips = real_clips(12) if frames else CLIPS
    torch.manual_seed(0)
    model = build_autoencoder(given.model, given.clip)
    results = []
    for view in (clips, normalize(clips, MEAN, STD)):
        model.zero_grad()
        chosen = select_input(model.encoder, view, given, generator=seeded())
        mean, std = torch.tensor(MEAN), torch.tensor(STD)
        targets = pixel_targets(chosen.patches, chosen.selection.target, GRID, mean, std)
        loss = pixel_loss(model(chosen.patches, chosen.selection), targets)
        loss.backward()
        results.append((chosen, loss, [p.grad.clone() for p in model.parameters()]))
    (fast, fast_loss, fast_grads), (plain, plain_loss, plain_grads) = results
    assert isinstance(fast.patches, Tubelets)
    assert isinstance(plain.patches, Tensor)
    assert torch.equal(fast.selection.visible, plain.selection.visible)
    assert torch.equal(fast.selection.target, plain.selection.target)
    assert (fast.frames is None) == (not frames)
    if fast.frames is not None and plain.frames is not None:
        assert torch.equal(fast.frames.pairs, plain.frames.pairs)
    torch.testing.assert_close(fast_loss, plain_loss, rtol=1e-5, atol=0)
    for a, b in zip(fast_grads, plain_grads, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("method", ["rero", "random_equal"])
def test_classification_is_the_same(method: str) -> None:
    given = info("finetune", method)
    torch.manual_seed(0)
    model = build_classifier(given.model, given.clip, 3).eval()
    torch.nn.init.normal_(model.head.weight)
    found = classify_clips(model, CLIPS, given)
    expected = classify_clips(model, normalize(CLIPS, MEAN, STD), given)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    alone = torch.cat([classify_clips(model, clip[None], given) for clip in CLIPS])
    torch.testing.assert_close(found, alone, rtol=1e-5, atol=1e-6)
