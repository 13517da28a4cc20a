"""Runs of two processes under torchrun."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from small_runs import Small
from starts import SOURCE


class Launch:
    """torchrun with two processes of a run, or with one of several machines where ``--nnodes`` is among its options.

    Attributes:
        run: The run.
        process: torchrun itself.
    """

    def __init__(self, run: Small, output: Path, *options: str) -> None:
        self.run, self._output = run, output
        env = os.environ | {"PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
        place = () if any(each.startswith("--nnodes") for each in options) else ("--standalone", "--nproc-per-node=2")
        command = [sys.executable, "-m", "torch.distributed.run", *place, *options]
        with output.open("w") as file:
            self.process = subprocess.Popen(
                [*command, "-m", "everest", *run.command], stdout=file, stderr=file, env=env
            )

    @property
    def printed(self) -> str:
        """What all of them printed so far."""
        return self._output.read_text()

    def rank(self, number: int) -> int:
        """The process of a rank."""
        found = self.ranks().get(number)
        assert found is not None, self.printed
        return found

    def ranks(self) -> dict[int, int]:
        """The processes by rank, as far as they have begun."""
        found = {}
        with suppress(FileNotFoundError, ProcessLookupError):
            for pid in Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split():
                with suppress(FileNotFoundError, ProcessLookupError):
                    rank = re.search(r"\0RANK=(\d+)\0", Path(f"/proc/{pid}/environ").read_text())
                    found |= {} if rank is None else {int(rank[1]): int(pid)}
        return found

    def wait_for_ranks(self) -> dict[int, int]:
        """Wait until both processes have begun; gives what there is if torchrun has ended."""
        deadline = time.monotonic() + 60
        while len(found := self.ranks()) < 2 and self.process.poll() is None:
            assert time.monotonic() < deadline, self.printed
            time.sleep(0.02)
        return found

    def wait_for_step(self, step: int) -> None:
        """Wait until so many steps are logged."""
        deadline = time.monotonic() + 120
        while self.run.num_steps_logged() < step:
            assert self.process.poll() is None, self.printed
            assert time.monotonic() < deadline, self.printed
            time.sleep(0.01)

    def wait(self) -> int:
        """Wait for its end; gives its exit code."""
        return self.process.wait(120)


@contextmanager
def launched(run: Small, *options: str) -> Iterator[Launch]:
    """Start torchrun, and leave nothing of it behind."""
    launch = Launch(run, run.out.with_suffix(f".{time.monotonic_ns()}.txt"), *options)
    try:
        yield launch
    finally:
        with suppress(ProcessLookupError):
            launch.process.terminate()
        launch.process.wait(60)
