"""What all experiments share: arms, how they are trained and measured, and results that a second start goes on with.

An arm is a way to pre-train, or none, and ways to fine-tune what it gives. Trials are made seed by seed, so what is
stopped half way has all arms of some seeds. Pre-trained weights are kept under a name made of their settings: another
experiment with the same arm finds them.
"""

import json
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from pathlib import Path
from statistics import mean
from typing import Any

from lists import (
    Bench,
    contents,
    digest_of,
    fits_memory,
    groups_of,
    made_of,
    sampling,
    schedule,
    tuning_schedule,
    whole_of,
    write_groups,
)
from profiles import Settings
from results import Results, as_hex
from time_tasks import BASE_FPS, TASKS

import everest
from everest.bench.hardware import describe_hardware
from everest.errors import ConfigError, DataError
from everest.evaluation.devices import choose_device
from everest.inference.feature_rows import Features, read_features
from everest.inference.probing import probe as probe_features
from everest.links import write_new
from everest.training.metrics import read_metrics

Tuning = Settings | Callable[[Bench, str, Path | None], Settings]
"""Settings of fine-tuning; or what finds them, for a task and the weights it starts from. By what ``rule`` it does so
may be an attribute, or a function of the bench, whose change makes results anew."""
KEYS = ("profile", "equal", "task", "arm", "how", "seed", "made_of", "settings")
PROBES = {"frozen": None, "frozen, 60 %": 0.6}
"""Ways to classify frozen features -> the share of tokens that they are of; None: all."""
UNTRAINED: Settings = {"optim.base_lr": 1e-12}  # one epoch of it leaves weights as they were drawn
NUM_LOSSES = 20  # of a run, in results
RATE_CLIPS = 20_000  # to measure a rate by, at most
TIMES = "times"
"""Among settings: how many times as many clips as others see."""


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
        num_seeds: Only so many seeds are made of it, from 0 on; None: all.
    """

    name: str
    pretraining: Settings | None
    tunings: Mapping[str, Tuning] = field(default_factory=dict)
    probed: tuple[str, ...] = tuple(PROBES)
    also: Callable[[Bench, str, Path], dict[str, Any]] | None = None
    features: Callable[[Bench, str], tuple[Features, Features]] | None = None
    num_seeds: int | None = None

    @property
    def hows(self) -> tuple[str, ...]:
        """What is measured of it."""
        return (*self.tunings, *self.probed)


def as_settings(*parts: Mapping[str, object]) -> list[str]:
    """Write settings as the command line takes them, later ones over earlier ones."""
    merged: dict[str, object] = {}
    for part in parts:
        merged.update(part)
    return [f"{key}={str(value).lower() if isinstance(value, bool) else value}" for key, value in merged.items()]


def times_of(settings: Settings) -> float:
    """Say how many times as many clips as others see."""
    return float(str(settings.get(TIMES, 1)))


def pretrain(bench: Bench, settings: Settings, seed: int, num_clips: int | None = None) -> Path:
    """Pre-train, or find it done; gives the run folder."""
    profile, settings = bench.profile, dict(settings)
    num_clips = profile.pretrain_clips if num_clips is None else num_clips
    times = schedule(bench.footage, round(num_clips * times_of(settings)))
    settings.pop(TIMES, None)
    base = {"clip.fps": BASE_FPS, "data.memory_cache": fits_memory(bench.footage)}
    more = profile.pretraining_of(settings)
    words = as_settings(profile.clip, base, more, times, settings, {"run.seed": seed})
    out = bench.out / "pretrained" / digest_of(contents(bench.footage), sorted(words))
    everest.pretrain(recipe="demo", data=bench.footage, out=out, settings=words)
    return out


def encoder_run(bench: Bench, settings: Settings, seed: int = 0) -> Path:
    """Pre-train as an arm is, or find it done: as many clips, or for as many minutes; gives the run folder."""
    return pretrain(bench, settings, seed, num_clips_of(bench, settings, None))


def clips_per_second(run: Path) -> float:
    """Give the rate of a run: the median over its log lines."""
    rates = sorted(row["clips_per_second"] for row in read_metrics(run / "metrics.jsonl") if "clips_per_second" in row)
    return float(rates[len(rates) // 2])


def classify(bench: Bench, task: str, init: Path | None, settings: Settings, seed: int) -> tuple[Path, dict[str, Any]]:
    """Fine-tune and evaluate; gives the run folder and what was found."""
    manifest, profile = bench.manifest(task), bench.profile
    settings = dict(settings)
    epochs = tuning_schedule(bench, task, times_of(settings))
    settings.pop(TIMES, None)
    words = as_settings(
        profile.clip,
        {"run.evaluate_every_epochs": 0, "data.memory_cache": fits_memory(manifest)},
        sampling(task),
        profile.finetuning_of(fresh=init is None),
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
    known |= {"rate": round(clips_per_second(out), 1), "epochs": epochs["optim.epochs"]}
    return out, {**known, "right": as_hex(right), "num_test": len(right)}


def losses_of(run: Path) -> list[float]:
    """Give the course of a run's loss: means of equal parts. Of a classifier that learns nothing it stays at ln K."""
    losses = [row["loss"] for row in read_metrics(run / "metrics.jsonl") if "loss" in row]
    num = min(NUM_LOSSES, len(losses))
    cuts = [len(losses) * part // num for part in range(num + 1)] if num else []
    return [round(mean(losses[start:end]), 4) for start, end in pairwise(cuts)]


def probe(bench: Bench, task: str, run: Path, keep_ratio: float | None) -> dict[str, Any]:
    """Classify the frozen features of an encoder: of a task of time one clip, else three of a second each."""
    views = "1x1" if whole_of(task) in TASKS else "3x1"
    tables = [
        bench.out / "probed" / f"{run.name}-{made_of(bench, task)}-{keep_ratio}-{split}.npz"
        for split in ("train", "test")
    ]
    for table, split in zip(tables, ("train", "test"), strict=True):
        if not table.exists():  # the same weights may be those of two arms
            manifest = bench.manifest(task)
            made = everest.embed(run, manifest, table, split=split, views=views, keep_ratio=keep_ratio, num_workers=0)
            for path, why in made.failures.items():
                table.unlink()  # or a second start would find it, of a clip too few
                raise DataError(f"{path}: {why}")
    return classify_features(bench, task, *(read_features(table) for table in tables))


def classify_features(bench: Bench, task: str, train: Features, test: Features) -> dict[str, Any]:
    """Classify the test clips of a task by features: accuracies, and which clips were right, by classifier."""
    if [Path(row.path).resolve() for row in test.rows] != list(groups_of(bench, task, "test")):
        raise DataError(f"{task}: features are not of the test clips in their order; was one not read?")
    groups = groups_of(bench, task, "train")
    found = probe_features(train, test, groups=[groups[Path(row.path).resolve()] for row in train.rows])
    right = {result.name: as_hex([int(each) for each in result.right]) for result in found.results}
    accuracies = {result.name: result.top1 for result in found.results}
    return {"majority": found.majority, **accuracies, "right_by": right, "num_test": len(test.rows)}


def trials(bench: Bench, arms: Sequence[Arm], seeds: Sequence[int], tasks: Sequence[str]) -> Iterator[dict[str, Any]]:
    """List what is to be done, seed by seed, and write down the groups of each task."""
    names = {task: made_of(bench, task) for task in tasks}
    for task, name in names.items():
        write_groups(bench, task, name)
    for seed in seeds:
        for arm in (arm for arm in arms if arm.num_seeds is None or seed < arm.num_seeds):
            for task in tasks:
                for how in arm.hows:
                    where = {"profile": bench.profile.name, "equal": bench.equal, "task": task, "made_of": names[task]}
                    settings = _settings_of(bench, arm, how, task)
                    yield {**where, "arm": arm.name, "how": how, "seed": seed, "settings": settings}


def _settings_of(bench: Bench, arm: Arm, how: str, task: str) -> str:
    """Say in short what a trial does beside its data and its profile; of settings that are found out, by what rule."""
    tuning = arm.tunings.get(how)
    done: object = PROBES.get(how)
    if how not in PROBES:
        rule = getattr(tuning, "rule", "found out")
        done = (rule(bench) if callable(rule) else rule) if callable(tuning) else sorted((tuning or {}).items())
    given = None if arm.pretraining is None else sorted(arm.pretraining.items())
    return digest_of(given, done, sorted(sampling(task).items()), bench.minutes)


def num_clips_of(bench: Bench, settings: Settings, reference: Settings | None) -> int:
    """Say on how many clips an arm is pre-trained: as many as all, or as many as its time is enough for.

    Rates are measured once, by training on a tenth of the clips at most, and kept; nothing else should run meanwhile.

    Raises:
        ConfigError: Time is to be equal to that of no arm.
    """
    num_clips = bench.profile.pretrain_clips
    if bench.equal == "steps":
        return num_clips
    rate = rate_of(bench, settings)
    if bench.minutes is not None:
        return max(1, round(rate * 60 * bench.minutes))
    if reference is None:
        raise ConfigError("--equal time: this experiment has no arm whose time others are given; add --minutes")
    return round(num_clips * rate / rate_of(bench, reference))


def rate_of(bench: Bench, settings: Settings) -> float:
    """Clips a second in pre-training, however long it is."""
    settings = {key: value for key, value in settings.items() if key != TIMES}
    name = digest_of(contents(bench.footage), bench.profile, sorted(as_settings(settings)))
    num_clips = min(RATE_CLIPS, bench.profile.pretrain_clips // 10)
    return _kept_rate(bench, name, lambda: pretrain(bench, settings, 0, num_clips))


def tuning_rate_of(bench: Bench, task: str, settings: Settings) -> float:
    """Clips a second in fine-tuning."""
    name = digest_of(contents(bench.manifest(task)), bench.profile, sorted(as_settings(settings)))
    return _kept_rate(bench, name, lambda: classify(bench, task, None, settings | {TIMES: 0.1}, 0)[0])


def _kept_rate(bench: Bench, name: str, train: Callable[[], Path]) -> float:
    kept = bench.out / f"rates-{bench.profile.name}.json"
    rates: dict[str, float] = json.loads(kept.read_text()) if kept.exists() else {}
    if name not in rates:
        run = train()
        rates[name] = clips_per_second(run)
        shutil.rmtree(run)  # or who takes the rate out of the list, to measure it again, would be given the same one
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
        return classify_features(bench, task, *arm.features(bench, task))
    num_clips = 0 if arm.pretraining is None else num_clips_of(bench, arm.pretraining, reference)
    init = None if arm.pretraining is None else pretrain(bench, arm.pretraining, seed, num_clips)
    num_clips = round(num_clips * times_of(arm.pretraining or {}))
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
            arm = by_name[trial["arm"]]
            same = results.find({**trial, "equal": "steps"}) if is_same_of_steps(bench, arm, trial, reference) else None
            if same and same.get("hardware") != hardware():  # or arms would differ by their machine too
                same = None
            found = same | {"same_as": "equal steps"} if same else measure(bench, arm, trial, reference)
            results.add({**found, **trial})


def is_same_of_steps(bench: Bench, arm: Arm, trial: Mapping[str, Any], reference: Settings | None) -> bool:
    """Whether a trial of equal time is one of equal steps: of the arm whose time others are given, or of fresh weights.

    Not where fine-tuning is found out: by how long others train, it may be.
    """
    as_many = arm.pretraining is None or (arm.pretraining == reference and bench.minutes is None)
    return bench.equal == "time" and as_many and not callable(arm.tunings.get(trial["how"]))
