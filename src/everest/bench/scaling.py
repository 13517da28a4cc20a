"""From one GPU to many: what follows from measured rates, and what gives way first. Arithmetic, no measurement.

``docs/scaling.md`` has the formulas, and says of every number that is put in whether it was measured.
"""

import functools
from collections.abc import Sequence
from typing import Any

from pydantic import Field

from everest.bench.macs import count_macs
from everest.config import Config, ModelSize, Task
from everest.errors import ConfigError

MOMENTS_AND_WEIGHTS = 12  # bytes of a parameter in a training state: AdamW's moments and the weight, float32
LIMITS = ("compute", "batch", "gradients", "decoding", "bytes", "requests")
"""What a step waits for: the GPU; a GPU with too few clips; the exchange of gradients; cores; the store."""


class ScalingInputs(Config):
    """What is put in. Defaults: ViT-B pre-training on Kinetics-400 from packed shards in an object store.

    Attributes:
        size, stage: The network, and what it is trained for; work and parameters are counted from it.
        global_batch: Clips of an optimiser step over all GPUs. It stays the same, and the result with it.
        num_videos: Of the data.
        epochs: Passes over them.
        clips_per_video: Clips taken from each opened video.
        peak_tflops: Of a GPU, 10^12 floating-point operations per second in bfloat16.
        utilisation: Share of it that a step reaches.
        clips_per_second: Of a GPU that has its clips in memory, measured; None: from peak and utilisation.
        filled_batch: Clips below which a GPU takes as long as for so many.
        overlap: Share of the computing in which gradients travel: the backward pass.
        gradient_bytes: Of a parameter, as it is sent.
        gpus_per_node: GPUs of a machine.
        cores_per_gpu: Cores that decode for a GPU.
        clips_per_core_second: Clips that a core reads, decodes and crops in a second.
        mbytes_per_video: 10^6 bytes that are read for each.
        link_gbytes_per_second: 10^9 bytes per second of a GPU to another of its node, in each direction.
        node_gbytes_per_second: The same of a node to another.
        store_mbytes_per_second: What the store gives a node.
        store_requests_per_second: Requests that the store answers, for all nodes together.
        cached_share: Of the videos that a node has nearby.
        disk_mbytes_per_second: At which training states are written.
    """

    size: ModelSize = "base"
    stage: Task = "pretrain"
    global_batch: int = Field(1024, ge=1)
    num_videos: int = Field(240_000, ge=1)
    epochs: int = Field(200, ge=1)
    clips_per_video: int = Field(1, ge=1)
    peak_tflops: float = Field(989.0, gt=0.0)
    utilisation: float = Field(0.4, gt=0.0, le=1.0)
    clips_per_second: float | None = Field(None, gt=0.0)
    filled_batch: int = Field(32, ge=1)
    overlap: float = Field(0.67, ge=0.0, le=1.0)
    gradient_bytes: int = Field(4, ge=1)
    gpus_per_node: int = Field(8, ge=1)
    cores_per_gpu: int = Field(16, ge=1)
    clips_per_core_second: float = Field(51.1, gt=0.0)
    mbytes_per_video: float = Field(0.79, gt=0.0)
    link_gbytes_per_second: float = Field(200.0, gt=0.0)
    node_gbytes_per_second: float = Field(10.0, gt=0.0)
    store_mbytes_per_second: float = Field(2000.0, gt=0.0)
    store_requests_per_second: float = Field(5500.0, gt=0.0)
    cached_share: float = Field(0.0, ge=0.0, le=1.0)
    disk_mbytes_per_second: float = Field(500.0, gt=0.0)


def bench_scaling(inputs: ScalingInputs, gpus: Sequence[int] = (1, 2, 4, 8, 16, 32, 64)) -> dict[str, Any]:
    """Compute what a step takes on so many GPUs, and what limits it.

    Args:
        inputs: What is put in.
        gpus: Numbers of GPUs.

    Returns:
        Values that JSON can hold: ``rows``, one for each number of GPUs (see :func:`_row`), ``inputs``,
        ``num_parameters``, ``gflop_per_clip`` of training, ``clips_per_second`` of a GPU that waits for nothing,
        ``state_mbytes`` of a training state and ``state_seconds`` to write it.

    Raises:
        ConfigError: The global batch cannot be divided by a number of GPUs.
    """
    for number in gpus:
        if number < 1 or inputs.global_batch % (number * inputs.clips_per_video):
            raise ConfigError(
                f"global_batch ({inputs.global_batch}) must be a multiple of {number} GPUs x {inputs.clips_per_video} "
                "clips per video: its clips are divided evenly, and it is the same for any number of GPUs"
            )
    gflop, num_parameters = _work(inputs.size, inputs.stage)
    rate = inputs.clips_per_second or 1e3 * inputs.peak_tflops * inputs.utilisation / gflop
    alone = _row(inputs, 1, rate, num_parameters)
    rows = [_row(inputs, number, rate, num_parameters) for number in gpus]
    for row in rows:
        row["efficiency"] = row["clips_per_second"] / (row["gpus"] * alone["clips_per_second"])
    state_mbytes = MOMENTS_AND_WEIGHTS * num_parameters / 1e6
    return {
        "rows": rows,
        "inputs": inputs.model_dump(mode="json"),
        "num_parameters": num_parameters,
        "gflop_per_clip": gflop,
        "clips_per_second": rate,
        "state_mbytes": state_mbytes,
        "state_seconds": state_mbytes / inputs.disk_mbytes_per_second,
    }


def format_scaling(values: dict[str, Any]) -> str:
    """Say the result of :func:`bench_scaling` to people."""
    parts = ("compute", "gradients", "decoding", "bytes", "requests", "step")
    needs = ("cores_needed", "node_mbytes_needed", "requests_needed")
    titles = ("GPUs", "clips/GPU", *parts, "limit", "clips/s", "share", "hours", "cores/GPU", "MB/s/node", "requests/s")
    lines = ["milliseconds of a step:", "".join(f"{title:>11}" for title in titles)]
    for row in values["rows"]:
        cells = [f"{row['gpus']}", f"{row['clips_per_gpu']:g}"]
        cells += [*(f"{1e3 * row['seconds'][part]:.1f}" for part in parts), row["limit"]]
        cells += [f"{row['clips_per_second']:.0f}", f"{row['efficiency']:.0%}", f"{row['hours']:.1f}"]
        lines.append("".join(f"{cell:>11}" for cell in [*cells, *(f"{row[name]:.0f}" for name in needs)]))
    given = values["inputs"]
    rate = f"{values['clips_per_second']:.0f} clips/s of a GPU that waits for nothing"
    lines += [
        f"ViT-{given['size']} {given['stage']}: {values['num_parameters'] / 1e6:.1f} M parameters, "
        f"{values['gflop_per_clip']:.0f} GFLOP a clip, {rate}",
        f"a training state: {values['state_mbytes']:.0f} MB, {values['state_seconds']:.1f} s to write",
        "cores/GPU, MB/s/node and requests/s are what a step would need to wait for none of them",
    ]
    return "\n".join(lines)


@functools.cache
def _work(size: ModelSize, stage: Task) -> tuple[float, int]:
    """Count 10^9 operations of training on a clip, and parameters."""
    counted = count_macs(size, stage, "rero")
    return 2 * counted["gmacs_training"], counted["num_parameters"]


def _row(inputs: ScalingInputs, gpus: int, rate: float, num_parameters: int) -> dict[str, Any]:
    """Compute a step on so many GPUs.

    Returns:
        ``gpus``, ``nodes``, ``clips_per_gpu``; ``seconds`` of a step, by what takes them: ``compute``, ``exchange`` of
        gradients and what of it is not hidden (``gradients``), ``decoding``, ``bytes`` and ``requests`` of the store,
        and the whole ``step``; ``limit``, one of :data:`LIMITS`; ``clips_per_second``, ``hours`` of the run; and what
        it would take not to wait: ``cores_needed`` (per GPU), ``node_mbytes_needed``, ``requests_needed`` (a second).
    """
    nodes = -(-gpus // inputs.gpus_per_node)
    clips = inputs.global_batch / gpus
    compute = max(clips, inputs.filled_batch) / rate
    band = inputs.link_gbytes_per_second if nodes == 1 else inputs.node_gbytes_per_second
    exchange = 2 * (gpus - 1) / gpus * num_parameters * inputs.gradient_bytes / (1e9 * band)
    seconds = {
        "compute": compute,
        "exchange": exchange,
        "gradients": max(0.0, exchange - inputs.overlap * compute),
        "decoding": clips / (inputs.cores_per_gpu * inputs.clips_per_core_second),
    }
    fetched = inputs.global_batch / inputs.clips_per_video * (1 - inputs.cached_share)  # videos of a step
    node_mbytes = fetched * min(gpus, inputs.gpus_per_node) / gpus * inputs.mbytes_per_video
    seconds["bytes"] = node_mbytes / inputs.store_mbytes_per_second
    seconds["requests"] = fetched / inputs.store_requests_per_second
    free = compute + seconds["gradients"]  # of a step that waits for no data
    seconds["step"] = step = max(free, seconds["decoding"], seconds["bytes"], seconds["requests"])
    return {
        "gpus": gpus,
        "nodes": nodes,
        "clips_per_gpu": clips,
        "seconds": seconds,
        "limit": _limit(seconds, free, is_filled=clips >= inputs.filled_batch),
        "clips_per_second": inputs.global_batch / step,
        "hours": inputs.epochs * inputs.num_videos * inputs.clips_per_video / (inputs.global_batch / step) / 3600,
        "cores_needed": clips / free / inputs.clips_per_core_second,
        "node_mbytes_needed": node_mbytes / free,
        "requests_needed": fetched / free,
    }


def _limit(seconds: dict[str, float], free: float, *, is_filled: bool) -> str:
    """Name what a step takes its time for."""
    waits = {name: seconds[name] for name in ("decoding", "bytes", "requests")}
    longest = max(waits, key=waits.__getitem__)
    if waits[longest] > free:
        return longest
    if seconds["gradients"] > seconds["compute"]:
        return "gradients"
    return "compute" if is_filled else "batch"
