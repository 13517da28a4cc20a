"""Runs the blocks of a page, one after the other, in a folder that holds what the page takes for granted."""

import ast
import contextlib
import io
import os
import re
import shutil
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

import pytest

from documents import small
from documents.given import hand_out
from documents.pages import CODE, COMMANDS, ROOT, Block, blocks_of, words_of
from documents.small import STEP, made_small
from documents.standing_in import NOT_RUN, NotRun, StandIns, with_local_names
from everest.bench import peers
from everest.cli import build_parser, main
from tracker_libraries import FakeWandb

# Options that name what a command leaves behind.
_WRITTEN = ("out", "onnx", "torch", "aoti", "hf", "plot", "quarantine", "report", "timelines")
_SHELL = re.compile(r"[|&;<>$(]|^[A-Z_]+=|^(torchrun|export|cd|mkdir|cp|ls|cat|head|python|for|if)\b")
_SECONDS = 120


@dataclass
class Page:
    """A page that is being run.

    Attributes:
        folder: Where its commands are run.
        stand_ins: For what is not there.
        names: What its Python blocks have defined.
        written: What its commands have written so far.
        done: Commands and blocks that were run, each as it was written.
        values: What expressions in Python blocks have given.
        left_out: Commands that were not run, with the kind that they are of.
    """

    folder: Path
    stand_ins: StandIns
    names: dict[str, Any] = field(default_factory=dict)
    written: set[Path] = field(default_factory=set)
    done: list[str] = field(default_factory=list)
    values: list[Any] = field(default_factory=list)
    left_out: list[tuple[str, NotRun]] = field(default_factory=list)

    def run(self, block: Block) -> None:
        """Run one block; what does not work is an AssertionError that names its place."""
        if block.language == CODE:
            self._run_code(block)
        elif block.language == COMMANDS:
            for place, command in block.commands():
                try:
                    self._run_command(command)
                except (Exception, SystemExit) as error:
                    raise AssertionError(f"{place}: {command}\n{type(error).__name__}: {error}") from error

    def _run_command(self, command: str) -> None:
        kind = next((kind for kind in NOT_RUN if re.match(kind.pattern, command)), None)
        if kind is not None:
            kind.check(command)
            self.left_out.append((command, kind))
            return
        with self.stand_ins.into(command) as changed:
            words = words_of(changed)
            if words[0] == "everest" and not _SHELL.search(" ".join(words)):
                self._run_everest(words[1:], command)
            elif _SHELL.search(changed) or words[0] == "everest":
                self._run_shell(changed)
            else:
                raise AssertionError(f"nobody knows how to run {words[0]}; see tests/documents/standing_in.py")
        self.done.append(command)

    def _run_everest(self, words: list[str], command: str) -> None:
        if words[0] in {"pretrain", "finetune"} and "report.html" in command:  # else trainings draw none
            words = [*words, "--set", "run.report=true"]
        options = build_parser().parse_args(words)
        outputs = [value for name in _WRITTEN if isinstance(value := getattr(options, name, None), Path)]
        begun = {self.folder / each for each in outputs}
        if words[0] == "demo" and not outputs:
            begun.add(self.folder / "runs" / "demo-1")
        for output in begun - self.written:
            _remove(output)  # a page begins with it, and what stands here is for pages that do not
        said = io.StringIO()
        ending = _ended_by_ctrl_c(said) if words[0] == "ui" else contextlib.nullcontext()
        with ending, contextlib.redirect_stdout(said):
            code = main(made_small(words))
        wanted = int(found[1]) if (found := re.search(r"#.*exit code (\d+)", command)) else 0
        assert code == wanted, f"exit code {code} instead of {wanted}; {said.getvalue()}"
        for output in outputs:
            assert (self.folder / output).exists(), f"{output} was not written"
        self.written |= begun

    def _run_shell(self, command: str) -> None:
        programs = self.folder / ".programs"
        _write_programs(programs)
        command = re.sub(r"(torchrun .*)-m everest ", rf"\g<1>{small.__file__} ", command)
        command = re.sub(r"(--nproc[-_]per[-_]node[ =])\d+", r"\g<1>1", command)
        env = os.environ | {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}
        env["PYTHONPATH"] = os.pathsep.join([str(ROOT / "src"), str(ROOT / "tests")])
        bash = ["bash", "-euo", "pipefail", "-c", command]
        options: Any = {"cwd": self.folder, "env": env, "capture_output": True, "text": True, "timeout": _SECONDS}
        done = subprocess.run(bash, check=False, **options)
        assert done.returncode == 0, f"exit code {done.returncode}; {done.stderr[-2000:]}"

    def _run_code(self, block: Block) -> None:
        arguments = dict(re.findall(r"sys\.argv\[(\d)\].*#\s*(\S+)$", block.text, flags=re.MULTILINE))
        with pytest.MonkeyPatch.context() as patch, self.stand_ins.into(block.text) as text:
            patch.setattr(sys, "argv", ["example.py", *(arguments[number] for number in sorted(arguments))])
            for node in ast.parse(text).body:
                try:
                    self._run_statement(node, block)
                except Exception as error:
                    place = f"{block.page}:{block.line + node.lineno - 1}"
                    raise AssertionError(f"{place}: {ast.unparse(node)}\n{type(error).__name__}: {error}") from error
        self.done.append(block.text)

    def _run_statement(self, node: ast.stmt, block: Block) -> None:
        if not isinstance(node, ast.Expr):
            exec(compile(ast.Module([node], []), f"{block.page}:{block.line}", "exec"), self.names)
            return
        value = eval(compile(ast.Expression(node.value), f"{block.page}:{block.line}", "eval"), self.names)
        self.values.append(value)
        claim = block.text.splitlines()[(node.end_lineno or node.lineno) - 1].partition("  # ")[2]
        with contextlib.suppress(SyntaxError, ValueError):
            claimed = ast.literal_eval(claim.replace(", ...", ","))
            assert is_like(value, claimed), f"gives {value!r}, said to be like {claim}"


def is_like(value: Any, claimed: Any) -> bool:
    """Whether a value is of the form that a comment says: the same types, in lists of any length, numbers aside."""
    if isinstance(claimed, tuple | list) and claimed:
        if not isinstance(value, tuple | list) or not value:
            return False
        if all(type(each) is type(claimed[0]) for each in claimed):
            return all(is_like(each, claimed[0]) for each in value)
        return len(value) == len(claimed) and all(map(is_like, value, claimed))
    if isinstance(claimed, int | float) and not isinstance(claimed, bool):
        return isinstance(value, int | float)
    return type(value) is type(claimed)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)


def _write_programs(folder: Path) -> None:
    """Write the programs that a shell finds: `everest` in small, and the interpreter of these tests."""
    folder.mkdir(exist_ok=True)
    python, everest = sys.executable, small.__file__
    lines = {
        "python": f'[ "${{1-}} ${{2-}}" = "-m everest" ] && shift 2 && set -- {everest} "$@"; exec {python} "$@"',
        "everest": f'exec {python} {everest} "$@"',
        "torchrun": f'exec {python} -m torch.distributed.run "$@"',
    }
    for name, line in lines.items():
        (folder / name).write_text(f"#!/usr/bin/env bash\n{line}\n")
        (folder / name).chmod(0o755)


@contextmanager
def _ended_by_ctrl_c(said: TextIO) -> Iterator[None]:
    """Press Ctrl-C when the page of `everest ui` has been seen."""
    seen: list[bytes] = []

    def press() -> None:
        deadline = time.monotonic() + _SECONDS
        while not (found := re.search(r"http://\S+", said.getvalue())) and time.monotonic() < deadline:
            time.sleep(0.02)
        if found:
            with urllib.request.urlopen(found[0]) as answer:
                seen.append(answer.read())
        os.kill(os.getpid(), 2)

    thread = threading.Thread(target=press, daemon=True)
    thread.start()
    yield
    thread.join()
    assert b"<html" in b"".join(seen), "the page was not served"


def measured_here(contender: peers.Contender, options: list[str]) -> dict[str, Any] | str:
    """Take the place of the process that `everest bench peers` starts for each contender."""
    import json

    words = ["bench", "step", "--json", "--selection", contender.selection, *options, *contender.options]
    words += ["--scoring", contender.scoring, *STEP]
    words += [] if contender.peer is None else ["--peer", contender.peer]
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        assert main(words) == 0, words
    values: dict[str, Any] = json.loads(said.getvalue())
    return values


def is_run(page: Path) -> bool:
    """Whether a page has anything to run."""
    return any(block.language in {CODE, COMMANDS} for block in blocks_of(page))


def needs_ray(page: Path) -> bool:
    """Whether a page needs a Ray cluster."""
    return any('"ray"' in block.text or "--engine ray" in block.text for block in blocks_of(page))


def run_page(page: Path, home: Path, folder: Path, patch: pytest.MonkeyPatch, ray_address: str = "") -> Page:
    """Run all blocks of a page.

    Args:
        page: The page.
        home: Where what pages take for granted is kept.
        folder: Where the page is run; it is made.
        patch: Undone after the test.
        ray_address: A cluster.
    """
    blocks = blocks_of(page)
    hand_out(with_local_names("".join(block.text for block in blocks if block.language)), home, folder)
    patch.chdir(folder)
    FakeWandb(patch, folder)  # the library would send runs to a server
    ran = Page(folder, StandIns(folder, ray_address))
    for block in blocks:
        ran.run(block)
    assert ran.done or ran.left_out
    return ran
