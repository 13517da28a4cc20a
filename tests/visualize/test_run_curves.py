"""Pictures of runs."""

import io

import pytest
from PIL import Image

from everest.visualize import RunCurves, draw_runs
from everest.visualize.charts import plain
from everest.visualize.run_curves import MAX_POINTS, thin_out


def size(picture: bytes) -> tuple[int, int]:
    return Image.open(io.BytesIO(picture)).size


def test_accuracies_get_a_panel_where_there_are_any() -> None:
    loss = [(float(step), 1 / (step + 1)) for step in range(5000)]
    plain_runs = [RunCurves(f"run {n}", loss) for n in range(8)]
    evaluated = RunCurves("evaluated", loss, [(1000, 0.3)], (5000, 0.5, (0.4, 0.6)))
    assert size(draw_runs(plain_runs, "steps"))[1] < size(draw_runs([*plain_runs, evaluated], "steps"))[1]
    assert size(draw_runs([RunCurves("x", [], [], (1, 0.5, None))], "steps"))[1] > 500


@pytest.mark.parametrize("name", ["$\\frac{$", "a $ b", "$x$", "_hidden", "<b>&", "日本", "\\"])
def test_names_are_no_formulas(name: str) -> None:
    assert draw_runs([RunCurves(name, [(0, 1.0), (1, 0.5)])], name).startswith(b"\x89PNG")
    assert draw_runs([], name).startswith(b"\x89PNG")
    assert not plain(name).startswith("_")


def test_long_curves_are_averaged_in_groups() -> None:
    points = [(float(n), float(n % 2)) for n in range(10 * MAX_POINTS)]
    thin = thin_out(points)
    assert len(thin) == MAX_POINTS
    assert all(y == 0.5 for _, y in thin)
    assert [thin[0][0], thin[-1][0]] == [4.5, 10 * MAX_POINTS - 5.5]
    assert thin_out(points[:3]) == points[:3]
    assert len(thin_out(points[: MAX_POINTS + 1])) <= MAX_POINTS
