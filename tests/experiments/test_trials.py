"""Trials of experiments: what cannot be measured whole leaves nothing behind."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from everest.errors import DataError

sys.path.append(str(Path(__file__).parents[2] / "experiments"))
import trials
from lists import Bench
from profiles import PROFILES


def test_features_of_a_clip_too_few_are_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for place in ("tasks/speed", "footage"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "manifest.csv").write_text("path,label,split,group\n")
    asked: list[Path] = []

    def embed(_run: Path, _manifest: Path, out: Path, **_: object) -> SimpleNamespace:
        asked.append(out)
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_bytes(b"a table")
        return SimpleNamespace(failures={"gone.mp4": "it is not there"})

    monkeypatch.setattr(trials.everest, "embed", embed)
    bench = Bench(tmp_path, tmp_path / "out", PROFILES["quick"])
    for _ in range(2):  # a second start does not take it for done
        with pytest.raises(DataError, match=r"gone\.mp4: it is not there"):
            trials.probe(bench, "speed", Path("run"), None)
    assert len(asked) == 2
    assert not asked[0].exists()
