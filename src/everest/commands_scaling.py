"""What ``everest bench store`` and ``everest bench scaling`` do with their options; see :mod:`everest.commands`."""

import json
from argparse import Namespace
from pathlib import Path
from typing import Any

from everest.commands import EXIT_OK, print_result
from everest.errors import ConfigError


def bench_store(options: Namespace) -> int:
    """Measure clips that come from far away."""
    from everest.bench.store import bench_store as measure
    from everest.bench.store import format_store
    from everest.config import ClipConfig
    from everest.training.progress import Progress

    clip = ClipConfig(num_frames=options.frames, height=options.size, width=options.size, stride=options.stride)
    with Progress("measuring", 100) as progress:
        values = measure(
            options.packed,
            latency=options.latency,
            mbytes_per_second=options.rate,
            batch=options.batch,
            num_workers=options.workers,
            num_epochs=options.epochs,
            clip=clip,
            on_progress=lambda done, total: progress.update(100 * done // total),
        )
    print_result(options, values, format_store(values))
    return EXIT_OK


def bench_scaling(options: Namespace) -> int:
    """Compute what a step takes on many GPUs, and what limits it."""
    from everest.bench.scaling import ScalingInputs, format_scaling
    from everest.bench.scaling import bench_scaling as compute
    from everest.settings import override, parse

    given = {} if options.inputs is None else _read_json(options.inputs)
    inputs = override(parse(ScalingInputs, given.get("inputs", given)), options.settings)
    values = compute(inputs, options.gpus)
    print_result(options, values, format_scaling(values))
    return EXIT_OK


def _read_json(path: Path) -> dict[str, Any]:
    """Read settings.

    Raises:
        ConfigError: The file is not there, or holds no settings.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read as JSON: {error}") from None
    if not isinstance(values, dict):
        raise ConfigError(f'{path}: expected settings by name, such as {{"global_batch": 1024}}')
    return values
