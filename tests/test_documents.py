"""What the documents say is so: links lead somewhere, commands parse, recipes and options exist."""

import re
import shlex
from pathlib import Path

import pytest

from everest.cli import build_parser

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


def test_python_of_the_readme_compiles() -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.S)
    assert blocks
    for block in blocks:
        compile(block, "README.md", "exec")


def test_the_readme_names_every_command() -> None:
    text = (ROOT / "README.md").read_text()
    for command in ("demo", "pretrain", "finetune", "evaluate", "predict", "recipe list", "recipe show", "data index"):
        assert f"everest {command}" in text
    for command in ("data check", "bench step", "bench macs", "bench parity", "doctor"):
        assert f"everest {command}" in text
