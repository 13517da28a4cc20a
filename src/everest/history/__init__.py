"""Runs that were, and runs that go on, read from their folders without touching them; quick, as torch is not needed."""

from everest.history.compare import Axis, RunComparison, compare_runs, end_of, points_of
from everest.history.find import RunList, find_runs
from everest.history.run import Run, read_run
from everest.history.show import RunShown, show_run

__all__ = [
    "Axis",
    "Run",
    "RunComparison",
    "RunList",
    "RunShown",
    "compare_runs",
    "end_of",
    "find_runs",
    "points_of",
    "read_run",
    "show_run",
]
