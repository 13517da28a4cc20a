"""The page of commands: what ``everest COMMAND --help`` says, of all commands."""

import argparse
import re
from collections.abc import Iterator

from everest.cli import build_parser
from everest.recipes import list_recipes


def command_pages(_: str = "") -> str:
    """Describe every command and its options in Markdown, under a heading of the second level each."""
    return "\n".join(_described(parser) for parser in leaves(build_parser()))


def recipe_table(_: str = "") -> str:
    """List all recipes in a Markdown table."""
    rows = [f"| `{recipe.name}` | {_plain(recipe.summary)} |" for recipe in list_recipes()]
    return "\n".join(["| Recipe | What it is |", "|---|---|", *rows])


def leaves(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """List the commands that do something; groups such as ``everest data`` only lead to them."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for child in action.choices.values():
                yield from leaves(child)
            return
    yield parser


def _described(parser: argparse.ArgumentParser) -> str:
    actions = [action for action in parser._actions if not isinstance(action, argparse._HelpAction)]
    rows = [f"| {_names(action)} | {_meaning(parser, action)} |" for action in actions]
    table = ["| | |", "|---|---|", *rows] if rows else []
    return "\n".join([f"## {parser.prog}", "", _plain(parser.description or ""), "", *_usage(parser), "", *table, ""])


def _usage(parser: argparse.ArgumentParser) -> list[str]:
    """Write how a command is called, one option that must be there or may be there after the other."""
    words = [re.sub(r"\s+", " ", parser.format_usage()).removeprefix("usage: ").replace(" [-h]", "").strip()]
    lines = re.sub(r" (\[--|--)", r"\n    \1", words[0]).splitlines()
    return ["```text", *_filled(lines), "```"]


def _filled(lines: list[str], width: int = 88) -> list[str]:
    """Put as many of the pieces into a line as fit."""
    filled = [lines[0]]
    for line in lines[1:]:
        if len(filled[-1]) + len(line.strip()) < width:
            filled[-1] += f" {line.strip()}"
        else:
            filled.append(line)
    return filled


def _names(action: argparse.Action) -> str:
    value = _value(action)
    if not action.option_strings:
        return f"`{value}`"
    takes = "" if action.nargs == 0 else f" {value}"
    return ", ".join(f"`{name}{takes}`" for name in action.option_strings)


def _value(action: argparse.Action) -> str:
    if isinstance(action.metavar, str):
        return action.metavar
    return "VALUE" if action.choices else action.dest.upper()


def _meaning(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    text = _plain((action.help or "") % {"default": action.default, "prog": parser.prog})
    if action.choices and not all(str(choice) in text for choice in action.choices):
        choices = ", ".join(f"`{choice}`" for choice in action.choices)
        text = f"{text}; {choices}" if text else f"One of {choices}"
    if "(default" not in text and action.default not in (None, False, [], argparse.SUPPRESS):
        default = f"{action.default:g}" if isinstance(action.default, float) else action.default
        text += f" (default: {default})"
    return f"{text}; needed" if action.required and action.option_strings else text


def _plain(text: str) -> str:
    """Write help for people as Markdown that shows the same."""
    parts = re.split(r"(`[^`]*`)", " ".join(text.split()))
    shown = [part if part.startswith("`") else re.sub(r"([*_<>\[\]$])", r"\\\1", part) for part in parts]
    return "".join(shown).replace("|", r"\|")
