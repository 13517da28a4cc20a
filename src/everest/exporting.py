"""Write a trained model for other programs, and compare each file with PyTorch on real clips before it is there."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.export import ExportedProgram

from everest.config import CheckpointInfo, FrameSelectionConfig
from everest.errors import ConfigError
from everest.evaluation import with_keep_ratio
from everest.hashing import sha256_of
from everest.inference.exporting.clips import read_clips
from everest.inference.exporting.describing import describe
from everest.inference.exporting.graph import ClipGraph
from everest.inference.exporting.huggingface_format import (
    FILES,
    open_folder,
    reference_of_all,
    require_transformers,
    write_folder,
)
from everest.inference.exporting.onnx_format import OPSET, open_onnx, require_onnx, write_onnx
from everest.inference.exporting.places import check_place, publish, staging
from everest.inference.exporting.reference import Reference, Run
from everest.inference.exporting.torch_formats import (
    open_compiled,
    open_program,
    record,
    require_compiler,
    write_compiled,
    write_program,
)
from everest.inference.exporting.verifying import Agreement, compare
from everest.models import Classifier
from everest.models.autoencoder import MaskedModel
from everest.models.features import to_use
from everest.models.weights import build_model, read_weights, summarize
from everest.texts import printable
from everest.training.progress import Progress

Format = Literal["onnx", "torch", "aoti", "hf"]
_SUFFIXES: dict[Format, tuple[str, ...]] = {"onnx": (".onnx",), "torch": (".pt2",), "aoti": (".pt2",), "hf": ()}
_REQUIRED: dict[Format, Callable[[], None]] = {
    "onnx": require_onnx,
    "torch": lambda: None,
    "aoti": require_compiler,
    "hf": require_transformers,
}


@dataclass(frozen=True)
class ExportedFile:
    """One thing that was made.

    Attributes:
        format: Of the four.
        out: Where it is, or was meant to be.
        files: Names of the files in it or beside it; none where it was not published.
        num_bytes: Of all of them.
        seconds: That making it took, without comparing.
        agreement: With PyTorch.
        notes: What is worth knowing.
    """

    format: Format
    out: Path
    files: tuple[str, ...]
    num_bytes: int
    seconds: float
    agreement: Agreement
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Give everything as plain values that JSON can hold."""
        return {
            "format": self.format,
            "out": str(self.out),
            "files": list(self.files),
            "num_bytes": self.num_bytes,
            "seconds": round(self.seconds, 2),
            "agreement": self.agreement.to_dict(),
            "notes": list(self.notes),
        }


@dataclass(frozen=True)
class ExportReport:
    """What was made of a checkpoint.

    Attributes:
        checkpoint: It.
        info: As it was exported.
        files: One for each format that was asked for.
    """

    checkpoint: Path
    info: CheckpointInfo
    files: tuple[ExportedFile, ...]

    @property
    def is_good(self) -> bool:
        """Whether all of it computes what PyTorch computes; what does not was not published."""
        return all(file.agreement.is_good for file in self.files)

    def to_dict(self) -> dict[str, Any]:
        """Give everything as plain values that JSON can hold."""
        info = self.info.model_dump(mode="json")
        files = [file.to_dict() for file in self.files]
        return {"checkpoint": str(self.checkpoint), "is_good": self.is_good, "info": info, "files": files}

    def summary(self) -> str:
        """Tell a person."""
        kind = f"a classifier of {len(self.info.class_names)} classes" if self.info.class_names else "an encoder"
        lines = [f"{self.checkpoint}: {kind}, {summarize(self.info)}, tokens: {self.info.selection.method}"]
        for file in self.files:
            opset = f", opset {OPSET}" if file.format == "onnx" else ""
            made = f"{file.num_bytes / 1e6:.1f} MB{opset}, made in {file.seconds:.0f} s"
            lines.append(f"{file.format}: {file.out}, {made if file.files else 'NOT WRITTEN: it does not agree'}")
            lines += [f"  {line}" for line in (*file.agreement.lines(), *file.notes)]
        return "\n".join(map(printable, lines))


def export(
    checkpoint: str | Path,
    *,
    onnx: str | Path | None = None,
    torch_program: str | Path | None = None,
    aoti: str | Path | None = None,
    hf: str | Path | None = None,
    clips: Sequence[str | Path] = (),
    keep_ratio: float | None = None,
    overwrite: bool = False,
) -> ExportReport:
    """Write a model for other programs: it takes bytes of clips, chooses its tokens itself, and gives what it says.

    Each file is run on real clips in batches of several sizes beside PyTorch, and appears under its name only if
    nothing differs by more than rounding. See docs/export.md for what goes in and out.

    Args:
        checkpoint: A run folder or a checkpoint of any known format: a classifier, or a pre-trained encoder, which
            gives features.
        onnx: A file for onnxruntime and others, ``.onnx``.
        torch_program: A package of ``torch.export``, ``.pt2``.
        aoti: A package of AOTInductor, compiled for this processor, ``.pt2``.
        hf: A folder for Hugging Face's transformers, which computes all tokens.
        clips: Videos to compare on; none takes three that come with the program.
        keep_ratio: Share of the tokens to look at; None: as in training, and all of an encoder.
        overwrite: Replace what is there.

    Raises:
        ConfigError: Nothing was asked for, a package or the compiler is missing, or the model cannot be exported.
        WeightsError: The checkpoint cannot be read.
        VideoError: A clip cannot be read.
        RunError: Something is there already, or cannot be written.
    """
    given: dict[Format, str | Path | None] = {"onnx": onnx, "torch": torch_program, "aoti": aoti, "hf": hf}
    wanted: dict[Format, Path] = {name: Path(path).expanduser() for name, path in given.items() if path is not None}
    if not wanted:
        raise ConfigError("nothing to write: give --onnx, --torch, --aoti or --hf with a place")
    if len({path.resolve() for path in wanted.values()}) < len(wanted):
        raise ConfigError("two formats cannot be written to the same place")
    for name, out in wanted.items():
        check_place(out, _SUFFIXES[name], overwrite=overwrite)
        if name == "onnx":  # where the weights of a large model go
            check_place(out.with_name(f"{out.name}.data"), (".data",), overwrite=overwrite)
        _REQUIRED[name]()
    reading = read_weights(Path(checkpoint).expanduser())
    model, trained = build_model(reading), reading.info
    info = with_keep_ratio(to_use(trained), keep_ratio)
    source = reading.raw.path
    maker = _Maker(model, trained, info, sha256_of(source) if source.is_file() else "")
    real = read_clips(info, clips)
    files = []
    with Progress("exporting", len(wanted)) as progress:
        for name, out in wanted.items():
            files.append(maker.make(name, out, real))
            progress.update(len(files))
    return ExportReport(Path(checkpoint), info, tuple(files))


class _Maker:
    """Writes one model in several formats."""

    def __init__(
        self, model: Classifier | MaskedModel, trained: CheckpointInfo, info: CheckpointInfo, digest: str
    ) -> None:
        self.model, self.trained, self.info, self.digest = model, trained, info, digest
        self._recorded: tuple[ClipGraph, ExportedProgram] | None = None

    def make(self, name: Format, out: Path, clips: Tensor) -> ExportedFile:
        """Write, compare, and publish what agrees."""
        with staging(out) as folder:
            start = time.perf_counter()
            place, target = (folder, out) if name == "hf" else (folder / out.name, out.parent)
            names, notes = self._write(name, place)
            seconds = time.perf_counter() - start
            if name == "hf":
                agreement, more = self._compare_folder(folder, clips)
                notes += more
            else:
                agreement = compare(self._open(name, place), Reference(self.model, self.info), clips)
            files, num_bytes = (names, publish(folder, names, target)) if agreement.is_good else ((), 0)
        return ExportedFile(name, out, files, num_bytes, seconds, agreement, notes)

    def _write(self, name: Format, place: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Write files; give their names, the most important one first, and what is worth knowing."""
        if name == "hf":
            return FILES, write_folder(self.model, self.trained, place)
        graph, program = self._record()
        about = describe(graph, self.digest)
        if name == "onnx":
            return write_onnx(program, graph, place, about), ()
        (write_program if name == "torch" else write_compiled)(program, place, about)
        return (place.name,), ()

    def _open(self, name: Format, place: Path) -> Run:
        graph, _ = self._record()
        if name == "onnx":
            return open_onnx(place)
        return (open_program if name == "torch" else open_compiled)(place, graph)

    def _record(self) -> tuple[ClipGraph, ExportedProgram]:
        if self._recorded is None:
            graph = ClipGraph(self.model, self.info)
            self._recorded = graph, record(graph)
        return self._recorded

    def _compare_folder(self, folder: Path, clips: Tensor) -> tuple[Agreement, tuple[str, ...]]:
        """Compare on all tokens, and say what the model's own selection makes of it."""
        own = Reference(self.model, self.info)
        chosen = own.choose_frames(clips)
        if chosen is not None:
            clips = torch.stack([clip[:, numbers] for clip, numbers in zip(clips, chosen, strict=True)])
        run = open_folder(folder, self.trained)
        agreement = compare(run, reference_of_all(self.model, self.info), clips)
        if self.info.selection.method == "all" or not self.trained.class_names:
            return agreement, ()
        without_choosing = self.info.model_copy(update={"frame_selection": FrameSelectionConfig()})
        some = Reference(self.model, without_choosing).answer(clips.permute(0, 2, 3, 4, 1))
        everything = run(clips.permute(0, 2, 3, 4, 1))["logits"]
        same = int((some.argmax(dim=1) == everything.argmax(dim=1)).sum())
        return agreement, (
            f"{same} of {len(clips)} clips get the same class on all tokens as on those that the model chooses",
        )
