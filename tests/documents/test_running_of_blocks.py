"""What does not work as a page says makes its test fail."""

import json
from pathlib import Path

import pytest

from documents import running
from documents.given import GIVEN, is_made, is_named
from documents.pages import Block, blocks_of
from documents.running import Page, is_like
from documents.standing_in import StandIns


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Page:
    monkeypatch.chdir(tmp_path)
    return Page(tmp_path, StandIns(tmp_path))


def commands(text: str) -> Block:
    return Block("page.md", 7, "sh", text)


WRONG = {
    "everest recipe show nothing": "exit code 2",
    "everest recipe shw": "SystemExit",
    "everest recipe list  # exit code 1": "exit code 0 instead of 1",
    "pip install 'everest-video[nothing]'": "no extra is called",
    "make everything": "no target is called",
    "sbatch examples/slurm/nothing.sbatch": "nothing.sbatch",
    "sbatch examples/slurm/pretrain.sbatch --recipe own": "SystemExit",
    "emacs": "nobody knows how to run emacs",
    "false | cat": "exit code 1",
}


@pytest.mark.parametrize("command", WRONG)
def test_a_command_that_does_not_work_is_named_with_its_place(command: str, page: Page) -> None:
    with pytest.raises(AssertionError, match=r"page\.md:9: ") as told:
        page.run(commands(f"# a comment\n\n{command}\n"))
    assert command in str(told.value)
    assert WRONG[command] in str(told.value)


def test_what_is_named_has_to_be_written(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "main", lambda _: 0)
    with pytest.raises(AssertionError, match=r"list\.csv was not written"):
        page.run(commands("everest data index videos/ --out list.csv"))


def test_what_is_there_is_taken_away_once(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page that names a run twice goes on with its own one, as a reader would."""
    seen = []

    def write(words: list[str]) -> int:
        out = Path(words[words.index("--out") + 1])
        seen.append(out.exists())
        out.mkdir(exist_ok=True)
        return 0

    monkeypatch.setattr(running, "main", write)
    (page.folder / "run").mkdir()
    page.run(commands("everest pretrain --recipe own --data bundled --out run\n" * 2))
    assert seen == [False, True]


def test_python_shares_names_and_is_told_where_it_fails(page: Page) -> None:
    page.run(Block("page.md", 1, "python", "number = 3\n"))
    page.run(Block("page.md", 4, "python", 'number + 1  # 4\n(("a", 0.5),)  # (("b", 0.25), ...)\n'))
    assert page.values == [4, (("a", 0.5),)]
    with pytest.raises(AssertionError, match=r"page\.md:11: missing"):
        page.run(Block("page.md", 10, "python", "number\nmissing\n"))
    with pytest.raises(AssertionError, match="said to be like"):
        page.run(Block("page.md", 1, "python", "number  # 'three'\n"))


@pytest.mark.parametrize(
    ("value", "claimed", "wanted"),
    [
        *((("a", 1), ("b", 2.5), True), (("a", "b"), ("b", 1), False), (["a", "b"], ("a",), True)),
        *((None, 1, False), ({}, {}, True), ((), ("a",), False)),
    ],
)
def test_values_are_compared_by_their_form(value: object, claimed: object, wanted: bool) -> None:
    assert is_like(value, claimed) is wanted


def test_blocks_are_found(tmp_path: Path) -> None:
    path = tmp_path / "a.md"
    path.write_text("# A\n\n```sh\none \\\n  two\nthree\n```\n\n````text\n```sh\n````\n")
    first, second = blocks_of(path)
    assert first.commands() == [("a.md:4", "one  two"), ("a.md:6", "three")]
    assert (second.language, second.text, second.line) == ("text", "```sh\n", 10)
    path.write_text("```sh\none\n")
    with pytest.raises(AssertionError, match="no end"):
        blocks_of(path)


def test_things_are_found_in_commands_and_in_code() -> None:
    texts = {
        'everest pretrain --data videos/ --out runs/x; load("runs/mine")': {"videos", "runs/mine"},
        "everest data pack videos.csv x": {"videos.csv"},
        'pretrain(data="data")': {"data"},
    }
    for text, names in texts.items():
        assert {name for name in GIVEN if is_named(name, text)} == names


def test_what_a_text_makes_itself_is_not_given_to_it() -> None:
    made = [
        "everest finetune --recipe own \\\n    --out runs/mine\neverest predict runs/mine",
        'finetune(out="runs/mine")',
    ]
    given = ["everest predict runs/mine a.mp4\neverest finetune --out runs/mine", "finetune --out runs/mine/5x3"]
    assert all(is_made("runs/mine", text) for text in made)
    assert not any(is_made("runs/mine", text) for text in given)


def test_addresses_stand_for_what_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "packed").mkdir()
    given = "a --ray-address auto --data s3://bucket/packed --out /runs/x"
    with StandIns(tmp_path, "1.2.3.4:5").into(given) as command:
        assert command.startswith("a --ray-address 1.2.3.4:5 --data http://127.0.0.1:")
        assert command.endswith(f" --out {tmp_path}/runs/x")


@pytest.mark.usefixtures("small")
def test_trainings_are_small_wherever_they_are_started(page: Page) -> None:
    """And what is set on purpose stays."""
    page.run(commands("everest pretrain --recipe own --data bundled --out a --set optim.epochs=2"))
    code = 'import everest\neverest.pretrain(recipe="own", data="bundled", out="b", settings=["clip.num_frames=8"])\n'
    page.run(Block("page.md", 1, "python", code))
    first, second = (json.loads((page.folder / name / "config.json").read_text()) for name in "ab")
    assert (first["optim"]["epochs"], second["optim"]["epochs"]) == (2, 1)
    assert first["clip"]["height"] == second["clip"]["height"] == 32
    assert second["clip"]["num_frames"] == 8
