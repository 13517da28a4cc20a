"""Growth is measured by tokens, and drawn."""

import json
from pathlib import Path

import pytest

from everest.bench.growth import _exponents, bench_growth, draw_growth, format_growth
from everest.errors import ConfigError


def test_batches_and_clips_grow(tmp_path: Path) -> None:
    done: list[tuple[int, int]] = []
    values = bench_growth(
        size="tiny", batches=(1, 2), frames=(4, 8), steps=2, device="cpu", on_progress=lambda *n: done.append(n)
    )
    assert [row["tokens"] for row in values["by_batch"]["rows"]] == [1568, 3136]
    assert [row["tokens"] for row in values["by_frames"]["rows"]] == [392, 784]
    assert done == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert json.loads(json.dumps(values)) == values
    assert "tokens^" in format_growth(values)
    draw_growth(values, tmp_path / "growth.png")
    assert (tmp_path / "growth.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ConfigError, match="cannot be written"):
        draw_growth(values, tmp_path / "missing" / "growth.png")


def test_powers_of_growth() -> None:
    rows = [{"tokens": 1, "seconds_per_step": 0.5}, {"tokens": 2, "seconds_per_step": 1.0}]
    rows.append({"tokens": 4, "seconds_per_step": 4.0})
    assert _exponents(rows) == pytest.approx([1.0, 2.0])


@pytest.mark.parametrize("numbers", [(), (1,), (2, 1), (1, 1), (0, 1)])
def test_numbers_must_rise(numbers: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match="batches must be at least two rising numbers"):
        bench_growth(size="tiny", batches=numbers)
    with pytest.raises(ConfigError, match="frames must be at least two rising numbers"):
        bench_growth(size="tiny", frames=numbers)
