"""Scripts that let a shell complete what is typed after ``everest``: written once, they start no program at a TAB."""

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

SHELLS = ("bash", "zsh", "fish")

# What an argument takes is said by the word that the help has for it.
_FILES = {
    *("FILE", "VIDEO", "CHECKPOINT", "CKPT", "MANIFEST", "PATH", "SOURCE", "FEATURES", "CLEAN", "PNG", "TRAIN", "TEST"),
    *("SRC", "DST"),
}  # or folders
_FOLDERS = {"DIR", "FOLDER", "RUN", "OUT", "PACKED"}

# What is typed comes as it is typed; without these, a name that has spaces is not found again after the first of them.
_BASH = """_everest_{kind}() {{
  local word="${{1//\\\\/}}"
  compgen -{flag} -- "${{word#[\\"\\']}}"
}}"""


def write_script(parser: argparse.ArgumentParser, shell: str) -> str:
    """Write the script for one shell.

    Args:
        parser: The program with all its commands; it is changed, and then for nothing else.
        shell: One of :data:`SHELLS`.
    """
    import shtab

    marks = {
        "file": _mark(shtab.FILE, "files", "f", "__fish_complete_path"),
        "folder": _mark(shtab.DIRECTORY, "dirs", "d", "__fish_complete_directories"),
    }
    for action in arguments_of(parser):
        words = _words(action)
        if words is not None:
            action.choices = words
        elif not action.choices:
            mark = marks.get(kind_of(action))
            if mark is not None:
                action.complete = mark  # type: ignore[attr-defined]
    return shtab.complete(parser, shell)


def _mark(native: Mapping[str, Any], kind: str, flag: str, fish: str) -> dict[str, Any]:
    """Say how paths are completed: in zsh as the library does it, in the others so that spaces do no harm."""
    bash = {"bash": f"_everest_{kind}", "preamble": {"bash": _BASH.format(kind=kind, flag=flag)}}
    return {**native, **bash, "fish": f"({fish} (commandline -ct | string unescape))"}


def arguments_of(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """List what a program and all its commands take."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for inner in action.choices.values():
                yield from arguments_of(inner)
        yield action


def kind_of(action: argparse.Action) -> str:
    """Say what an argument takes: ``file``, ``folder``, or nothing that can be completed."""
    name = action.metavar if isinstance(action.metavar, str) else ""
    if name in _FOLDERS:
        return "folder"
    return "file" if name in _FILES or action.type is Path else ""


def _words(action: argparse.Action) -> Sequence[str] | None:
    """List the names that an argument takes; None where the parser does not know them, or knows them already."""
    keys = (*action.option_strings, action.dest)
    return next((_NAMES[key]() for key in keys if action.metavar in {"NAME", "NAMES"} and key in _NAMES), None)


def _recipes() -> list[str]:
    from everest.recipes import list_recipes

    return [recipe.name for recipe in list_recipes()]


def _formats() -> Sequence[str]:
    from everest.datasets.index import FORMATS

    return FORMATS


def _selections() -> Sequence[str]:
    from everest.config import SelectionMethod

    return get_args(SelectionMethod)


def _archs() -> Sequence[str]:
    from everest.config.names import Arch

    return get_args(Arch)


# Names that are checked where they are used, by option, or by what a positional argument is called.
_NAMES: dict[str, Callable[[], Sequence[str]]] = {
    "--recipe": _recipes,
    "name": _recipes,  # of `everest recipe show`
    "--format": _formats,
    "--selection": _selections,
    "--compare": _selections,
    "--arch": _archs,
}
