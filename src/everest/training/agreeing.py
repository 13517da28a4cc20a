"""Whether all processes of a run were started with the same settings and the same data."""

from collections.abc import Mapping
from typing import Any

from everest.config import TrainConfig
from everest.datasets import Manifest
from everest.errors import RunError
from everest.settings import flatten
from everest.training.processes import gather_values, this_process
from everest.training.rundir import MACHINE_KEYS


def require_same_start(config: TrainConfig, data: Manifest) -> None:
    """Refuse to train where processes have other settings or data than the main one; every process must call it.

    Raises:
        RunError: In all processes, with what differs in which.
    """
    if this_process()[1] == 1:
        return
    settings = {key: value for key, value in flatten(config).items() if key not in MACHINE_KEYS}
    found = {
        "settings": settings,
        "digests": [data.digest, data.source_digest, list(data.class_names)],
        "data": f"{len(data):,} clips of {data.num_files:,} files from {data.place}",
    }
    main, *others = gather_values(found)
    differing = {rank: what for rank, other in enumerate(others, 1) if (what := _difference(main, other))}
    if differing:
        rank, what = next(iter(differing.items()))
        more = f" ({len(differing)} of {len(others) + 1} processes differ from it)" if len(differing) > 1 else ""
        raise RunError(
            f"rank {rank} was not started as rank 0 was: {what}{more}. Start all processes with the same command and "
            "the same data"
        )


def _difference(main: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """Say what differs between rank 0 and another; empty where nothing does."""
    there, here = main["settings"], other["settings"]
    keys = [key for key in there | here if key not in there or key not in here or there[key] != here[key]]
    parts = [f"{key} is {here.get(key)} instead of {there.get(key)}" for key in keys]
    if main["digests"][0] != other["digests"][0]:
        parts.append(f"its data is {other['data']}, with other contents than {main['data']}")
    elif main["digests"] != other["digests"]:
        parts.append("its data has other classes, or other clips in the parts that are not trained on")
    return ", ".join(parts)
