"""`everest predict` on a stream that breaks off: what was seen is kept, and the exit code says that it was not all."""

import json
from pathlib import Path

import pytest
from PIL import Image
from small_predictors import INFO, a_predictor

from everest.cli import main
from everest.config import ClipConfig
from everest.datasets import load_data
from everest.inference import Windows
from everest.inference import live as live_module
from everest.models import save_weights
from live_sources import as_transport_stream, sending

CLIP = load_data("bundled").records[0].path


def test_what_was_seen_before_is_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_module, "is_pushed", lambda location: False)  # it comes at once, not as it is filmed
    predictor = a_predictor(INFO.model_copy(update={"clip": ClipConfig(num_frames=4, height=32, width=32, stride=2)}))
    weights, out, pictures = tmp_path / "w.safetensors", tmp_path / "seen.jsonl", tmp_path / "pictures"
    save_weights(predictor.model, predictor.info, weights)
    with sending(as_transport_stream(CLIP), silent_seconds=0.3, torn=True) as address:
        command = ["predict", str(weights), address, "--window", "0.5", "--json"]
        code = main([*command, "--out", str(out), "--timelines", str(pictures)])
    told, err = capsys.readouterr()
    rows = [json.loads(line) for line in told.splitlines()]
    known = predictor.timeline(CLIP, Windows(0.5)).windows
    assert (code, err) == (1, f"error: {address}: broke off: connection reset by peer\n")
    assert len(known) - 2 <= len(rows) < len(known)
    assert [row["classes"][0]["name"] for row in rows] == [window.best for window in known[: len(rows)]]
    kept = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row for row in kept if "classes" in row] == rows
    timeline = json.loads((pictures / "stream.json").read_text())
    assert [window["start"] for window in timeline["windows"]] == [row["start"] for row in rows]
    Image.open(pictures / "stream.png").verify()
