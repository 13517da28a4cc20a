"""Many independent tasks on a Ray cluster, or on a Ray that is started on this machine: :class:`RayEngine`.

Ray Data spreads blocks of items over the workers and streams what comes back, so that memory stays bounded. It begins
blocks anew whose worker or machine is lost. What is lost for good, and why, is decided as in the local engine: each
worker has a process that does the task and may hang or die (:mod:`everest.datasets.ray_worker`).
"""

import itertools
import uuid
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing, nullcontext
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar
from weakref import WeakSet

from everest.datasets import ray_worker
from everest.datasets.pool import Lost, num_cores
from everest.datasets.ray_start import RayRuntime, load_ray
from everest.datasets.ray_worker import Job, Parcel, Then
from everest.errors import ConfigError, DataError, EverestError
from everest.links import write_new

Item = TypeVar("Item")

BLOCK_SIZE = 8  # items that a worker takes at once; Ray needs some milliseconds for each block
WINDOW_BLOCKS = 4096  # blocks that Ray knows of at a time


class RayEngine:
    """An :class:`~everest.datasets.engine.Engine`. Use it in a ``with`` statement; Ray is started by the first task.

    Args:
        num_workers: Tasks at a time, each on a core; -1: as many as the cluster has cores.
        address: Of a cluster; None starts Ray on this machine, and stops it at the end.

    Raises:
        ConfigError: Ray is not installed; or, at the first task, nothing answers at the address or there are no cores.
    """

    def __init__(self, num_workers: int = -1, address: str | None = None) -> None:
        if num_workers == 0:
            raise ConfigError("the engine ray works in processes of its own: 0 workers are for the local engine")
        self._num_workers = num_workers
        self._runtime = RayRuntime(address, num_cores() if num_workers < 0 else num_workers)
        self._ledger: Any = None
        self._runs: WeakSet[Generator[tuple[int, Any], None, None]] = WeakSet()

    def __enter__(self) -> Self:
        load_ray()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for run in [*self._runs]:  # somebody may still hold one, as a traceback does
            run.close()
        self._ledger = None
        self._runtime.stop()

    @property
    def num_gpus(self) -> int:
        """GPUs of the cluster, which is reached for this."""
        self._runtime.start()
        return self._runtime.num_gpus

    def run(
        self,
        function: Callable[[Item], Any],  # what it returns comes back, or what `then` makes of it
        items: Iterable[Item],
        *,
        time_limit_seconds: float | None,
        on_done: Callable[[int, Any], None] | None = None,
        look_ahead: int | None = None,
        has_files: bool = False,
        then: Then | None = None,
        on_gpus: bool = False,
    ) -> Iterator[tuple[int, Any]]:
        """As :meth:`everest.datasets.engine.Engine.run` says; items are begun as far ahead as Ray likes.

        Args:
            function: As there.
            items: As there.
            time_limit_seconds: As there; ``then`` has none.
            on_done: As there.
            look_ahead: Not used: results are waited for in this process, which is busy with nothing else.
            has_files: As there.
            then: What is done with the results; its results are those that come back.
            on_gpus: Do that on GPUs, one for each worker that does it; else each worker does it on its core.
        """
        job = Job(uuid.uuid4().hex, function, time_limit_seconds, has_files, ray_worker.describe_software())
        run = self._run(job, items, on_done, then, on_gpus)
        self._runs.add(run)
        return run

    def _run(
        self,
        job: Job,
        items: Iterable[Any],
        on_done: Callable[[int, Any], None] | None,
        then: Then | None,
        on_gpus: bool,
    ) -> Generator[tuple[int, Any], None, None]:
        block_size = then.block_size if then is not None else 1 if job.has_files else BLOCK_SIZE
        numbered = enumerate(items)
        window = list(itertools.islice(numbered, WINDOW_BLOCKS * block_size))
        if not window:
            return
        self._runtime.start()
        with self._runtime.errors():
            self._ledger = self._ledger or _start_ledger()
            num_gpus = self.num_gpus if on_gpus else 0
            pipeline = _Pipeline(job, self._ledger, then, block_size, self._num_workers, num_gpus)
            while window:
                with closing(pipeline.outcomes(window)) as outcomes:
                    yield from _in_order(window, outcomes, on_done, job.has_files)
                window = list(itertools.islice(numbered, WINDOW_BLOCKS * block_size))


class _Pipeline:
    """Blocks of items to blocks of outcomes, by Ray Data."""

    def __init__(  # noqa: PLR0917
        self, job: Job, ledger: Any, then: Then | None, block_size: int, num_workers: int, num_gpus: int
    ) -> None:
        import ray

        self._block_size, self._num_gpus = block_size, num_gpus
        self._limit = None if num_workers < 0 else num_workers
        # In a list, a reference is not followed by Ray: a worker takes what is behind it once, not for every block.
        self._then = [] if then is None else [ray.put(then)]
        self._arguments = {"job": job, "ledger": ledger, "then": [] if num_gpus else self._then}

    def outcomes(self, window: list[tuple[int, Any]]) -> Generator[tuple[int, Any], None, None]:
        """Do the tasks of numbered items, and give what came of them as it comes."""
        import ray.data

        rows = [{"index": index, "parcel": Parcel(item)} for index, item in window]
        blocks = ray.data.from_items(rows, override_num_blocks=-(-len(rows) // self._block_size))
        done = blocks.map_batches(
            ray_worker.do_block,
            batch_size=None,
            fn_kwargs=self._arguments,
            num_cpus=1,
            compute=ray.data.TaskPoolStrategy(size=self._limit),
        )
        if self._num_gpus:
            done = done.map_batches(
                ray_worker.FinishBlock,
                batch_size=self._block_size,
                fn_constructor_args=(self._arguments["job"], self._arguments["ledger"], self._then),
                num_cpus=0,  # else a worker with a GPU and the decoding that it waits for may wait for the same core
                num_gpus=1,
                compute=ray.data.ActorPoolStrategy(min_size=1, max_size=self._num_gpus),
            )
        found = iter(done.iter_batches(batch_size=None))
        with closing(found) if isinstance(found, Generator) else nullcontext():  # Ray Data stops with it
            for block in found:
                for index, parcel in zip(block["index"].tolist(), block["parcel"], strict=True):
                    if isinstance(parcel.content, EverestError):
                        raise parcel.content
                    yield index, parcel.content


def _start_ledger() -> Any:
    """Start the ledger on this machine: whoever loses it has lost the program as well."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return ray.remote(ray_worker.Ledger).options(num_cpus=0, scheduling_strategy=here).remote()


def _in_order(
    window: list[tuple[int, Any]],
    outcomes: Iterator[tuple[int, Any]],
    on_done: Callable[[int, Any], None] | None,
    has_files: bool,
) -> Iterator[tuple[int, Any]]:
    """Tell of outcomes as they come, and give them in the order of the items."""
    items = dict(window)
    done: dict[int, Any] = {}
    num_missing = len(items)
    wanted = iter(sorted(items))
    following = next(wanted, None)
    for index, raw in outcomes:
        outcome = _take_file(items[index], raw) if has_files else raw
        done[index] = outcome
        num_missing -= 1
        if on_done is not None:
            on_done(index, outcome)
        while following in done:
            yield following, done.pop(following)
            following = next(wanted, None)
    if following is not None:
        raise DataError(f"Ray gave no result for {num_missing} tasks; run the command again to go on")


def _take_file(item: Any, raw: Any) -> Any:
    """Write the file that came with a result to where it belongs, whole or not at all."""
    outcome, content = (raw, None) if isinstance(raw, Lost) else raw
    if content is not None:
        target: Path = item.target
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f"{target.name}.part")
        write_new(partial, content)
        partial.replace(target)
    return outcome
