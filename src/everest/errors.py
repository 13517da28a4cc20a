"""Every error that EVEREST raises on purpose.

    EverestError
    ├── ConfigError          a setting, a recipe or a combination of them
    ├── DataError
    │   ├── ManifestError    a list of clips that cannot be used
    │   ├── VideoError       one video file that cannot be read
    │   │   └── RemoteError  one thing at a URL that cannot be fetched
    │   └── UnreadableError  too many of them, one after the other
    ├── SelectionError       a token or frame selection that is impossible
    ├── WeightsError         a checkpoint that does not fit
    ├── RunError             a run folder that may not be written or continued
    └── RunInterruptedError  a run that was asked to stop, and did

A message says what was given, what is accepted, and what to do. The command line prints it as one line and exits
with code 2; an interrupted run has codes of its own.
"""

from collections.abc import Iterable
from difflib import get_close_matches


class EverestError(Exception):
    """Base of all errors that a user can cause and mend."""


class ConfigError(EverestError):
    """A setting, a recipe or a combination of them is not acceptable."""


class DataError(EverestError):
    """Something is wrong with the data."""


class ManifestError(DataError):
    """A list of clips cannot be used as it is."""


class VideoError(DataError):
    """A video file cannot be read."""


class RemoteError(VideoError):
    """Something at a URL cannot be fetched.

    Attributes:
        is_passing: Asked at another time it may be there: the connection broke, or the server was busy.
        http_status: What the server answered with; None where none did.
    """

    def __init__(self, message: str, is_passing: bool = False, http_status: int | None = None) -> None:
        super().__init__(message, is_passing, http_status)
        self.is_passing, self.http_status = is_passing, http_status

    def __str__(self) -> str:
        return str(self.args[0])


class UnreadableError(DataError):
    """An item could not be read, nor what would have replaced it.

    Attributes:
        failures: Reason by path of every file that was tried.
    """

    def __init__(self, message: str, failures: dict[str, str] | None = None) -> None:
        super().__init__(message, failures)
        self.failures = failures or {}

    def __str__(self) -> str:
        return str(self.args[0])


class SelectionError(EverestError):
    """A token or frame selection is impossible as asked for."""


class WeightsError(EverestError):
    """A checkpoint cannot be read or does not fit the model."""


class RunError(EverestError):
    """A run folder may not be written, or cannot be continued."""


class RunInterruptedError(EverestError):
    """A run was asked to stop, by a signal or Ctrl-C, and did; the message says what was saved and how to go on.

    Attributes:
        exit_code: For the program: 75, on which schedulers start a job again, or 130 after Ctrl-C.
        is_told: The message was shown already, or is another process's to show.
    """

    def __init__(self, message: str, exit_code: int = 75, *, is_told: bool = False) -> None:
        super().__init__(message)
        self.exit_code, self.is_told = exit_code, is_told


def nearest(given: str, accepted: Iterable[str]) -> str:
    """Say which accepted name is nearest to a misspelt one, and list the accepted ones.

    Args:
        given: The name as the user wrote it.
        accepted: The names that would have been right.

    Returns:
        A half sentence to end an error message with, such as ``did you mean 'stride'?``.
    """
    names = sorted(accepted)
    matches = get_close_matches(given, names, n=1, cutoff=0.6)
    if not matches:  # a dotted key may be right in its last part only
        tails = {name.rsplit(".", 1)[-1]: name for name in names}
        matches = [tails[m] for m in get_close_matches(given.rsplit(".", 1)[-1], tails, n=1, cutoff=0.6)]
    return f"did you mean {matches[0]!r}?" if matches else f"accepted: {', '.join(names)}"


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory could not be had, on the CPU or on a GPU."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return "can't allocate memory" in str(error) or "not enough memory" in str(error)


def is_lost_connection(error: BaseException) -> bool:
    """Whether an error of PyTorch says that another process cannot be reached any more."""
    signs = ("connection closed by peer", "connection reset by peer", "broken pipe", "gloo", "nccl", "socket timeout")
    return isinstance(error, RuntimeError) and any(sign in str(error).lower() for sign in signs)
