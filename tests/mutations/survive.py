"""Put damaged videos through the index, the check and both loaders, in a process of its own.

Prints one JSON object; whatever goes wrong is an exception or a death of this process, which the test sees.
"""

import json
import resource
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import torch
from mutants import Mutant, make_mutants, make_originals

from everest.bench.hardware import peak_memory_bytes
from everest.cli import main as everest
from everest.config import (
    AugmentConfig,
    ClipConfig,
    DataConfig,
    EvaluationConfig,
    ModelConfig,
    OptimConfig,
    PretrainConfig,
    SelectionConfig,
)
from everest.datasets import Manifest, build_train_loader, build_view_loader, load_data

CLIP = ClipConfig(num_frames=8, height=32, width=32, stride=2)
CONFIG = PretrainConfig(
    model=ModelConfig(size="tiny"),
    clip=CLIP,
    selection=SelectionConfig(keep_ratio=0.5, encode_ratio=0.25),
    augment=AugmentConfig(),
    data=DataConfig(batch_size=1, num_workers=1, max_failed_share=1.0, time_limit_seconds=10.0),
    optim=OptimConfig(global_batch_size=1),
)


@dataclass
class Outcome:
    """What came of the mutants; files are named relative to the folder, with what was done to them."""

    num_mutants: int
    num_originals: int
    codes: dict[str, int]
    num_fine: int = 0
    num_faulty: int = 0
    peak_mib: float = 0.0
    seconds: dict[str, float] = field(default_factory=dict)
    lost_good: list[str] = field(default_factory=list)  # good files that are not in the manifest, or not fine
    not_indexed: list[str] = field(default_factory=list)
    fine_but_failed: list[str] = field(default_factory=list)  # check says fine, a loader could not read it
    stopped: list[str] = field(default_factory=list)  # by the time limit or by a death
    faults: dict[str, str] = field(default_factory=dict)
    faulty_but_read: int = 0  # faulty further on than the clips that were taken


def survive(folder: Path, count: int, seed: int) -> Outcome:
    """Make mutants and use them as data."""
    torch.set_num_threads(1)
    clock = [time.perf_counter()]
    originals = make_originals(folder / "data" / "000 good")
    mutants = make_mutants(originals, folder / "data" / "mutants", count, seed)
    clock.append(time.perf_counter())
    manifest_path, clean_path = folder / "manifest.csv", folder / "clean.csv"
    codes = {"index": everest(["data", "index", str(folder / "data"), "--out", str(manifest_path)])}
    clock.append(time.perf_counter())
    options = ["--quarantine", str(clean_path), "--workers", "2", "--time-limit", "10"]
    codes["check"] = everest(["data", "check", str(manifest_path), *options])
    clock.append(time.perf_counter())
    outcome = Outcome(count, len(originals), codes)
    manifest = load_data(manifest_path)
    rows = {}
    for line in Path(f"{manifest_path}.check.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        rows[row["path"]] = row
    everything = [*(Mutant(path, "original", is_good=True) for path in originals), *mutants]
    trained = _train(manifest)
    clock.append(time.perf_counter())
    viewed = _evaluate(manifest)
    clock.append(time.perf_counter())
    _compare(outcome, everything, rows, trained, viewed)
    names = ("make", "index", "check", "train", "evaluate")
    outcome.seconds = {name: b - a for name, a, b in zip(names, clock, clock[1:], strict=False)}
    # getrusage of this process would count the one that started it as well
    outcome.peak_mib = (
        max(peak_memory_bytes(torch.device("cpu")) / 1024, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
        / 1024
    )
    if {str(r.path) for r in load_data(clean_path).records} != {p for p, row in rows.items() if row["fault"] is None}:
        raise SystemExit("the clean manifest is not what the check calls fine")
    return outcome


def _train(manifest: Manifest) -> dict[str, str]:
    loader = build_train_loader(manifest, CONFIG)
    for batch in loader.epoch(0):
        assert batch.frames.shape[2:] == (8, 32, 32)
    return loader.failed


def _evaluate(manifest: Manifest) -> dict[str, str]:
    evaluation = EvaluationConfig(num_segments=3, num_crops=1, time_limit_seconds=10.0)
    loader = build_view_loader(manifest, CLIP, evaluation, num_workers=1)
    found = list(loader)
    assert [views.record_index for views in found] == list(range(len(manifest)))
    return {str(manifest.records[views.record_index].path): views.error for views in found if views.error is not None}


def _compare(
    outcome: Outcome, files: list[Mutant], rows: dict[str, dict[str, object]], *failed: dict[str, str]
) -> None:
    for mutant in files:
        name = f"{mutant.path.parent.name}/{mutant.path.name} ({mutant.kind})"
        row = rows.get(str(mutant.path))
        if row is None:
            if mutant.is_listed:
                outcome.not_indexed.append(name)
            if mutant.is_good:
                outcome.lost_good.append(f"{name}: not indexed")
            continue
        fault = row["fault"]
        outcome.num_fine += fault is None
        outcome.num_faulty += fault is not None
        reasons = [reasons[str(mutant.path)] for reasons in failed if str(mutant.path) in reasons]
        if fault is not None:
            outcome.faults[name] = str(fault)
            outcome.faulty_but_read += not reasons
            outcome.stopped += [f"{name}: {fault}"] if row["was_stopped"] else []
        elif reasons:
            outcome.fine_but_failed.append(f"{name}: {reasons[0]}")
        outcome.stopped += [f"{name}: {r}" for r in reasons if "was stopped" in r or "died" in r]
        if mutant.is_good and (fault is not None or reasons):
            outcome.lost_good.append(f"{name}: {fault or reasons[0]}")


if __name__ == "__main__":
    result = survive(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
    Path(sys.argv[4]).write_text(json.dumps(vars(result), indent=1))
