"""Seconds and memory of one training step, beside the pace of the hardware in the same run."""

import sys
from statistics import median, quantiles
from typing import Any, Unpack

import torch

from everest.bench.activations import activation_bytes
from everest.bench.described import PLAIN, Peer, TaskOptions, asked_for, describe_task, name_of
from everest.bench.footage import read_clips
from everest.bench.foreign import FOREIGN_ERRORS
from everest.bench.hardware import describe_hardware, matrix_rate_gflops, now, peak_memory_bytes, reset_peak_memory
from everest.bench.macs import count_task
from everest.bench.tasks import TrainingStep, build_step
from everest.bench.timeline import counted_flop
from everest.config import VARYING, CheckpointInfo, ModelSize, SelectionMethod, Task
from everest.datasets import Manifest
from everest.errors import ConfigError

CPU_WARMUP, GPU_WARMUP = 1, 5


def bench_step(
    *,
    size: ModelSize = "base",
    task: Task = "pretrain",
    selection: SelectionMethod = "rero",
    batch: int = 4,
    device: str = "auto",
    precision: str = "auto",
    steps: int = 5,
    warmup: int | None = None,
    peer: Peer | None = None,
    compile: bool = False,
    activation_checkpointing: bool = False,
    cuda_graphs: bool = False,
    manifest: Manifest | None = None,
    seed: int = 0,
    **options: Unpack[TaskOptions],
) -> dict[str, Any]:
    """Time training steps: what training does with a batch, without reading videos.

    The peak memory on a CPU is that of the whole process since it started: measure one step per process.

    Args:
        size: Model size.
        task: Pre-training or fine-tuning.
        selection: Which tokens are computed.
        batch: Clips of a step.
        device: ``cpu``, ``cuda`` or ``auto``.
        precision: ``float32``, ``bfloat16`` or ``auto``.
        steps: Steps that are timed.
        warmup: Steps before them; None: 1 on the CPU, 5 on a GPU.
        peer: ``plain`` or ``transformers`` instead of our model, or ``MODULE:FUNCTION`` for a step of somebody else's.
        compile: Compile the transformer blocks.
        activation_checkpointing: Let them compute again in the backward pass what they would keep.
        cuda_graphs: Record forward and backward pass and replay them, as training can on a GPU. What a pass keeps is
            not looked at then, and memory is all that is held for the program.
        manifest: Where clips are taken from, evenly; None: made-up clips.
        seed: Of weights, clips and selection.
        **options: As :func:`~everest.bench.described.describe_task` takes them; teachers have fresh weights.

    Returns:
        Values that JSON can hold: ``seconds`` of each step, their median ``seconds_per_step`` and quartiles
        ``seconds_q1`` and ``seconds_q3``; ``seconds_in_a_row`` (of a step, on a GPU, where as many follow each other
        without being waited for, as in training; None on a CPU); ``first_step_seconds`` (with what is compiled in it);
        ``clips_per_second`` (at the pace of training: in a row, where that was measured), ``peak_memory_bytes`` and
        ``peak_memory_gb`` (10^9 bytes), ``activations_gb`` (what one
        forward pass keeps for the backward pass, without parameters), ``tokens`` of a clip, ``num_parameters`` (both
        None of somebody else's step, which does not tell its parameters), the first and last ``loss``;
        ``gmacs`` (multiply-adds of a clip's forward pass, where they can be told from the rest) and ``step_gflop``
        (counted work of the step: 10^9 operations, two for each multiply-add; None of somebody else's that cannot be
        counted), ``matrix_rate_gflops`` (of a large matrix product in the same run) and ``share_of_matrix_rate``
        (of the counted work, at the same pace; or None); ``hardware`` with the versions of everything, and what was
        asked for.

    Raises:
        ConfigError: Something that cannot be measured.
        SelectionError: Clips of this size cannot be cut into tubelets.
    """
    if steps < 1 or (warmup is not None and warmup < 0):
        given = f"{steps} steps" + ("" if warmup is None else f" after {warmup} of warm-up")
        raise ConfigError(f"time at least one step, after no or some steps of warm-up, given: {given}")
    info = describe_task(size, task, selection, **options)
    clips = None if manifest is None else read_clips(manifest, info.clip, batch, seed)
    ways: dict[str, Any] = {
        "compile": compile,
        "activation_checkpointing": activation_checkpointing,
        "cuda_graphs": cuda_graphs,
    }
    step = build_step(info, batch, device=device, precision=precision, peer=peer, **ways, seed=seed, clips=clips)
    warmup = default_warmup(step.device) if warmup is None else warmup
    first_seconds, seconds, losses, peak_bytes = _time(step, steps, warmup, is_replayed=cuda_graphs)
    # Only now, so that neither is part of the peak.
    per_step, (gmacs, step_gflop) = median(seconds), _count(step, info, peer, batch)
    kept_bytes = None if step.model is None or cuda_graphs else activation_bytes(step.run, step.model)
    in_a_row = _time_in_a_row(step, steps) if step.device.type == "cuda" else None
    rate = matrix_rate_gflops(step.device, step.dtype)
    pace = per_step if in_a_row is None else in_a_row
    first, _, third = quantiles(seconds, n=4, method="inclusive") if steps > 1 else (per_step,) * 3
    return {
        **asked_for(info, peer),
        **{**ways, "batch": batch},
        "manifest_digest": None if manifest is None else manifest.digest,
        "tokens": {"total": step.tokens.total, "visible": step.tokens.visible, "target": step.tokens.target},
        "num_parameters": step.num_parameters,
        **{"device": step.device.type, "precision": str(step.dtype).removeprefix("torch.")},
        **{
            "steps": steps,
            "warmup": warmup,
            "first_step_seconds": first_seconds,
            "seconds": seconds,
            "seconds_per_step": per_step,
            "seconds_q1": first,
            "seconds_q3": third,
            "seconds_in_a_row": in_a_row,
        },
        "clips_per_second": batch / pace,
        "peak_memory_bytes": peak_bytes,
        "peak_memory_gb": peak_bytes / 1e9,
        "activations_gb": None if kept_bytes is None else kept_bytes / 1e9,
        "loss": [losses[0], losses[-1]],
        "gmacs": gmacs,
        "step_gflop": step_gflop,
        "matrix_rate_gflops": rate,
        "share_of_matrix_rate": None if step_gflop is None else step_gflop / pace / rate,
        "hardware": describe_hardware(step.device),
    }


def default_warmup(device: torch.device) -> int:
    """Number of steps after which a device has come up to speed."""
    return GPU_WARMUP if device.type == "cuda" else CPU_WARMUP


def format_step(values: dict[str, Any]) -> str:
    """Say the result of :func:`bench_step` to people, in a few lines."""
    tokens = values["tokens"]
    spread = f"quartiles {values['seconds_q1']:.3f} to {values['seconds_q3']:.3f}, {values['steps']} steps"
    in_a_row = values["seconds_in_a_row"]
    where = "held for the program" if values["cuda_graphs"] else "of tensors"
    where = "of the process" if values["device"] == "cpu" else where
    kept, counted = values["activations_gb"], values["step_gflop"]
    return "\n".join(
        [
            f"{name_of(values)}: batch {values['batch']}, {values['precision']} on {values['hardware']['name']}"
            f" ({values['device']}, {values['hardware']['threads']} threads)",
            f"time: {values['seconds_per_step']:.3f} s a step ({spread})"
            + ("" if in_a_row is None else f"; {in_a_row:.3f} s where none is waited for")
            + f"; {values['clips_per_second']:.2f} clips/s",
            f"memory: {values['peak_memory_gb']:.2f} GB at the peak, {where}"
            + ("" if kept is None else f"; {kept:.2f} GB of activations kept for the backward pass"),
            f"tokens: {tokens['visible']} encoded and {tokens['target']} predicted of {tokens['total']}",
            "pace: its work cannot be counted"
            if counted is None
            else f"pace: {counted:.0f} GFLOP a step, {values['share_of_matrix_rate']:.0%} of the "
            f"{values['matrix_rate_gflops']:.0f} GFLOP/s of a large matrix product here",
        ]
    )


def _count(
    step: TrainingStep, info: CheckpointInfo, peer: Peer | None, batch: int
) -> tuple[float | None, float | None]:
    """Count the work of a clip and of a step, in 10^9.

    That of ours and of the plain peer is counted by their models. One more step counts that of others, and of
    selections whose number of tokens follows the clips. Where somebody else's cannot be counted, it is None: what was
    timed of it is worth keeping.
    """
    if peer in {None, PLAIN} and info.selection.method not in VARYING:
        is_coarse = info.selection.scoring == "auto" and info.selection.distance != "cosine"
        if is_coarse and step.dtype == torch.bfloat16:
            selection = info.selection.model_copy(update={"scoring": "bfloat16"})
            info = info.model_copy(update={"selection": selection})
        macs = count_task(info, peer)
        return macs["gmacs"], 2 * macs["gmacs_training"] * batch
    try:
        return None, counted_flop(step.run) / 1e9
    except FOREIGN_ERRORS as error:
        if step.model is not None:
            raise
        print(f"its work cannot be counted: {error}", file=sys.stderr)
        return None, None


def _time_in_a_row(step: TrainingStep, steps: int) -> float:
    """Seconds of a step where nothing waits for the device before the last one."""
    started = now(step.device)
    for _ in range(steps):
        step.run(wait=False)
    return (now(step.device) - started) / steps


def _time(
    step: TrainingStep, steps: int, warmup: int, *, is_replayed: bool
) -> tuple[float, list[float], list[float], int]:
    """Run a step again and again: seconds of the very first and of each that counts, losses, and the peak memory."""
    print(f"measuring {step}", file=sys.stderr)
    seconds, losses = [], []
    for number in range(warmup + steps):
        if number == warmup:
            reset_peak_memory(step.device)
        started = now(step.device)
        losses.append(step.run())
        seconds.append(now(step.device) - started)
        kind = "warm-up" if number < warmup else f"step {number - warmup + 1} of {steps}"
        print(f"{kind}: {seconds[-1]:.3f} s, loss {losses[-1]:.4f}", file=sys.stderr)
    return seconds[0], seconds[warmup:], losses, peak_memory_bytes(step.device, of_graphs=is_replayed)
