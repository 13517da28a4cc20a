"""The options of ``everest predict``."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from everest.cli_engine import add_engine
from everest.commands_predict import predict as do_predict


def add_predict(commands: Any, add: Callable[..., Any]) -> Any:
    """Describe the command and its options; those that it shares with others are added by them."""
    predict = add(commands, "predict", do_predict, "name what happens in videos, or when in long and live ones")
    predict.add_argument("checkpoint", metavar="CHECKPOINT", help="a run folder, a weights file, or bundled-falls")
    predict.add_argument(
        "videos",
        nargs="+",
        metavar="VIDEO",
        help="a video or its URL; a list, a folder or the URL of packed clips, for all of it; a camera or a stream",
    )
    predict.add_argument("--out", type=Path, metavar="FILE", help="write a line of JSON for each, and go on there")
    predict.add_argument("--views", metavar="SxC", help="segments x crops of a video (default: 3x1; of a window 1x1)")
    predict.add_argument("--top", type=int, default=5, metavar="N", help="classes to print (default: 5)")
    add_engine(predict)
    over_time = predict.add_argument_group("what happens when, in long videos and streams")
    over_time.add_argument("--window", type=float, metavar="S", help="look at S seconds at a time (default: one clip)")
    over_time.add_argument("--hop", type=float, metavar="S", help="from one window to the next (default: its length)")
    over_time.add_argument(
        "--timelines", type=Path, metavar="DIR", help="write the timeline of each video as JSON and as a picture"
    )
    over_time.add_argument("--annotate", action="store_true", help="also write the video with its timeline to DIR")
    over_time.add_argument("--live", action="store_true", help="VIDEO is a stream, although it does not look like one")
    over_time.add_argument("--seconds", type=float, metavar="S", help="stop after S seconds of a stream")
    return predict
