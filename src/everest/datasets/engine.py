"""Who does many independent tasks: processes of this machine, or a Ray cluster. The outcomes are the same."""

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar

from everest.datasets.pool import Lost, num_cores, run_parallel
from everest.errors import ConfigError

Item = TypeVar("Item")
Result = TypeVar("Result")

EngineName = Literal["local", "ray"]


class Engine(Protocol):
    """Applies a function to many items, where one that hangs or kills its process costs its own result and no other."""

    def run(
        self,
        function: Callable[[Item], Result | Generator[None, None, Result]],
        items: Iterable[Item],
        *,
        time_limit_seconds: float | None,
        on_done: Callable[[int, Result | Lost], None] | None = None,
        look_ahead: int | None = None,
        has_files: bool = False,
    ) -> Iterator[tuple[int, Result | Lost]]:
        """Apply a function to items; nothing starts before the first result is asked for.

        Args:
            function: The task, of a module, so that other machines find it. It may be a generator function: every
                ``yield`` says that it gets on and starts the time limit anew, and what it returns is the result.
            items: Taken as they are needed. Items and results must be picklable.
            time_limit_seconds: For one item, or one step of it. What takes longer is stopped. None: no limit.
            on_done: Called in this process with index and outcome as soon as an item is done.
            look_ahead: Items that may be begun or done before one that is not done; an engine may allow more. None:
                as the engine likes.
            has_files: Items are dataclasses whose field ``target``, a path, is a file that the function writes. It is
                there before ``on_done`` is called, wherever the function ran; what a result says of where the file
                is may be wrong.

        Yields:
            Index and outcome of every item, in the order of the items: what the function returned, or
            :class:`~everest.datasets.pool.Lost` where there is no result.

        Raises:
            RuntimeError: The function raised anything but an :class:`~everest.errors.EverestError`.
            DataError: The engine cannot work.
        """


@dataclass(frozen=True)
class LocalEngine:
    """Processes of this machine; see :func:`~everest.datasets.pool.run_parallel`.

    Attributes:
        num_workers: Processes; -1 takes one per core, 0 does the work in this one, where nothing can be stopped.
    """

    num_workers: int = -1

    def run(
        self,
        function: Callable[[Item], Result | Generator[None, None, Result]],
        items: Iterable[Item],
        *,
        time_limit_seconds: float | None,
        on_done: Callable[[int, Result | Lost], None] | None = None,
        look_ahead: int | None = None,
        has_files: bool = False,
    ) -> Iterator[tuple[int, Result | Lost]]:
        """As :meth:`Engine.run` says."""
        return run_parallel(
            function,
            items,
            num_workers=num_cores() if self.num_workers < 0 else self.num_workers,
            time_limit_seconds=time_limit_seconds,
            on_done=on_done,
            look_ahead=look_ahead,
        )


@contextmanager
def open_engine(name: EngineName = "local", num_workers: int = -1, address: str | None = None) -> Iterator[Engine]:
    """Start an engine and stop it again.

    Args:
        name: ``local`` or ``ray``.
        num_workers: Tasks at a time; -1: as many as there are cores, on Ray those of the whole cluster.
        address: Of a Ray cluster; None starts Ray on this machine, for as long as the block lasts.

    Raises:
        ConfigError: Ray is not installed, or the options do not go together.
        DataError: The cluster cannot be reached.
    """
    if name == "ray":
        from everest.datasets.ray_engine import RayEngine

        with RayEngine(num_workers, address) as engine:
            yield engine
        return
    if address is not None:
        raise ConfigError(f"the address {address} of a Ray cluster needs the engine ray: add --engine ray")
    yield LocalEngine(num_workers)
