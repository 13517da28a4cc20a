"""No damaged file stops anything, and no good one is lost; `make test-mutations` does the same with more of them."""

from collections.abc import Callable
from pathlib import Path

from mutants import make_mutants, make_originals
from surviving import assert_survives


def test_a_hundred_damaged_files_are_survived(tmp_path: Path, report_line: Callable[[str], None]) -> None:
    report_line(assert_survives(tmp_path, 100, seed=0, timeout=300, max_mib=1500))


def test_mutants_are_the_same_for_the_same_seed(tmp_path: Path) -> None:
    originals = make_originals(tmp_path / "originals")
    contents = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        files = [mutant.path for mutant in make_mutants(originals, tmp_path / name, 40, seed)]
        contents.append([path.read_bytes() if path.is_file() else b"" for path in files])
    assert contents[0] == contents[1]
    assert contents[0] != contents[2]
