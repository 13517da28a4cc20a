"""What is worth knowing of a GPU, in the order of its worth."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from everest.bench.foreign import TRANSFORMERS
from everest.bench.peers import contenders
from everest.config import VARYING, ModelSize, Task

SIZES: tuple[ModelSize, ...] = ("base", "large", "small")
TASKS: tuple[Task, ...] = ("pretrain", "finetune")
OURS, VIDEOMAE = "EVEREST", "VideoMAE, our path"
PLAIN_WAYS = ("EVEREST, plain peer", "VideoMAE, plain peer")
FIRST_START, SECOND_START = ", compiled", ", compiled, second start"
"""How the names of two measurements end; the second finds what the first has compiled in the same call."""


@dataclass(frozen=True)
class Measurement:
    """One thing to find out.

    Attributes:
        name: For people.
        kind: ``step``, ``apart`` (a step in a new process), ``footage`` (a step on bundled clips), ``largest``,
            ``profile``, ``waits``, ``levers`` or ``scores``.
        options: Of the function that measures.
    """

    name: str
    kind: str
    options: dict[str, Any] = field(default_factory=dict)


def plan_suite(sizes: Iterable[ModelSize], batch: int, peers: Iterable[str] = ()) -> list[Measurement]:
    """List what is measured, the most important first.

    First of all sizes in pre-training: the step of EVEREST at its fastest and the plain peers it is compared with; of
    the first size also further peers and what a second start finds compiled; how large batches can be. Then of the
    first size the same in fine-tuning, transformers' VideoMAE in both, every other way to compute both, real clips, and
    where the time of a step goes; and what is left of the other sizes, their fine-tuning last.

    Args:
        sizes: Model sizes.
        batch: Clips of a step.
        peers: Further peers, as ``MODULE:FUNCTION``, in both tasks of the first size.
    """
    sizes, peers = tuple(sizes), tuple(peers)
    plan: list[Measurement] = []
    first, others = sizes[0], sizes[1:]
    for size in sizes:
        plan += _essential(size, "pretrain", batch, peers if size == first else ())
        if size == first:
            ours = _contenders(size, "pretrain", batch)[OURS]
            plan.append(Measurement(ours.name + SECOND_START, "apart", {**ours.options, "compile": True}))
            plan.append(_largest(size, batch))
    plan += [_largest(size, batch) for size in others]
    plan += _essential(first, "finetune", batch, peers)
    plan += [each for task in TASKS for each in _of_transformers(first, task, batch)]
    plan += [each for task in TASKS for each in _further(first, task, batch)]
    plan += [each for task in TASKS for each in _on_footage(first, task, batch)]
    plan += _explained(first, batch)
    for size in others:
        ours = _contenders(size, "pretrain", batch)[OURS]
        plan += [Measurement(f"{ours.name}, parts", "profile", ours.options), *_further(size, "pretrain", batch)]
        plan += _of_transformers(size, "pretrain", batch)
    plan += [each for size in others for each in _essential(size, "finetune", batch, ())]
    return [*plan, Measurement("scores", "scores")]


def _largest(size: ModelSize, batch: int) -> Measurement:
    """How large batches of pre-training can be."""
    ours = _contenders(size, "pretrain", batch)[OURS]
    return Measurement(f"{ours.name}, largest batch", "largest", ours.options)


def _contenders(size: ModelSize, task: Task, batch: int, peers: Iterable[str] = ()) -> dict[str, Measurement]:
    """One step of each of those that are compared, by name; what somebody else wrote runs in a process of its own."""
    found = {}
    for who in contenders(task, peers):
        if who.scoring == "auto":
            options: dict[str, Any] = {"size": size, "task": task, "batch": batch, "selection": who.selection}
            options |= {} if who.peer is None else {"peer": who.peer}
            kind = "apart" if who.peer is not None and ":" in who.peer else "step"
            found[who.name] = Measurement(f"{size} {task}, {who.name}", kind, options)
    return found


def _compiled(ours: Measurement) -> Measurement:
    return Measurement(ours.name + FIRST_START, "step", {**ours.options, "compile": True})


def _replayed(ours: Measurement) -> Measurement:
    """Apart, as what fails while it is recorded may take the others with it."""
    return Measurement(f"{ours.name}, replayed", "apart", {**ours.options, "cuda_graphs": True})


def _essential(size: ModelSize, task: Task, batch: int, peers: Iterable[str]) -> list[Measurement]:
    """EVEREST at its fastest, and what it is compared with: the plain peers, and those that somebody gives."""
    found = _contenders(size, task, batch, peers)
    ours = _compiled(found[OURS])
    return [ours, _replayed(ours), *(found[name] for name in PLAIN_WAYS), *(found[peer] for peer in peers)]


def _further(size: ModelSize, task: Task, batch: int) -> Iterator[Measurement]:
    """Other ways to compute EVEREST, VideoMAE on our path in all of them, and random tokens."""
    found = _contenders(size, task, batch)
    yield found[OURS]
    yield _compiled(found[VIDEOMAE])
    yield _replayed(_compiled(found[VIDEOMAE]))
    yield _replayed(found[OURS])
    yield found[VIDEOMAE]
    yield from (each for each in found.values() if each.options["selection"] == "random_equal")


def _of_transformers(size: ModelSize, task: Task, batch: int) -> Iterator[Measurement]:
    """VideoMAE of transformers, compiled, and as it comes."""
    for each in _contenders(size, task, batch).values():
        if each.options.get("peer") == TRANSFORMERS:
            yield from (_compiled(each), each)


def _on_footage(size: ModelSize, task: Task, batch: int) -> Iterator[Measurement]:
    """EVEREST on real clips, and what keeps as many tokens as a clip asks for."""
    for who in contenders(task, footage=True):
        if who.selection in {*VARYING, "rero"} and who.peer is None and who.scoring == "auto":
            options = {"size": size, "task": task, "batch": batch, "selection": who.selection}
            yield Measurement(f"{size} {task}, {who.name}, real clips", "footage", options)


def _explained(size: ModelSize, batch: int) -> Iterator[Measurement]:
    """Where the time of both steps goes, where they wait, what exact scores cost, and each lever by itself."""
    both = [_contenders(size, task, batch)[OURS] for task in TASKS]
    for ours in both:
        yield Measurement(f"{ours.name}, parts", "profile", ours.options)
        yield Measurement(f"{ours.name}, where it waits", "waits", ours.options)
    yield Measurement(f"{both[0].name}, exact scores", "step", {**both[0].options, "scoring": "exact"})
    for task, ours in zip(TASKS, both, strict=True):
        given = {name: value for name, value in ours.options.items() if name != "selection"}
        yield Measurement(f"{size} {task}, levers", "levers", given)
