"""The report of the demo: what was learnt, what it looked at, what it is worth."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from everest.config import CheckpointInfo, EvaluationConfig, FrameSelectionConfig, num_sampled_frames
from everest.datasets import ClipRecord, ViewClips
from everest.demo import DemoRuns, caution
from everest.inference import reconstruct
from everest.models import Classifier, Encoder, MaskedAutoencoder, select_input
from everest.training import TrainedRun
from everest.training.engine import Engine
from everest.training.metrics import read_metrics
from everest.video import normalize
from everest.visualize import (
    FramesExample,
    Report,
    Section,
    SelectionExample,
    curves_section,
    evaluation_section,
    frames_section,
    reconstruction_section,
    selection_section,
    settings_section,
    timings_section,
)

SHOWN_CLASSES = ("fall", "bend", "stand_or_walk")  # one test window of each is drawn
FRAME_SELECTION = FrameSelectionConfig(enabled=True, alpha=2.0)


def write_report(
    runs: DemoRuns, folder: Path, timings: Mapping[str, float], settings: Mapping[str, Mapping[str, Any]]
) -> None:
    """Write report.html.

    Args:
        runs: What was trained and measured.
        folder: Where to.
        timings: Seconds by stage.
        settings: Dotted settings by stage.
    """
    examples = _examples(runs)
    report = Report(
        "EVEREST on the bundled clips",
        "Pre-trained without labels, fine-tuned, and evaluated on people who were not trained on; beside the same "
        "model without pre-training.",
        (
            evaluation_section(runs.evaluations, notes=(caution(runs),)),
            _selection(runs, examples),
            _reconstructions(runs, examples),
            _frames(runs, examples),
            curves_section({"pre-training": read_metrics(runs.pretrained.folder.metrics)}, "Pre-training"),
            curves_section(
                {name: read_metrics(run.folder.metrics) for name, run in runs.finetuned.items()}, "Fine-tuning"
            ),
            timings_section(timings, Engine.start(runs.pretrained.folder.config().run).describe()),
            settings_section(settings),
        ),
    )
    report.write(folder / "report.html")


def _examples(runs: DemoRuns) -> dict[str, ClipRecord]:
    """One test window of each shown class."""
    test = runs.data.split("test")
    records = {}
    for name in SHOWN_CLASSES:
        label = runs.data.class_names.index(name)
        record = next(r for r in test.records if r.label == label)
        records[f"{name.replace('_', ' ')} ({record.path.stem}, {record.start_seconds:g} s)"] = record
    return records


def _clip(record: ClipRecord, info: CheckpointInfo) -> Tensor:
    """The middle view of a window, [1, 3, T, H, W], uint8."""
    views = EvaluationConfig(num_segments=1, num_crops=1)
    return ViewClips([record], info.clip, views, num_sampled_frames=num_sampled_frames(info))[0].frames


def _selection(runs: DemoRuns, examples: Mapping[str, ClipRecord]) -> Section:
    shown = []
    finetuned = next(iter(runs.finetuned.values()))
    for task, run in (("pre-training", runs.pretrained), ("fine-tuning", finetuned)):
        for name, record in examples.items():
            clip = _clip(record, run.info)
            generator = torch.Generator().manual_seed(0)
            chosen = select_input(_encoder(run), clip, run.info, generator=generator)
            selection = chosen.selection
            assert selection.scores is not None  # noqa: S101 - for the type checker: the recipe selects by ReRo
            shown.append(
                SelectionExample(
                    f"{task}: {name}",
                    clip[0],
                    selection.visible[0],
                    selection.target[0],
                    selection.scores[0],
                    selection.grid,
                )
            )
    return selection_section(shown)


def _reconstructions(runs: DemoRuns, examples: Mapping[str, ClipRecord]) -> Section:
    model, info = runs.pretrained.model, runs.pretrained.info
    assert isinstance(model, MaskedAutoencoder)  # noqa: S101 - for the type checker
    generator = torch.Generator().manual_seed(0)
    return reconstruction_section(
        {name: reconstruct(model, _clip(record, info), info, generator) for name, record in examples.items()}
    )


def _frames(runs: DemoRuns, examples: Mapping[str, ClipRecord]) -> Section:
    """Frame selection as it would be: the demo's clips are too short to need it."""
    info = runs.pretrained.info.model_copy(update={"frame_selection": FRAME_SELECTION})
    generator = torch.Generator().manual_seed(0)
    shown = []
    for name, record in examples.items():
        clip = _clip(record, info)
        _, chosen = _encoder(runs.pretrained).select_frames(
            normalize(clip, info.mean, info.std), FRAME_SELECTION, info.selection.keep_ratio, generator=generator
        )
        assert chosen is not None  # noqa: S101 - for the type checker: it is turned on above
        shown.append(FramesExample(name, clip[0], chosen.pairs[0], chosen.counts[0], info.model.tubelet_size))
    return frames_section(shown, "Selected frames (turned off in this run)")


def _encoder(run: TrainedRun) -> Encoder:
    assert isinstance(run.model, MaskedAutoencoder | Classifier)  # noqa: S101 - for the type checker
    return run.model.encoder
