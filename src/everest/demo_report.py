"""The report of the demo: what was learnt, what it looked at, what it is worth."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from everest.config import FrameSelectionConfig
from everest.datasets import ClipRecord
from everest.demo import DemoRuns, caution
from everest.inference import Looker, inspect_video
from everest.models import Classifier, MaskedAutoencoder
from everest.training import TrainedRun
from everest.training.engine import Engine
from everest.training.metrics import read_metrics
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


def _selection(runs: DemoRuns, examples: Mapping[str, ClipRecord]) -> Section:
    shown = []
    finetuned = next(iter(runs.finetuned.values()))
    for task, run in (("pre-training", runs.pretrained), ("fine-tuning", finetuned)):
        for name, record in examples.items():
            found = inspect_video(_looker(run), record)
            selection, scores = found.selections[run.info.selection.method], found.scores["embedding"]
            title = f"{task}: {name}"
            shown.append(
                SelectionExample(title, found.clip, selection.visible[0], selection.target[0], scores, found.grid)
            )
    return selection_section(shown)


def _reconstructions(runs: DemoRuns, examples: Mapping[str, ClipRecord]) -> Section:
    looker = _looker(runs.pretrained)
    found = {name: inspect_video(looker, record).reconstruction for name, record in examples.items()}
    return reconstruction_section({name: each for name, each in found.items() if each is not None})


def _frames(runs: DemoRuns, examples: Mapping[str, ClipRecord]) -> Section:
    """Frame selection as it would be: the demo's clips are too short to need it."""
    looker = _looker(runs.pretrained)
    looker = looker.with_info(looker.info.model_copy(update={"frame_selection": FRAME_SELECTION}))
    shown = []
    for name, record in examples.items():
        found = inspect_video(looker, record)
        assert found.frames is not None  # noqa: S101 - for the type checker: it is turned on above
        assert found.candidates is not None  # noqa: S101
        pairs, counts = found.frames.pairs[0], found.frames.counts[0]
        shown.append(FramesExample(name, found.candidates, pairs, counts, found.grid.tubelet_size))
    return frames_section(shown, "Selected frames (turned off in this run)")


def _looker(run: TrainedRun) -> Looker:
    model = run.model.eval()
    assert isinstance(model, MaskedAutoencoder | Classifier)  # noqa: S101 - for the type checker
    return Looker(model.encoder, run.info, "its embedding", model if isinstance(model, MaskedAutoencoder) else None)
