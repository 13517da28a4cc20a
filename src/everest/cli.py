"""The program ``everest``: one subcommand for each thing to do. Results go to stdout, everything else to stderr.

Exit codes: 0 done; 1 done, but some videos could not be evaluated or some check failed; 2 something given cannot be
used (one line says what); 75 a run was stopped by a scheduler and is saved, start it again; 130 interrupted.
"""

import argparse
import errno
import math
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from everest import __version__
from everest import commands as do
from everest.cli_bench import add_bench
from everest.cli_engine import add_engine
from everest.cli_export import add_export
from everest.cli_features import add_features
from everest.cli_inspect import add_inspect
from everest.cli_predict import add_predict
from everest.cli_replay import add_replay
from everest.cli_report import add_report
from everest.cli_runs import add_runs
from everest.cli_ui import add_ui
from everest.cli_weights import add_weights
from everest.commands_predict import predict as do_predict
from everest.completion import SHELLS
from everest.errors import EverestError, RunInterruptedError, is_lost_connection, is_out_of_memory
from everest.memory import keep_freed_memory

EXIT_OK, EXIT_FAILURES, EXIT_UNUSABLE, EXIT_INTERRUPTED = 0, 1, 2, 130

Command = Callable[[argparse.Namespace], int]

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
_INIT = "run folder or weights to start from: EVEREST, VideoMAE, transformers, MME, MVD (docs/weights.md), or bundled"
_AGAIN = ", and the same command goes on from there"
_ADVICE: dict[Command, str] = {  # after an interruption
    do.pretrain: _AGAIN,
    do.finetune: _AGAIN,
    do.data_check: _AGAIN,
    do.data_pack: _AGAIN,
    do.data_flow: _AGAIN,
    do.evaluate: ", and the same command with --out goes on from what was found there",
    do_predict: ", and the same command with --out goes on from what that file holds",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; ``None`` takes the arguments of the process."""
    return _run(build_parser().parse_args(arguments))


def _run(options: argparse.Namespace) -> int:
    command: Command = options.command
    try:
        return command(options)
    except RunInterruptedError as error:
        if not error.is_told:
            print(error, file=sys.stderr)
        return error.exit_code
    except EverestError as error:
        from everest.video.urls import hide_secrets

        print(f"error: {hide_secrets(' '.join(str(error).split()))}", file=sys.stderr)  # it may repeat what was given
        return EXIT_UNUSABLE
    except KeyboardInterrupt:
        print(f"interrupted; what was saved stays{_ADVICE.get(command, '')}", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # `everest recipe show ucf101 | head`
        sys.stderr.close()
        return EXIT_OK
    except (RuntimeError, MemoryError, OSError) as error:
        problem = _explain(error)
        if not problem:
            raise
        print(f"error: {problem}", file=sys.stderr)
        return EXIT_UNUSABLE


def _explain(error: Exception) -> str:
    """Say what an error that is not ours means to whoever started the program; nothing where it may be a defect."""
    if is_out_of_memory(error):
        return (
            "the memory does not suffice: take a smaller batch, clip or model; in training, data.batch_size=N takes "
            "more passes for the same step, and run.activation_checkpointing=true keeps less"
        )
    if is_lost_connection(error):
        return "another process has ended, and said why unless it was killed"
    if isinstance(error, OSError) and error.errno in _NO_ROOM:
        place = f"{error.filename} " if error.filename else ""
        return f"{place}could not be written: {error.strerror}; make room and start again"
    return ""


def program() -> int:
    """Run as a program of its own, which may arrange its process as it likes."""
    options = build_parser().parse_args()
    warnings.formatwarning = _format_warning
    # What others are is measured as they come, unless everybody is to be measured alike.
    if getattr(options, "equal_terms", False):
        from everest.models.products import take_all_linear_layers  # torch takes a second, and most commands wait

        take_all_linear_layers()
    if not getattr(options, "peer", None) or getattr(options, "equal_terms", False):
        keep_freed_memory()
    return _run(options)


def _format_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    """Write a warning in one line; those of libraries with the place that they come from."""
    del lineno, line
    text = " ".join(str(message).split())
    ours = Path(filename).is_relative_to(Path(__file__).parent)
    return f"warning: {text}\n" if ours else f"warning: {text} ({category.__name__} of {filename})\n"


def build_parser() -> argparse.ArgumentParser:
    """Describe every command and its options."""
    parser = argparse.ArgumentParser(prog="everest", description="Masked video autoencoders on the tokens that change.")
    parser.add_argument("--version", action="version", version=f"everest {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    _add_demo(commands)
    _add_training(commands)
    _add_use(commands)
    _add_recipe(commands)
    _add_data(commands)
    add_inspect(commands, _add)
    add_ui(commands, _add)
    add_features(commands, _add)
    add_export(commands, _add)
    add_runs(commands, _add)
    add_report(commands, _add)
    add_weights(commands, _add)
    add_replay(commands, _add)
    add_bench(commands, _add)
    _add_completion(commands)
    doctor = _add(commands, "doctor", do.doctor, "say what works on this machine, and what to do about the rest")
    _add_json(doctor)
    return parser


def _add(commands: Any, name: str, command: Command, text: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    parser.set_defaults(command=command)
    return parser


def _add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def _num_workers(text: str) -> int:
    """Read a number of processes."""
    number = int(text)
    if number < -1:
        raise argparse.ArgumentTypeError("expected 0 or more, or -1 for as many as there are cores")
    return number


def _seconds(text: str) -> float:
    """Read a time that something may take."""
    seconds = float(text)
    if not 0 < seconds < math.inf:
        raise argparse.ArgumentTypeError("expected more than 0 seconds")
    return seconds


def _add_demo(commands: Any) -> None:
    demo = _add(commands, "demo", do.demo, "pre-train, fine-tune and evaluate on the bundled clips, and write a report")
    demo.add_argument("--out", type=Path, metavar="DIR", help="a new or empty folder (default: runs/demo-1, -2, ...)")
    demo.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="settings",
        help="change a setting of both stages, such as clip.num_frames=4; may be given several times",
    )
    _add_json(demo)


def _add_completion(commands: Any) -> None:
    completion = _add(commands, "completion", do.completion, "print what makes a shell complete commands and options")
    completion.add_argument("shell", choices=SHELLS, help="see README.md for where to put it")


def _add_training(commands: Any) -> None:
    pretrain = _add(commands, "pretrain", do.pretrain, "learn from unlabelled videos")
    finetune = _add(commands, "finetune", do.finetune, "train a classifier on labelled videos")
    for parser in (pretrain, finetune):
        parser.add_argument("--recipe", required=True, metavar="NAME", help="a name from `everest recipe list`")
        parser.add_argument("--data", required=True, metavar="PATH", help="a manifest, a folder, or the word bundled")
        parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="the run folder")
        if parser is finetune:
            parser.add_argument("--init", type=Path, metavar="CHECKPOINT", help=_INIT)
        parser.add_argument(
            "--set",
            action="append",
            default=[],
            metavar="KEY=VALUE",
            dest="settings",
            help="change a setting of the recipe; may be given several times",
        )
        parser.add_argument(
            "--resume",
            choices=("auto", "never"),
            default="auto",
            help="auto (default): go on with the run that DIR holds, if there is one; never: refuse such a folder",
        )
        _add_json(parser)


def _add_use(commands: Any) -> None:
    evaluate = _add(commands, "evaluate", do.evaluate, "measure a classifier on labelled videos")
    evaluate.add_argument("checkpoint", metavar="CHECKPOINT", help="a run folder, a weights file, or bundled-falls")
    evaluate.add_argument("--data", required=True, metavar="PATH", help="a manifest, a folder, or the word bundled")
    evaluate.add_argument("--split", default="test", help="part of the data (default: test); all for everything")
    evaluate.add_argument("--views", metavar="SxC", help="segments x crops, such as 5x3 (default: the recipe's)")
    evaluate.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="also write evaluation.json and confusion.png here, and go on where it broke off",
    )
    evaluate.add_argument("--cache-dir", metavar="DIR", help="keep clips that come over the network here")
    predict = add_predict(commands, _add)
    for parser in (evaluate, predict):
        parser.add_argument(
            "--keep-ratio", type=float, metavar="R", help="share of the tokens to look at (default: as in training)"
        )
        parser.add_argument(
            "--device", default="auto", choices=("auto", "cpu", "cuda", "mps"), help="what computes (default: auto)"
        )
        parser.add_argument("--decoder", choices=("auto", "pyav", "torchcodec"), help="what reads the files")
        _add_json(parser)


def _add_recipe(commands: Any) -> None:
    recipe = _add(commands, "recipe", do.recipe_list, "list the recipes, or show the settings of one")
    actions = recipe.add_subparsers(metavar="ACTION", required=True)
    _add_json(_add(actions, "list", do.recipe_list, "list the recipes"))
    show = _add(actions, "show", do.recipe_show, "show the settings of a recipe: the keys that --set takes")
    show.add_argument("name", metavar="NAME", help="a name from `everest recipe list`")
    _add_json(show)


def _add_data(commands: Any) -> None:
    data = commands.add_parser("data", help="list, check and pack videos", description="List, check and pack videos.")
    actions = data.add_subparsers(metavar="ACTION", required=True)
    index = _add(actions, "index", do.data_index, "write one manifest for a folder or a list of videos")
    index.add_argument("source", metavar="SOURCE", help="a folder, a list, shards, or a known data set")
    index.add_argument(
        "--format",
        default="auto",
        metavar="NAME",
        help="auto, folder, unlabelled, list, shards, ucf101, hmdb51, kinetics400, ssv2 or oscc (default: auto)",
    )
    index.add_argument("--annotations", metavar="DIR", help="where the official annotations are, if not in SOURCE")
    index.add_argument("--videos", metavar="DIR", help="where the videos of a known data set are, if not in SOURCE")
    index.add_argument(
        "--fold", type=int, default=1, metavar="N", help="split of UCF101 or HMDB51, 1 to 3 (default: 1)"
    )
    index.add_argument("--hashes", action="store_true", help="read every clip of the shards, and note its hash")
    index.add_argument("--out", required=True, type=Path, metavar="MANIFEST", help="a CSV file that does not exist yet")
    check = _add(actions, "check", do.data_check, "decode every video and report those that cannot be read")
    check.add_argument("manifest", metavar="MANIFEST", help="a manifest, a folder, or the word bundled")
    check.add_argument(
        "--workers", type=_num_workers, default=-1, metavar="N", help="videos at a time (default: the cores)"
    )
    check.add_argument(
        "--quarantine", type=Path, metavar="CLEAN", help="write a manifest of the clips that can be used"
    )
    check.add_argument(
        "--report", type=Path, metavar="FILE", help="one line of JSON for each file (default: MANIFEST.check.jsonl)"
    )
    check.add_argument(
        "--time-limit", type=_seconds, default=60.0, metavar="S", help="seconds for 64 MiB of frames (default: 60)"
    )
    pack = _add(actions, "pack", do.data_pack, "re-encode clips into shards that decode fast")
    pack.add_argument("manifest", metavar="MANIFEST", help="a manifest, a folder, or the word bundled")
    pack.add_argument("out", type=Path, metavar="OUT", help="a new or empty folder, or one to go on with")
    pack.add_argument("--short-side", type=int, default=256, metavar="N", help="pixels (default: 256); never enlarged")
    pack.add_argument("--keyframe-interval", type=int, default=12, metavar="N", help="frames (default: 12)")
    pack.add_argument("--crf", type=int, default=20, metavar="N", help="quality, 0 to 51, small is good (default: 20)")
    pack.add_argument("--clips-per-shard", type=int, default=256, metavar="N", help="how many (default: 256)")
    pack.add_argument(
        "--workers", type=_num_workers, default=-1, metavar="N", help="clips at a time (default: the cores)"
    )
    pack.add_argument("--time-limit", type=_seconds, default=300.0, metavar="S", help="seconds without progress")
    verify = _add(actions, "verify", do.data_verify, "compare shards with the hashes taken when they were written")
    verify.add_argument("out", type=Path, metavar="OUT", help="a folder that data pack has written")
    flow = _add(actions, "flow", do.data_flow, "compute the optical flow that objective.name=mme learns from")
    flow.add_argument("manifest", metavar="MANIFEST", help="a manifest, a folder, or the word bundled")
    flow.add_argument("--out", type=Path, metavar="DIR", help="where to (default: MANIFEST.flow, without .csv)")
    flow.add_argument(
        "--workers", type=_num_workers, default=-1, metavar="N", help="clips at a time (default: the cores)"
    )
    flow.add_argument("--time-limit", type=_seconds, default=300.0, metavar="S", help="seconds without progress")
    for parser in (check, pack, flow):
        add_engine(parser)
    for parser in (index, check, pack, verify, flow):
        _add_json(parser)
