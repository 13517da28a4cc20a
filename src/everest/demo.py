"""Everything once, on the bundled clips: pre-train, fine-tune, evaluate beside no pre-training, report.

The clips (23 recordings of four people at home, MIT licence) are split by person. Nothing of the people in the test
split is seen in training, without labels either.
"""

import json
import time
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from everest.api import EVALUATION_NAME, finetune_config, pretrain_config
from everest.config import CheckpointInfo, FinetuneConfig, PretrainConfig
from everest.datasets import Manifest, load_data
from everest.errors import RunError
from everest.evaluation import Evaluation, evaluate
from everest.models import Classifier
from everest.settings import flatten, override
from everest.training import TrainedRun, run_finetuning, run_pretraining
from everest.training.environment import describe_environment
from everest.training.files import atomic_write
from everest.training.metrics import read_metrics
from everest.training.rundir import RunFolder
from everest.training.runs import to_stderr
from everest.training.stopping import listening

CAUTION = (
    "This data shows that the program works, not how well falls are detected: the test split has {num_clips} windows "
    "cut from {num_files} recordings of two people, and one window is {points:.0f} points of accuracy. The interval "
    "takes the windows as independent, which windows of one recording are not, so the true uncertainty is larger."
)


@dataclass(frozen=True)
class DemoResult:
    """What the demo leaves behind.

    Attributes:
        out: The folder with report.html, metrics.json and the three runs, each with a report of its own.
        metrics: What metrics.json holds.
    """

    out: Path
    metrics: dict[str, Any] = field(repr=False)

    def summary(self) -> str:
        """Tell a person, in a few lines."""
        rows = [
            (f"{name}:", f"{values['top1']:.1%}", "95 % interval {:.0%} to {:.0%}".format(*values["top1_interval"]))
            for name, values in self.metrics["evaluation"].items()
        ]
        rows.append(("always the most frequent class:", f"{self.metrics['majority']:.1%}", ""))
        width = max(len(name) for name, _, _ in rows)
        lines = [f"accuracy on {self.metrics['num_test_clips']} windows of people who were not trained on"]
        lines += [f"  {name:{width}}  {value:>6}  {interval}".rstrip() for name, value, interval in rows]
        lines += [self.metrics["caution"], f"{self.metrics['seconds']:.0f} s; report: {self.out / 'report.html'}"]
        return "\n".join(lines)


@dataclass(frozen=True)
class DemoRuns:
    """The runs of the demo and what they were measured at."""

    data: Manifest
    pretrained: TrainedRun
    finetuned: dict[str, TrainedRun]
    evaluations: dict[str, Evaluation]


WITH, WITHOUT = "pre-trained by EVEREST", "without pre-training"


def run_demo(
    out: Path | None = None, *, settings: Sequence[str] = (), say: Callable[[str], None] = to_stderr
) -> DemoResult:
    """Run the demo.

    Args:
        out: A new or empty folder; None takes the first free one of runs/demo-1, runs/demo-2, ...
        settings: ``KEY=VALUE`` changes to both stages of the recipe ``demo``.
        say: Takes lines for people.

    Raises:
        ConfigError: A setting is unknown or does not fit.
        RunError: The folder holds files already.
    """
    started = time.perf_counter()
    pretrain = override(pretrain_config("demo"), settings)
    finetune = override(finetune_config("demo"), settings)
    folder = _free_folder(out)  # not before the settings are known to be good
    timings: dict[str, float] = {}
    with listening(()):  # a demo is not gone on with, so nothing need be saved when it is interrupted
        runs = _train(pretrain, finetune, folder, timings, say)
    say("drawing the reports")
    with _timed("report", timings):
        from everest.demo_report import write_report
        from everest.reports import report_finished

        write_report(runs, folder, timings, {"pretrain": flatten(pretrain), "finetune": flatten(finetune)})
        evaluated = {run.folder.path: runs.evaluations[name] for name, run in runs.finetuned.items()}
        for run in (runs.pretrained, *runs.finetuned.values()):
            report_finished(run, runs.data, evaluated.get(run.folder.path), say=say)
    metrics = _metrics(runs, timings, time.perf_counter() - started)
    with atomic_write(folder / "metrics.json") as file:
        file.write((json.dumps(metrics, indent=2) + "\n").encode())
    return DemoResult(folder, metrics)


def _train(
    pretrain: PretrainConfig,
    finetune: FinetuneConfig,
    folder: Path,
    timings: dict[str, float],
    say: Callable[[str], None],
) -> DemoRuns:
    data = load_data("bundled")
    train, test = data.split("train"), data.split("test")
    say("1/4 pre-training on clips without labels")
    with _timed("pre-training", timings):
        pretrained = run_pretraining(pretrain, train, folder / "pretrain", say=say)
    finetuned, evaluations = {}, {}

    def on_epoch(epoch: int, model: Classifier, info: CheckpointInfo) -> dict[str, float]:
        every = finetune.run.evaluate_every_epochs
        if not every or epoch % every:
            return {}
        return {"top1": evaluate(model, info, test, finetune.evaluation, num_workers=0).top1}

    starts = ((WITH, "finetune", pretrained.folder.path), (WITHOUT, "scratch", None))
    for number, (name, place, init) in enumerate(starts, start=2):
        say(f"{number}/4 fine-tuning, {name}")
        with _timed(f"fine-tuning, {name}", timings):
            finetuned[name] = run_finetuning(finetune, train, folder / place, init=init, say=say, on_epoch=on_epoch)
    say("4/4 evaluating on people who were not trained on")
    for name, run in finetuned.items():
        with _timed(f"evaluating, {name}", timings):
            assert isinstance(run.model, Classifier)  # noqa: S101 - for the type checker
            evaluations[name] = evaluate(run.model, run.info, test, finetune.evaluation, num_workers=0)
            RunFolder.write_json(run.folder.path / EVALUATION_NAME, evaluations[name].to_dict())
    return DemoRuns(data, pretrained, finetuned, evaluations)


def _metrics(runs: DemoRuns, timings: dict[str, float], seconds: float) -> dict[str, Any]:
    test = runs.data.split("test")
    losses = [line["loss"] for line in read_metrics(runs.pretrained.folder.metrics)]
    return {
        "evaluation": {name: result.to_dict() for name, result in runs.evaluations.items()},
        "majority": runs.evaluations[WITH].majority,
        "num_test_clips": len(test),
        "num_test_files": test.num_files,
        "pretraining_loss": {"first": losses[0], "last": losses[-1]},
        "data_digest": runs.data.digest,
        "caution": caution(runs),
        "timings_seconds": timings,
        "seconds": seconds,
        "environment": describe_environment(),
    }


def caution(runs: DemoRuns) -> str:
    """Say plainly what the demo's accuracy is worth."""
    test = runs.data.split("test")
    return CAUTION.format(num_clips=len(test), num_files=test.num_files, points=100 / len(test))


@contextmanager
def _timed(name: str, timings: dict[str, float]) -> Any:
    before = time.perf_counter()
    yield
    timings[name] = time.perf_counter() - before


def _free_folder(out: Path | None) -> Path:
    """The folder to write into, made; never one that holds something."""
    if out is None:
        number = 1
        while Path(f"runs/demo-{number}").exists():
            number += 1
        out = Path(f"runs/demo-{number}")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise RunError(f"{out} exists and is not an empty folder: choose a new one for the demo")
    out.mkdir(parents=True, exist_ok=True)
    return out
