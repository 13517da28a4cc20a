"""Weights & Biases and MLflow, through Accelerate's trackers: the settings of a run and its metrics, and nothing else.

Where to, and whether at all, is said by the libraries' own environment variables, such as ``WANDB_MODE=offline`` and
``MLFLOW_TRACKING_URI``. A tracker never ends a run: what it raises becomes one warning, and it is left alone until
the run is started again.
"""

import json
import os
import sys
import uuid
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

from everest.config import TrackerName, TrainConfig
from everest.errors import ConfigError
from everest.settings import flatten
from everest.training.files import atomic_write
from everest.training.rundir import RunFolder
from everest.video.urls import hide_in_word, hide_secrets

PROJECT = "everest"  # where nothing else is said; MLflow calls it an experiment
PATH_KEYS = (
    *("objective.flow", "objective.image_teacher", "objective.video_teacher"),
    *("data.remote.cache_dir", "evaluation.remote.cache_dir"),
)

# What the libraries would do without being asked: tell their makers of crashes and of use, and wait for minutes.
_ENVIRONMENT = {
    "WANDB_ERROR_REPORTING": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "15",
}
# Nothing of the machine, the program and its output; and nothing is printed.
_WANDB_SETTINGS: dict[str, Any] = {
    "silent": True,
    "finish_timeout": 60.0,  # what could not be sent until then stays in the folder, for `wandb sync`
    "console": "off",
    "save_code": False,
    "disable_code": True,
    "disable_git": True,
    "disable_job_creation": True,
    "x_disable_meta": True,
    "x_disable_stats": True,
    "x_disable_machine_info": True,
    "x_save_requirements": False,
}
_MLFLOW_TAGS = {  # instead of the user's name, the program's path and the commit
    "mlflow.user": "",
    "mlflow.source.name": PROJECT,
    "mlflow.source.type": "LOCAL",
    "mlflow.source.git.commit": "",
    "mlflow.source.git.branch": "",
    "mlflow.source.git.repoURL": "",
}
_PLAIN = (
    *(OSError, RuntimeError, ValueError, TypeError, LookupError, AttributeError),
    *(AssertionError, ArithmeticError, ImportError, EOFError),
)
_LIBRARIES = ("wandb", "mlflow", "requests", "urllib3", "sqlalchemy", "google", "databricks")


def expect_trackers(names: Sequence[TrackerName]) -> None:
    """See that the libraries of trackers can be imported, before anything is begun.

    Raises:
        ConfigError: One of them cannot.
    """
    for name in names:
        _stay_private()
        try:
            entry = _entry_of(name)
        except (ImportError, AttributeError) as error:  # the latter: of some folder of that name
            raise ConfigError(
                f"run.trackers={name} needs a library that cannot be imported ({error}): "
                f"pip install 'everest-video[{name}]', or leave it out"
            ) from None
        assert callable(entry)  # noqa: S101 - it is a function of theirs


def describe_trackers(names: Sequence[TrackerName]) -> str:
    """Say where the numbers go as well; empty where nowhere."""
    mlflow = os.environ.get("MLFLOW_TRACKING_URI", "its default place")
    places = {
        "wandb": f"wandb ({os.environ.get('WANDB_MODE', 'online')})",
        "mlflow": f"mlflow ({hide_in_word(mlflow, of_any_kind=True)})",
    }
    return f"settings and metrics also go to {' and '.join(places[name] for name in names)}" if names else ""


class Trackers:
    """The trackers of a run, open. Use it in one process only."""

    def __init__(self, folder: RunFolder, names: Sequence[TrackerName]) -> None:
        """Open trackers: new runs of theirs, or those that an earlier start of this run has begun.

        Args:
            folder: The folder of the run; ``trackers.json`` in it says which runs are its own there.
            names: Which ones.
        """
        self._folder, self._file = folder, folder.trackers
        self._open: dict[str, Any] = {}
        for name in names:
            with self._contained(name):
                self._open[name] = self._begin(name, self._known().get(name))

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Send one line of metrics.

        Args:
            step: The optimiser step that the numbers belong to.
            values: Numbers by name, all finite.
        """
        for name, tracker in list(self._open.items()):
            with self._contained(name):
                tracker.log(dict(values), step=step)

    def close(self, *, failed: bool = False) -> None:
        """End the runs of the trackers; an interrupted or failed one can be gone on with.

        Args:
            failed: Whether the run ended before its end.
        """
        for name, tracker in list(self._open.items()):
            with self._contained(name):
                _finish(name, tracker, failed)
        self._open.clear()

    def _begin(self, name: TrackerName, run_id: str | None) -> Any:
        _stay_private()
        tracker = _build(name, self._folder.path.absolute(), run_id)
        tracker.start()
        if run_id is None:  # once: what a run began with does not change, and MLflow refuses other values
            tracker.store_init_configuration(public_settings(self._folder.config()))
        given = tracker.tracker.id if name == "wandb" else tracker.tracker.info.run_id
        with atomic_write(self._file) as file:
            file.write((json.dumps(self._known() | {name: str(given)}, indent=2) + "\n").encode())
        return tracker

    def _known(self) -> dict[str, str]:
        """Run of each tracker by its name."""
        if not self._file.exists():
            return {}
        try:
            return {str(k): str(v) for k, v in dict(json.loads(self._file.read_text(encoding="utf-8"))).items()}
        except (ValueError, TypeError) as error:
            raise ValueError(f"{self._file} is damaged ({error}): delete it to begin anew there") from None

    @contextmanager
    def _contained(self, name: str) -> Iterator[None]:
        """Keep what a tracker prints off stdout, and what it raises away from the run."""
        try:
            with redirect_stdout(sys.stderr):
                yield
        except BaseException as error:
            if _is_theirs(error):
                self._open.pop(name, None)
                said = hide_secrets(" ".join(str(error).split()), of_any_kind=True)  # such as the server's address
                reason = said[:300] or type(error).__name__
                warnings.warn(
                    f"{name} gets nothing more of this run: {reason}; metrics.jsonl has everything, and a restart of "
                    "the run tries it again",
                    stacklevel=2,
                )
                return
            raise


def public_settings(config: TrainConfig) -> dict[str, Any]:
    """Give the settings of a run by key; of files and folders of this machine only their last name."""
    settings = flatten(config)
    for key in PATH_KEYS:
        value = settings.get(key)
        if isinstance(value, str) and not value.startswith("hf:"):
            settings[key] = Path(value).name
    return settings


def _entry_of(name: TrackerName) -> Any:
    """The function of a library that begins a run."""
    if name == "wandb":
        import wandb

        return wandb.init
    import mlflow

    return mlflow.start_run


def _stay_private() -> None:
    for key, value in _ENVIRONMENT.items():
        os.environ.setdefault(key, value)


def _build(name: TrackerName, folder: Path, run_id: str | None) -> Any:
    """Make Accelerate's tracker, which is not started yet."""
    from accelerate.tracking import MLflowTracker, WandBTracker

    if name == "wandb":
        import wandb

        return WandBTracker(
            os.environ.get("WANDB_PROJECT", PROJECT),
            id=run_id or uuid.uuid4().hex[:8],
            name=os.environ.get("WANDB_NAME", folder.name),
            dir=os.environ.get("WANDB_DIR", str(folder)),
            resume="allow",
            settings=wandb.Settings(**_WANDB_SETTINGS),
        )
    tracker = MLflowTracker(PROJECT, run_id=run_id, run_name=folder.name)
    from_environment: Any = tracker.tags
    tracker.tags = {**_MLFLOW_TAGS, **(from_environment or {})}
    return tracker


def _finish(name: str, tracker: Any, failed: bool) -> None:
    if not failed:
        tracker.finish()
    elif name == "wandb":
        tracker.tracker.finish(exit_code=1)
    else:
        import mlflow

        mlflow.end_run("KILLED")


def _is_theirs(error: BaseException) -> bool:
    """Whether an error may have come out of a tracker: a common one, or a class of such a library."""
    return isinstance(error, _PLAIN) or type(error).__module__.partition(".")[0] in _LIBRARIES
