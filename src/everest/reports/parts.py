"""What a page about a run is made of, out of its folder."""

from dataclasses import dataclass

from everest.config import CheckpointInfo
from everest.errors import DataError, RunError, WeightsError
from everest.evaluation import Evaluation, find_evaluations, read_evaluation
from everest.history import Run
from everest.inference import Looker
from everest.reports.clips import ShownClips, find_clips
from everest.training import describe_checkpoint
from everest.training.rundir import RunFolder


@dataclass(frozen=True)
class Parts:
    """What a page is made of.

    Attributes:
        run: Read completely.
        clips: Its data.
        evaluation: The newest, if any.
        others: Evaluations by the folder that they are in.
        info: What the run computes; None where its settings are not of this version.
        looker: Chooses tokens; None where that cannot be shown.
        no_looker: Why.
    """

    run: Run
    clips: ShownClips
    evaluation: Evaluation | None
    others: dict[str, Evaluation]
    info: CheckpointInfo | None
    looker: Looker | None
    no_looker: str


def collect(run: Run, clips: ShownClips | None, evaluation: Evaluation | None) -> Parts:
    """Read what there is; what is damaged or missing is said in the result.

    Args:
        run: Read completely; takes further problems.
        clips: Its data; None: looked for where it was.
        evaluation: Of its weights; None: the newest in its folder.
    """
    found = {} if run.task == "pretrain" else _evaluations(run)
    looker, why = None, ""
    try:
        looker = Looker.load(run.path)
    except WeightsError as error:
        why = str(error) if RunFolder(run.path).weights.exists() else "the run has not saved any weights yet"
    except (DataError, OSError) as error:
        why = str(error)
    info: CheckpointInfo | None
    try:
        config = RunFolder.open(run.path).config()
        info = describe_checkpoint(config) if looker is None else looker.info
    except RunError as error:
        info = None if looker is None else looker.info
        run.problems.append(str(error))
    newest = evaluation if evaluation is not None else next(iter(found.values()), None)
    return Parts(run, clips or find_clips(run), newest, found, info, looker, why)


def _evaluations(run: Run) -> dict[str, Evaluation]:
    """Read the evaluations in a run's folder, the newest first."""
    found = {}
    for path in find_evaluations(run.path):
        try:
            found[str(path.relative_to(run.path).parent)] = read_evaluation(path)
        except DataError as error:
            run.problems.append(str(error))
    return found
