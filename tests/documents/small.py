"""Commands as they are written, only made small: small networks, small clips, one step.

Run as a program it is `everest` with these, for lines that only a shell understands.
"""

import functools
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest

from everest import api, demo
from everest.cli import program
from everest.models.zoo import SIZES, Size

# Each has another width or depth, so that weights tell their size.
SMALL_SIZES: dict[Any, Size] = {
    "tiny": Size(width=24, depth=1, num_heads=1, decoder_width=24, decoder_heads=1),
    "small": Size(width=48, depth=1, num_heads=2, decoder_width=24, decoder_heads=1),
    "base": Size(width=48, depth=2, num_heads=2, decoder_width=48, decoder_heads=2),
    "large": Size(width=96, depth=2, num_heads=4, decoder_width=48, decoder_heads=2),
    "huge": Size(width=96, depth=3, num_heads=4, decoder_width=96, decoder_heads=4),
}
_TRAINING = {
    **{"clip.height": "32", "clip.width": "32", "optim.epochs": "1", "optim.warmup_epochs": "0"},
    **{"optim.global_batch_size": "4", "data.batch_size": "4", "data.num_workers": "0"},
    **{"run.device": "cpu", "run.tensorboard": "false", "run.report": "false"},
}
_EVALUATING = {"evaluation.num_segments": "1", "evaluation.num_crops": "1", "run.evaluate_every_epochs": "0"}
_CPU, _SHAPE = ["--device", "cpu"], ["--frames", "4"]
_ONE_PROCESS = ["--workers", "0"]
STEP = ["--side", "32", *_SHAPE]
MORE: dict[tuple[str, ...], list[str]] = {
    ("evaluate",): _CPU,
    ("predict",): _CPU,
    ("embed",): _CPU,
    ("search",): _CPU,
    ("replay",): _CPU,
    ("ui",): [*_CPU, "--port", "0"],
    ("inspect",): ["--size", "64"],
    ("data", "check"): _ONE_PROCESS,
    ("data", "pack"): [*_ONE_PROCESS, "--short-side", "64"],
    ("data", "flow"): _ONE_PROCESS,
    ("bench", "step"): [*_CPU, *STEP, "--batch", "1", "--steps", "1"],
    ("bench", "levers"): [*_CPU, "--batch", "1", "--rounds", "1"],
    ("bench", "peers"): [*_CPU, "--batch", "1", "--steps", "1", "--rounds", "1"],
    ("bench", "methods"): [*_CPU, "--batch", "1", "--steps", "1", "--rounds", "1"],
    ("bench", "growth"): [*_CPU, "--batches", "1,2", "--frames", "4,8", "--steps", "1"],
    ("bench", "suite"): [*_CPU, "--batch", "1", "--steps", "1", "--sizes", "tiny", "--minutes", "0.001"],
    ("bench", "scores"): ["--clips", "1"],
    ("bench", "selections"): ["--clips", "1"],
    ("bench", "dial"): [*_CPU, "--views", "1x1", "--ratios", "0.3"],
    ("bench", "inference"): [*_CPU, "--views", "1x1", "--videos", "1", "--rounds", "1", "--workers", "0"],
    ("bench", "loader"): ["--items", "2", "--rounds", "1", "--size", "32", *_SHAPE],
    ("bench", "store"): ["--latency", "0", "--batch", "2", "--size", "32", "--workers", "0", *_SHAPE],
}


def make_networks_small(patch: pytest.MonkeyPatch) -> None:
    """Let every named size be a network of a thousandth of the numbers."""
    for name, size in SMALL_SIZES.items():
        patch.setitem(SIZES, name, size)


def make_trainings_small(patch: pytest.MonkeyPatch, **more: str) -> None:
    """Let trainings be of a few steps, from Python and from the program; what a page sets itself stays as it is.

    Args:
        patch: Undone later.
        more: Further settings, with two underscores for a point.
    """
    training = _TRAINING | {key.replace("__", "."): value for key, value in more.items()}
    for name, small in (("pretrain_config", training), ("finetune_config", training | _EVALUATING)):
        patch.setattr(api, name, functools.partial(_config, getattr(api, name), small))
    small = tuple(f"{key}={value}" for key, value in training.items() if key != "data.batch_size")
    run_demo = demo.run_demo

    def run_small_demo(out: Path | None = None, *, settings: Sequence[str] = (), **others: Any) -> demo.DemoResult:
        return run_demo(out, settings=(*small, *settings), **others)

    patch.setattr(demo, "run_demo", run_small_demo)


def _config(given: Callable[..., Any], small: dict[str, str], recipe: str, settings: Iterable[str] = ()) -> Any:
    asked = list(settings)
    named = {setting.partition("=")[0] for setting in asked}
    return given(recipe, [*(f"{key}={value}" for key, value in small.items() if key not in named), *asked])


def made_small(words: list[str]) -> list[str]:
    """Append what makes a command small."""
    if words[0] == "inspect" and "--checkpoint" in words:  # which says how large clips are
        return words
    if "--layer" in words:
        place = words.index("--layer") + 1
        words = [*words[:place], "1", *words[place + 1 :]]
    if "--engine" in words:  # as many processes as the cluster has
        return [*words, *(_CPU if words[0] in {"predict", "embed"} else [])]
    return [*words, *next((MORE[tuple(words[:n])] for n in (2, 1) if tuple(words[:n]) in MORE), [])]


if __name__ == "__main__":
    make_networks_small(pytest.MonkeyPatch())
    make_trainings_small(pytest.MonkeyPatch())
    sys.argv[1:] = made_small(sys.argv[1:]) if sys.argv[1:] else []
    sys.exit(program())
