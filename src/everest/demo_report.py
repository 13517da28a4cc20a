"""The report of the demo: what was learnt, what it looked at, what it is worth."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from everest.config import FrameSelectionConfig
from everest.datasets import ClipRecord
from everest.demo import DemoRuns, caution
from everest.inference import Looker
from everest.models import Classifier, MaskedAutoencoder
from everest.reports.clips import frames_of, look_at, reconstructions_of, selection_of
from everest.training import TrainedRun
from everest.training.engine import Engine
from everest.training.metrics import read_metrics
from everest.visualize import (
    Report,
    Section,
    curves_section,
    evaluation_section,
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
            evaluation_section(runs.evaluations, notes=(caution(runs),), unit="windows"),
            *_seen(runs, examples),
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


def _seen(runs: DemoRuns, examples: Mapping[str, ClipRecord]) -> tuple[Section, ...]:
    """What both models look at, what the first one predicts, and frame selection as it would be.

    The demo's clips are too short to need the latter.
    """
    looker = _looker(runs.pretrained)
    pretrained, _ = look_at(looker, examples)
    finetuned, _ = look_at(_looker(next(iter(runs.finetuned.values()))), examples)
    both = {f"pre-training: {name}": each for name, each in pretrained.items()}
    both |= {f"fine-tuning: {name}": each for name, each in finetuned.items()}
    choosing = looker.with_info(looker.info.model_copy(update={"frame_selection": FRAME_SELECTION}))
    frames = frames_of(look_at(choosing, examples)[0], "Selected frames (turned off in this run)")
    sections = (selection_of(both), reconstructions_of(pretrained), frames)
    return tuple(section for section in sections if section is not None)


def _looker(run: TrainedRun) -> Looker:
    model = run.model.eval()
    assert isinstance(model, MaskedAutoencoder | Classifier)  # noqa: S101 - for the type checker
    return Looker(model.encoder, run.info, "its embedding", model if isinstance(model, MaskedAutoencoder) else None)
