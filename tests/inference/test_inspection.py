"""What is seen in a clip is what a model would be given."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from everest.config import CheckpointInfo, ClipConfig, FrameSelectionConfig, ModelConfig, SelectionConfig
from everest.datasets import ClipRecord, load_data
from everest.errors import SelectionError, VideoError, WeightsError
from everest.inference import WITHOUT_CHECKPOINT, Looker, inspect_video
from everest.models import build_autoencoder, build_classifier, save_weights, select_input
from everest.models.scoring import score_tokens
from everest.models.tubelets import cut
from everest.visualize import inspection

RECORD = load_data("bundled").records[0]
CLIP = ClipConfig(num_frames=8, height=64, width=48, stride=2)
INFO = CheckpointInfo(
    task="pretrain",
    model=ModelConfig(size="tiny"),
    clip=CLIP,
    selection=SelectionConfig(keep_ratio=0.5, encode_ratio=0.2),
)


@pytest.fixture(scope="module")
def looker() -> Looker:
    return Looker.random(INFO)


def test_the_tokens_are_those_of_training(looker: Looker) -> None:
    found = inspect_video(looker, RECORD, seed=7)
    clip = found.clip.unsqueeze(0)
    assert clip.shape == (1, 3, 8, 64, 48)
    expected = select_input(looker.encoder, clip, INFO, generator=torch.Generator().manual_seed(7)).selection
    selection = found.selections["rero"]
    assert selection.visible.tolist() == expected.visible.tolist()
    assert selection.target.tolist() == expected.target.tolist()
    assert found.grid == looker.encoder.grid
    patches = cut(clip, found.grid, INFO.mean, INFO.std)
    scores, _ = score_tokens(looker.encoder.patch_embed, patches, found.grid)
    assert torch.equal(found.scores["embedding"], scores[0])


def test_numbers_add_up(looker: Looker) -> None:
    found = inspect_video(looker, RECORD, compare=("tube", "random_equal", "rlt", "adaptive", "all", "k_centered"))
    assert list(found.selections) == ["rero", "tube", "random_equal", "rlt", "adaptive", "all", "k_centered"]
    for method in found.selections:
        kept = found.kept(method)
        assert sum(found.per_slot(method)) == len(kept) == len(set(kept.tolist()))
        assert 0 <= found.covered(method, encoded=True) <= found.covered(method) <= 1 + 1e-6
    assert found.covered("all") == pytest.approx(1)
    assert found.covered("rero") > found.covered("random_equal")
    assert len(found.kept("rero")) == len(found.kept("random_equal")) == found.grid.num_tokens // 2


def test_a_still_clip_has_no_change(looker: Looker, tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    path = tmp_path / "still.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height = 64, 64
        frame = av.VideoFrame(64, 64, "yuv420p")
        for plane in frame.planes:
            plane.update(bytes([128]) * plane.buffer_size)
        for number in range(30):
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    found = inspect_video(looker, path)
    assert float(found.scores["embedding"].abs().max()) == 0
    assert float(found.scores["pixels"].abs().max()) == 0
    assert found.covered("rero") == 0


def test_the_clip_begins_where_it_is_told_to(looker: Looker) -> None:
    whole = ClipRecord(RECORD.path)
    found = inspect_video(looker, whole, start_seconds=1.0)
    assert found.seconds[0] == pytest.approx(1.0, abs=0.05)
    steps = [after - before for before, after in zip(found.seconds, found.seconds[1:], strict=False)]
    assert steps == pytest.approx([steps[0]] * 7, abs=1e-6)
    assert found.seconds != inspect_video(looker, whole).seconds
    with pytest.raises(VideoError, match="the clip begins at 1000 s but the video lasts"):
        inspect_video(looker, whole, start_seconds=1000.0)


def test_frames_that_are_repeated_are_known(looker: Looker) -> None:
    span = replace(RECORD, start_seconds=1.0, end_seconds=1.3)
    found = inspect_video(looker, span)
    assert found.repeated == tuple(range(8 - len(found.repeated), 8))
    assert 0 < len(found.repeated) < 7
    assert len(set(found.seconds)) == 8 - len(found.repeated)
    first = found.repeated[0]
    assert torch.equal(found.clip[:, first:], found.clip[:, first - 1 : first].expand(-1, 8 - first, -1, -1))
    captions = inspection._times(found)
    assert [caption.endswith(" s again") for caption in captions] == [2 * slot in found.repeated for slot in range(4)]
    assert inspect_video(looker, ClipRecord(RECORD.path)).repeated == ()


def test_chosen_frames_make_the_clip(looker: Looker) -> None:
    info = INFO.model_copy(update={"frame_selection": FrameSelectionConfig(enabled=True, alpha=2.0)})
    found = inspect_video(looker.with_info(info), replace(RECORD, start_seconds=None, end_seconds=None))
    assert found.candidates is not None
    assert found.frames is not None
    assert found.candidates.shape[1] == 2 * found.clip.shape[1]
    pairs = found.frames.pairs[0].tolist()
    frames = [frame for pair in pairs for frame in (2 * pair, 2 * pair + 1)]
    assert torch.equal(found.clip, found.candidates[:, frames])
    assert len(found.seconds) == 8
    assert list(found.seconds) == sorted(found.seconds)


def test_a_checkpoint_brings_its_embedding_and_what_it_predicts(tmp_path: Path) -> None:
    torch.manual_seed(1)
    model = build_autoencoder(INFO.model, CLIP)
    save_weights(model, INFO, tmp_path / "pre.safetensors")
    looker = Looker.load(tmp_path / "pre.safetensors")
    assert looker.name == "the embedding of pre.safetensors"
    found = inspect_video(looker, RECORD)
    assert found.reconstruction is not None
    assert torch.equal(found.reconstruction.selection.visible, found.selections["rero"].visible)
    assert not torch.equal(found.scores["embedding"], inspect_video(Looker.random(INFO), RECORD).scores["embedding"])


def test_a_classifier_looks_at_all_that_it_keeps(tmp_path: Path) -> None:
    info = INFO.model_copy(update={"task": "finetune", "class_names": ("a", "b")})
    save_weights(build_classifier(info.model, CLIP, 2), info, tmp_path / "fine.safetensors")
    found = inspect_video(Looker.load(tmp_path / "fine.safetensors"), RECORD, compare=["all"])
    assert found.reconstruction is None
    assert found.selections["rero"].target.shape[1] == 0
    assert len(found.kept("rero")) == found.grid.num_tokens // 2


def test_what_cannot_be_looked_at_is_said(tmp_path: Path, looker: Looker) -> None:
    info = INFO.model_copy(update={"task": "finetune", "class_names": ("a", "b")})
    whole = info.model_copy(
        update={
            "model": ModelConfig(arch="mvit_s", size="tiny"),
            "clip": ClipConfig(num_frames=8, height=64, width=64),
            "selection": SelectionConfig(method="all", keep_ratio=1.0, encode_ratio=1.0),
        }
    )
    save_weights(build_classifier(whole.model, whole.clip, 2), whole, tmp_path / "mvit.safetensors")
    with pytest.raises(WeightsError, match="mvit_s takes whole clips, so no tokens are chosen"):
        Looker.load(tmp_path / "mvit.safetensors")
    (tmp_path / "text.mp4").write_text("hello")
    with pytest.raises(VideoError, match=r"text\.mp4"):
        inspect_video(looker, tmp_path / "text.mp4")
    nothing = INFO.model_copy(update={"selection": SelectionConfig(keep_ratio=0.2, encode_ratio=0.2)})
    with pytest.raises(SelectionError, match="no token is left to predict"):
        inspect_video(looker.with_info(nothing), RECORD)


def test_the_same_seed_shows_the_same() -> None:
    first, again, other = (Looker.random(WITHOUT_CHECKPOINT, seed) for seed in (3, 3, 4))
    weights = [looker.encoder.patch_embed.proj.weight for looker in (first, again, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
