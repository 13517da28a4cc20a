"""Weights & Biases and MLflow for tests: small stand-ins, and the real ones where they are installed.

Both are reached through Accelerate's trackers, and both say afterwards what they were sent.
"""

import importlib.metadata
import json
import struct
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest


@dataclass
class Sent:
    """One run of a tracker: what it was told, and how it ended."""

    config: dict[str, Any] = field(default_factory=dict)
    lines: list[tuple[int, dict[str, float]]] = field(default_factory=list)
    state: str = "running"


class Library:
    """A library, ready to be used by a run.

    Attributes:
        name: As ``run.trackers`` calls it.
        runs: What it was sent, by the name of its run.
        error: Raised by the next call; a network that is gone.
    """

    name: str

    def __init__(self) -> None:
        self.runs: dict[str, Sent] = {}
        self.error: Exception | None = None

    def read(self) -> dict[str, Sent]:
        return self.runs

    def everything(self) -> bytes:
        """Whatever it would send."""
        return repr(self.runs).encode()

    def fail(self) -> None:
        if self.error is not None:
            raise self.error


def _module(name: str) -> Any:
    module = ModuleType(name)
    module.__spec__ = ModuleSpec(name, None)
    return module


class FakeWandb(Library):
    name = "wandb"

    def __init__(self, monkeypatch: pytest.MonkeyPatch, _: Path) -> None:
        super().__init__()
        self.arguments: dict[str, Any] = {}
        module: Any = _module("wandb")
        module.Settings = dict
        module.init = self.init
        module.config = SimpleNamespace(update=self.update)
        monkeypatch.setitem(sys.modules, "wandb", module)

    def init(self, **arguments: Any) -> Any:
        self.fail()
        print("wandb: hello")
        self.arguments = arguments
        self.current = self.runs.setdefault(arguments["id"], Sent())
        return SimpleNamespace(id=arguments["id"], log=self.log, finish=self.finish)

    def update(self, values: dict[str, Any], **_: Any) -> None:
        self.current.config |= values

    def log(self, values: dict[str, float], step: int) -> None:
        self.fail()
        if self.current.lines and self.current.lines[-1][0] == step:
            self.current.lines[-1][1].update(values)  # as W&B does
        else:
            self.current.lines.append((step, values))

    def finish(self, exit_code: int = 0) -> None:
        self.current.state = "failed" if exit_code else "finished"


class FakeMlflow(Library):
    name = "mlflow"

    def __init__(self, monkeypatch: pytest.MonkeyPatch, _: Path) -> None:
        super().__init__()
        module: Any = _module("mlflow")
        limits = SimpleNamespace(MAX_PARAM_VAL_LENGTH=6000, MAX_PARAMS_TAGS_PER_BATCH=100)
        module.utils = SimpleNamespace(validation=limits)
        module.search_experiments = lambda filter_string: []
        module.create_experiment = lambda **_: "1"
        module.start_run = self.start_run
        module.log_params = self.log_params
        module.log_metrics = self.log_metrics
        module.end_run = self.end_run
        monkeypatch.setitem(sys.modules, "mlflow", module)

    def start_run(self, run_id: str | None, tags: dict[str, str], **_: Any) -> Any:
        self.fail()
        print("View run at")
        run_id = run_id or f"run-{len(self.runs)}"
        self.current = self.runs.setdefault(run_id, Sent())
        self.tags = tags
        return SimpleNamespace(info=SimpleNamespace(run_id=run_id))

    def log_params(self, values: dict[str, Any]) -> None:
        for key, value in values.items():
            assert self.current.config.setdefault(key, str(value)) == str(value), "MLflow takes no other value"

    def log_metrics(self, values: dict[str, float], step: int) -> None:
        self.fail()
        self.current.lines.append((step, values))

    def end_run(self, status: str = "FINISHED") -> None:
        self.current.state = {"FINISHED": "finished", "KILLED": "failed"}[status]


class RealWandb(Library):
    """The library itself, offline: what it would send lies in files."""

    name = "wandb"

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        super().__init__()
        self.folder = folder
        monkeypatch.setenv("WANDB_MODE", "offline")
        for name in ("CONFIG", "CACHE", "DATA"):
            monkeypatch.setenv(f"WANDB_{name}_DIR", str(folder / name.lower()))

    def read(self) -> dict[str, Sent]:
        patience = time.monotonic() + 20
        while any(b"".join(_records(p.read_bytes())) == b"" for p in self.folder.rglob("*.wandb")):
            assert time.monotonic() < patience, "W&B writes its files within a second of the end"
            time.sleep(0.1)
        return self._read()

    def _read(self) -> dict[str, Sent]:
        from wandb.proto.wandb_internal_pb2 import Record

        runs: dict[str, Sent] = {}
        for path in sorted(self.folder.rglob("*.wandb")):
            sent = runs.setdefault(path.stem.removeprefix("run-"), Sent())
            for content in _records(path.read_bytes()):
                record = Record.FromString(content)
                for item in (*record.run.config.update, *record.config.update):
                    sent.config["".join(item.nested_key) or item.key] = json.loads(item.value_json)
                sent.config.pop("_wandb", None)
                if record.WhichOneof("record_type") == "history":
                    values = {"".join(i.nested_key) or i.key: json.loads(i.value_json) for i in record.history.item}
                    step = values.pop("_step", record.history.step.num)
                    sent.lines.append((int(step), {k: v for k, v in values.items() if not k.startswith("_")}))
                if record.WhichOneof("record_type") == "exit":
                    sent.state = "failed" if record.exit.exit_code else "finished"
        return runs

    def everything(self) -> bytes:
        self.read()
        return b"".join(path.read_bytes() for path in sorted(self.folder.rglob("*.wandb")))


def _records(content: bytes) -> list[bytes]:
    """Take the records out of a log in the format of LevelDB, in blocks of 32 KiB."""
    found, partial, place = [], b"", 7  # after the mark of W&B
    while place + 7 <= len(content):
        left = 32768 - place % 32768
        if left < 7:
            place += left
            continue
        _, length, kind = struct.unpack("<IHB", content[place : place + 7])
        part = content[place + 7 : place + 7 + length]
        place += 7 + length
        partial = part if kind in {1, 2} else partial + part
        if kind in {1, 4}:
            found.append(partial)
    return found


class RealMlflow(Library):
    """The library itself, with a folder of files as its server."""

    name = "mlflow"

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        super().__init__()
        self.folder = folder / "mlruns"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", self.folder.as_uri())
        monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")

    def read(self) -> dict[str, Sent]:
        from mlflow.tracking import MlflowClient

        client = MlflowClient()
        runs = {}
        experiment = client.get_experiment_by_name("everest")
        for run in client.search_runs([experiment.experiment_id]) if experiment else []:
            lines: dict[int, dict[str, float]] = {}
            for name in run.data.metrics:
                for metric in client.get_metric_history(run.info.run_id, name):
                    known = lines.setdefault(metric.step, {})
                    assert name == "epoch" or name not in known, "a number was sent twice"
                    lines[metric.step][name] = metric.value
            state = {"FINISHED": "finished", "KILLED": "failed"}.get(run.info.status, "running")
            runs[run.info.run_id] = Sent(dict(run.data.params), sorted(lines.items()), state)
        return runs

    def everything(self) -> bytes:
        sent = [p for p in sorted(self.folder.rglob("*")) if p.is_file() and p.name != "meta.yaml"]
        return b"\n".join(path.read_bytes() for path in sent)  # meta.yaml says where the server keeps its files


def _is_installed(*names: str) -> bool:
    return any(name in {d.name for d in importlib.metadata.distributions()} for name in names)


FAKES: dict[str, Callable[[pytest.MonkeyPatch, Path], Library]] = {"fake wandb": FakeWandb, "fake mlflow": FakeMlflow}
LIBRARIES = dict(FAKES)
if _is_installed("wandb"):
    LIBRARIES["wandb"] = RealWandb
if _is_installed("mlflow", "mlflow-skinny"):
    LIBRARIES["mlflow"] = RealMlflow
