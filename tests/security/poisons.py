"""Files that would run code if anybody unpickled them."""

import io
import pickle
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch


class Evil:
    """Writes a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Path.touch, (self.marker,)


def as_archive(marker: Path) -> bytes:
    """What ``torch.save`` writes, with weights that look right beside the poison."""
    buffer = io.BytesIO()
    torch.save({"model": {"a.weight": torch.ones(2)}, "optimizer": Evil(marker)}, buffer)
    return buffer.getvalue()


def as_old_archive(marker: Path) -> bytes:
    buffer = io.BytesIO()
    torch.save({"state_dict": {"a": torch.ones(2)}, "x": Evil(marker)}, buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue()


def as_pickle(marker: Path) -> bytes:
    return pickle.dumps({"step": 1, "x": Evil(marker)})


def as_old_pickle(marker: Path) -> bytes:
    return pickle.dumps({"step": 1, "x": Evil(marker)}, protocol=0)


def as_array(marker: Path) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.array([Evil(marker)], dtype=object), allow_pickle=True)
    return buffer.getvalue()


def as_arrays(marker: Path) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, steps=np.array([Evil(marker)], dtype=object))
    return buffer.getvalue()


def as_script_archive(marker: Path) -> bytes:
    """An archive as TorchScript and PyTorch's packages have it: code beside the data."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", as_pickle(marker))
        archive.writestr("archive/constants.pkl", as_pickle(marker))
        archive.writestr("archive/code/__torch__.py", f"open({str(marker)!r}, 'w')")
        archive.writestr("archive/version", "3\n")
    return buffer.getvalue()


def as_tar(marker: Path) -> bytes:
    """A shard whose members are pickles, by names that other readers of shards unpickle."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name in ("0.mp4", "0.pyd", "0.pkl", "0.json", "0.cls", "0.pth"):
            content = as_pickle(marker)
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def as_yaml(marker: Path) -> bytes:
    return f"!!python/object/apply:pathlib.Path.touch [!!python/object/apply:pathlib.Path ['{marker}']]\n".encode()


def as_python(marker: Path) -> bytes:
    return f"open({str(marker)!r}, 'w').close()\n".encode()


POISONS: dict[str, Callable[[Path], bytes]] = {
    "archive": as_archive,
    "old archive": as_old_archive,
    "pickle": as_pickle,
    "old pickle": as_old_pickle,
    "array": as_array,
    "arrays": as_arrays,
    "script": as_script_archive,
    "tar": as_tar,
    "yaml": as_yaml,
    "python": as_python,
}
