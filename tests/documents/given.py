"""What pages take for granted: videos, lists, runs and weights of others, under the names that they use.

Each thing is made when a page names it, once for all pages, and copied into the folder of the page.
"""

import collections
import csv
import json
import re
import shutil
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import pytest
import torch

import everest.training.loop as loop
from documents.pages import ROOT
from documents.small import made_small
from everest.cli import main
from everest.datasets import load_data
from everest.models import load_model, save_weights
from everest.video import read_clip
from everest.video.encode import encode_video

Maker = Callable[[Path, Path], None]
"""Takes the folder in which all of them lie, and where this one is to be written."""

FOLDERS = {"falls": "Fall", "daily life": "ADL"}  # classes, and where their clips are among the bundled ones


def bundled(folder: str) -> list[Path]:
    """The bundled recordings of a folder."""
    return sorted({r.path for r in load_data("bundled").records if r.path.parent.name == folder})


def command(*words: object) -> None:
    """Run a command in small; it has to work."""
    assert main(made_small([str(word) for word in words])) == 0, words


def videos(_: Path, out: Path) -> None:
    """A folder with two classes of three short videos each."""
    for name, folder in FOLDERS.items():
        (out / name).mkdir(parents=True)
        for path in bundled(folder)[:3]:
            written = encode_video([read_clip(path, range(0, 96, 2)).frames], out / name / path.name, Fraction(15))
            collections.deque(written, maxlen=0)


def listed(trained_on: int, clips: int, seconds: float) -> Maker:
    """A list of clips of two classes, in two parts that share no file; the videos are beside it."""

    def make(_: Path, out: Path) -> None:
        rows = []
        for name, folder in FOLDERS.items():
            for number, path in enumerate(bundled(folder)[:clips]):
                place = out.parent / "clips" / name / path.name
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, place)
                part = "train" if number < trained_on else "test"
                rows.append([place.relative_to(out.parent), name, part, 0, seconds])
        with out.open("w", newline="") as file:
            csv.writer(file).writerows([["path", "label", "split", "start", "end"], *rows])

    return make


def clip(number: int) -> Maker:
    """One of the bundled recordings."""

    def make(_: Path, out: Path) -> None:
        shutil.copy(bundled("Fall")[number], out)

    return make


def text(content: str) -> Maker:
    """A small file."""

    def make(_: Path, out: Path) -> None:
        out.write_text(content)

    return make


def long_video(_: Path, out: Path) -> None:
    """Twenty seconds: two recordings of five, played slowly."""
    with av.open(str(out), "w") as target:
        stream = target.add_stream("libx264", rate=12)
        frames = torch.cat([read_clip(path, range(120)).frames for path in bundled("Fall")[:2]])  # [T, H, W, C]
        stream.height, stream.width = frames.shape[1:3]
        for pixels in frames:
            target.mux(stream.encode(av.VideoFrame.from_ndarray(pixels.numpy(), format="rgb24")))
        target.mux(stream.encode(None))


def run(task: str, recipe: str, data: str, *settings: str) -> Maker:
    """A run of a recipe, in small."""

    def make(home: Path, out: Path) -> None:
        place = data if data == "bundled" else have(data, home)
        changes = [f"--set={setting}" for setting in settings]
        command(task, "--recipe", recipe, "--data", place, "--out", out, *changes)

    return make


def replayed(home: Path, out: Path) -> None:
    """A step that was skipped, with weights that no loss is finite with."""
    folder = home / "runs" / "broken"
    words = ["finetune", "--recipe", "own", "--data", str(have("videos", home)), "--out", str(folder)]
    with pytest.MonkeyPatch.context() as patch:
        before = loop.Engine.clip
        patch.setattr(loop.Engine, "clip", lambda *given: before(*given) * float("inf"))
        assert main(made_small([*words, "--set=run.max_skipped_steps=0"])) == 2
    shutil.copytree(folder / "replays", out.parent, dirs_exist_ok=True)
    weights = next(out.parent.glob("*.safetensors"))
    model, info = load_model(weights)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1e25)
    save_weights(model, info, weights)
    next(out.parent.glob("step-*.json")).rename(out)


def image_teacher(_: Path, out: Path) -> None:
    """A masked autoencoder of pictures, as transformers writes it."""
    import transformers

    sizes = {"hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}
    both = sizes | {f"decoder_{name}": number for name, number in sizes.items()}
    transformers.ViTMAEForPreTraining(transformers.ViTMAEConfig(**both, image_size=32)).save_pretrained(out)


def converted(source: str, form: str) -> Maker:
    """Weights of a run in another format."""
    return lambda home, out: command("weights", "convert", have(source, home), out, "--to", form)


def of_deepspeed(home: Path, out: Path) -> None:
    """A classifier as DeepSpeed saves it, in half precision."""
    state = out.with_name("classifier.pth")
    converted("runs/mine", "videomae")(home, state)
    values = torch.load(state, weights_only=True)
    tensors = {name: tensor.half() for name, tensor in values.get("model", values).items()}
    torch.save({"module": tensors, "ds_version": "0"}, out)


GIVEN: dict[str, Callable[[Path, Path], object]] = {
    **dict.fromkeys(("videos", "data", "mnt/videos"), videos),
    **dict.fromkeys(("kinetics.csv", "k400.csv", "ucf101.csv"), listed(2, 3, seconds=1)),
    "videos.csv": listed(6, 9, seconds=3),
    **{"clip.mp4": clip(0), "another.mkv": clip(1), "a.mp4": clip(2), "b.mp4": clip(3), "long.mp4": long_video},
    "packed": lambda home, out: command("data", "pack", have("kinetics.csv", home), out),
    "rates.json": text(json.dumps({"clips_per_second": 900, "cores_per_gpu": 24})),
    "names.txt": text("\n".join(sorted(FOLDERS))),
    "examples": lambda _, out: shutil.copytree(ROOT / "examples", out),
    "tests/data/release_mini": lambda _, out: shutil.copytree(ROOT / "tests" / "data" / "release_mini", out),
    "docs/images": lambda _, out: out.mkdir(),
    "mae": image_teacher,
    "runs/pretrained": run("pretrain", "own", "videos"),
    "runs/mine": run("finetune", "own", "videos"),
    "runs/other": run("finetune", "own", "videos", "optim.base_lr=0.002"),
    "runs/videomae": run("pretrain", "videomae", "videos.csv"),
    "runs/demo-1/pretrain": run("pretrain", "demo", "bundled"),
    "runs/demo-1/finetune": run("finetune", "demo", "bundled"),
    "runs/mine/replays/step-00000057-rank-3.json": replayed,
    "videomae_base_k400.pth": converted("runs/videomae", "videomae"),
    "videomae-of-transformers": converted("runs/videomae", "hf"),
    "mp_rank_00_model_states.pt": of_deepspeed,
}
"""Names as pages write them."""


def have(name: str, home: Path) -> Path:
    """Make one of these in a folder, unless it is there already."""
    place = home / name
    if not place.exists():
        place.parent.mkdir(parents=True, exist_ok=True)
        GIVEN[name](home, place)
    return place


def hand_out(text: str, home: Path, folder: Path) -> None:
    """Put everything that a text names into a folder."""
    folder.mkdir(parents=True)
    for name in sorted(GIVEN):  # a run before its replays
        if is_named(name, text) and not is_made(name, text):
            source = have(name, home)
            _copy(source, folder / name)
            if name.endswith(".csv"):
                _copy(home / "clips", folder / "clips")
            if "/replays/" in name:
                _copy(source.parent, (folder / name).parent)


def is_named(name: str, text: str) -> bool:
    """Whether a text names a file or a folder; names without dot or slash are words, too, unless they look like one."""
    word = re.escape(name)
    looks = rf"(?:/{word}|{word}(?=/)|[\"']{word})" if name.isalnum() else word
    return re.search(rf"(?<![\w.-]){looks}(?![\w.-])", text) is not None


def is_made(name: str, text: str) -> bool:
    """Whether the first line of a text that names a run is the one that trains it."""
    lines = text.replace("\\\n", " ").splitlines()
    first = next((line for line in lines if is_named(name, line)), "")
    word = re.escape(name)
    return re.search(rf"\b(pretrain|finetune)\b.*(--out |out=\"){word}(?![\w/.-])", first) is not None


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, dirs_exist_ok=True)
    else:
        shutil.copy(source, target)
