"""Ray, started quietly on this machine or reached at an address, and left as it was found."""

import importlib.util
import io
import logging
import os
import shutil
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout
from pathlib import Path
from typing import Any, TextIO

from everest.errors import ConfigError, DataError

MAX_STORE_BYTES = 2 * 2**30  # of shared memory; blocks are small and do not stay
MAX_SILENT_SECONDS = 7200.0  # without any result, as when all machines are gone; a long video may take an hour
CONNECT_SECONDS = 10.0
MIN_STORE_BYTES = 80 * 2**20  # Ray takes no less
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - it is looked at, nothing is written there
_TEMPORARY = Path("/tmp")  # noqa: S108 - names of sockets below it must stay short
_LOG = logging.getLogger("everest")


class RayRuntime:
    """Ray for as long as it is needed.

    Nobody is told that it is used, no dashboard is served, and what Ray has to say goes to its log files.

    Args:
        address: Of a cluster; None: on this machine. Where this process has reached Ray already, that is used and left
            running.
        num_cores: That a Ray on this machine may use.
    """

    def __init__(self, address: str | None, num_cores: int) -> None:
        if address is not None and address.startswith("ray://"):
            raise ConfigError(
                f"{address}: Ray Data needs a program on a machine of the cluster: run the command there or by "
                "`ray job submit`, and give --ray-address auto"
            )
        self._address, self._num_cores, self._is_started = address, num_cores, False
        self._closing = ExitStack()

    @property
    def num_gpus(self) -> int:
        """GPUs of the cluster."""
        import ray

        return int(ray.cluster_resources().get("GPU", 0))

    def start(self) -> None:
        """Start Ray, or reach it; nothing is done the second time.

        Raises:
            ConfigError: Ray is not installed, or cannot be started or reached.
        """
        if self._is_started:
            return
        ray = load_ray()
        with ExitStack() as stack:
            stack.enter_context(_quiet())
            if not ray.is_initialized():
                self._connect(ray, stack)
            context = ray.data.DataContext.get_current()
            context.enable_progress_bars = False
            context.execution_no_progress_timeout_s = MAX_SILENT_SECONDS
            if not ray.cluster_resources().get("CPU", 0):
                raise ConfigError(f"the Ray cluster {self._address or ''} has no cores: add machines to it")
            self._closing, self._is_started = stack.pop_all(), True

    def stop(self) -> None:
        """Leave Ray, and stop it where it was started here."""
        self._closing.close()
        self._is_started = False

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Say what Ray raises in the words of this program."""
        from ray.data.exceptions import ExecutionTimeoutError
        from ray.exceptions import RayError, RaySystemError, RayTaskError

        try:
            yield
        except RayTaskError as error:
            if isinstance(error.cause, RaySystemError):
                said = str(error.cause).strip().splitlines()[0].removeprefix("System error: ")
                raise ConfigError(
                    f"a machine of the Ray cluster cannot do the work ({said}): install the same version of "
                    "everest-video there, with the same Python and libraries"
                ) from None
            raise RuntimeError(f"a task failed on a worker of Ray:\n{error}") from None
        except (RayError, ExecutionTimeoutError) as error:
            reason = str(error).strip().splitlines()[0]
            raise DataError(f"Ray cannot go on ({reason}): run the command again, it goes on from here") from None

    def _connect(self, ray: Any, stack: ExitStack) -> None:
        here: dict[str, Any] = {"address": self._address}
        if self._address is None:
            folder = tempfile.mkdtemp(prefix="everest-ray-", dir=_TEMPORARY if _TEMPORARY.is_dir() else None)
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            here = {"address": "local", "num_cpus": self._num_cores, "object_store_memory": _store_bytes()}
            here |= {"include_dashboard": False, "_temp_dir": folder}
            stack.enter_context(_out_of_reach())
        else:
            _knock(self._address)
        told_to_end = stack.enter_context(_kept_sigterm())
        try:
            with _silent():
                ray.init(**here, log_to_driver=False, logging_level=logging.CRITICAL)
        except (ConnectionError, RuntimeError, ValueError, OSError) as error:
            where = "be started on this machine" if self._address is None else f"be reached at {self._address}"
            reason = str(error).strip().splitlines()[0]
            if self._address == "auto":
                reason = "this machine belongs to no cluster that is running; start one, or give its address"
            raise ConfigError(f"Ray cannot {where}: {reason}") from None
        stack.callback(_shut_down, ray)
        told_to_end()


def load_ray() -> Any:
    """Import Ray with Ray Data.

    Raises:
        ConfigError: They are not installed.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # before Ray is imported
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    missing = [name for name in ("ray", "pyarrow", "pandas") if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(f"the engine ray needs {' and '.join(missing)}: pip install 'everest-video[ray]'")
    import ray
    import ray.data

    return ray


def _knock(address: str) -> None:
    """See that somebody listens at an address, for which Ray itself would wait long; ``auto`` is left to Ray.

    Raises:
        ConfigError: Nobody does.
    """
    host, _, port = address.rpartition(":")
    if not port.isdecimal():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise ConfigError(f"Ray cannot be reached at {address}: {error}: is the cluster running?") from None


def _shut_down(ray: Any) -> None:
    with redirect_stdout(io.StringIO()):  # where it says at last what it has kept back
        ray.shutdown()


def _store_bytes() -> int:
    """How much shared memory Ray may take for blocks on their way."""
    if not _SHARED_MEMORY.is_dir():
        return MAX_STORE_BYTES // 4
    return max(MIN_STORE_BYTES, min(MAX_STORE_BYTES, shutil.disk_usage(_SHARED_MEMORY).free // 2))


@contextmanager
def _out_of_reach() -> Iterator[None]:
    """Let a Ray of this machine listen on its loopback, as it does by itself where it knows no clusters.

    Else it takes the address of the machine in its network, even where it is told another one. A Ray that this process
    reaches later is not concerned.
    """
    constants: Any = sys.modules.get("ray._private.ray_constants")
    before, name = getattr(constants, "ENABLE_RAY_CLUSTER", None), "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
    if before is None or name in os.environ:  # who has set it wants it so
        yield
        return
    constants.ENABLE_RAY_CLUSTER, os.environ[name] = False, "0"  # the latter for the processes that Ray starts
    try:
        yield
    finally:
        constants.ENABLE_RAY_CLUSTER = before
        os.environ.pop(name, None)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what Ray tells of itself from the terminal."""
    loggers = [logging.getLogger(name) for name in ("ray", "ray.data")]
    handlers = [handler for logger in loggers for handler in logger.handlers if handler.name == "console"]
    levels = [handler.level for handler in handlers]
    for handler in handlers:
        handler.setLevel(logging.CRITICAL + 1)
    try:
        with redirect_stdout(_WithoutRay(sys.stdout)):
            yield
    finally:
        for handler, level in zip(handlers, levels, strict=True):
            handler.setLevel(level)


@contextmanager
def _silent() -> Iterator[None]:
    """Send what is written to file descriptor 2 nowhere: the part of Ray that is not Python knows no other way."""
    try:
        kept = os.dup(2)
    except OSError:  # it is closed
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


class _WithoutRay:
    """Standard output without what a thread of Ray prints there of machines that are gone."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write text, unless it is Ray's."""
        if threading.current_thread().name.startswith("ray_"):
            _LOG.debug("ray: %s", text)
            return len(text)
        return self._stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def _kept_sigterm() -> Iterator[Callable[[], None]]:
    """Put back in the end what is done on SIGTERM, which Ray replaces by something that aborts the program.

    Yields:
        What to call when Ray has done so: then SIGTERM ends the program in order, and Ray with it.
    """
    is_main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGTERM) if is_main else None

    def replace_that_of_ray() -> None:
        if before is not None:
            signal.signal(signal.SIGTERM, _end if before == signal.SIG_DFL else before)

    try:
        yield replace_that_of_ray
    finally:
        if before is not None:
            signal.signal(signal.SIGTERM, before)


def _end(number: int, _: object) -> None:
    raise SystemExit(128 + number)
