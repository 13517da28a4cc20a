"""A run that was not evaluated is measured when a report asks for it."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from everest.reporting import report_run


def test_a_finished_run_gets_the_evaluation_that_it_lacks(copied: Callable[[str], Path]) -> None:
    run = copied("fine")
    before = json.loads((run / "evaluation.json").read_text())
    (run / "evaluation.json").unlink()
    _, values = report_run(run, evaluate=True)
    again = json.loads((run / "evaluation.json").read_text())
    assert values["evaluation"]["confusion"] == before["confusion"] == again["confusion"]
    assert values["evaluation"]["part_digest"] == before["part_digest"]
    for one, other in zip(before["predictions"], again["predictions"], strict=True):
        assert one["probabilities"] == pytest.approx(other["probabilities"], abs=1e-5)
