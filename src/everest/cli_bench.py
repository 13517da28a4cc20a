"""The options of ``everest bench``."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

from everest import commands_bench as do
from everest.cli_scaling import add_scaling
from everest.config import SelectionMethod

Add = Callable[[Any, str, Callable[[argparse.Namespace], int], str], argparse.ArgumentParser]

_SIZES = ("nano", "tiny", "small", "base", "large", "huge")
_METHODS = f"{', '.join(get_args(SelectionMethod))} (default: rero)"
_DATA = "a manifest, a folder, or the word bundled"
_RATIOS = (1.0, 0.8, 0.6, 0.4, 0.3, 0.2, 0.1)


def add_bench(commands: Any, add: Add) -> None:
    """Describe the subcommands of ``everest bench``.

    Args:
        commands: The subcommands of the program.
        add: Makes a parser out of subcommands, a name, what it does and a line of help.
    """
    bench = commands.add_parser("bench", help="measure", description="Measure.")
    actions = bench.add_subparsers(metavar="ACTION", required=True)
    step = add(actions, "step", do.bench_step, "time a training step")
    macs = add(actions, "macs", do.bench_macs, "count the multiply-adds of one clip's forward pass")
    peers = add(actions, "peers", do.bench_peers, "time a training step beside VideoMAE and other peers")
    levers = add(actions, "levers", do.bench_levers, "time what makes a step fast, one by one")
    methods = add(actions, "methods", do.bench_methods, "time a pre-training step of every method, side by side")
    growth = add(actions, "growth", do.bench_growth, "time steps of growing batches and of growing clips")
    suite = add(actions, "suite", do.bench_suite, "measure what is worth knowing of a GPU, in eight minutes")
    loader = add(actions, "loader", do.bench_loader, "measure how fast clips are read, beside other ways to read them")
    supervised = add(actions, "supervised", do.bench_supervised, "count the supervised rows of the paper's table")
    scores = add(actions, "scores", do.bench_scores, "compare ways to find the tokens that change")
    selections = add(actions, "selections", do.bench_selections, "say what each selection keeps of clips, and its cost")
    dial = add(actions, "dial", do.bench_dial, "measure accuracy and cost of a classifier by its keep ratio")
    inference = add(actions, "inference", do.bench_inference, "time evaluation, prediction and features, videos in")
    add_scaling(actions, add)
    parity = add(actions, "parity", do.bench_parity, "compare with recorded numbers of the official release")
    for parser in (step, macs, peers, levers, methods, growth, scores):
        parser.add_argument("--size", default="base", choices=_SIZES, help="the ViT (default: base)")
    selections.add_argument("--size", default="small", choices=_SIZES, help="the ViT (default: small)")
    for parser in (step, macs, peers, levers, growth):
        parser.add_argument(
            "--task", default="pretrain", choices=("pretrain", "finetune"), help="what is trained (default: pretrain)"
        )
    for parser in (step, macs, growth):
        parser.add_argument("--selection", default="rero", metavar="NAME", help=_METHODS)
    for parser in (step, peers, levers, methods, growth, suite):
        parser.add_argument(
            "--device", default="auto", choices=("auto", "cpu", "cuda"), help="what computes (default: auto)"
        )
        parser.add_argument(
            "--precision", default="auto", choices=("auto", "float32", "bfloat16"), help="of numbers (default: auto)"
        )
    _add_step(step, macs)
    _add_peers(peers, methods)
    levers.add_argument("--batch", type=int, default=4, metavar="N", help="clips (default: 4)")
    levers.add_argument("--rounds", type=int, default=5, metavar="N", help="times that each is timed (default: 5)")
    _add_growth(growth)
    _add_suite(suite)
    _add_loader(loader)
    _add_on_clips(scores, selections)
    _add_dial(dial)
    _add_inference(inference)
    parity.add_argument("folders", nargs="+", metavar="FOLDER", help="what was recorded of the release")
    timed = (step, macs, peers, levers, methods, growth, suite, loader)
    for parser in (*timed, supervised, scores, selections, dial, inference, parity):
        parser.add_argument("--json", action="store_true", help="print the result as JSON")


def _add_step(step: argparse.ArgumentParser, macs: argparse.ArgumentParser) -> None:
    for parser in (step, macs):
        parser.add_argument(
            "--scoring",
            default="auto",
            choices=("auto", "exact", "bfloat16", "projection", "pixels", "random_projection"),
            help="what the change of tokens is measured on (default: auto, exact in float32)",
        )
        parser.add_argument(
            "--distance", default="l2", choices=("l2", "l1", "cosine"), help="how it is measured (default: l2)"
        )
        parser.add_argument(
            "--camera", default="still", choices=("still", "moving"), help="moving: follow the camera (default: still)"
        )
        parser.add_argument(
            "--objective",
            default="pixels",
            choices=("pixels", "mme", "mvd"),
            help="what is predicted (default: pixels)",
        )
        parser.add_argument(
            "--teacher", choices=_SIZES, help="size of the teachers of mvd (default: that of the model)"
        )
        parser.add_argument("--arch", default="vit", metavar="NAME", help="network, as model.arch (default: vit)")
        parser.add_argument("--keep-ratio", type=float, metavar="R", help="share of the tokens (default: the paper's)")
        parser.add_argument(
            "--encode-ratio", type=float, default=0.1, metavar="R", help="share that is encoded (default: 0.1)"
        )
        parser.add_argument("--frames", type=int, default=16, metavar="N", help="frames of a clip (default: 16)")
        parser.add_argument("--side", type=int, default=224, metavar="N", help="pixels of a side (default: 224)")
        parser.add_argument("--tubelet", type=int, default=2, metavar="N", help="frames of a token (default: 2)")
    macs.add_argument("--peer", choices=("plain",), help="count the plain implementation instead of ours")
    step.add_argument(
        "--peer", metavar="NAME", help="measure plain, transformers, or MODULE:FUNCTION that returns a step to be timed"
    )
    step.add_argument(
        "--equal-terms",
        action="store_true",
        help="let a peer's process keep freed memory and multiply by the same library too, as ours always does",
    )
    step.add_argument("--batch", type=int, default=4, metavar="N", help="clips (default: 4)")
    step.add_argument("--steps", type=int, default=5, metavar="N", help="timed steps (default: 5)")
    step.add_argument("--data", metavar="PATH", help=f"take clips from {_DATA} (default: made-up clips)")
    step.add_argument("--compile", action="store_true", help="use torch.compile")
    step.add_argument(
        "--activation-checkpointing", action="store_true", help="keep less for the backward pass, and compute it again"
    )
    step.add_argument(
        "--cuda-graphs", action="store_true", help="record forward and backward pass on a GPU, and replay them"
    )
    step.add_argument("--profile", action="store_true", help="say where the time of a step goes, part by part")
    step.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="with --profile and --data: read clips while steps compute, as training does, by so many processes "
        "(-1: as training chooses); take many steps",
    )


def _add_peers(peers: argparse.ArgumentParser, methods: argparse.ArgumentParser) -> None:
    for parser in (peers, methods):
        parser.add_argument("--batch", type=int, default=4, metavar="N", help="clips (default: 4)")
        parser.add_argument("--steps", type=int, default=3, metavar="N", help="timed steps of a round (default: 3)")
        parser.add_argument("--rounds", type=int, default=2, metavar="N", help="starts of each, in turn (default: 2)")
    peers.add_argument(
        "--equal-terms",
        action="store_true",
        help="let all keep freed memory and multiply by the same library, as ours does (default: peers as they come)",
    )
    peers.add_argument("--data", metavar="PATH", help=f"take clips from {_DATA} (default: made-up clips)")
    peers.add_argument(
        "--peer", action="append", default=[], metavar="MODULE:FUNCTION", help="one more; may be given several times"
    )


def _add_growth(growth: argparse.ArgumentParser) -> None:
    growth.add_argument(
        "--batches", type=_numbers, default=(1, 2, 4, 8), metavar="N,N", help="clips at once (default: 1,2,4,8)"
    )
    growth.add_argument(
        "--frames", type=_numbers, default=(16, 32, 64), metavar="N,N", help="frames of a clip (default: 16,32,64)"
    )
    growth.add_argument("--steps", type=int, default=3, metavar="N", help="timed steps of each (default: 3)")
    growth.add_argument("--plot", type=Path, metavar="PNG", help="also draw the curves")


def _add_suite(suite: argparse.ArgumentParser) -> None:
    suite.add_argument("--out", type=Path, required=True, metavar="FILE", help="JSON, written after each measurement")
    suite.add_argument("--sizes", type=_names, default=("base", "large", "small"), metavar="S,S", help="model sizes")
    suite.add_argument("--batch", type=int, default=32, metavar="N", help="clips (default: 32)")
    suite.add_argument("--steps", type=int, default=10, metavar="N", help="timed steps of each (default: 10)")
    suite.add_argument(
        "--go-on", action="store_true", help="keep what FILE has of an earlier call here, and measure what it lacks"
    )
    suite.add_argument(
        "--minutes", type=float, default=7.5, metavar="M", help="begin nothing after this (default: 7.5)"
    )
    suite.add_argument(
        "--peer", action="append", default=[], metavar="MODULE:FUNCTION", help="one more; may be given several times"
    )


def _add_loader(loader: argparse.ArgumentParser) -> None:
    loader.add_argument("manifest", metavar="MANIFEST", help=_DATA)
    loader.add_argument("--packed", metavar="MANIFEST", help="the same clips as packed shards")
    loader.add_argument("--clips-per-video", type=int, default=1, metavar="N", help="also N clips of each opened video")
    loader.add_argument("--views", metavar="SxC", help="also evaluation views, such as 5x3")
    loader.add_argument("--items", type=int, default=200, metavar="N", help="videos of a round (default: 200)")
    loader.add_argument("--rounds", type=int, default=3, metavar="N", help="repetitions (default: 3)")
    loader.add_argument("--workers", type=int, default=1, metavar="N", help="worker processes (default: 1)")
    loader.add_argument("--train-step", type=float, metavar="SECONDS", help="say how many workers keep such a step fed")
    loader.add_argument("--batch", type=int, default=16, metavar="N", help="clips of that step (default: 16)")
    loader.add_argument("--frames", type=int, default=16, metavar="N", help="frames of a clip (default: 16)")
    loader.add_argument("--stride", type=int, default=4, metavar="N", help="frames from one to the next (default: 4)")
    loader.add_argument("--size", type=int, default=224, metavar="N", help="pixels of a side (default: 224)")
    loader.add_argument(
        "--device", default="cpu", choices=("auto", "cpu", "cuda", "mps"), help="what computes (default: cpu)"
    )


def _add_on_clips(scores: argparse.ArgumentParser, selections: argparse.ArgumentParser) -> None:
    for parser, num_clips in ((scores, 48), (selections, 24)):
        parser.add_argument("manifest", metavar="MANIFEST", help=_DATA)
        parser.add_argument("--clips", type=int, default=num_clips, metavar="N", help=f"clips (default: {num_clips})")
        parser.add_argument(
            "--device", default="cpu", choices=("auto", "cpu", "cuda", "mps"), help="what computes (default: cpu)"
        )
    scores.add_argument(
        "--checkpoint", type=Path, help="whose embedding is asked, or bundled (default: an untrained one)"
    )


def _add_dial(dial: argparse.ArgumentParser) -> None:
    dial.add_argument("checkpoint", metavar="CHECKPOINT", help="a run folder, a weights file, or bundled-falls")
    dial.add_argument("--data", required=True, metavar="PATH", help=_DATA)
    dial.add_argument("--split", default="test", help="part of the data (default: test); all for everything")
    dial.add_argument("--views", default="5x3", metavar="SxC", help="segments x crops (default: 5x3)")
    shares = ", ".join(f"{ratio:g}" for ratio in _RATIOS)
    dial.add_argument("--ratios", type=_shares, default=_RATIOS, metavar="R,R", help=f"keep ratios (default: {shares})")
    dial.add_argument(
        "--device", default="auto", choices=("auto", "cpu", "cuda", "mps"), help="what computes (default: auto)"
    )


def _add_inference(inference: argparse.ArgumentParser) -> None:
    inference.add_argument("checkpoint", metavar="CHECKPOINT", help="a run folder, a weights file, or bundled-falls")
    inference.add_argument("--data", required=True, metavar="PATH", help=_DATA)
    inference.add_argument("--split", default="test", help="part of the data (default: test); all for everything")
    inference.add_argument("--views", default="5x3", metavar="SxC", help="segments x crops (default: 5x3)")
    inference.add_argument(
        "--keep-ratio", type=float, metavar="R", help="share of the tokens (default: as in training)"
    )
    inference.add_argument("--videos", type=int, default=16, metavar="N", help="how many, spread evenly (default: 16)")
    inference.add_argument("--rounds", type=int, default=3, metavar="N", help="times that each is timed (default: 3)")
    inference.add_argument(
        "--workers", type=int, default=-1, metavar="N", help="decoding processes (default: one per spare core)"
    )
    inference.add_argument(
        "--device", default="auto", choices=("auto", "cpu", "cuda", "mps"), help="what computes (default: auto)"
    )


def _numbers(text: str) -> tuple[int, ...]:
    """Read whole numbers with commas between them."""
    return tuple(int(number) for number in text.split(","))


def _names(text: str) -> tuple[str, ...]:
    """Read names with commas between them."""
    return tuple(text.split(","))


def _shares(text: str) -> tuple[float, ...]:
    """Read shares with commas between them."""
    return tuple(float(number) for number in text.split(","))
