"""Runs damaged videos through everything that reads videos, and checks what must hold."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import everest

SCRIPT = Path(__file__).with_name("survive.py")


def assert_survives(folder: Path, count: int, seed: int, *, timeout: float, max_mib: float) -> str:
    """Use mutants as data, in a process of its own.

    Returns:
        What was found, in one line.
    """
    result = folder / "result.json"
    source = Path(everest.__file__).parents[1]
    program = subprocess.run(
        [sys.executable, str(SCRIPT), str(folder), str(count), str(seed), str(result)],
        capture_output=True,
        text=True,
        timeout=timeout,
        env={**os.environ, "PYTHONPATH": str(source), "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert "Traceback" not in program.stderr, program.stderr[-3000:]
    assert program.returncode == 0, program.stderr[-3000:]
    found: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
    assert found["codes"] == {"index": 0, "check": 1}
    assert found["num_mutants"] == count
    assert found["lost_good"] == []
    assert found["not_indexed"] == []
    assert found["fine_but_failed"] == []
    assert found["stopped"] == []
    assert found["num_fine"] > found["num_originals"] + count // 10
    assert found["num_faulty"] > count // 4
    assert all("\n" not in fault for fault in found["faults"].values())
    assert found["peak_mib"] < max_mib
    seconds = ", ".join(f"{name} {value:.0f} s" for name, value in found["seconds"].items())
    return (
        f"{count} mutated files and {found['num_originals']} whole ones through index, check and both loaders: "
        f"{found['num_fine']} can be used, {found['num_faulty']} cannot "
        f"({found['faulty_but_read']} of them only where no clip was taken); {seconds}; "
        f"peak {found['peak_mib']:.0f} MiB"
    )
