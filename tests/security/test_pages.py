"""Pages escape what users wrote, wherever it stands, and nothing in them runs or is fetched."""

import html.parser
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from everest.evaluation import Evaluation
from everest.evaluation.evaluate import ClassAccuracy, ClipFailure
from everest.inference import Reconstruction
from everest.reports import compare_reports, make_report
from everest.tokens import TokenGrid, TokenSelection
from everest.visualize import (
    Card,
    Folded,
    FramesExample,
    HardClip,
    Report,
    RunCurves,
    Section,
    SelectionExample,
    Table,
    curves_section,
    draw_runs,
    evaluation_section,
    frames_section,
    hardest_section,
    reconstruction_section,
    selection_section,
    settings_section,
    timings_section,
    training_section,
)
from run_folders import make_run

EVIL = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onload='alert(1)",
    "</title></style><script>alert(1)</script>",
    "javascript:alert(1)",
    "{{ 7 * 7 }}{% for x in y %}",
    "&lt;script&gt;&#x27;",
    "$\\frac{$ _hidden \x00\x1b]8;;http://x\x07",
    "]]><!--",
)
TAGS = {"html", "head", "meta", "title", "style", "body", "h1", "h2", "p", "nav", "a", "section", "div", "figure"}
TAGS |= {"table", "thead", "tbody", "tr", "th", "td", "img", "figcaption"}
TAGS |= {"ul", "li", "strong", "span", "details", "summary", "pre"}
ATTRIBUTES = {"lang", "charset", "name", "content", "class", "href", "id", "src", "alt"}


class Page(html.parser.HTMLParser):
    """What a browser would make of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.seen: set[str] = set()
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        assert tag in TAGS, tag
        for name, value in attributes:
            assert name in ATTRIBUTES, name
            if name == "href":
                assert (value or "").startswith("#"), value
            if name == "src":
                assert (value or "").startswith("data:image/"), value
            if name == "alt":
                self.texts.append(value or "")

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def evaluation(names: tuple[str, ...]) -> Evaluation:
    count = len(names)
    return Evaluation(
        num_clips=count,
        num_views=1,
        top1=0.5,
        top1_interval=(0.25, 0.75),
        top5=None,
        majority=0.5,
        per_class=tuple(ClassAccuracy(name, 1, 0.5) for name in names),
        confusion=torch.eye(count, dtype=torch.int64),
        predictions=(),
        failures=(ClipFailure(0, Path(names[0]), names[1]),),
        class_names=names,
        manifest_digest="",
        part_digest="",
        note=names[0],
        seconds=1.0,
    )


def page(evil: str) -> str:
    """A report in which everything that can come from outside is evil."""
    names = (evil, f"{evil} 2")
    hard = (evil, (evil, 0.1), (evil, 0.9))
    grid = TokenGrid(2, 2, 2, 2, 4)
    clip = torch.rand(3, 4, 8, 8)
    kept = torch.arange(3)
    selection = TokenSelection(kept[None], kept[None], grid)
    pictures: dict[str, Any] = dict.fromkeys(
        ("original", "encoded_only", "with_true_statistics", "with_visible_statistics"), clip[None]
    )
    sections = (
        evaluation_section({evil: evaluation(names), f"{evil} 3": evaluation(names)}, notes=(evil,), heading=evil),
        selection_section([SelectionExample(evil, clip, kept, kept, torch.rand(8), grid)], evil),
        reconstruction_section({evil: Reconstruction(**pictures, selection=selection)}, evil),
        frames_section([FramesExample(evil, clip, torch.tensor([0]), torch.tensor([3, 1]), 2)], evil),
        curves_section({evil: [{"step": 0, "epoch": 1, "loss": 1.0, "top1": 0.5}]}, evil),
        timings_section({evil: 1.0}, evil, evil),
        settings_section({evil: {evil: evil}, "b": {evil: None}}, evil),
        hardest_section([HardClip(evil, (evil, 0.1), (names[1], 0.9), b"RIFF")] * 2 + [HardClip(*hard)], 3, evil),
        training_section({"loss": [(1.0, 2.0)]}, evil),
        Section(evil, folded=(Folded(evil, (Table((evil,), ((evil,),)),), (evil,)),)),
    )
    return Report(evil, evil, sections, (evil,), (Card(evil, evil),)).render()


@pytest.mark.parametrize("evil", EVIL)
def test_nothing_that_a_user_wrote_becomes_a_part_of_the_page(evil: str) -> None:
    text = page(evil)
    found = Page(text)
    shown = evil.replace("\x00", "\ufffd")  # as parsers show it
    assert sum(shown in each or evil in each for each in found.texts) > 10
    assert "<script" not in text


@pytest.mark.parametrize("evil", EVIL)
def test_pages_about_runs_of_somebody_else_hold_texts_only(evil: str, tmp_path: Path) -> None:
    """Every text of the folder is evil; so is its name, as far as a file may be called so."""
    folder = tmp_path / evil.replace("/", "|").replace("\x00", "").replace("\x1b", "")
    run = make_run(folder, task="finetune", losses=(1.0,))
    for name in ("data.json", "environment.json", "config.json"):
        values = json.loads((run / name).read_text())
        (run / name).write_text(json.dumps(poisoned(values, evil)))
    (run / "log.txt").write_text(f"{evil}\ncannot read {evil}\n")
    names = (evil, f"{evil} 2")
    (run / "evaluation.json").write_text(json.dumps(evaluation(names).to_dict()))
    other = make_run(tmp_path / "other", task="finetune")
    pages = (make_report(run), compare_reports([run, other]))
    for made in pages:
        found = Page(made.page.render())
        shown = evil.replace("\x00", "\ufffd").strip()
        assert any(shown in each or evil in each for each in found.texts)


def poisoned(values: Any, evil: str, key: str = "") -> Any:
    """Put an evil text in place of every text but the few that say what a folder is."""
    if isinstance(values, dict):
        return {name: poisoned(value, evil, name) for name, value in values.items()} | {evil: evil}
    if isinstance(values, list):
        return [poisoned(value, evil) for value in values]
    return evil if isinstance(values, str) and key not in {"task", "date"} else values


def test_the_parser_of_this_test_sees_scripts() -> None:
    with pytest.raises(AssertionError, match="script"):
        Page("<p><script>alert(1)</script>")
    with pytest.raises(AssertionError, match="onerror"):
        Page("<img src=data:image/png;x onerror=alert(1)>")


@pytest.mark.parametrize("evil", EVIL)
def test_pictures_of_runs_take_any_name(evil: str) -> None:
    assert draw_runs([RunCurves(evil, [(0.0, 1.0)])], "steps").startswith(b"\x89PNG")
