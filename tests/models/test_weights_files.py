"""Reading what others wrote: every container gives the same tensors, and nothing runs code."""

import argparse
import json
import os
import re
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from everest.errors import WeightsError
from everest.models.weights.files import DEEPSPEED_NAME, is_transformers_folder, read_raw

STATE = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.ones(2, dtype=torch.float16)}
ARGS = argparse.Namespace(num_frames=16, lr=1e-3, device=torch.device("cpu"), betas=(0.9, 0.95))


def saved(path: Path, content: Any, *, archive: bool = True) -> Path:
    torch.save(content, path, _use_new_zipfile_serialization=archive)
    return path


def same(one: Any, other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(
        one[key].dtype == other[key].dtype and torch.equal(one[key], other[key]) for key in one
    )


CONTAINERS: dict[str, Any] = {
    "bare": STATE,
    "ordered": OrderedDict(STATE),
    "model": {"model": STATE, "optimizer": {"state": {}}, "epoch": 3, "scaler": {"scale": 2.0}, "args": ARGS},
    "module": {"module": STATE, "ds_version": "0.7.3", "ds_config": {"fp16": {"enabled": True}}},
    "state_dict": {"state_dict": STATE, "epoch": 1},
    "distributed": {"model": {f"module.{key}": value for key, value in STATE.items()}},
    "backbone": {f"backbone.{key}": value for key, value in STATE.items()},
}


@pytest.mark.parametrize("archive", [True, False], ids=["archive", "old"])
@pytest.mark.parametrize("name", CONTAINERS)
def test_tensors_come_out_as_they_went_in(name: str, archive: bool, tmp_path: Path) -> None:
    raw = read_raw(saved(tmp_path / "weights.pth", CONTAINERS[name], archive=archive))
    assert same(raw.tensors, STATE)
    assert raw.args.get("num_frames") == (16 if name == "model" else None)
    assert ("optimizer" in raw.beside) is (name == "model")
    assert raw.container.startswith("DeepSpeed" if name == "module" else "torch.save")


def test_folders_are_found_by_what_they_hold(tmp_path: Path) -> None:
    deepspeed = tmp_path / "deepspeed"
    deepspeed.mkdir()
    saved(deepspeed / DEEPSPEED_NAME, {"module": STATE})
    assert read_raw(deepspeed).container == "DeepSpeed"
    for name in ("model.safetensors", "pytorch_model.bin"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "config.json").write_text('{"model_type": "videomae"}')
        save_file(STATE, folder / name) if name.endswith("safetensors") else saved(folder / name, STATE)
        assert is_transformers_folder(folder)
        for path in (folder, folder / name):
            raw = read_raw(path)
            assert same(raw.tensors, STATE)
            assert raw.config["model_type"] == "videomae"


def test_parts_of_transformers_are_put_together(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "videomae"}')
    places = {}
    for number, key in enumerate(STATE):
        places[key] = f"model-{number}.safetensors"
        save_file({key: STATE[key]}, tmp_path / places[key])
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": places}))
    assert same(read_raw(tmp_path).tensors, STATE)
    index.write_text(json.dumps({"weight_map": {"a": "../elsewhere.safetensors"}}))
    with pytest.raises(WeightsError, match="does not say in which files of its folder"):
        read_raw(tmp_path)


class Evil:
    """Runs a command when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch '{self.marker}'",)


@pytest.mark.parametrize("archive", [True, False], ids=["archive", "old"])
def test_a_file_that_runs_a_command_is_refused(archive: bool, tmp_path: Path) -> None:
    marker = tmp_path / "it-ran"
    for content in ({"model": STATE, "args": Evil(marker)}, {**STATE, "x": Evil(marker)}, Evil(marker)):
        path = saved(tmp_path / "evil.pth", content, archive=archive)
        with pytest.raises(WeightsError, match=r"refused, because loading it would run \w+\.system;") as caught:
            read_raw(path)
        assert "\n" not in str(caught.value)
        assert not marker.exists()


def test_nothing_but_namespaces_is_let_in(tmp_path: Path) -> None:
    path = saved(tmp_path / "path.pth", {"model": STATE, "args": argparse.Namespace(out=PurePosixPath("x"))})
    with pytest.raises(WeightsError, match=r"would run pathlib\.PurePosixPath"):
        read_raw(path)
    with pytest.raises(WeightsError, match="would run"):  # and the door is closed again
        read_raw(saved(tmp_path / "set.pth", {"model": STATE, "x": Evil(tmp_path / "it-ran")}))
    with pytest.raises(Exception, match="Namespace"):
        torch.load(saved(tmp_path / "own.pth", ARGS), weights_only=True)


@pytest.mark.parametrize("archive", [True, False], ids=["archive", "old"])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_a_torn_file_is_refused(share: float, archive: bool, tmp_path: Path) -> None:
    path = saved(tmp_path / "torn.pth", {"model": STATE, "args": ARGS}, archive=archive)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(WeightsError, match=r"torn\.pth") as caught:
        read_raw(path)
    assert "\n" not in str(caught.value)


def test_a_changed_byte_is_noticed(tmp_path: Path) -> None:
    path = saved(tmp_path / "changed.pth", {"model": {"a": torch.full((1000,), 7.0)}})
    content = bytearray(path.read_bytes())
    place = content.find(torch.full((100,), 7.0).numpy().tobytes())
    content[place + 50] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(WeightsError, match="is not what was written"):
        read_raw(path)


@pytest.mark.parametrize(("offset", "bit"), [(38, 4), (10, 0), (10, 3), (10, 5)])
def test_a_changed_bit_of_the_directory_is_noticed(tmp_path: Path, offset: int, bit: int) -> None:
    """What says of a part that it is a folder, or how it is packed, is covered by no check sum."""
    path = saved(tmp_path / "changed.pth", {"model": {"a": torch.full((4,), 7.0)}})
    content = bytearray(path.read_bytes())
    entries = [found.start() for found in re.finditer(b"PK\x01\x02", bytes(content))]
    for entry in entries:
        changed = bytearray(content)
        changed[entry + offset] ^= 1 << bit
        path.write_bytes(bytes(changed))
        with pytest.raises(WeightsError, match=r"changed\.pth"):
            read_raw(path)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ([1, 2], "holds a list instead of a state dict"),
        ({"epoch": 3}, "holds no tensors by name"),
        ({"model": {"a": 3}}, "holds no tensors by name"),
        ({"module": {"a": torch.zeros(0)}, "ds_version": "0.7"}, "stage 3 keeps them elsewhere"),
    ],
)
def test_what_holds_no_weights_is_refused(content: Any, told: str, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=told):
        read_raw(saved(tmp_path / "other.pth", content))


def test_what_is_no_weights_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "notes.pth"
    for content in (
        b"some notes that are long enough",
        b"",
        b"\x80\x04K\x01.",
        b"\x80\x02notes",
        b"PK\x03\x04 and more",
    ):
        path.write_bytes(content)
        with pytest.raises(WeightsError, match=r"notes\.pth"):
            read_raw(path)
    with pytest.raises(WeightsError, match="expected a run folder or a weights file"):
        read_raw(tmp_path / "nothing.pth")
    with pytest.raises(WeightsError, match="a folder of transformers"):
        read_raw(tmp_path)
    saved(tmp_path / DEEPSPEED_NAME, {"module": STATE})
    saved(tmp_path / "mp_rank_01_model_states.pt", {"module": STATE})
    with pytest.raises(WeightsError, match="one of several parts"):
        read_raw(tmp_path)
