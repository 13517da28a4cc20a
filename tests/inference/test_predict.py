import math
import os
import shutil
from pathlib import Path

import pytest
import torch
from small_predictors import INFO, a_predictor

from everest.config import EvaluationConfig
from everest.datasets import ClipRecord, Manifest, load_data
from everest.errors import ConfigError, VideoError, WeightsError
from everest.evaluation import evaluate
from everest.inference import ClipPrediction, FailedPrediction, Predictor
from everest.inference.predict import DEFAULT_VIEWS
from everest.models import build_autoencoder, save_weights

BUNDLED = load_data("bundled")
FILES = sorted({record.path for record in BUNDLED.records})
VIEWS = EvaluationConfig(num_segments=2, num_crops=3, batch_size=4)
PREDICTOR = a_predictor()


def test_a_prediction_is_what_evaluation_says_of_the_same_clip() -> None:
    records = (*BUNDLED.records[:30:10], ClipRecord(FILES[-1], 0))
    manifest = Manifest(records, BUNDLED.class_names, BUNDLED.source)
    evaluation = evaluate(PREDICTOR.model, INFO, manifest, VIEWS, num_workers=0)
    for record, result in zip(records, evaluation.predictions, strict=True):
        prediction = PREDICTOR.predict(
            record.path, VIEWS, start_seconds=record.start_seconds, end_seconds=record.end_seconds
        )
        named = dict(zip(BUNDLED.class_names, result.probabilities.tolist(), strict=True))
        assert dict(prediction.classes) == pytest.approx(named, abs=1e-5)
        assert prediction.best == max(named, key=named.__getitem__)
        assert (prediction.start_seconds, prediction.end_seconds) == (record.start_seconds, record.end_seconds)


def test_it_computes_as_evaluation_does(tmp_path: Path) -> None:
    """In bfloat16 where training would, which on a CPU is nowhere unless it is asked for."""
    weights = tmp_path / "weights.safetensors"
    save_weights(PREDICTOR.model, INFO, weights)
    exact = Predictor.load(weights, "cpu")
    assert exact.dtype == torch.float32
    assert exact.predict(FILES[0]).classes == PREDICTOR.predict(FILES[0]).classes
    half = Predictor.load(weights, "cpu", precision="bfloat16")
    assert half.predict(FILES[0]).classes != exact.predict(FILES[0]).classes
    assert dict(half.predict(FILES[0]).classes) == pytest.approx(dict(exact.predict(FILES[0]).classes), abs=0.03)
    with pytest.raises(ConfigError, match="no precision 'half': give auto, float32 or bfloat16"):
        Predictor.load(weights, "cpu", precision="half")


def test_classes_come_most_probable_first() -> None:
    prediction = PREDICTOR.predict(FILES[0])
    values = [probability for _, probability in prediction.classes]
    assert values == sorted(values, reverse=True)
    assert sum(values) == pytest.approx(1)
    assert values[0] > 0.25
    assert {name for name, _ in prediction.classes} == set(BUNDLED.class_names)
    assert PREDICTOR.predict(FILES[0], top=2).classes == prediction.classes[:2]
    assert PREDICTOR.predict(FILES[0], top=99).classes == prediction.classes
    assert prediction.source == FILES[0]
    assert prediction.seconds > 0
    assert repr(prediction).startswith(f"ClipPrediction('{FILES[0].name}': {prediction.best} {values[0]:.1%}, ")


def test_without_views_it_looks_at_start_middle_and_end() -> None:
    assert (DEFAULT_VIEWS.num_segments, DEFAULT_VIEWS.num_crops) == (3, 1)
    given = EvaluationConfig(num_segments=3, num_crops=1)
    assert PREDICTOR.predict(FILES[3]).classes == PREDICTOR.predict(FILES[3], given).classes
    assert PREDICTOR.predict(FILES[3]).classes != PREDICTOR.predict(FILES[3], VIEWS).classes


def test_a_span_is_another_clip_than_the_whole() -> None:
    whole, span = PREDICTOR.predict(FILES[0]), PREDICTOR.predict(FILES[0], start_seconds=2.4)
    assert dict(whole.classes) != pytest.approx(dict(span.classes), abs=1e-4)


def test_bad_files_do_not_stop_the_others(tmp_path: Path) -> None:
    (tmp_path / "cut.mp4").write_bytes(FILES[1].read_bytes()[:20000])
    (tmp_path / "text.mp4").write_text("no video")
    paths = [str(FILES[0]), tmp_path / "cut.mp4", tmp_path / "none.mp4", tmp_path, tmp_path / "text.mp4", FILES[2]]
    told: list[tuple[int, int]] = []
    found = PREDICTOR.predict_many(paths, lambda done, total: told.append((done, total)), views=VIEWS, top=3)
    assert [type(entry) for entry in found] == [ClipPrediction, *[FailedPrediction] * 4, ClipPrediction]
    assert [entry.source for entry in found] == [Path(path) for path in paths]
    assert told == [(done, 6) for done in range(1, 7)]
    for entry in found:
        if isinstance(entry, FailedPrediction):
            assert entry.reason
            assert "\n" not in entry.reason
            assert str(entry.source) not in entry.reason
        else:
            alone = PREDICTOR.predict(entry.source, VIEWS, top=3)
            assert dict(entry.classes) == pytest.approx(dict(alone.classes), abs=1e-5)


def test_one_file_that_cannot_be_read_is_an_error_that_names_it(tmp_path: Path) -> None:
    for path in (tmp_path / "none.mp4", tmp_path):
        with pytest.raises(VideoError) as caught:
            PREDICTOR.predict(path)
        assert str(caught.value).startswith(f"{path}: ")
        assert str(caught.value).count(str(path)) == 1


def test_many_of_none_and_of_the_same() -> None:
    assert PREDICTOR.predict_many([]) == []
    first, second = PREDICTOR.predict_many([FILES[0], FILES[0]])
    assert isinstance(first, ClipPrediction)
    assert isinstance(second, ClipPrediction)
    assert dict(first.classes) == pytest.approx(dict(second.classes), abs=1e-5)


def test_workers_do_not_change_the_answer() -> None:
    here, there = (PREDICTOR.predict_many(FILES[:2], num_workers=workers) for workers in (0, 1))
    assert [p.classes for p in here if isinstance(p, ClipPrediction)] == [
        p.classes for p in there if isinstance(p, ClipPrediction)
    ]
    assert len(here) == len(there) == 2


@pytest.mark.parametrize(("start", "end"), [(-1.0, None), (2.0, 2.0), (3.0, 1.0), (math.nan, None), (None, 0.0)])
def test_an_empty_span_is_an_error(start: float | None, end: float | None) -> None:
    with pytest.raises(ConfigError, match="expected 0 <= start < end"):
        PREDICTOR.predict(FILES[0], start_seconds=start, end_seconds=end)


def test_a_span_after_the_end_is_an_error() -> None:
    with pytest.raises(VideoError, match="begins at 999 s but the video lasts"):
        PREDICTOR.predict(FILES[0], start_seconds=999.0)


def test_at_least_one_class_is_named() -> None:
    with pytest.raises(ConfigError, match="top must be at least 1, given: 0"):
        PREDICTOR.predict_many([FILES[0]], top=0)


def test_a_saved_classifier_predicts_the_same(tmp_path: Path) -> None:
    save_weights(PREDICTOR.model, INFO, tmp_path / "weights.safetensors")
    for checkpoint in (tmp_path, str(tmp_path / "weights.safetensors")):
        loaded = Predictor.load(checkpoint, device="cpu")
        assert loaded.class_names == BUNDLED.class_names
        assert not loaded.model.training
        assert loaded.predict(FILES[0]).classes == PREDICTOR.predict(FILES[0]).classes
    assert repr(loaded) == "Predictor(tiny, 5 classes, cpu)"


def test_a_pre_training_checkpoint_holds_no_classifier(tmp_path: Path) -> None:
    info = INFO.model_copy(update={"task": "pretrain", "class_names": ()})
    save_weights(build_autoencoder(info.model, info.clip), info, tmp_path / "weights.safetensors")
    with pytest.raises(WeightsError, match="holds no classifier: fine-tune it first"):
        Predictor.load(tmp_path, device="cpu")


def test_what_cannot_be_loaded_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="expected a run folder or a weights file"):
        Predictor.load(tmp_path / "none")
    with pytest.raises(ConfigError, match="unknown device 'gpu'"):
        Predictor.load(tmp_path, device="gpu")


def test_relative_paths_are_those_of_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(FILES[0], tmp_path / "a clip.mp4")
    monkeypatch.chdir(tmp_path)
    prediction = PREDICTOR.predict("a clip.mp4")
    assert os.fspath(prediction.source) == "a clip.mp4"
    assert prediction.classes == PREDICTOR.predict(FILES[0]).classes
