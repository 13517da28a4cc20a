"""All experiments, reduced until they fit into minutes: that they run, not what they find.

    make experiments-quick

The bundled clips, one seed, and so few steps that nothing is learnt. Numbers of these runs say nothing.
"""

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import a_pretraining
import b_keep_ratio
import c_frames
import d_scores
import e_camera
import f_adaptive
import fewer_labels
import moving_camera
import prepare
import report
import still_parts
import tuning

TASKS = ["falls", "speed"]


def run(words: Sequence[str] | None = None) -> int:
    """Run everything, one after the other, and stop at the first that fails."""
    (out,) = sys.argv[1:] if words is None else words
    root = Path(out)
    data, runs = root / "data", root / "runs"
    still, moving = root / "data-still-parts", root / "data-moving-camera"

    def common(folder: Path, *more: str) -> list[str]:
        return ["--data", str(folder), "--out", str(runs), "--profile", "quick", "--seeds", "0", *more]

    def steps() -> list[tuple[str, Callable[[Sequence[str]], int], list[str]]]:
        tasks = ["--tasks", *TASKS]
        return [
            ("data", prepare.main, ["--out", str(data), "--most", "1"]),
            ("tuning", tuning.main, common(data, "--tasks", "speed")),
            ("a", a_pretraining.run, common(data)),
            ("a, controls", a_pretraining.run, common(data, "--arms", "everest", "--tasks", "speed-control")),
            ("a, lists of few labels", fewer_labels.main, [str(data), "--tasks", "direction"]),
            ("a, few labels", a_pretraining.run, common(data, "--tasks", "direction-few", "--hows", "60 %")),
            ("a, equal time", a_pretraining.run, common(data, "--equal", "time", "--tasks", "falls")),
            ("b", b_keep_ratio.run, common(data, *tasks)),
            ("c, data", still_parts.main, [str(data), "--out", str(still), *tasks]),
            ("c", c_frames.run, common(still)),
            ("d", d_scores.run, common(data, *tasks)),
            ("e, data", moving_camera.main, [str(data), "--out", str(moving), "--tasks", "falls"]),
            ("e", e_camera.run, common(moving, "--still", str(data))),
            ("f", f_adaptive.run, common(data, *tasks)),
            ("report", report.main, [str(runs / "results"), "--page", str(root / "results.md")]),
        ]

    began = time.perf_counter()
    for name, step, given in steps():
        started = time.perf_counter()
        if code := step(given):
            print(f"{name} failed", file=sys.stderr)
            return code
        print(f"== {name}: {time.perf_counter() - started:.0f} s", file=sys.stderr)
    print(f"all experiments ran in {time.perf_counter() - began:.0f} s")
    return 0


if __name__ == "__main__":
    raise SystemExit(run())
