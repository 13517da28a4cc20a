"""Kill a run again and again, start it again with the same command, and compare its end with that of a whole run."""

import random
import re
import shutil
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from small_runs import NUM_STEPS, SAVE_EVERY, Small, assert_equal, first_step_of
from starts import Start, Starts

KILLED = -9
NEVER = 10**9
DELAY_SECONDS = 0.5  # in which a run starts, does some steps, or saves


@dataclass
class Outcome:
    """What was survived.

    Attributes:
        num_kills: Processes that were killed before their end.
        num_runs: Runs that came to their end.
        moments: How many were killed in the middle of what.
        steps_lost: Steps that were done again, of each kill.
    """

    num_kills: int = 0
    num_runs: int = 0
    moments: Counter[str] = field(default_factory=Counter)
    steps_lost: list[int] = field(default_factory=list)
    seconds: float = 0.0

    def __str__(self) -> str:
        moments = ", ".join(f"{count} {name}" for name, count in self.moments.most_common())
        return (
            f"{self.num_kills} kills in {self.num_runs} runs ({moments}); each run ended bit for bit as one that was "
            f"not killed; {max(self.steps_lost, default=0)} steps at most were done again, with a save every "
            f"{SAVE_EVERY}; {self.seconds:.0f} s"
        )


def moment_of(run: Small, printed: str) -> str:
    """Say what a killed process was in the middle of, by what it left and said."""
    match = re.search("killed before [a-z.]+ (.*)", printed)
    changed = "" if match is None else match[1]
    if not (run.out / "config.json").exists():
        return "before there was a config.json"
    if "step-" in changed or list(run.out.rglob(".step-*.tmp")):
        return "saving a state"
    if "weights" in changed or list(run.out.glob(".weights*")):
        return "writing weights"
    if changed.startswith(("events", "metrics", ".metrics")):
        return "opening logs"
    if not (run.out / "metrics.jsonl").exists():
        return "before the first step"
    if printed.rstrip().rpartition("\n")[2].startswith("evaluating"):
        return "evaluating"
    return "training" if run.num_steps_logged() < NUM_STEPS else "after the last step"


@dataclass
class Killer:
    """Kills runs of one variant at seeded random moments.

    Args:
        starts: The server.
        data: Manifest.
        folder: For the runs.
        variant: Of the runs.
        random: Draws the moments.
    """

    starts: Starts
    data: Path
    folder: Path
    variant: str
    random: random.Random
    outcome: Outcome

    def __post_init__(self) -> None:
        self.whole = Small(self.variant, self.data, self.folder / f"{self.variant}-whole")
        code, printed = self.starts.run(*self.whole.command, kill_at=NEVER)
        assert code == 0, printed
        self.num_changes = int(printed.rsplit("changes of files: ", 1)[1].split()[0])

    def kill_until_it_ends(self, name: str, num_kills: int, *, by_changes: bool) -> None:
        """Kill one run at most so many times, and let it end.

        Args:
            name: Of its folder.
            num_kills: At most; a run may end earlier.
            by_changes: Kill before a change of a file, drawn among all that a whole run makes; else after a time.
        """
        run = self._run(name)
        for _ in range(num_kills):
            before = run.num_steps_logged()
            if by_changes:
                start = self.starts.begin(*run.command, kill_at=self.random.randrange(self.num_changes))
            else:
                start = self.starts.begin(*run.command)
                self._kill_somewhere(run, start, before)
            code = start.wait()
            self._check_going_on(start, before)
            assert code in {0, KILLED}, start.printed
            if code == 0:
                break
            start.leaves_nothing()
            self.outcome.num_kills += 1
            self.outcome.moments[moment_of(run, start.printed)] += 1
        before = run.num_steps_logged()
        start = self.starts.begin(*run.command)
        assert start.wait() == 0, start.printed
        self._check_going_on(start, before)
        assert_equal(run, self.whole)
        self.outcome.num_runs += 1
        shutil.rmtree(run.out)  # a hundred megabytes each

    def _kill_somewhere(self, run: Small, start: Start, before: int) -> None:
        """Kill a start at some step, and some time after it, however fast the machine is."""
        target = self.random.randint(before, max(before, NUM_STEPS - 1))
        delay = self.random.uniform(0.0, DELAY_SECONDS)
        if target > before:
            start.wait_until(lambda: run.num_steps_logged() >= target)
        time.sleep(delay)
        start.kill()

    def _check_going_on(self, start: Start, num_steps_before: int) -> None:
        """What was lost is no more than what was not saved."""
        first = first_step_of(start.printed)
        if first is not None:
            lost = num_steps_before - first
            assert 0 <= lost <= SAVE_EVERY, start.printed
            self.outcome.steps_lost.append(lost)

    def _run(self, name: str) -> Small:
        return Small(self.variant, self.data, self.folder / f"{self.variant}-{name}")
