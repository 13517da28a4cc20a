"""What the documents say is so: links lead somewhere, stores and commands are named. documents/ runs their blocks."""

import re
from pathlib import Path

import pytest

from everest.video.protocols import STORES

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", document.read_text()):
        assert (document.parent / target).exists(), target


def test_the_stores_that_clips_are_read_from_are_all_named() -> None:
    text = (ROOT / "docs" / "data.md").read_text().partition("only stores are read: ")[2]
    part = text.partition(", with `simplecache::`")[0]
    assert set(re.findall(r"`(\w+)`", part)) == STORES


def test_the_readme_names_every_command() -> None:
    text = (ROOT / "README.md").read_text()
    for command in ("demo", "pretrain", "finetune", "evaluate", "predict", "recipe list", "recipe show", "data index"):
        assert f"everest {command}" in text
    for command in ("data check", "bench step", "bench macs", "bench parity", "doctor"):
        assert f"everest {command}" in text
