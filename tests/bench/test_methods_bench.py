"""The table of methods has every one of them, and compares with EVEREST and with what the paper says."""

import json
from typing import Any

import pytest

from everest.bench import peers
from everest.bench.macs import count_macs
from everest.bench.methods import METHODS, bench_methods, format_methods
from everest.bench.peers import Contender
from everest.errors import ConfigError


def test_rows_are_compared_with_everest_and_videomae(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = {"EVEREST": 2.0, "VideoMAE": 4.0, "MVD": 20.0}

    def answer(contender: Contender, options: list[str]) -> dict[str, Any] | str:
        assert options == [
            *("--size", "tiny", "--batch", "2", "--device", "cpu", "--precision", "auto", "--steps", "1")
        ]
        if contender.name == "MME":
            return "no flow"
        common = {"device": "cpu", "precision": "float32", "hardware": {"name": "a chip"}, "tokens": {"total": 8}}
        numbers = {
            "peak_memory_gb": 1.0,
            "step_gflop": 5.0,
            "share_of_matrix_rate": 0.5,
            "matrix_rate_gflops": 9.0,
            "gmacs": 3.0,
        }
        kept = 0.5 if contender.selection == "rero" else 1.25
        return {"seconds": [seconds.get(contender.name, 3.0)], "activations_gb": kept} | common | numbers

    monkeypatch.setattr(peers, "_measure", answer)
    values = bench_methods(size="tiny", batch=2, device="cpu", steps=1, rounds=1)
    rows = {row["name"]: row for row in values["rows"]}
    assert tuple(rows) == tuple(method.contender.name for method in METHODS)
    assert rows["VideoMAE"]["times_everest"] == 2.0
    assert rows["EVEREST"]["activations_of_videomae"] == pytest.approx(0.4)
    assert rows["VideoMAE"]["published"]["times_everest"] == pytest.approx(18.7 / 8.3)
    assert rows["MVD"]["published"]["times_everest"] == pytest.approx(6.255, abs=1e-3)  # 51:55 over 8:18
    assert rows["EVEREST + MVD"]["published"] is None
    assert rows["MME"] == {"name": "MME", "problem": "no flow", "published": rows["MME"]["published"]}
    json.dumps(values)
    assert "not measured: no flow" in format_methods(values)


def test_videomae_has_the_multiply_adds_of_the_table() -> None:
    macs = {m.contender.name: count_macs("base", "pretrain", m.contender.selection)["gmacs"] for m in METHODS[:4]}
    assert macs["EVEREST"] == pytest.approx(19.52, abs=0.01)  # the release: 19.78
    assert macs["VideoMAE"] == pytest.approx(33.37, abs=0.01)  # the release embeds all tokens: 35.44
    assert macs["random at equal count"] < macs["EVEREST"] < macs["K-centred at equal count"]


def test_mme_encodes_the_tokens_of_its_paper() -> None:
    assert count_macs("tiny", "pretrain", "tube", encode_ratio=0.3)["tokens"] == {
        **{"total": 1568, "visible": 472, "target": 1096}
    }


def test_no_steps_are_refused() -> None:
    with pytest.raises(ConfigError, match="at least 1"):
        bench_methods(rounds=0)
