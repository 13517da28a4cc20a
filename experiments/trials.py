"""What all experiments share: arms, how they are trained and measured, and results that a second start goes on with.

An arm is a way to pre-train, or none, and ways to fine-tune what it gives. Trials are made seed by seed, so what is
stopped half way has all arms of some seeds. Pre-trained weights are kept under a name made of their settings: another
experiment with the same arm finds them.
"""

import csv
import hashlib
import io
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from pathlib import Path
from statistics import mean
from typing import Any

from profiles import Profile, Settings
from results import Results, as_hex
from time_tasks import BASE_FPS, TASKS

import everest
from everest.bench.hardware import describe_hardware
from everest.errors import ConfigError, DataError
from everest.evaluation.devices import choose_device
from everest.inference.feature_rows import Features
from everest.inference.probing import ProbeReport
from everest.inference.probing import probe as probe_features
from everest.links import write_new
from everest.training.metrics import read_metrics

Tuning = Settings | Callable[["Bench", str, Path | None], Settings]
"""Settings of fine-tuning; or what finds them, for a task and the weights it starts from."""
KEYS = ("profile", "equal", "task", "arm", "how", "seed", "made_of", "settings")
PROBES = {"frozen": None, "frozen, 60 %": 0.6}
"""Ways to classify frozen features -> the share of tokens that they are of; None: all."""
UNTRAINED: Settings = {"optim.base_lr": 1e-12}  # one epoch of it leaves weights as they were drawn
NUM_LOSSES = 20  # of a run, in results
TIMES = "times"
"""Among settings of fine-tuning: how many times as many clips as others see."""
CONTROL = "-control"
"""Ends the name of a task whose clips are filled with their middle frame."""


@dataclass(frozen=True)
class Arm:
    """One of the ways that are compared.

    Attributes:
        name: In results and tables.
        pretraining: Settings; None: fresh weights.
        tunings: Way to fine-tune -> settings.
        probed: Ways to classify frozen features, of :data:`PROBES`; without pre-training those of weights as drawn.
        also: Tells more of a classifier, from bench, task and its run folder, for the results.
        features: Gives features of the training and of the test clips of a task, which are classified instead.
    """

    name: str
    pretraining: Settings | None
    tunings: Mapping[str, Tuning] = field(default_factory=dict)
    probed: tuple[str, ...] = tuple(PROBES)
    also: Callable[["Bench", str, Path], dict[str, Any]] | None = None
    features: Callable[["Bench", str], tuple[Features, Features]] | None = None

    @property
    def hows(self) -> tuple[str, ...]:
        """What is measured of it."""
        return (*self.tunings, *self.probed)


def as_settings(*parts: Settings) -> list[str]:
    """Write settings as the command line takes them, later ones over earlier ones."""
    merged: dict[str, object] = {}
    for part in parts:
        merged |= part
    return [f"{key}={str(value).lower() if isinstance(value, bool) else value}" for key, value in merged.items()]


@dataclass(frozen=True)
class Bench:
    """Where an experiment is made.

    Attributes:
        data: The folder that ``prepare.py`` has made.
        out: Results, and the runs they come from.
        profile: How large everything is.
        equal: ``steps``; or ``time``: every arm is pre-trained as long as VideoMAE is on this machine.
        minutes: Of equal time, how long; None: as long as the profile's clips take VideoMAE.
        chosen: Tasks to do, in this order; none: all.
        kept: A folder for results; None: in that of the runs.
    """

    data: Path
    out: Path
    profile: Profile
    equal: str = "steps"
    minutes: float | None = None
    chosen: tuple[str, ...] = ()
    kept: Path | None = None

    @property
    def results(self) -> Path:
        """The folder of results."""
        return self.kept or self.out / "results"

    @property
    def footage(self) -> Path:
        """What is learnt from without labels."""
        return self.data / "footage" / "manifest.csv"

    def tasks(self) -> tuple[str, ...]:
        """Names of the labelled tasks."""
        found = tuple(sorted(path.parent.name for path in (self.data / "tasks").glob("*/manifest.csv")))
        if not found:
            raise DataError(f"{self.data}/tasks holds no tasks: make them with prepare.py")
        controls = {f"{path.parent.name}{CONTROL}" for path in (self.data / "controls").glob("*/manifest.csv")}
        if wrong := set(self.chosen) - set(found) - controls:
            raise DataError(f"no task {', '.join(sorted(wrong))}; there are {', '.join(found)}")
        return self.chosen or found

    def manifest(self, task: str) -> Path:
        """The list of a task."""
        folder = "controls" if task.endswith(CONTROL) else "tasks"
        return self.data / folder / task.removesuffix(CONTROL) / "manifest.csv"


def write_table(path: Path, names: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Write a list of clips, whole or not at all."""
    table = io.StringIO()
    csv.writer(table).writerows([names, *rows])
    path.parent.mkdir(parents=True, exist_ok=True)
    write_new(path, table.getvalue())


def digest_of(*given: object) -> str:
    """Say in short what a result comes from."""
    return hashlib.sha256(repr(given).encode()).hexdigest()[:12]


def contents(manifest: Path) -> str:
    """Say in short what a list holds: its text and the sizes of its files; clips made anew differ in size."""
    text = manifest.read_text()
    rows = csv.DictReader(io.StringIO(text))
    return digest_of(text, [(manifest.parent / row["path"]).stat().st_size for row in rows])


def made_of(bench: Bench, task: str) -> str:
    """Say in short what results of a task come from: clips with labels, footage, and the profile."""
    return digest_of(contents(bench.manifest(task)), contents(bench.footage), bench.profile)


def write_groups(bench: Bench, task: str, name: str) -> None:
    """Write down which scene or video each test clip is from, in ``groups``; clips of one are not independent."""
    path = bench.results / "groups" / f"{name}.json"
    if path.exists():
        return
    with bench.manifest(task).open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row.get("split") == "test"]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_new(path, json.dumps([row.get("group") or row["path"] for row in rows]))


def sampling(task: str) -> Settings:
    """Say which frames a clip of a task takes: of a task of time all that were rendered, else one second.

    Data of ``moving_camera.py`` holds just the frames of a clip, which c and e say in their arms.
    """
    if task.removesuffix(CONTROL) in TASKS:
        return {"clip.fps": BASE_FPS, "evaluation.num_segments": 1}
    return {"clip.fps": BASE_FPS / 2, "evaluation.num_segments": 3}


def schedule(manifest: Path, num_clips: int, most_epochs: int = 100_000) -> dict[str, object]:
    """Say for how many epochs so many clips come round, and warm up for a tenth of them."""
    with manifest.open(newline="") as file:
        num_videos = sum(row.get("split", "") in {"", "train", None} for row in csv.DictReader(file))
    if not num_videos:
        raise DataError(f"{manifest} has no clips for training")
    num_epochs = min(max(1, round(num_clips / num_videos)), most_epochs)
    return {"optim.epochs": num_epochs, "optim.warmup_epochs": num_epochs / 10}


def pretrain(bench: Bench, settings: Settings, seed: int, num_clips: int | None = None) -> Path:
    """Pre-train, or find it done; gives the run folder."""
    profile = bench.profile
    times = schedule(bench.footage, profile.pretrain_clips if num_clips is None else num_clips)
    words = as_settings(profile.clip, {"clip.fps": BASE_FPS}, profile.pretraining, times, settings, {"run.seed": seed})
    out = bench.out / "pretrained" / digest_of(contents(bench.footage), sorted(words))
    everest.pretrain(recipe="demo", data=bench.footage, out=out, settings=words)
    return out


def clips_per_second(run: Path) -> float:
    """Give the rate of a run: the median over its log lines."""
    rates = sorted(row["clips_per_second"] for row in read_metrics(run / "metrics.jsonl") if "clips_per_second" in row)
    return float(rates[len(rates) // 2])


def classify(bench: Bench, task: str, init: Path | None, settings: Settings, seed: int) -> tuple[Path, dict[str, Any]]:
    """Fine-tune and evaluate; gives the run folder and what was found."""
    manifest, profile = bench.manifest(task), bench.profile
    settings = dict(settings)
    times = int(str(settings.pop(TIMES, 1)))
    epochs = schedule(manifest, times * profile.finetune_clips, most_epochs=times * profile.finetune_epochs)
    words = as_settings(
        profile.clip,
        {"run.evaluate_every_epochs": 0},
        sampling(task),
        profile.finetuning,
        epochs,
        settings,
        {"run.seed": seed, "selection.seed": seed},
    )
    out = bench.out / "finetuned" / digest_of(contents(manifest), init and init.name, sorted(words))
    run = everest.finetune(recipe="demo", data=manifest, out=out, init=init, settings=words)
    found = run.evaluation
    if found is None or found.failures:
        raise DataError(f"{task}: {'no test split' if found is None else found.failures[0]}")
    right = [int(clip.probabilities.argmax() == clip.label) for clip in found.predictions]
    known = {"top1": found.top1, "majority": found.majority, "losses": losses_of(out)}
    known["rate"] = round(clips_per_second(out), 1)
    return out, {**known, "right": as_hex(right), "num_test": len(right)}


def losses_of(run: Path) -> list[float]:
    """Give the course of a run's loss: means of equal parts. Of a classifier that learns nothing it stays at ln K."""
    losses = [row["loss"] for row in read_metrics(run / "metrics.jsonl") if "loss" in row]
    num = min(NUM_LOSSES, len(losses))
    cuts = [len(losses) * part // num for part in range(num + 1)] if num else []
    return [round(mean(losses[start:end]), 4) for start, end in pairwise(cuts)]


def probe(bench: Bench, task: str, run: Path, keep_ratio: float | None) -> dict[str, Any]:
    """Classify the frozen features of an encoder: of a task of time one clip, else three of a second each."""
    views = "1x1" if task.removesuffix(CONTROL) in TASKS else "3x1"
    tables = [
        bench.out / "probed" / f"{run.name}-{made_of(bench, task)}-{keep_ratio}-{split}.npz"
        for split in ("train", "test")
    ]
    for table, split in zip(tables, ("train", "test"), strict=True):
        if not table.exists():  # the same weights may be those of two arms
            manifest = bench.manifest(task)
            everest.embed(run, manifest, table, split=split, views=views, keep_ratio=keep_ratio, num_workers=0)
    return _accuracies(everest.probe(*tables))


def _accuracies(found: ProbeReport) -> dict[str, Any]:
    return {"majority": found.majority} | {result.name: result.top1 for result in found.results}


def trials(bench: Bench, arms: Sequence[Arm], seeds: Sequence[int], tasks: Sequence[str]) -> Iterator[dict[str, Any]]:
    """List what is to be done, seed by seed, and write down the groups of each task."""
    names = {task: made_of(bench, task) for task in tasks}
    for task, name in names.items():
        write_groups(bench, task, name)
    for seed in seeds:
        for arm in arms:
            for task in tasks:
                for how in arm.hows:
                    where = {"profile": bench.profile.name, "equal": bench.equal, "task": task, "made_of": names[task]}
                    settings = _settings_of(bench, arm, how, task)
                    yield {**where, "arm": arm.name, "how": how, "seed": seed, "settings": settings}


def _settings_of(bench: Bench, arm: Arm, how: str, task: str) -> str:
    """Say in short what a trial does beside its data and its profile; of settings that are found out, only that."""
    tuning = arm.tunings.get(how)
    done = PROBES.get(how) if how in PROBES else "found out" if callable(tuning) else sorted((tuning or {}).items())
    given = None if arm.pretraining is None else sorted(arm.pretraining.items())
    return digest_of(given, done, sorted(sampling(task).items()), bench.minutes)


def num_clips_of(bench: Bench, settings: Settings, reference: Settings | None) -> int:
    """Say on how many clips an arm is pre-trained: as many as all, or as many as its time is enough for.

    Rates are measured once, by training on a tenth of the clips, and kept; nothing else should run meanwhile.

    Raises:
        ConfigError: Time is to be equal to that of no arm.
    """
    num_clips = bench.profile.pretrain_clips
    if bench.equal == "steps":
        return num_clips
    rate = _rate(bench, settings)
    if bench.minutes is not None:
        return max(1, round(rate * 60 * bench.minutes))
    if reference is None:
        raise ConfigError("--equal time: this experiment has no arm whose time others are given; add --minutes")
    return round(num_clips * rate / _rate(bench, reference))


def _rate(bench: Bench, settings: Settings) -> float:
    """Clips a second in pre-training."""
    kept = bench.out / f"rates-{bench.profile.name}.json"
    rates: dict[str, float] = json.loads(kept.read_text()) if kept.exists() else {}
    name = digest_of(contents(bench.footage), bench.profile, sorted(as_settings(settings)))
    if name not in rates:
        rates[name] = clips_per_second(pretrain(bench, settings, 0, bench.profile.pretrain_clips // 10))
        write_new(kept, json.dumps(rates))
    return rates[name]


@cache
def hardware() -> str:
    """Name what computes: times are equal on one kind of machine only."""
    return str(describe_hardware(choose_device("auto"))["name"])


def measure(bench: Bench, arm: Arm, trial: Mapping[str, Any], reference: Settings | None) -> dict[str, Any]:
    """Make one trial, with the pre-training that it needs."""
    task, how, seed = trial["task"], trial["how"], trial["seed"]
    if arm.features is not None:
        return _accuracies(probe_features(*arm.features(bench, task)))
    num_clips = 0 if arm.pretraining is None else num_clips_of(bench, arm.pretraining, reference)
    init = None if arm.pretraining is None else pretrain(bench, arm.pretraining, seed, num_clips)
    known: dict[str, Any] = {"hardware": hardware(), "pretrain_clips": num_clips}
    if init is not None:
        rate = clips_per_second(init)
        known |= {"pretrain_rate": round(rate, 1), "pretrain_seconds": round(num_clips / rate, 1)}
        known |= {"pretrain_losses": losses_of(init)}
    started = time.perf_counter()
    if how in PROBES:
        found = probe(bench, task, init or pretrain(bench, UNTRAINED, seed, 1), PROBES[how])
    else:
        tuning = arm.tunings[how]
        settings = tuning(bench, task, init) if callable(tuning) else tuning
        run, found = classify(bench, task, init, settings, seed)
        found |= {} if arm.also is None else arm.also(bench, task, run)
    return {**known, "seconds": round(time.perf_counter() - started, 1), **found}


def run_all(
    bench: Bench, arms: Sequence[Arm], results: Results, seeds: Sequence[int], *, reference: Settings | None = None
) -> None:
    """Make all trials that are not known yet.

    Args:
        bench: Where.
        arms: What is compared.
        results: Where it is written.
        seeds: Of weights, batches and tokens.
        reference: Pre-training whose time all others are given where time is equal.

    Raises:
        EverestError: Of a run; what has been found by then is kept.
    """
    by_name = {arm.name: arm for arm in arms}
    for trial in trials(bench, arms, seeds, bench.tasks()):
        if not results.knows(trial):
            print(f"{len(results) + 1}: {trial}", file=sys.stderr)
            results.add({**trial, **measure(bench, by_name[trial["arm"]], trial, reference)})
