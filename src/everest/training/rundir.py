"""The folder of one run: where everything is, and whether it may be written.

RUN/
├── config.json           the resolved configuration, as first started
├── environment.json      a list: what each start ran on
├── metrics.jsonl         one line per logged step
├── log.txt               what was printed
├── tensorboard/          event files
├── trackers.json         its runs in Weights & Biases and MLflow, where asked for; the former's files in wandb/
├── checkpoints/          training states for resuming
├── ranks/                signs of life of every process, while it runs and where it was killed
├── evaluating/           results of an evaluation, while it goes on and where it was broken off
├── replays/              steps that were skipped, to be repeated by `everest replay`
├── data.json             what it learnt from, with the digest of the manifest, and every tensor that it started from
├── weights.safetensors   the trained model
├── weights-best.*        in fine-tuning with evaluations: the best model so far, and of which epoch it is
├── report.html           what came out, as one page, when it has ended
└── interrupted.json      only where the run was asked to stop and did, until it is started again
"""

import json
import shutil
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from everest.config import FinetuneConfig, PretrainConfig, TrainConfig
from everest.datasets.lock import Lock
from everest.errors import ConfigError, DataError, RunError
from everest.process import describe_process
from everest.settings import flatten, parse
from everest.training.environment import describe_environment
from everest.training.files import atomic_write
from everest.video.urls import hide_in_word

DATA_NAME = "data.json"
_LOCK_NAME, _INTERRUPTED_NAME = ".lock", "interrupted.json"
# What a start that was killed before it had written config.json may leave behind.
_BEFORE_CONFIG = {_LOCK_NAME, _INTERRUPTED_NAME, ".config.json.tmp", f".{_INTERRUPTED_NAME}.tmp"}
RunTaskConfig = PretrainConfig | FinetuneConfig

# What may differ from one machine to another: how clips come to a process, not which, nor when processes wait.
MACHINE_KEYS = frozenset(
    {
        "run.device",
        "data.num_workers",
        "data.memory_cache",
        "data.decoder",
        "data.time_limit_seconds",
        "data.remote.cache_dir",
        "data.remote.cache_gb",
        "data.remote.patience_seconds",
        "evaluation.remote.cache_dir",
        "evaluation.remote.cache_gb",
        "evaluation.remote.patience_seconds",
    }
)
# What may change between two starts of one run: none of it changes what is learned from files that can be read, beyond
# rounding. A step of passes of another data.batch_size is of the same clips, and the global batch is not free.
FREE_KEYS = MACHINE_KEYS | {
    "run.shard_weights",
    "run.activation_checkpointing",
    "run.cuda_graphs",
    "data.batch_size",
    "data.max_failed_share",
    "run.save_every_epochs",
    "run.save_every_minutes",
    "run.save_every_steps",
    "run.keep_checkpoints",
    "run.log_every_steps",
    "run.evaluate_every_epochs",
    "run.tensorboard",
    "run.max_skipped_steps",
    "run.trackers",
    "run.report",
}


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run.

    Attributes:
        path: The folder.
    """

    path: Path

    @property
    def config_file(self) -> Path:
        """The resolved configuration."""
        return self.path / "config.json"

    @property
    def environment(self) -> Path:
        """What each start ran on."""
        return self.path / "environment.json"

    @property
    def metrics(self) -> Path:
        """One line of numbers per logged step."""
        return self.path / "metrics.jsonl"

    @property
    def log(self) -> Path:
        """What was printed."""
        return self.path / "log.txt"

    @property
    def tensorboard(self) -> Path:
        """Folder of the TensorBoard events."""
        return self.path / "tensorboard"

    @property
    def trackers(self) -> Path:
        """Its runs in Weights & Biases and MLflow."""
        return self.path / "trackers.json"

    @property
    def checkpoints(self) -> Path:
        """Folder of the training states."""
        return self.path / "checkpoints"

    @property
    def replays(self) -> Path:
        """Folder of the replay files of skipped steps."""
        return self.path / "replays"

    @property
    def weights(self) -> Path:
        """The trained model."""
        return self.path / "weights.safetensors"

    @property
    def best(self) -> Path:
        """The best model so far, where there are evaluations on the way."""
        return self.path / "weights-best.safetensors"

    @property
    def best_record(self) -> Path:
        """What the best model is."""
        return self.path / "weights-best.json"

    @property
    def interruption(self) -> Path:
        """A note that is there where the run was asked to stop and did, until it is started again."""
        return self.path / _INTERRUPTED_NAME

    @classmethod
    def create(cls, path: Path | str, config: RunTaskConfig, *, resume: Literal["auto", "never"]) -> "RunFolder":
        """Start a run in a new or empty folder, or start one again.

        Call it in one process only; the others :meth:`open` the folder afterwards.

        Args:
            path: The folder; it is made with its parents where needed.
            config: The complete configuration of this start.
            resume: ``auto`` continues a run of the same configuration; ``never`` accepts no earlier run.

        Raises:
            RunError: The folder holds a run (``never``), a run with other settings, or files that are not a run's.
        """
        folder = cls(Path(path))
        changed: dict[str, Any] = {}
        if folder._holds_files():
            changed = folder._changed_settings(config, resume)
            folder._remove_leftovers()
        else:
            folder.write_json(folder.config_file, config.model_dump(mode="json"))
        command = [hide_in_word(word) for word in sys.argv]
        entry = describe_environment() | {"process": describe_process(), "command": command}
        entry |= {"changed_settings": changed} if changed else {}
        folder.write_json(folder.environment, [*folder.starts(), entry])
        folder.interruption.unlink(missing_ok=True)
        return folder

    @classmethod
    def open(cls, path: Path | str) -> "RunFolder":
        """Open the folder of a run for reading.

        Args:
            path: The folder.

        Raises:
            RunError: The folder is missing or not a run's.
        """
        folder = cls(Path(path))
        folder.config()
        return folder

    def config(self) -> RunTaskConfig:
        """Read the configuration with which the run was first started.

        Raises:
            RunError: There is none, or it is not one of this version.
        """
        values = self._read_json(self.config_file)
        task = values.get("task") if isinstance(values, dict) else None
        kinds: dict[Any, type[PretrainConfig] | type[FinetuneConfig]] = {
            "pretrain": PretrainConfig,
            "finetune": FinetuneConfig,
        }
        if task not in kinds:
            raise RunError(f"{self.path} is not the folder of a run: its config.json names no training task")
        try:
            return parse(kinds[task], values)
        except ConfigError as error:
            raise RunError(f"{self.config_file} does not fit this version: {error}") from None

    def holds_results(self) -> bool:
        """Whether anything was learnt: a training state, weights, or that a step cannot be made."""
        return self.weights.exists() or any(self.checkpoints.glob("*.pt")) or any(self.replays.glob("*.json"))

    def holds_numbers(self) -> bool:
        """Whether steps were made and logged, saved or not."""
        return self.metrics.exists() and self.metrics.stat().st_size > 0

    def remove(self) -> None:
        """Delete what a run that has not learnt anything wrote, and its folder if nothing else is in it."""
        for folder in (self.tensorboard, self.checkpoints, self.replays, self.path / "ranks", self.path / "wandb"):
            shutil.rmtree(folder, ignore_errors=True)
        files = (self.config_file, self.environment, self.metrics, self.log, self.interruption, self.path / DATA_NAME)
        with suppress(OSError):  # the disk may have become one that is only read, or somebody else's files are in it
            for file in (*files, self.trackers):
                file.unlink(missing_ok=True)
            self.path.rmdir()

    def starts(self) -> list[dict[str, Any]]:
        """List what each start of the run ran on, the first one first."""
        return list(self._read_json(self.environment)) if self.environment.exists() else []

    def _remove_leftovers(self) -> None:
        """Delete what a killed process had not written to the end; training states are large."""
        for place, pattern in ((self.path, ".*.tmp"), (self.path, ".*.partial"), (self.checkpoints, ".step-*.tmp")):
            for leftover in place.glob(pattern):
                leftover.unlink(missing_ok=True)

    def _holds_files(self) -> bool:
        if self.path.exists() and not self.path.is_dir():
            raise RunError(f"{self.path} is a file: name a folder for the run")
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            return any(child.name not in _BEFORE_CONFIG for child in self.path.iterdir())
        except OSError as error:
            raise RunError(f"{self.path} cannot be used for a run: {error.strerror}") from error

    def _changed_settings(self, config: TrainConfig, resume: Literal["auto", "never"]) -> dict[str, Any]:
        """Check that an existing folder may be continued; give the settings that differ and may."""
        if not self.config_file.exists():
            raise RunError(f"{self.path} holds files that are not a run's: choose a new or empty folder")
        before = flatten(self.config())
        if resume == "never":
            raise RunError(
                f"{self.path} already holds a run: leave --resume never away to continue it, or choose another folder"
            )
        now = flatten(config)
        differing = [key for key in before | now if before.get(key) != now.get(key)]
        fixed = [key for key in differing if key not in FREE_KEYS]
        if fixed:
            listing = ", ".join(f"{key} ({before.get(key)} -> {now.get(key)})" for key in fixed)
            raise RunError(
                f"{self.path} holds a run with other settings: {listing}; use its settings, or choose another folder"
            )
        return {key: now[key] for key in differing}

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep others from starting the run as long as the block lasts; a folder of other files is not touched.

        Raises:
            RunError: Another process holds the run, or the folder cannot be used.
        """
        if self._holds_files() and not self.config_file.exists():
            raise RunError(f"{self.path} holds files that are not a run's: choose a new or empty folder")
        busy = f"{self.path}: {{owner}} is training this run; wait for it or stop it, or choose another folder"
        with ExitStack() as stack:
            try:
                stack.enter_context(Lock(self.path / _LOCK_NAME, busy))
            except DataError as error:
                raise RunError(str(error)) from None
            except OSError as error:
                raise RunError(f"{self.path} cannot be used for a run: {error.strerror}") from error
            yield

    def note_interruption(self, message: str, exit_code: int) -> None:
        """Leave a note for whoever started the run, where launchers have exit codes of their own.

        Args:
            message: For people.
            exit_code: That the program ends with.
        """
        with suppress(OSError, RunError):  # the folder cannot be written to: the exit code has to do
            self.path.mkdir(parents=True, exist_ok=True)
            date = datetime.now(UTC).isoformat(timespec="seconds")
            self.write_json(self.interruption, {"date": date, "exit_code": exit_code, "message": message})

    @staticmethod
    def write_json(path: Path, values: Any) -> None:
        """Write values as JSON, completely or not at all.

        Raises:
            RunError: The file cannot be written.
        """
        with atomic_write(path) as file:
            file.write((json.dumps(values, indent=2) + "\n").encode())

    @staticmethod
    def _read_json(path: Path) -> Any:
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise RunError(f"{path.parent} is not the folder of a run: it has no {path.name}") from None
        except (OSError, ValueError) as error:
            raise RunError(f"{path} cannot be read: {error}") from None
