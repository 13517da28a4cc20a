"""Every pre-training method side by side, all on our path with fused attention: the fair form of the paper's tables."""

from typing import Any, NamedTuple

from everest.bench.peers import Contender, OnProgress, measure_in_rounds
from everest.config import ModelSize
from everest.errors import ConfigError


class Published(NamedTuple):
    """What the paper says of a method, for ViT-B on Kinetics-400.

    Attributes:
        gmacs: Multiply-adds of pre-training in 10^9 (its table calls them GFLOPs); None where it says nothing.
        epoch_minutes: Time of an epoch at batch 128 on 8 A6000.
        memory_gb: Memory of all eight together.
    """

    gmacs: float | None
    epoch_minutes: float
    memory_gb: float


class Method(NamedTuple):
    """One row: how we compute it, and what the paper says of it."""

    contender: Contender
    published: Published | None = None


_TUBES_OF_MME = ("--encode-ratio", "0.3", "--objective", "mme")

METHODS = (
    Method(Contender("EVEREST", "rero"), Published(21.5, 8 + 18 / 60, 66.3)),
    Method(Contender("random at equal count", "random_equal")),
    Method(Contender("K-centred at equal count", "k_centered")),
    Method(Contender("VideoMAE", "tube"), Published(35.5, 18 + 42 / 60, 150.3)),
    Method(Contender("MME", "tube", options=_TUBES_OF_MME), Published(None, 10 + 15 / 60, 121.2)),
    Method(Contender("MVD", "tube", options=("--objective", "mvd")), Published(None, 51 + 55 / 60, 274.9)),
    Method(Contender("EVEREST + MME", "rero", options=("--objective", "mme"))),
    Method(Contender("EVEREST + MVD", "rero", options=("--objective", "mvd"))),
)
"""EVEREST first. MME masks .7 of the tubes, VideoMAE and MVD .9; both teachers of MVD have the student's size."""


def bench_methods(
    *,
    size: ModelSize = "base",
    batch: int = 4,
    device: str = "auto",
    precision: str = "auto",
    steps: int = 3,
    rounds: int = 2,
    on_progress: OnProgress | None = None,
) -> dict[str, Any]:
    """Time a pre-training step of every method, and count its work and memory.

    Args:
        size: Model size; that of the teachers as well.
        batch: Clips of a step.
        device: ``cpu``, ``cuda`` or ``auto``.
        precision: ``float32``, ``bfloat16`` or ``auto``.
        steps: Timed steps of a round, after the warm-up.
        rounds: Each starts every method once, in a new process.
        on_progress: Called with the number of finished and of all processes.

    Returns:
        Values that JSON can hold: ``rows`` as :func:`~everest.bench.peers.bench_peers` gives them, with
        ``activations_of_videomae`` (activations over those of VideoMAE) and ``published`` (the paper's numbers for
        ViT-B, ``times_everest`` of its epochs among them, or None); ``hardware``; and what was asked for.

    Raises:
        ConfigError: EVEREST itself cannot be measured so.
    """
    if min(batch, steps, rounds) < 1:
        raise ConfigError("batch, steps and rounds must be at least 1")
    options = ["--size", size, "--batch", str(batch), "--device", device, "--precision", precision]
    who = [method.contender for method in METHODS]
    rows, found = measure_in_rounds(who, [*options, "--steps", str(steps)], batch, rounds, on_progress)
    videomae = next((row.get("activations_gb") for row in rows if row["name"] == "VideoMAE"), None)
    for row, method in zip(rows, METHODS, strict=True):
        if "problem" not in row:
            row["activations_of_videomae"] = None if videomae is None else row["activations_gb"] / videomae
        row["published"] = _published(method.published)
    return {
        **{"size": size, "batch": batch, "steps": steps, "rounds": rounds},
        **{"device": found["device"], "precision": found["precision"]},
        "rows": rows,
        "hardware": found["hardware"],
    }


def format_methods(values: dict[str, Any]) -> str:
    """Say the result of :func:`bench_methods` to people, as a table."""
    lines = [
        f"{'':26}{'GMAC':>8}{'s/step':>9}{'clips/s':>9}{'GB':>7}{'kept GB':>9}{'EVEREST':>9}{'paper':>8}",
    ]
    for row in values["rows"]:
        if "problem" in row:
            lines.append(f"{row['name']:26}  not measured: {row['problem']}")
            continue
        times, said = f"x{row['times_everest']:.2f}", row["published"]
        published = f"x{said['times_everest']:.2f}" if said else ""
        lines.append(
            f"{row['name']:26}{row['gmacs']:8.1f}{row['seconds_per_step']:9.3f}{row['clips_per_second']:9.2f}"
            f"{row['peak_memory_gb']:7.2f}{row['activations_gb']:9.2f}{times:>9}{published:>8}"
        )
    lines.append(
        f"{values['size']}, batch {values['batch']}, {values['precision']} on {values['hardware']['name']}; "
        f"{values['rounds']} rounds of {values['steps']} steps; kept GB is what the forward pass keeps for the "
        "backward pass; the last columns are the time of a step over that of EVEREST, here and in the paper (of epochs)"
    )
    return "\n".join(lines)


def _published(numbers: Published | None) -> dict[str, float | None] | None:
    if numbers is None:
        return None
    everest = METHODS[0].published
    assert everest is not None  # noqa: S101 - for the type checker: the first row has them
    return numbers._asdict() | {"times_everest": numbers.epoch_minutes / everest.epoch_minutes}
