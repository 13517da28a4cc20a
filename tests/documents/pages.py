"""The pages of the documentation, taken apart: fenced blocks, their commands, and commands in running text."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")],
    key=lambda path: path.relative_to(ROOT).as_posix(),
)
COMMANDS = "sh"
CODE = "python"
OUTPUT = ""
_FENCE = re.compile(r"^ {0,3}(```+|~~~+)(.*)$")


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        page: Where it stands, relative to the repository.
        line: Number of its first line, from 1.
        language: What stands behind the fence; nothing for output.
        text: What is in it.
    """

    page: str
    line: int
    language: str
    text: str

    def commands(self) -> list[tuple[str, str]]:
        """List where each command stands, and the command; lines that end with a backslash go on in the next one."""
        found: list[tuple[str, str]] = []
        goes_on = False
        for number, line in enumerate(self.text.splitlines(), start=self.line):
            if goes_on:
                found[-1] = (found[-1][0], f"{found[-1][1][:-1]} {line.strip()}")
            elif line.strip() and not line.lstrip().startswith("#"):
                found.append((f"{self.page}:{number}", line.strip()))
            goes_on = bool(found) and found[-1][1].endswith("\\")
        return found


def name_of(page: Path) -> str:
    """The place of a page in the repository."""
    return page.relative_to(ROOT).as_posix()


def blocks_of(page: Path) -> list[Block]:
    """Take the fenced blocks of a page, in their order."""
    name = name_of(page) if page.is_relative_to(ROOT) else page.name
    return list(_blocks(name, page.read_text()))


def _blocks(page: str, text: str) -> Iterator[Block]:
    fence, language, first = "", "", 0
    inside: list[str] = []
    for number, line in enumerate(text.splitlines(), start=1):
        found = _FENCE.match(line)
        if not fence and found:
            fence, language, first, inside = found[1], found[2].strip(), number + 1, []
        elif fence and found and found[1].startswith(fence) and not found[2].strip():
            yield Block(page, first, language, "".join(f"{each}\n" for each in inside))
            fence = ""
        elif fence:
            inside.append(line)
    assert not fence, f"{page}:{first}: the block has no end"


def prose_of(page: Path) -> str:
    """A page without its fenced blocks, lines kept apart."""
    kept, fence = [], ""
    for line in page.read_text().splitlines():
        found = _FENCE.match(line)
        if found and (not fence or found[1].startswith(fence)):
            fence = "" if fence else found[1]
        elif not fence:
            kept.append(line)
    return "\n".join(kept)


def mentioned(page: Path) -> list[str]:
    """List the commands that stand in running text and in tables."""
    spans = re.findall(r"`([^`]+)`", prose_of(page))
    return [" ".join(span.split()) for span in spans if re.match(r"\$?\s*everest\s+\S", span)]


def words_of(command: str) -> list[str]:
    """Take a command apart as a shell does, without its comment."""
    return shlex.split(command, comments=True)
