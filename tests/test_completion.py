"""Completion in the shells themselves, put where the README says."""

import argparse
import os
import pty
import re
import select
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from everest.cli import build_parser, main
from everest.completion import SHELLS, arguments_of, kind_of

README = Path(__file__).parents[1] / "README.md"
Ask = Callable[[str], set[str]]

# Numbers, and names that nothing could list. A new word in the help belongs here or into everest/completion.py.
FREE = {
    *("ADDRESS", "ALPHA", "K", "K,K", "KEY=VALUE", "M", "MB", "MODULE:FUNCTION", "N", "N,N", "PX", "R", "R,R", "S"),
    *("S,S", "SECONDS", "SxC", "T"),
}
NAMES_WITHOUT_A_LIST = {"--peer", "--split"}
LINES: dict[str, set[str]] = {
    "everest pre": {"predict", "pretrain"},
    "everest data ": {"index", "check", "pack", "verify", "flow"},
    "everest finetune --re": {"--recipe", "--resume"},
    "everest evaluate runs --decoder ": {"auto", "pyav", "torchcodec"},
    "everest finetune --data clips --recipe k400": {"k400-small", "k400-base", "k400-large"},
    "everest recipe show ow": {"own", "own-nano"},
    "everest data index --format ucf": {"ucf101"},
    "everest bench step --selection tu": {"tube"},
    "everest predict cli": {"clip one.mp4", "clip2.mp4", "clips"},
    "everest predict runs clip2": {"clip2.mp4"},
    "everest predict runs clip2.mp4 --top 5 clips/": {"clips/a.mp4"},
    "everest evaluate --json clip\\ ": {"clip one.mp4"},
    "everest runs show cli": {"clips"},  # a folder, and no files
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home of somebody who has the program and some videos."""
    home = tmp_path_factory.mktemp("home")
    (home / "bin").mkdir()
    program = home / "bin" / "everest"
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m everest "$@"\n')
    program.chmod(0o755)
    (home / "clips").mkdir()
    for name in ("clip one.mp4", "clip2.mp4", "clips/a.mp4"):
        (home / name).touch()
    return home


def environment(home: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "ZDOTDIR"))}
    return kept | {"HOME": str(home), "PATH": f"{home / 'bin'}:{os.environ['PATH']}", "TERM": "dumb"}


def in_shell(home: Path, *command: str) -> str:
    done = subprocess.run(
        command, cwd=home, env=environment(home), capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def install(shell: str, home: Path) -> None:
    """Do what the README says, where the shell is there."""
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    (line,) = re.findall(rf"^\| {shell} \| `(.*)` \|$", README.read_text(), flags=re.M)
    in_shell(home, "bash", "-c", line)


def without_slash(names: list[str]) -> set[str]:
    return {name if name.count("/") > 1 else name.removesuffix("/") for name in names}


@pytest.fixture(scope="module")
def bash(home: Path) -> Ask:
    install("bash", home)

    def ask(line: str) -> set[str]:
        words = re.split(r"(?<!\\) ", line)  # as bash splits it: what is typed, with its backslashes
        setup = f"COMP_WORDS=({shlex.join(words)}); COMP_CWORD={len(words) - 1}; . ~/.bashrc; "
        function = "$(complete -p everest | sed 's/.*-F \\([^ ]*\\) .*/\\1/')"
        return without_slash(
            in_shell(home, "bash", "-c", f"{setup} {function}; printf '%s\\n' \"${{COMPREPLY[@]}}\"").splitlines()
        )

    return ask


@pytest.fixture(scope="module")
def fish(home: Path) -> Ask:
    install("fish", home)

    def ask(line: str) -> set[str]:
        found = in_shell(home, "fish", "-c", f"complete -C {shlex.quote(line)}").splitlines()
        return without_slash([name.partition("\t")[0] for name in found])

    return ask


class Typing:
    """A shell in a terminal, for which keys are pressed."""

    def __init__(self, home: Path, *command: str) -> None:
        self.process, self.terminal = pty.fork()
        if self.process == 0:
            os.chdir(home)
            os.execvpe(command[0], command, environment(home))
        self.wait_for("READY", "PS1='> '; cd; echo REA''DY\n")

    def wait_for(self, pattern: str, keys: str, seconds: float = 30) -> str:
        """Press keys, and give what the terminal shows when the pattern is in it."""
        os.write(self.terminal, keys.encode())
        shown, end = "", time.monotonic() + seconds
        while not re.search(pattern, shown):
            assert time.monotonic() < end, f"no {pattern} in {shown!r}"
            if select.select([self.terminal], [], [], 0.1)[0]:
                shown += os.read(self.terminal, 65536).decode(errors="replace")
        return shown

    def end(self) -> None:
        os.kill(self.process, 9)
        os.waitpid(self.process, 0)
        os.close(self.terminal)


@pytest.mark.parametrize("line", LINES)
def test_bash_completes(bash: Ask, line: str) -> None:
    assert bash(line) == LINES[line]


@pytest.mark.parametrize("line", LINES)
def test_fish_completes(fish: Ask, line: str) -> None:
    assert fish(line) == LINES[line]


@pytest.mark.parametrize(
    ("typed", "shown"),
    [
        ("everest pret\t", "everest pretrain "),
        ("everest data ind\t", "everest data index "),
        ("everest finetune --reci\t", "--recipe "),
        ("everest finetune --recipe hm\t", "--recipe hmdb51 "),
        ("everest evaluate runs --decoder py\t", "--decoder pyav "),
        ("everest predict runs clip2\t", r"runs clip2\.mp4 "),
        ("everest evaluate clip\\ \t", r"clip\\ one\.mp4 "),
        ("everest runs show cli\t", "show clips/"),
        ("everest data \t", "(?s)check.*flow.*index.*pack.*verify"),
    ],
)
def test_zsh_completes(home: Path, typed: str, shown: str) -> None:
    if not (home / ".zshrc").exists():
        install("zsh", home)
    zsh = Typing(home, "zsh", "-i")
    try:
        assert "everest" in zsh.wait_for(shown, typed)
    finally:
        zsh.end()


def test_what_an_argument_takes_is_known_of_all() -> None:
    unknown = set()
    for action in arguments_of(build_parser()):
        completed = kind_of(action) or action.choices or action.nargs == 0
        name = action.metavar or "a word"
        if not completed and action.type not in {int, float} and name not in FREE:
            is_listed = name in {"NAME", "NAMES"} and not NAMES_WITHOUT_A_LIST.intersection(action.option_strings)
            unknown |= set() if is_listed else {(name, *action.option_strings)}
    assert unknown == {("NAME", "--peer"), ("NAME", "--split"), ("a word", "--split")}


@pytest.mark.parametrize("shell", SHELLS)
def test_a_script_names_every_command(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    (commands,) = (a for a in build_parser()._actions if isinstance(a, argparse._SubParsersAction))
    assert [name for name in commands.choices if not re.search(rf"\b{name}\b", script)] == []
    assert str(Path.home()) not in script


def test_another_shell_is_refused_with_those_that_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["completion", "csh"])
    assert re.search("bash.*zsh.*fish", capsys.readouterr().err)


def test_the_program_starts_without_it() -> None:
    code = "import sys; from everest.cli import build_parser; build_parser(); print('shtab' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
