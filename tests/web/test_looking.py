"""What the page shows is what the commands say; and nothing is computed twice."""

from pathlib import Path
from typing import get_args

import pytest
import torch
from web_models import FINETUNE, PRETRAIN

from everest.config import SelectionMethod, Task
from everest.datasets import ClipRecord, load_data
from everest.errors import ConfigError, EverestError, SelectionError, VideoError
from everest.inference import Looker, inspect_video, reconstruct
from everest.inference.inspection import read_clip
from everest.models.pipeline import choose_to_use, classify_clips
from everest.settings import parse
from everest.web import looking
from everest.web.looking import Choice, VideoLook, chosen_info
from everest.web.models import Lookers, load_lookers

RECORD = ClipRecord(load_data("bundled").records[0].path)


@pytest.fixture(scope="module")
def look() -> VideoLook:
    return VideoLook(RECORD)


@pytest.mark.parametrize("method", get_args(SelectionMethod))
@pytest.mark.parametrize("task", ["pretrain", "finetune"])
@pytest.mark.parametrize("alpha", [1.0, 1.5])
def test_the_page_shows_what_inspect_shows(
    lookers: Lookers, look: VideoLook, task: Task, method: SelectionMethod, alpha: float
) -> None:
    choice = Choice(task=task, method=method, keep_ratio=0.4, alpha=alpha, start_seconds=1.0)
    looker = lookers.by_task[task]
    found = look.choose(looker, choice).seen()
    expected = inspect_video(looker.with_info(chosen_info(looker.info, choice)), RECORD, start_seconds=1.0)
    for name in ("visible", "target"):
        assert getattr(found.selections[method], name).tolist() == getattr(expected.selections[method], name).tolist()
    assert torch.equal(found.clip, expected.clip)
    assert found.seconds == expected.seconds
    assert torch.equal(found.scores["embedding"], expected.scores["embedding"])
    assert (found.frames is None) == (expected.frames is None) == (alpha == 1)
    if found.frames is not None and expected.frames is not None:
        assert found.frames.pairs.tolist() == expected.frames.pairs.tolist()


@pytest.mark.parametrize("method", get_args(SelectionMethod))
@pytest.mark.parametrize("alpha", [1.0, 2.0])
def test_a_prediction_is_that_of_the_classifier(
    lookers: Lookers, look: VideoLook, method: SelectionMethod, alpha: float
) -> None:
    choice = Choice(method=method, keep_ratio=0.4, alpha=alpha)
    looker = lookers.by_task["finetune"]
    assert looker.classifier is not None
    info = chosen_info(looker.info, choice)
    clips, _ = read_clip(RECORD, info, None)
    probabilities = classify_clips(looker.classifier, clips, info)[0]
    classes = look.choose(looker, choice).predict()
    assert classes is not None
    expected = dict(zip(FINETUNE.class_names, probabilities.tolist(), strict=True))
    assert dict(classes) == pytest.approx(expected, abs=1e-6)
    assert [p for _, p in classes] == sorted((p for _, p in classes), reverse=True)
    _, selection = choose_to_use(looker.encoder, clips, info)
    assert look.choose(looker, choice).seen().selections[method].visible.tolist() == selection.visible.tolist()


def test_a_reconstruction_is_that_of_the_model(lookers: Lookers, look: VideoLook) -> None:
    looker, choice = lookers.by_task["pretrain"], Choice(task="pretrain", keep_ratio=0.5)
    result = look.choose(looker, choice).reconstruct()
    assert result is not None
    assert looker.model is not None
    clips, _ = read_clip(RECORD, looker.info, None)
    expected = reconstruct(looker.model, clips, looker.info, torch.Generator().manual_seed(0))
    torch.testing.assert_close(result.with_visible_statistics, expected.with_visible_statistics)
    torch.testing.assert_close(result.encoded_only, expected.encoded_only)
    assert look.choose(looker, choice).predict() is None
    assert look.choose(lookers.by_task["finetune"], Choice(keep_ratio=0.5)).reconstruct() is None


def test_moving_the_slider_reads_and_scores_nothing(lookers: Lookers, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    for name in ("read_clip", "score_as_set"):
        real = getattr(looking, name)
        monkeypatch.setattr(
            looking, name, lambda *given, real=real, name=name, **more: done.append(name) or real(*given, **more)
        )
    look, looker = VideoLook(RECORD), lookers.by_task["finetune"]
    shares = [0.2, 0.5, 0.9, 0.2]
    kept = [len(look.choose(looker, Choice(keep_ratio=share)).seen().kept("rero")) for share in shares]
    assert kept == [int(share * 48) for share in shares]
    look.choose(looker, Choice(keep_ratio=0.5, method="tube")).seen()
    look.choose(looker, Choice(keep_ratio=0.5)).predict()
    assert done == ["read_clip", "score_as_set"]
    look.choose(looker, Choice(keep_ratio=0.5, start_seconds=1.0)).seen()
    assert done == ["read_clip", "score_as_set"] * 2


def test_one_checkpoint_lends_its_embedding(checkpoints: tuple[Path, Path]) -> None:
    pretrained, classifier = checkpoints
    lookers = load_lookers([classifier], "cpu")
    assert lookers.first == "finetune"
    lent = lookers.by_task["pretrain"]
    assert lent.encoder is lookers.by_task["finetune"].encoder
    assert lent.info.task == "pretrain"
    assert (lent.model, lent.classifier) == (None, None)
    assert VideoLook(RECORD).choose(lent, Choice(task="pretrain", keep_ratio=0.5)).reconstruct() is None
    lookers = load_lookers([pretrained], "cpu")
    assert lookers.first == "pretrain"
    assert VideoLook(RECORD).choose(lookers.by_task["finetune"], Choice(keep_ratio=0.5)).predict() is None
    nothing = load_lookers((), "cpu")
    assert nothing.is_random
    assert "random embedding" in nothing.by_task["finetune"].name
    with pytest.raises(ConfigError, match="a second checkpoint that is a classifier"):
        load_lookers([classifier, pretrained, classifier], "cpu")


def test_what_cannot_be_chosen_is_an_error(lookers: Lookers, look: VideoLook) -> None:
    looker = lookers.by_task["pretrain"]
    for ratio in (0.1, 0.2):  # fewer than are encoded, and just as many
        with pytest.raises((ConfigError, SelectionError)):
            look.choose(looker, Choice(task="pretrain", keep_ratio=ratio)).seen()
    for values in ({"keep_ratio": 0.0}, {"keep_ratio": 1.1}, {"keep_ratio": 0.5, "alpha": 9.0}, {}):
        with pytest.raises(ConfigError):
            parse(Choice, values)
    with pytest.raises(ConfigError):
        parse(Choice, {"keep_ratio": 0.5, "start_seconds": -1.0})
    with pytest.raises(VideoError, match="the clip begins at 900 s but the video lasts"):
        look.choose(looker, Choice(task="pretrain", keep_ratio=0.5, start_seconds=900.0)).seen()


def test_a_clip_may_begin_up_to_the_latest_start(lookers: Lookers, look: VideoLook) -> None:
    looker = lookers.by_task["finetune"]
    latest = look.latest_start(looker.info)
    assert 0 < latest < look.info.duration_seconds
    found = look.choose(looker, Choice(keep_ratio=0.5, start_seconds=latest)).seen()
    assert found.seconds[0] == pytest.approx(latest, abs=1 / look.info.fps)
    assert len(set(found.seconds)) == PRETRAIN.clip.num_frames
    assert look.first_start(looker.info) is None
    around = VideoLook(RECORD, 2.0).first_start(looker.info)
    assert around is not None
    assert around < 2.0 < around + 8 * 2 / look.info.fps
    assert VideoLook(RECORD, 1000.0).first_start(looker.info) == latest
    whole = looker.info.model_copy(update={"clip": looker.info.clip.model_copy(update={"sampling": "segments"})})
    assert look.latest_start(whole) == 0


def test_a_looker_moves_no_other(lookers: Lookers, look: VideoLook) -> None:
    """What one person sets is not there for the next."""
    before = lookers.by_task["finetune"].info
    look.choose(lookers.by_task["finetune"], Choice(keep_ratio=0.1, method="tube", alpha=2.0)).seen()
    assert lookers.by_task["finetune"].info == before
    assert isinstance(lookers.by_task["finetune"], Looker)


def test_a_file_that_is_no_video_cannot_be_opened(tmp_path: Path) -> None:
    (tmp_path / "x.mp4").write_text("no video")
    with pytest.raises(EverestError):
        VideoLook(ClipRecord(tmp_path / "x.mp4"))


def test_a_clip_that_takes_long_to_read_is_an_error(lookers: Lookers, monkeypatch: pytest.MonkeyPatch) -> None:
    look = VideoLook(RECORD)
    monkeypatch.setattr(looking, "READ_SECONDS", 1e-9)
    with pytest.raises(VideoError, match=r"took|longer|limit"):
        look.choose(lookers.by_task["finetune"], Choice(keep_ratio=0.5))
