"""Blocks say what they are, no command hides where it is not run, and commands in running text are ones that exist."""

import contextlib
import functools
import io
import json
import re
import tomllib
from itertools import product
from pathlib import Path

import pytest

from documents.pages import CODE, COMMANDS, OUTPUT, PAGES, blocks_of, mentioned, name_of, prose_of, words_of
from documents.standing_in import NOT_RUN
from everest.cli import build_parser

# What else may stand behind a fence, and how it is read. What begins with a brace is for the site's generator.
READ = {OUTPUT: str, "text": str, "json": json.loads, "toml": tomllib.loads}
PROGRAMS = ("everest ", "python ", "pip ", "make ", "torchrun ", "sbatch ", "docker ", "git ")
# Words in capitals stand for something; here is something that every option takes.
STANDS_FOR = {**dict.fromkeys("SRNKTA", "1"), "SECONDS": "1", "SxC": "1x1", "NAME": "exact", "FORMAT": "everest"}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_each_block_says_what_it_is(page: Path) -> None:
    for block in blocks_of(page):
        place = f"{block.page}:{block.line}"
        if block.language in {COMMANDS, CODE} or block.language.startswith("{"):
            continue
        assert block.language in READ, f"{place}: {block.language} is read by nobody; commands are called {COMMANDS}"
        READ[block.language](block.text)
        for line in block.text.splitlines():
            if line.startswith("$ "):
                parse(line[2:])
        assert not block.text.startswith(PROGRAMS), f"{place}: commands are {COMMANDS}, or begin with $ in output"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_no_command_is_only_indented(page: Path) -> None:
    lines = prose_of(page).splitlines()
    hidden = [line for line in lines if line.startswith("    ") and line.lstrip().startswith(PROGRAMS)]
    assert not hidden, f"{name_of(page)}: put it into a block of {COMMANDS}, which is run: {hidden[0]}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_in_text_exist(page: Path) -> None:
    for command in mentioned(page):
        for part in re.split(r"\s(?:&&|[|>]+)\s", command):  # of a line of a shell, what it calls
            for words in variants(part):
                parse(words)


def variants(command: str) -> set[str]:
    """Write a command with and without what stands in brackets, and put something in the place of capitals."""
    parts = re.split(r"\[([^][]*)\]", command.replace("...", " "))
    chosen = product(*([part] if place % 2 == 0 else ["", part] for place, part in enumerate(parts)))
    return {re.sub(r"\b[A-Za-z]+\b", lambda m: STANDS_FOR.get(m[0], m[0]), "".join(each)) for each in chosen}


def parse(command: str) -> None:
    """Read a command; one that only names a command or an option, without what follows, is well."""
    if not command.startswith("everest "):
        return
    words = words_of(command)
    problem = said_by_parser(words[1:])
    if problem and "--help" not in words:
        unfinished = rf"arguments are required|argument {re.escape(words[-1])}: expected"
        assert re.search(unfinished, problem), f"{command}: {problem}"
        options = {word.partition("=")[0] for word in words if word.startswith("--")}
        told = said_by_parser([*(word for word in words[1:] if not word.startswith("-")), "--help"])
        assert options <= set(re.findall(r"--[\w-]+", told)), f"{command}: it has no such option"


parser = functools.cache(build_parser)


def said_by_parser(words: list[str]) -> str:
    """What the program says before it ends with a problem, or with help; nothing where it would begin its work."""
    said = io.StringIO()
    with contextlib.suppress(SystemExit), contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
        parser().parse_args(words)
        return ""
    return said.getvalue()


@pytest.mark.parametrize("kind", NOT_RUN, ids=lambda kind: kind.pattern)
def test_what_is_not_run_is_still_there(kind: object) -> None:
    commands = [text for page in PAGES for b in blocks_of(page) if b.language == COMMANDS for _, text in b.commands()]
    assert any(re.match(kind.pattern, text) for text in commands), "no page has such a command: take it off the list"


@pytest.mark.parametrize(
    "command",
    [
        *("everest nothing", "everest bench nothing", "everest predict --windw 2"),
        *("everest predict A B --windw 2", "everest predict A B --window x"),
    ],
)
def test_commands_that_do_not_exist_are_found(command: str) -> None:
    with pytest.raises(AssertionError):
        parse(command)


def test_brackets_and_capitals_are_understood() -> None:
    found = variants("everest evaluate RUN --data PATH [--views SxC] [--keep-ratio R]")
    assert len(found) == 4
    assert "everest evaluate RUN --data PATH --views 1x1 --keep-ratio 1" in found
    for command in found:
        parse(command)
