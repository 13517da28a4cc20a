"""The options of ``everest embed``, ``everest search`` and ``everest probe``."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from everest import commands_features as do
from everest.cli_engine import add_engine


def add_features(commands: Any, add: Callable[..., Any]) -> None:
    """Describe the commands and their options."""
    _add_embed(commands, add)
    _add_search(commands, add)
    _add_probe(commands, add)


def _add_embed(commands: Any, add: Callable[..., Any]) -> None:
    embed = add(commands, "embed", do.embed, "write features of videos: one row for each video, span or clip's tokens")
    embed.add_argument(
        "checkpoint", metavar="CHECKPOINT", help="a run folder or a weights file, of any training, or bundled"
    )
    embed.add_argument("videos", nargs="+", metavar="VIDEO", help="videos, or a manifest, a folder, the word bundled")
    embed.add_argument("--out", required=True, type=Path, metavar="FILE", help="a new .parquet or .npz")
    embed.add_argument("--split", metavar="NAME", help="part of the data (default: everything)")
    embed.add_argument("--layer", type=int, metavar="K", help="after K blocks (default: what the model ends with)")
    embed.add_argument("--tokens", action="store_true", help="a vector for each kept token instead of their mean")
    embed.add_argument("--window", type=float, metavar="S", help="cut videos into spans of S seconds, each with a row")
    embed.add_argument("--hop", type=float, metavar="S", help="from one span to the next (default: its length)")
    embed.add_argument("--views", metavar="SxC", help="segments x crops that are averaged (default: 3x1, of spans 1x1)")
    embed.add_argument(
        "--keep-ratio", type=float, metavar="R", help="share of the tokens to look at (default: as in fine-tuning; all)"
    )
    embed.add_argument(
        "--device", default="auto", choices=("auto", "cpu", "cuda", "mps"), help="what computes (default: auto)"
    )
    embed.add_argument("--decoder", choices=("auto", "pyav", "torchcodec"), help="what reads the files")
    add_engine(embed)
    embed.add_argument("--json", action="store_true", help="print the result as JSON")


def _add_search(commands: Any, add: Callable[..., Any]) -> None:
    search = add(commands, "search", do.search, "find the clips of a table of features that are nearest to a video")
    search.add_argument("features", metavar="FEATURES", help="a .parquet or .npz that everest embed wrote")
    search.add_argument("video", metavar="VIDEO", help="what to search for")
    search.add_argument("--top", type=int, default=10, metavar="N", help="clips to name (default: 10)")
    search.add_argument("--start", type=float, metavar="S", help="where the part begins (default: the whole video)")
    search.add_argument("--end", type=float, metavar="S", help="where it ends")
    search.add_argument("--same-file", action="store_true", help="name clips of the same file too")
    search.add_argument("--checkpoint", metavar="CKPT", help="where the table's checkpoint is (default: where it was)")
    search.add_argument(
        "--device", default="auto", choices=("auto", "cpu", "cuda", "mps"), help="what computes (default: auto)"
    )
    search.add_argument("--json", action="store_true", help="print the result as JSON")


def _add_probe(commands: Any, add: Callable[..., Any]) -> None:
    probe = add(commands, "probe", do.probe, "measure what features are worth: nearest neighbours, linear classifier")
    probe.add_argument("train", metavar="TRAIN", help="features of labelled videos")
    probe.add_argument("test", metavar="TEST", help="features of other labelled videos, made in the same way")
    probe.add_argument(
        "--neighbors", default="1,20", metavar="K,K", help="numbers of neighbours that are asked (default: 1,20)"
    )
    probe.add_argument("--seed", type=int, default=0, help="of how files are divided for cross-validation (default: 0)")
    probe.add_argument("--json", action="store_true", help="print the result as JSON")
