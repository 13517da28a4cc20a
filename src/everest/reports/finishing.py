"""The page that a run leaves when it ends. Nothing that goes wrong with it may touch the run."""

import shlex
import time
from collections.abc import Callable
from pathlib import Path

from everest.datasets import Manifest
from everest.errors import EverestError, RunInterruptedError
from everest.evaluation import Evaluation
from everest.reports.clips import clips_of
from everest.reports.run_report import NAME, make_report
from everest.training import TrainedRun
from everest.training.notes import append_line
from everest.training.runs import to_stderr

# Whatever can go wrong while drawing: a defect of ours, or of what draws, is no reason to lose a result.
_FAILURES = (
    *(EverestError, OSError, RuntimeError, ValueError, TypeError, LookupError, AttributeError),
    *(ArithmeticError, AssertionError, ImportError, MemoryError),
)


def report_finished(
    run: TrainedRun,
    data: Manifest,
    evaluation: Evaluation | None = None,
    *,
    say: Callable[[str], None] = to_stderr,
) -> Path | None:
    """Write ``report.html`` into the folder of a run that has ended.

    For the main process. It draws on the CPU; the model in memory, random numbers and results stay as they are. What
    cannot be drawn is told in a line, and in the log.

    Args:
        run: The run.
        data: All its data, with splits.
        evaluation: That closed it.
        say: Takes a line for people.

    Returns:
        The file; None where there is none.

    Raises:
        RunInterruptedError: Somebody does not want to wait for it.
    """
    path, before = run.folder.path / NAME, time.perf_counter()
    learnt = data.split("train").digest if "train" in data.splits else data.digest
    try:
        made = make_report(run.folder.path, clips=clips_of(data, learnt), evaluation=evaluation)
        made.page.write(path, overwrite=True)
    except RunInterruptedError:
        raise
    except _FAILURES as error:
        why = " ".join(str(error).split()) or type(error).__name__
        again = f"everest report {shlex.quote(str(run.folder.path))}"
        line = f"no report was drawn: {why}; the run is complete, and `{again}` tries again"
        say(line)
        append_line(run.folder.log, line)
        return None
    say(f"report: {path} ({time.perf_counter() - before:.1f} s)")
    return path
