"""Pages about runs that are there already: of one, or of several side by side."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from everest.api import EVALUATION_NAME
from everest.api import evaluate as evaluate_checkpoint
from everest.errors import ConfigError
from everest.evaluation import Evaluation
from everest.history import Axis, read_run
from everest.reports import compare_reports, find_clips, make_report
from everest.reports.run_report import NAME
from everest.training.rundir import RunFolder


def report_run(
    run: str | Path, out: str | Path | None = None, *, data: str | Path | None = None, evaluate: bool = False
) -> tuple[Path, dict[str, Any]]:
    """Make the page about a run, which may be finished, going on, or stopped.

    Args:
        run: Its folder.
        out: The file; None: ``report.html`` in that folder. Only a page of ours is replaced.
        data: Where its clips are: a manifest, a folder of videos, or ``bundled``; None: where they were.
        evaluate: Measure the weights first, on the clips that were held out. Of a trained run that was not evaluated,
            ``evaluation.json`` is written as well, as fine-tuning does.

    Returns:
        The file, and what the page says in numbers.

    Raises:
        RunError: It is not the folder of a run, or the file cannot be written.
        ConfigError: There is nothing to evaluate.
        DataError: The data cannot be used.
    """
    folder = Path(run).expanduser()
    found = read_run(folder)
    file = _page(Path(out).expanduser()) if out is not None else folder / NAME
    clips = find_clips(found, data)
    evaluation: Evaluation | None = None
    if evaluate:
        if found.task != "finetune":
            raise ConfigError(
                f"{folder} is a pre-training run, which has no classes to evaluate: leave --evaluate away"
            )
        if clips.data is None:
            raise ConfigError(f"nothing to evaluate on: {clips.why_not}")
        split = next((name for name in ("test", "val") if name in clips.data.splits), None)
        if split is None:
            raise ConfigError(f"{clips.data.place} has no split test or val to evaluate on")
        source = data if data is not None else str(clips.data.source)
        evaluation = evaluate_checkpoint(folder, source, split=split)
        if found.is_trained and not (folder / EVALUATION_NAME).exists():
            RunFolder.write_json(folder / EVALUATION_NAME, evaluation.to_dict())
    made = make_report(folder, clips=clips, evaluation=evaluation)
    made.page.write(file, overwrite=True)
    return file, made.values


def compare(
    runs: Sequence[str | Path], out: str | Path | None = None, *, over: Axis = "steps"
) -> tuple[dict[str, Any], str]:
    """Make the page about several runs side by side.

    Args:
        runs: Their folders. What is no such folder is named among the problems.
        out: The file; None: no page, only the numbers.
        over: What curves are laid over.

    Returns:
        The numbers, and the same for people.

    Raises:
        RunError: None of them is the folder of a run, or the file cannot be written.
    """
    file = None if out is None else _page(Path(out).expanduser())
    made = compare_reports([Path(run).expanduser() for run in runs], over)
    values, text = made.values, made.text
    if file is not None:
        made.page.write(file, overwrite=True)
        values, text = {"out": str(file)} | values, f"{text}\nreport: {file}"
    return values, text


def _page(path: Path) -> Path:
    """Look at the name of a page before the work that ends in it.

    Raises:
        ConfigError: It is not one, or there is no such folder.
    """
    if path.suffix.lower() not in {".html", ".htm"}:
        raise ConfigError(f"--out {path}: expected a name that ends in .html")
    if not path.absolute().parent.is_dir():
        raise ConfigError(f"--out {path}: its folder does not exist; make it first")
    return path
