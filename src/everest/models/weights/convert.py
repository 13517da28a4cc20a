"""From one format to another, and saying what a checkpoint holds."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from everest.config import CheckpointInfo
from everest.errors import EverestError, WeightsError
from everest.models.weights.describe import Given
from everest.models.weights.formats import ADAPTERS, OURS, Reading, read_weights
from everest.models.weights.ours import build_model, compare_weights, save_weights, summarize
from everest.models.weights.report import ABSENT, NO_REASON, Comparison, by_reason, some
from everest.models.weights.writing import tell_kept

Target = Literal["everest", "release", "videomae", "hf"]
"""The format that weights are converted to."""
TARGETS: tuple[Target, ...] = ("everest", "release", "videomae", "hf")
"""All of these formats."""
_SUFFIXES: dict[Target, tuple[str, ...]] = {
    "everest": (".safetensors",),
    "release": (".pth", ".safetensors"),
    "videomae": (".pth", ".safetensors"),
    "hf": ("",),
}


@dataclass(frozen=True)
class Shown:
    """What a checkpoint holds, and whether it is all of a model.

    Attributes:
        reading: The checkpoint, read.
        compared: How its tensors fit the model that it says to be; None where that cannot be built.
        problem: Why it cannot be built.
    """

    reading: Reading
    compared: Comparison | None
    problem: str = ""

    @property
    def is_complete(self) -> bool:
        """Whether there is such a model, and every tensor of it, and no other, in the checkpoint."""
        return self.compared is not None and self.compared.fits

    @property
    def num_parameters(self) -> int:
        """Numbers in all tensors that are used."""
        return sum(value.numel() for value in self.reading.state.values())

    def to_dict(self) -> dict[str, Any]:
        """Give everything as plain values that JSON can hold."""
        read = self.reading
        return {
            "path": str(read.raw.path),
            "container": read.raw.container,
            "format": read.format_name,
            "recognised_by": read.reason,
            "holds": read.part,
            "info": read.info.model_dump(mode="json"),
            "num_tensors": len(read.state),
            "num_parameters": self.num_parameters,
            "number_formats": dict(Counter(str(v.dtype).removeprefix("torch.") for v in read.state.values())),
            "is_complete": self.is_complete,
            "problem": self.problem,
            **({} if self.compared is None else self.compared.to_dict()),
            "unused": read.unused,
            "beside": list(read.raw.beside),
            "notes": list(read.notes),
            "assumed": list(read.assumed),
            "class_names_known": bool(read.info.class_names) and read.names_known,
        }

    def __str__(self) -> str:
        read, info = self.reading, self.reading.info
        kinds = Counter(str(value.dtype).removeprefix("torch.") for value in read.state.values())
        rows = [
            ("format", read.title),
            ("found in", f"{read.raw.container}; it {read.reason}"),
            ("holds", _HOLDS[read.part] + (f" ({info.objective.name})" if read.part == "pretrain" else "")),
            ("network", f"{summarize(info)}{_decoder(read)}"),
            ("clip", f"{info.clip.num_frames}x{info.clip.height}x{info.clip.width}, {_stride(info)}"),
            ("tokens", _tokens(info)),
            ("tensors", f"{len(read.state)} with {self.num_parameters:,} numbers ({', '.join(kinds)})"),
        ]
        if info.class_names:
            more = ", ..." if len(info.class_names) > 5 else ""
            rows.append(("classes", f"{len(info.class_names)}: {', '.join(info.class_names[:5])}{more}"))
        rows += self._fit()
        rows += [("not used", line) for line in by_reason(read.unused)]
        if read.raw.beside:
            rows.append(("beside", f"{', '.join(read.raw.beside[:10])}: not read"))
        rows += [("note", note) for note in read.notes]
        rows += [("assumed", line) for line in read.assumed]
        return "\n".join(f"{name:10} {text}" for name, text in rows)

    def _fit(self) -> list[tuple[str, str]]:
        """Say which tensors fit the model, and what becomes of a checkpoint of which not all do."""
        found = self.compared
        if found is None:
            return [("refused", self.problem)]
        if found.fits:
            return [("matched", f"all {len(found.matched)} tensors of the model")]
        own = len(found.matched) + len(found.missing) + len(found.misshapen)
        rows = [("matched", f"{len(found.matched)} of {own} tensors of the model")]
        if found.missing:
            rows.append(("missing", f"{some(found.missing)}: {ABSENT}"))
        if found.unexpected:
            rows.append(("unexpected", f"{some(found.unexpected)}: {NO_REASON}"))
        if found.misshapen:
            shapes = [f"{key} {both}" for key, both in found.misshapen.items()]
            rows.append(("misshapen", some(shapes)))
        return [*rows, ("refused", _refusal(found))]


def _refusal(found: Comparison) -> str:
    """Say what takes a checkpoint that is not exactly a model: at most fine-tuning, which needs the encoder only."""
    encoder = [key for key in (*found.missing, *found.unexpected) if not key.startswith(("encoder.norm.", "fc_norm."))]
    encoder = [key for key in (*encoder, *found.misshapen) if key.startswith(("encoder.", "fc_norm."))]
    tuning = "fine-tuning (--init) refuses it too" if encoder else "fine-tuning (--init) takes its encoder"
    return f"by convert, evaluate and predict; {tuning}"


_HOLDS = {
    "pretrain": "a pre-training model",
    "finetune": "a classifier",
    "encoder": "an encoder alone, to start fine-tuning from",
}


@dataclass(frozen=True)
class Converted:
    """What a conversion wrote.

    Attributes:
        source: The checkpoint, read.
        path: The new file or folder.
        target: Its format.
        notes: What is worth knowing of it.
    """

    source: Reading
    path: Path
    target: Target
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Give everything as plain values that JSON can hold."""
        source = Shown(self.source, compare_weights(self.source)).to_dict()
        return {"written": str(self.path), "to": self.target, "notes": list(self.notes), "source": source}

    def __str__(self) -> str:
        read = self.source
        lines = [f"{read.title}, {_HOLDS[read.part]}, {summarize(read.info)}: {len(read.state)} tensors"]
        lines += [f"not used: {line}" for line in by_reason(read.unused)]
        lines += [*self.notes, *(f"assumed: {line}" for line in read.assumed), f"written: {self.path}"]
        return "\n".join(lines)


def show_weights(checkpoint: Path, given: Given | None = None) -> Shown:
    """Say what a checkpoint holds, and which tensors the model that it is of misses or does not know.

    Args:
        checkpoint: A checkpoint of any format, see :func:`~everest.models.weights.read_weights`.
        given: What the file may not say.

    Raises:
        WeightsError: It cannot be read. Tensors that are missing, left over or of another shape are shown instead.
    """
    reading = read_weights(checkpoint, given)
    try:
        return Shown(reading, compare_weights(reading))
    except EverestError as error:  # a description of ours may name a model that there is not
        return Shown(reading, None, str(error))


def convert_weights(source: Path, out: Path, target: Target, given: Given | None = None) -> Converted:
    """Write a checkpoint in another format, tensors bit for bit.

    Args:
        source: A checkpoint of any format.
        out: What to write: a file that does not exist yet, for ``hf`` a new or empty folder.
        target: ``everest`` for our own; ``release`` and ``videomae`` are the same; ``hf`` for transformers.
        given: What the source may not say.

    Raises:
        WeightsError: The source cannot be used, the target cannot hold it, or something is there already.
    """
    _check_target(out, target)
    reading = read_weights(source, given)
    model = build_model(reading)  # refuses what is missing or left over
    notes = reading.notes
    if target == OURS:
        save_weights(model, reading.info, out)
    else:
        name = "videomae" if target == "release" else target
        write = next(adapter.write for adapter in ADAPTERS if adapter.name == name)
        assert write is not None  # noqa: S101 - for the type checker: TARGETS names those that write
        notes = (*notes, *write(model.state_dict(), reading.info, out))
    return Converted(reading, out, target, notes)


def _check_target(out: Path, target: Target) -> None:
    taken = out.exists() and (target != "hf" or not out.is_dir() or any(out.iterdir()))
    if taken:
        raise WeightsError(f"{out}: exists already; name a new {'folder' if target == 'hf' else 'file'}")
    if target != "hf" and out.suffix not in _SUFFIXES[target]:
        accepted = " or ".join(_SUFFIXES[target])
        raise WeightsError(f"{out}: --to {target} writes a file whose name ends in {accepted}")


def _decoder(read: Reading) -> str:
    model = read.info.model
    depth = model.decoder_depth if read.part == "pretrain" else None
    decoder = f", decoder of {depth} block{'s' if depth > 1 else ''}" if depth else ""
    return decoder + (f", positions {model.positions}" if model.positions != "sine" else "")


def _stride(info: CheckpointInfo) -> str:
    clip = info.clip
    if clip.sampling == "segments":
        return "one frame of each of as many parts of a video"
    return f"{clip.fps:g} frames a second" if clip.fps is not None else f"stride {clip.stride}"


def _tokens(info: CheckpointInfo) -> str:
    given = info.selection
    if given.method == "all" and info.task == "finetune":
        return "all"
    encoded = f"{given.encode_ratio:.0%} encoded"
    if info.task == "pretrain" and given.method in {"tube", "random", "all"}:  # they predict all others
        return f"{given.method}, {encoded}"
    return f"{given.method}, {tell_kept(info)}" + (f", {encoded}" if info.task == "pretrain" else "")
