"""Curves of runs, out of their folders."""

from everest.history import Axis, Run, end_of, points_of
from everest.visualize import RunCurves

AXIS_LABELS: dict[Axis, str] = {"steps": "optimiser steps", "epochs": "epochs", "hours": "hours of training"}


def curves_of(run: Run, name: str, axis: Axis) -> RunCurves:
    """Take what is drawn of a run.

    Args:
        run: Read completely.
        name: What to call it.
        axis: What its points are laid over.
    """
    top1, end = run.top1, end_of(run, axis)
    final = None if top1 is None or end is None or not run.evaluation else (end, *top1)
    return RunCurves(name, points_of(run, "loss", axis), points_of(run, "top1", axis), final)
