"""Programs on a terminal of their own, and what a person sees there."""

import os
import pty
import re
import struct
import subprocess
from collections.abc import Sequence
from pathlib import Path

_SEQUENCE = re.compile(r"\x1b\[(\??[\d;]*)([A-Za-z])")


class Screen:
    """A terminal as far as a line that is kept up to date needs it: returns, new lines, cursor up, erase a line.

    Attributes:
        lines: What is on it, the top one first; it never scrolls.
        num_redrawn: Lines that were written to again after the cursor had left them.
    """

    def __init__(self, width: int) -> None:
        self.width = width
        self.lines = [""]
        self.row = self.column = 0
        self.most: dict[str, int] = {}

    def feed(self, text: str, watched: Sequence[str] = ()) -> None:
        """Take what a program wrote, and count after each part how many lines begin with the words."""
        place = 0
        while place < len(text):
            found = _SEQUENCE.match(text, place)
            if found:
                self._obey(found[1], found[2])
                place = found.end()
                continue
            self._write(text[place])
            place += 1
            if text[place - 1] == "\r":
                self._count(watched)
        self._count(watched)

    def _count(self, watched: Sequence[str]) -> None:
        for word in watched:
            number = sum(line.startswith(word) for line in self.lines)
            self.most[word] = max(self.most.get(word, 0), number)

    def _obey(self, number: str, kind: str) -> None:
        if kind == "A":
            self.row = max(0, self.row - int(number or 1))
        elif kind == "K":
            assert number == "2", "only whole lines are erased"
            self.lines[self.row] = ""
        else:
            assert kind in "mhl", f"a sequence that this screen does not know: {kind}"  # colours, cursor on and off

    def _write(self, character: str) -> None:
        if character == "\r":
            self.column = 0
            return
        if character == "\n" or self.column >= self.width:
            self.row += 1
            self.column = 0
            self.lines += [""] * (self.row + 1 - len(self.lines))
        if character != "\n":
            line = self.lines[self.row].ljust(self.column)
            self.lines[self.row] = line[: self.column] + character + line[self.column + 1 :]
            self.column += 1


def run_on_terminal(command: Sequence[str], folder: Path, width: int = 100) -> tuple[int, str, str]:
    """Run a program whose stderr is a terminal and whose stdout is a pipe; gives exit code, stdout and the terminal."""
    import fcntl
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, width, 0, 0))
    env = {k: v for k, v in os.environ.items() if k not in {"COLUMNS", "LINES", "NO_COLOR"}} | {
        "TERM": "xterm-256color"
    }
    process = subprocess.Popen(command, stdin=theirs, stdout=subprocess.PIPE, stderr=theirs, env=env, cwd=folder)
    os.close(theirs)
    shown = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # Linux says so when the program has closed its end
            break
        if not part:
            break
        shown += part
    os.close(ours)
    assert process.stdout is not None
    out = process.stdout.read().decode()
    return process.wait(), out, shown.decode()
