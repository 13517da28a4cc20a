"""Training states: complete or absent, the newest kept, damage noticed."""

import errno
import zipfile
from pathlib import Path

import pytest
import torch
from torch import nn

from everest.errors import RunError
from everest.training.state import latest_state, load_latest, load_state, save_state


def a_state(value: float = 1.0) -> dict:
    return {"weight": torch.full((64,), value), "step": 3, "names": ["a", "b"], "none": None}


def damage(path: Path, *, position: float = 0.5) -> None:
    """Flip one byte inside the largest stretch of the file: the data of a tensor."""
    data = bytearray(path.read_bytes())
    where = data.index(torch.full((64,), 1.0).numpy().tobytes()) + int(256 * position)
    data[where] ^= 1
    path.write_bytes(bytes(data))


def change_method(path: Path, method: int) -> None:
    """Write into the directory of the archive that its first part is to be unpacked in another way."""
    data = bytearray(path.read_bytes())
    where = data.index(b"PK\x01\x02") + 10
    assert data[where : where + 2] == b"\0\0"
    data[where] = method
    path.write_bytes(bytes(data))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_training_state_comes_back_as_it_was(tmp_path: Path) -> None:
    model = nn.Linear(4, 2)
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    model(torch.ones(1, 4)).sum().backward()
    optimizer.step()
    state = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "rng": torch.get_rng_state(),
        "epoch": 2,
        "best": None,
    }
    loaded = load_state(save_state(tmp_path / "checkpoints", 12, state, keep=1))
    assert loaded.keys() == state.keys()
    assert loaded["epoch"] == 2
    assert torch.equal(loaded["rng"], state["rng"])
    assert torch.equal(loaded["model"]["weight"], model.weight)
    assert torch.equal(loaded["optimizer"]["state"][0]["exp_avg"], optimizer.state_dict()["state"][0]["exp_avg"])
    optimizer.load_state_dict(loaded["optimizer"])


def test_the_newest_are_kept(tmp_path: Path) -> None:
    for step in (5, 10, 20, 100):
        path = save_state(tmp_path, step, a_state(), keep=2)
        assert latest_state(tmp_path) == path
    assert names(tmp_path) == ["step-00000020.pt", "step-00000100.pt"]


def test_states_after_the_one_saved_are_dropped(tmp_path: Path) -> None:
    """A run that went back from a damaged state must not lose the state it then saves."""
    for step in (10, 20):
        save_state(tmp_path, step, a_state(), keep=2)
    save_state(tmp_path, 15, a_state(), keep=1)
    assert names(tmp_path) == ["step-00000015.pt"]


def test_only_own_files_are_dropped(tmp_path: Path) -> None:
    for name in ("notes.txt", "step-1.pt", "best.pt"):
        (tmp_path / name).write_text("x")
    (tmp_path / ".step-00000001.pt.tmp").write_text("left by a killed process")
    for step in (1, 2):
        save_state(tmp_path, step, a_state(), keep=1)
    assert names(tmp_path) == ["best.pt", "notes.txt", "step-00000002.pt", "step-1.pt"]


def test_nothing_saved_yet(tmp_path: Path) -> None:
    assert latest_state(tmp_path) is None
    assert load_latest(tmp_path / "missing") is None


@pytest.mark.parametrize("harm", ["flipped", "method 1", "method 8", "cut", "empty", "text"])
def test_damage_is_noticed_and_an_earlier_state_used(tmp_path: Path, harm: str) -> None:
    save_state(tmp_path, 1, a_state(1.0), keep=3)
    path = save_state(tmp_path, 2, a_state(1.0), keep=3)
    if harm == "flipped":
        damage(path)
    elif harm.startswith("method"):  # of compression, as the directory of the archive says
        change_method(path, int(harm[-1]))
    else:
        data = path.read_bytes()
        path.write_bytes({"cut": data[: len(data) // 2], "empty": b"", "text": b"no archive"}[harm])
    with pytest.raises(RunError, match="damaged") as caught:
        load_state(path)
    assert "\n" not in str(caught.value)
    with pytest.warns(UserWarning, match=r"step-00000002.pt is damaged.*trying an earlier one"):
        loaded = load_latest(tmp_path)
    assert loaded is not None
    assert loaded[0] == 1
    assert torch.equal(loaded[1]["weight"], a_state()["weight"])


def test_a_damaged_state_takes_no_place_of_those_that_are_kept(tmp_path: Path) -> None:
    for step in (10, 20):
        path = save_state(tmp_path, step, a_state(), keep=2)
    damage(path)
    with pytest.warns(UserWarning, match="damaged"):
        load_latest(tmp_path)
    assert names(tmp_path) == ["step-00000010.pt", "step-00000020.pt.damaged"]
    save_state(tmp_path, 23, a_state(), keep=2)
    assert names(tmp_path) == ["step-00000010.pt", "step-00000020.pt.damaged", "step-00000023.pt"]


def test_a_disk_that_cannot_be_read_is_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The state may be whole: going on from an earlier one would drop it."""
    for step in (10, 20):
        save_state(tmp_path, step, a_state(), keep=2)

    def fail(archive: zipfile.ZipFile) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(zipfile.ZipFile, "testzip", fail)
    with pytest.raises(RunError, match=r"step-00000020.pt could not be read: Input/output error"):
        load_latest(tmp_path)
    assert names(tmp_path) == ["step-00000010.pt", "step-00000020.pt"]


def test_any_flipped_bit_in_the_directory_is_damage_or_harmless(tmp_path: Path) -> None:
    path = save_state(tmp_path, 1, a_state(), keep=1)
    data = path.read_bytes()
    start, num_refused = data.index(b"PK\x01\x02"), 0
    for bit in range(8 * start, 8 * len(data)):  # one makes a tensor a folder, which torch gives without its numbers
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        path.write_bytes(bytes(changed))
        try:
            assert torch.equal(load_state(path)["weight"], a_state()["weight"])
        except RunError:
            num_refused += 1
    assert num_refused > 100


def test_no_whole_state_is_an_error(tmp_path: Path) -> None:
    damage(save_state(tmp_path, 1, a_state(), keep=1))
    with pytest.warns(UserWarning, match="damaged"), pytest.raises(RunError, match="none of the 1 training states"):
        load_latest(tmp_path)
    assert names(tmp_path) == ["step-00000001.pt"]  # so that the next start says the same


def test_missing_and_foreign_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="does not exist"):
        load_state(tmp_path / "step-00000001.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(RunError, match="holds a list"):
        load_state(tmp_path / "list.pt")
    torch.save({"path": Path("x")}, tmp_path / "object.pt")
    with pytest.raises(RunError, match="not a training state"):
        load_state(tmp_path / "object.pt")


@pytest.mark.parametrize(
    ("state", "where"),
    [({"a": {"b": [Path("x")]}}, r"state\['a'\]\['b'\]\[0\] is a PosixPath"), ({(1, 2): 3}, r"the key \(1, 2\)")],
)
def test_what_could_not_be_loaded_is_not_saved(tmp_path: Path, state: dict, where: str) -> None:
    with pytest.raises(RunError, match=where):
        save_state(tmp_path / "checkpoints", 1, state, keep=1)
    assert not (tmp_path / "checkpoints").exists()


def test_a_failed_save_leaves_the_earlier_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_state(tmp_path, 1, a_state(), keep=1)

    def full_disk(state: dict, file) -> None:
        file.write(b"part")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full_disk)
    with pytest.raises(RunError, match="could not be written: No space left on device"):
        save_state(tmp_path, 2, a_state(), keep=1)
    assert names(tmp_path) == ["step-00000001.pt"]
    assert load_state(tmp_path / "step-00000001.pt")["step"] == 3
