"""Pictures of runs."""

import io

import pytest
from matplotlib.figure import Figure
from PIL import Image

from everest.visualize import RunCurves, draw_runs, run_curves, training_curves
from everest.visualize.charts import plain
from everest.visualize.run_curves import MAX_POINTS, thin_out
from everest.visualize.training_curves import TRACES, draw_trace


def size(picture: bytes) -> tuple[int, int]:
    return Image.open(io.BytesIO(picture)).size


def test_accuracies_get_a_panel_where_there_are_any() -> None:
    loss = [(float(step), 1 / (step + 1)) for step in range(5000)]
    plain_runs = [RunCurves(f"run {n}", loss) for n in range(8)]
    evaluated = RunCurves("evaluated", loss, [(1000, 0.3)], (5000, 0.5, (0.4, 0.6)))
    assert size(draw_runs(plain_runs, "steps"))[1] < size(draw_runs([*plain_runs, evaluated], "steps"))[1]
    assert size(draw_runs([RunCurves("x", [], [], (1, 0.5, None))], "steps"))[1] > 500


@pytest.mark.parametrize(
    ("steps", "known"),
    [
        ([1], ["1"]),
        ([1, 2, 3], ["1", "2", "3"]),
        ([0, 40_000], ["0", "10,000", "20,000", "30,000", "40,000"]),
    ],
)
@pytest.mark.parametrize("of_a_run", [True, False])
def test_ticks_of_steps_are_whole_numbers_and_each_is_there_once(
    steps: list[int], known: list[str], of_a_run: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Figure] = []
    for module in (training_curves, run_curves):
        monkeypatch.setattr(module, "as_png", lambda figure: drawn.append(figure) or b"")
    points = [(float(step), 1.0) for step in steps]
    if of_a_run:
        draw_trace(points, TRACES[0])
    else:
        draw_runs([RunCurves("run", points, points, (steps[-1], 0.5, (0.4, 0.6)))], "steps")
    assert visible_ticks(drawn[0]) == known


def test_hours_have_ticks_between_whole_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Figure] = []
    monkeypatch.setattr(run_curves, "as_png", lambda figure: drawn.append(figure) or b"")
    draw_runs([RunCurves("run", [(0.01, 1.0), (0.23, 1.0)])], "hours of training")
    assert len(set(visible_ticks(drawn[0]))) > 3


def visible_ticks(figure: Figure) -> list[str]:
    """Labels below the lowest chart."""
    axes = figure.axes[-1]
    low, high = axes.get_xlim()
    figure.draw_without_rendering()
    places, labels = axes.get_xticks(), axes.get_xticklabels()
    return [label.get_text() for place, label in zip(places, labels, strict=True) if low <= place <= high]


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
