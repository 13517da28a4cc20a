"""What the documents say is so: links lead somewhere, commands parse, recipes and options exist."""

import re
import shlex
import shutil
from pathlib import Path

import pytest

from everest.cli import build_parser, main
from everest.datasets import load_data
from everest.video.protocols import STORES

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", document.read_text()):
        assert (document.parent / target).exists(), target


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_commands_parse(document: Path) -> None:
    for block in re.findall(r"```sh\n(.*?)```", document.read_text(), flags=re.S):
        for line in block.splitlines():
            words = shlex.split(line, comments=True)
            if words[:1] == ["everest"]:
                build_parser().parse_args(words[1:])


def test_the_stores_that_clips_are_read_from_are_all_named() -> None:
    text = (ROOT / "docs" / "data.md").read_text().partition("only stores are read: ")[2]
    part = text.partition(", with `simplecache::`")[0]
    assert set(re.findall(r"`(\w+)`", part)) == STORES


def test_own_videos_go_the_way_of_the_readme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every line of the block, in its order, on six real clips and with a model for CPUs; then the Python block."""
    text = (ROOT / "README.md").read_text().partition("## Your own videos")[2].partition("\n## ")[0]
    (commands,) = re.findall(r"```sh\n(.*?)```", text, flags=re.S)
    (code,) = re.findall(r"```python\n(.*?)```", text, flags=re.S)
    bundled = load_data("bundled")
    for stem, name in (("Fall", "falls"), ("ADL", "daily life")):
        folder = tmp_path / "videos" / name
        folder.mkdir(parents=True)
        for path in sorted({r.path for r in bundled.records if r.path.parent.name == stem})[:3]:
            shutil.copy(path, folder)
    shutil.copy(path, tmp_path / "clip.mp4")
    shutil.copy(path, tmp_path / "another.mkv")
    small = "model.size=tiny clip.height=32 clip.width=32 optim.epochs=1 optim.warmup_epochs=0 data.num_workers=0"
    small += " optim.global_batch_size=4 data.batch_size=4 run.device=cpu run.tensorboard=false"
    monkeypatch.chdir(tmp_path)
    run = []
    for line in commands.splitlines():
        words = shlex.split(line, comments=True)
        if words[1] in {"pretrain", "finetune"}:
            words += [f"--set={setting}" for setting in small.split()]
        assert main(words[1:]) == 0, line
        run.append(words[1])
    assert run == ["data", "data", "pretrain", "finetune", "evaluate", "predict"]
    before, _, expression = code.partition("\n\n")
    names: dict[str, object] = {}
    exec(before, names)
    classes = eval(expression.partition("#")[0].strip(), names)
    assert {name for name, _ in classes} == {"falls", "daily life"}


def test_the_readme_names_every_command() -> None:
    text = (ROOT / "README.md").read_text()
    for command in ("demo", "pretrain", "finetune", "evaluate", "predict", "recipe list", "recipe show", "data index"):
        assert f"everest {command}" in text
    for command in ("data check", "bench step", "bench macs", "bench parity", "doctor"):
        assert f"everest {command}" in text
