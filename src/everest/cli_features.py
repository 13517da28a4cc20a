"""The options of ``everest embed``."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from everest import commands_features as do
from everest.cli_engine import add_engine


def add_features(commands: Any, add: Callable[..., Any]) -> None:
    """Describe the command and its options."""
    embed = add(commands, "embed", do.embed, "write features of videos: one row for each video, span or clip's tokens")
    embed.add_argument("checkpoint", metavar="CHECKPOINT", help="a run folder or a weights file, of any training")
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
    embed.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda", "mps"))
    embed.add_argument("--decoder", choices=("auto", "pyav", "torchcodec"), help="what reads the files")
    add_engine(embed)
    embed.add_argument("--json", action="store_true", help="print the result as JSON")
