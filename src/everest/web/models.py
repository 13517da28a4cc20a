"""What looks at videos in the page: one looker for each purpose, recognising and learning."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from everest.config import CheckpointInfo, FrameSelectionConfig, ObjectiveConfig, SelectionConfig, Task
from everest.errors import ConfigError
from everest.evaluation import choose_device
from everest.inference import WITHOUT_CHECKPOINT, Looker

PAPER: dict[Task, SelectionConfig] = {
    "finetune": SelectionConfig(keep_ratio=0.6, encode_ratio=0.6),
    "pretrain": WITHOUT_CHECKPOINT.selection,
}
"""How many tokens are kept where no checkpoint says otherwise."""


@dataclass(frozen=True)
class Lookers:
    """A looker for each purpose, and which of them are checkpoints that the user has named.

    Attributes:
        by_task: ``pretrain`` is called learning in the page, ``finetune`` recognising. Where one checkpoint was named,
            its embedding scores tokens for both; without any, a random embedding does.
        given: The kinds of the named checkpoints.
    """

    by_task: Mapping[Task, Looker]
    given: frozenset[Task] = frozenset()

    @property
    def is_random(self) -> bool:
        """Whether nothing was named, so that a random embedding scores the tokens."""
        return not self.given

    @property
    def first(self) -> Task:
        """What the page shows first."""
        return "pretrain" if self.given == {"pretrain"} else "finetune"


def load_lookers(checkpoints: Sequence[str | Path] = (), device: str = "auto") -> Lookers:
    """Load what looks at videos.

    Args:
        checkpoints: None, a pre-trained one, a classifier, or one of each.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.

    Raises:
        WeightsError: A checkpoint cannot be read, or belongs to a network that takes whole clips.
        ConfigError: Two are of one kind, or there is no such device.
    """
    place = choose_device(device)
    given: dict[Task, Looker] = {}
    for checkpoint in checkpoints:
        looker = Looker.load(checkpoint, place)
        if looker.info.task in given:
            kind = "pre-trained" if looker.info.task == "pretrain" else "a classifier"
            raise ConfigError(f"{checkpoint}: a second checkpoint that is {kind}; name one of each kind at most")
        given[looker.info.task] = looker
    if given:
        best = given.get("finetune") or given["pretrain"]
    else:
        best = Looker.random()
        best.encoder.to(place)
    tasks: tuple[Task, ...] = ("finetune", "pretrain")
    return Lookers({task: given.get(task) or _lent(best, task) for task in tasks}, frozenset(given))


def _lent(looker: Looker, task: Task) -> Looker:
    """Let the embedding of one kind of checkpoint score tokens for the other purpose."""
    return replace(looker, info=_with_task(looker.info, task), model=None, classifier=None)


def _with_task(info: CheckpointInfo, task: Task) -> CheckpointInfo:
    changes = {
        "task": task,
        "selection": PAPER[task],
        "frame_selection": FrameSelectionConfig(),
        "objective": ObjectiveConfig(),
        "class_names": (),
    }
    return info.model_copy(update=changes)
