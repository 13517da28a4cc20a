"""What stands in for what is not there when the commands of pages are run, and what is not run, with its reason."""

import re
import tomllib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from documents.pages import ROOT, words_of
from everest.bench.far_away import serve
from everest.cli import build_parser
from live_sources import as_transport_stream, sending, write_playlist


def _extras_exist(command: str) -> None:
    """What is installed has to have the extras that are asked for."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    asked = {name for group in re.findall(r"\[([\w,-]+)\]", command) for name in group.split(",")}
    assert asked <= set(extras), f"no extra is called {asked - set(extras)}"


def _targets_exist(command: str) -> None:
    """What is made has to be in the Makefile."""
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    asked = {word for word in words_of(command)[1:] if "=" not in word}
    assert asked <= set(targets), f"no target is called {asked - set(targets)}"


def _script_takes(command: str) -> None:
    """What follows the script are options of pre-training, and the script is there."""
    words = words_of(command)
    place = next(number for number, word in enumerate(words) if word.endswith(".sbatch"))
    assert (ROOT / words[place]).is_file(), words[place]
    build_parser().parse_args(["pretrain", *words[place + 1 :]])


def _nothing(_: str) -> None:
    """Nothing can be said of it here."""


@dataclass(frozen=True)
class NotRun:
    """A kind of command that is not run.

    Attributes:
        pattern: What such commands begin with.
        reason: Why not, and what does its work.
        check: What is done with it instead.
    """

    pattern: str
    reason: str
    check: Callable[[str], None] = field(default=_nothing)


NOT_RUN = (
    NotRun(r"(python -m )?pip install ", "installs from the network; that its extras exist is checked", _extras_exist),
    NotRun(r"git clone ", "copies from the network, from wherever somebody has found the project"),
    NotRun(r"make ", "sets up or tests everything, in minutes; that its targets exist is checked", _targets_exist),
    NotRun(r"sbatch ", "needs SLURM; tests/kills/test_slurm.py runs the script with stand-ins", _script_takes),
)
"""Kinds of commands; one that no page has any more makes a test fail."""


def with_local_names(command: str) -> str:
    """Put a folder in the place of a model that would be fetched."""
    return re.sub(r"hf:MCG-NJU/videomae\S*", "videomae-of-transformers", command)


@dataclass
class StandIns:
    """Addresses of what pages call by names that do not exist here.

    Attributes:
        folder: The folder of the page.
        ray_address: A cluster.
    """

    folder: Path
    ray_address: str = ""

    @contextmanager
    def into(self, command: str) -> Iterator[str]:
        """Put them into a command or a block of code; servers and cameras are there while it lasts."""
        with ExitStack() as stack:
            if self.ray_address:
                command = re.sub(r"(--ray-address )\S+", rf"\g<1>{self.ray_address}", command)
            for bucket in re.findall(r"\b(?:s3|gs)://[\w.-]+/[\w.-]+", command):
                far = stack.enter_context(serve(self.folder / bucket.rpartition("/")[2]))
                command = command.replace(bucket, far.url)
            for host in re.findall(r"https://[\w.-]+(?=/)", command):
                if ".m3u8" in command:
                    write_playlist(self.folder / "clip.mp4", self.folder)
                command = command.replace(host, stack.enter_context(serve(self.folder)).url)
            for camera in re.findall(r"rtsp://[^\s\"']+|/dev/video\d+", command):
                sent = as_transport_stream(self.folder / "clip.mp4")
                command = command.replace(camera, stack.enter_context(sending(sent)))
            yield re.sub(r"(?<=[\s=])/(mnt|data|runs|scratch)/", rf"{self.folder}/\1/", with_local_names(command))
