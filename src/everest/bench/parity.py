"""Compare EVEREST with recorded numbers of the official release.

    python -m everest.bench.parity FOLDER [FOLDER ...]

A fixture folder holds ``info.json`` (sizes, ratios, token counts), ``input.safetensors`` (``videos`` [B, 3, T, H, W],
``mean`` and ``std`` [3], ``noise`` [B, K], ``tube_mask`` [B, N] with 1 = masked, ``targets`` [B]), the weights
``pretrain_state`` and ``finetune_state``, and one file per recorded run, ``{run}_{f32|f64}.safetensors``, run being
``pretrain_mcm_stable``, ``pretrain_tube``, ``finetune_mcm_stable`` or ``finetune_full``; and, where there is one,
``pos_embed.safetensors`` with the position tables. Every run that is there is repeated here, with the recorded numbers
of tokens, and compared quantity by quantity: selections must be identical; numbers may differ by 1e-5 (float32) or
1e-10 (float64) of the largest entry of their tensor. One line is printed per quantity; the exit code is 1 if any is
over its tolerance or a recorded gradient or weight has nothing of ours beside it, and 2 if a folder is unusable. Other
recorded quantities that nothing is compared with are named.
"""

import argparse
import json
import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from everest.errors import DataError, EverestError
from everest.models.autoencoder import MaskedAutoencoder
from everest.models.classifier import Classifier
from everest.models.encoder import Encoder
from everest.models.weights import from_release, load_state
from everest.objectives import pixel_loss, pixel_targets
from everest.tokens import (
    TokenGrid,
    TokenSelection,
    gather_tokens,
    patchify,
    rank_by_score,
    rero_scores,
    split_kept,
)
from everest.training.optim import parameter_groups

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}
DTYPES = {"f32": torch.float32, "f64": torch.float64}
RUNS = ("pretrain_mcm_stable", "pretrain_tube", "finetune_mcm_stable", "finetune_full")


@dataclass(frozen=True)
class Comparison:
    """One compared quantity.

    Attributes:
        run: Recorded run and number format, such as ``pretrain_tube_f64``.
        quantity: Name of the quantity.
        error: Largest difference, relative to the largest entry of the recorded tensor; 0 for identical selections,
            infinity for different ones.
        tolerance: What is allowed.
    """

    run: str
    quantity: str
    error: float
    tolerance: float

    @property
    def passed(self) -> bool:
        """Whether the error is within the tolerance; NaN is not."""
        return self.error <= self.tolerance

    def to_dict(self) -> dict[str, Any]:
        """Give everything as plain values that JSON can hold."""
        return asdict(self) | {"error": self.error if math.isfinite(self.error) else None, "passed": self.passed}

    def __str__(self) -> str:
        verdict = "ok" if self.passed else "FAILED"
        return f"{self.run:28} {self.quantity:44} {self.error:9.2e}  (allowed {self.tolerance:.0e})  {verdict}"


@dataclass(frozen=True)
class Fixture:
    """A fixture folder, read."""

    folder: Path
    config: dict[str, Any]
    info: dict[str, Any]
    inputs: dict[str, Tensor]

    @classmethod
    def read(cls, folder: Path) -> "Fixture":
        """Read a fixture's description and inputs.

        Raises:
            DataError: The folder is not a fixture.
        """
        try:
            info = json.loads((folder / "info.json").read_text(encoding="utf-8"))
            return cls(folder, dict(info["config"]), info, load_file(folder / "input.safetensors"))
        except (OSError, KeyError, TypeError, ValueError, safetensors.SafetensorError) as error:
            raise DataError(f"{folder}: not a fixture folder: {type(error).__name__}: {error}") from None

    @property
    def grid(self) -> TokenGrid:
        """The tokens of the recorded clips; the release has tubelets of 2 frames."""
        _, _, num_frames, height, width = self.inputs["videos"].shape
        size = self.config["patch_size"]
        return TokenGrid.of_clip(num_frames=num_frames, height=height, width=width, tubelet_size=2, patch_size=size)

    def encoder(self, *, final_norm: bool) -> Encoder:
        """The recorded encoder with fresh weights."""
        c = self.config
        return Encoder(self.grid, width=c["embed_dim"], depth=c["depth"], num_heads=c["heads"], final_norm=final_norm)


def compare_folder(folder: Path, on_skipped: Callable[[str], None] | None = None) -> Iterator[Comparison]:
    """Repeat every recorded run of a fixture folder.

    Args:
        folder: See the description of this module.
        on_skipped: Told of recorded quantities that nothing is compared with.

    Yields:
        One comparison per quantity.

    Raises:
        DataError: The folder is not a fixture, or holds no run.
    """
    fixture = Fixture.read(folder)
    files = [(run, suffix) for run in RUNS for suffix in DTYPES if (folder / f"{run}_{suffix}.safetensors").is_file()]
    if not files:
        raise DataError(f"{folder}: no recorded run; expected files such as {RUNS[0]}_f32.safetensors")
    for run, suffix in files:
        golden = _state(fixture, f"{run}_{suffix}")
        repeat = _pretrain if run.startswith("pretrain") else _finetune
        try:
            ours = repeat(fixture, golden, DTYPES[suffix])
            tables = _tables(fixture, run)
            golden |= tables
            pairs = [(n, value, golden[n]) for n, value in ours.items() if tables or not n.endswith("_pos_embed")]
        except KeyError as error:
            raise DataError(f"{folder}: {run}_{suffix} or what belongs to it has no {error}") from None
        except (RuntimeError, IndexError, TypeError, ZeroDivisionError) as error:
            reason = " ".join(str(error).split())
            raise DataError(f"{folder}: {run}_{suffix} does not fit its description: {reason}") from None
        for name, value, recorded in pairs:
            yield _compare(f"{run}_{suffix}", name, value, recorded, TOLERANCE[DTYPES[suffix]])
        for name in sorted(golden.keys() - ours.keys() - {"noise"}):  # the noise is an input
            if name.startswith(("grad.", "step1.")):
                yield Comparison(f"{run}_{suffix}", f"{name}: nothing of ours", math.inf, 0.0)
            elif on_skipped is not None:
                on_skipped(f"{run}_{suffix}: {name} is recorded, but nothing of ours is compared with it")


def _pretrain(fixture: Fixture, golden: dict[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    """Repeat a pre-training run: selection, forward, targets, loss, gradients, one optimiser step."""
    c, info, inputs = fixture.config, fixture.info, fixture.inputs
    model = MaskedAutoencoder(
        fixture.encoder(final_norm=True),
        width=c["embed_dim"],
        decoder_width=c["dec_dim"],
        decoder_depth=c["dec_depth"],
        decoder_heads=c["dec_heads"],
    )
    load_state(model, from_release(_state(fixture, "pretrain_state")), source="pretrain_state", strict=True)
    model.to(dtype)
    patches = patchify(inputs["videos"].to(dtype), fixture.grid)
    if "importance" in golden:
        tokens, ours = _rero(model.encoder, patches)
        ranked = ours["ids_sorted"][:, : info["num_compressed_tokens"]]
        visible, target = split_kept(ranked, info["num_input_tokens"], inputs["noise"])
        ours |= _shuffled(ours["ids_sorted"], inputs["noise"])
        ours["input_mask"] = _excluded(visible, fixture.grid)
        ours["target_mask"] = _excluded(target, fixture.grid)
        selection = TokenSelection(visible, target, fixture.grid, embedded=gather_tokens(tokens, visible))
    else:
        order = inputs["tube_mask"].argsort(dim=1, stable=True)
        num_visible = info["tube_visible_tokens"]
        selection = TokenSelection(order[:, :num_visible], order[:, num_visible:], fixture.grid)
        ours = {
            "patch_embed": model.encoder.patch_embed(patches),
            "bool_masked_pos": _excluded(order[:, :num_visible], fixture.grid),
        }
    taps = _tap({"encoder_block0": model.encoder.blocks[0], "encoder_out": model.encoder.norm})
    inputs_of = _tap({"encoder_in": model.encoder.blocks[0], "decoder_in": model.decoder.blocks[0]}, inputs=True)
    prediction = model(patches, selection)
    mean, std = (inputs[key].to(dtype) for key in ("mean", "std"))
    targets = pixel_targets(patches, selection.target, fixture.grid, mean, std)
    loss = pixel_loss(prediction, targets)
    torch.autograd.backward(loss)
    ours |= {"encoder_pos_embed": model.encoder.positions, "decoder_pos_embed": model.decoder_positions}
    ours |= taps | inputs_of | {"decoder_out": prediction.values, "labels": targets, "loss": loss.reshape(1)}
    return ours | _after_backward(model, golden, betas=(0.9, 0.95), layer_decay=1.0)


def _finetune(fixture: Fixture, golden: dict[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    """Repeat a fine-tuning run: selection, forward, loss, gradients, one optimiser step."""
    c, info, inputs = fixture.config, fixture.info, fixture.inputs
    model = Classifier(fixture.encoder(final_norm=False), width=c["embed_dim"], num_classes=c["num_classes"])
    load_state(model, from_release(_state(fixture, "finetune_state")), source="finetune_state", strict=True)
    model.to(dtype)
    patches = patchify(inputs["videos"].to(dtype), fixture.grid)
    if "importance" in golden:
        tokens, ours = _rero(model.encoder, patches)
        visible = ours["ids_sorted"][:, : info["finetune_kept_tokens"]].sort(dim=1).values
        ours["ids_restore"] = ours["ids_sorted"].argsort(dim=1)
        ours["input_mask"] = _excluded(visible, fixture.grid)
        selection = TokenSelection(visible, visible[:, :0], fixture.grid, embedded=gather_tokens(tokens, visible))
    else:
        everything = torch.arange(fixture.grid.num_tokens).expand(len(patches), -1)
        selection = TokenSelection(everything, everything[:, :0], fixture.grid)
        ours = {"patch_embed": model.encoder.patch_embed(patches)}
    taps = _tap({"blocks_out": model.encoder.norm, "features": model.fc_norm})
    inputs_of = _tap({"blocks_in": model.encoder.blocks[0]}, inputs=True)
    logits = model(patches, selection)
    smoothing = torch.nn.functional.cross_entropy(logits, inputs["targets"], label_smoothing=0.1)
    torch.autograd.backward(smoothing)
    plain = torch.nn.functional.cross_entropy(logits, inputs["targets"])
    ours |= {"finetune_pos_embed": model.encoder.positions}
    ours |= taps | inputs_of | {"logits": logits, "loss": smoothing.reshape(1), "loss_plain_ce": plain.reshape(1)}
    return ours | _after_backward(model, golden, betas=(0.9, 0.999), layer_decay=0.75)


def _shuffled(ids_sorted: Tensor, noise: Tensor) -> dict[str, Tensor]:
    """What the release records of its shuffling: the kept tokens in the order of their noise, the others as ranked."""
    order = noise.argsort(dim=1, stable=True)
    num_kept = noise.shape[1]
    shuffled = torch.cat([ids_sorted[:, :num_kept].gather(1, order), ids_sorted[:, num_kept:]], dim=1)
    return {"noise_argsort": order, "ids_sorted_shuffled": shuffled, "ids_restore": shuffled.argsort(dim=1)}


def _tables(fixture: Fixture, run: str) -> dict[str, Tensor]:
    """The position tables that belong to a run, where the fixture has them."""
    if not (fixture.folder / "pos_embed.safetensors").is_file():
        return {}
    wanted = ("finetune_pos_embed",) if run.startswith("finetune") else ("encoder_pos_embed", "decoder_pos_embed")
    tables = _state(fixture, "pos_embed")
    return {name: tables[name] for name in wanted}


def _state(fixture: Fixture, name: str) -> dict[str, Tensor]:
    try:
        return load_file(fixture.folder / f"{name}.safetensors")
    except (OSError, safetensors.SafetensorError) as error:
        raise DataError(f"{fixture.folder}: cannot read {name}.safetensors ({error})") from None


def _rero(encoder: Encoder, patches: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Embed and score all tokens; returns the embeddings and what is compared of them."""
    tokens, changes = encoder.patch_embed.embed_all(patches, encoder.grid)
    scores = rero_scores(changes)
    return tokens, {"patch_embed": tokens, "importance": scores, "ids_sorted": rank_by_score(scores)}


def _excluded(index: Tensor, grid: TokenGrid) -> Tensor:
    """Mark tokens as the release records them: 0 = in the set, 1 = not."""
    mask = torch.ones(len(index), grid.num_tokens, dtype=torch.uint8)
    return mask.scatter_(1, index, 0)


def _tap(modules: dict[str, nn.Module], *, inputs: bool = False) -> dict[str, Tensor]:
    """Collect what goes into, or comes out of, modules in the next forward pass."""
    tapped: dict[str, Tensor] = {}

    def keep(name: str, value: Tensor) -> None:
        tapped[name] = value.detach()

    for name, module in modules.items():
        if inputs:
            module.register_forward_pre_hook(lambda _, args, name=name: keep(name, args[0]))
        else:
            module.register_forward_hook(lambda _, __, out, name=name: keep(name, out))
    return tapped


def _after_backward(
    model: nn.Module, golden: dict[str, Tensor], *, betas: tuple[float, float], layer_decay: float
) -> dict[str, Tensor]:
    """Gradients, their norm, and the weights after one optimiser step on the recorded gradients.

    The step takes the recorded gradients, because Adam's first step divides by them: where a gradient is 0 but for
    rounding, ours and theirs may point either way.
    """
    parameters = dict(model.named_parameters())
    theirs = {_release_name(model, name): parameter for name, parameter in parameters.items()}
    gradients = {name: p.grad for name, p in theirs.items() if p.grad is not None}
    norm = torch.stack([g.norm() for g in gradients.values()]).norm()
    ours = {f"grad.{name}": g.clone() for name, g in gradients.items()} | {"grad_norm": norm.reshape(1)}
    for name, parameter in theirs.items():
        parameter.grad = golden[f"grad.{name}"].to(parameter.dtype)
    depth = len(model.encoder.blocks)  # type: ignore[union-attr,arg-type]
    groups = parameter_groups(model, weight_decay=0.05, layer_decay=layer_decay, depth=depth)
    for group in groups:
        group["lr"] = 1e-3 * group["lr_scale"]
    torch.optim.AdamW(groups, betas=betas, eps=1e-8).step()
    return ours | {f"step1.{name}": p.detach() for name, p in theirs.items()}


def _release_name(model: nn.Module, name: str) -> str:
    return name.removeprefix("encoder.") if isinstance(model, Classifier) else name


def _compare(run: str, quantity: str, ours: Tensor, golden: Tensor, tolerance: float) -> Comparison:
    ours = ours.detach()
    if ours.shape != golden.shape:
        return Comparison(run, f"{quantity} {list(ours.shape)} != {list(golden.shape)}", float("inf"), tolerance)
    if not golden.is_floating_point():
        error = 0.0 if torch.equal(ours.to(golden.dtype), golden) else float("inf")
        return Comparison(run, quantity, error, 0.0)
    largest = golden.abs().max().double().clamp(min=torch.finfo(torch.float64).tiny)
    error = float((ours.double() - golden.double()).abs().max() / largest)
    return Comparison(run, quantity, error, tolerance)


def main(arguments: list[str] | None = None) -> int:
    """Compare the folders given on the command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m everest.bench.parity", description="Compare with the release.")
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    options = parser.parse_args(arguments)
    compared: list[Comparison] = []
    for folder in options.folders:
        try:
            for comparison in compare_folder(folder, on_skipped=lambda text: print(text, file=sys.stderr)):
                compared.append(comparison)
                if not options.json:
                    print(comparison)
        except EverestError as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
    num_failed = sum(not comparison.passed for comparison in compared)
    if options.json:
        values = {"num_compared": len(compared), "num_failed": num_failed}
        print(json.dumps(values | {"quantities": [comparison.to_dict() for comparison in compared]}, indent=2))
    else:
        print(f"{len(compared)} quantities compared, {num_failed} over the tolerance")
    return 1 if num_failed else 0


if __name__ == "__main__":
    sys.exit(main())
