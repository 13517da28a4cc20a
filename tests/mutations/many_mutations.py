"""The long form of ``test_mutations.py``, with other mutants: ``make test-mutations``."""

from collections.abc import Callable
from pathlib import Path

from surviving import assert_survives


def test_a_thousand_damaged_files_are_survived(tmp_path: Path, report_line: Callable[[str], None]) -> None:
    report_line(assert_survives(tmp_path, 1000, seed=1, timeout=3000, max_mib=3000))
