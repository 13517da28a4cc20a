"""Built distributions, and an environment that holds the wheel: for the tests of packages."""

import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from email.message import Message
from email.parser import Parser
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
# What lies about in a checkout, and is nobody's to have.
RUBBISH = (
    *("runs/demo-1/weights.safetensors", ".venv/bin/everest", "build/lib/everest/old.py", "dist/old.whl", ".coverage"),
    *("src/everest/__pycache__/cli.cpython-311.pyc", "src/everest_video.egg-info/PKG-INFO", "htmlcov/index.html"),
)

LEFT = {".venv", "__pycache__", "runs", "build", "dist"} | {f".{tool}_cache" for tool in ("pytest", "mypy", "ruff")}


def call(
    *command: str | Path,
    folder: Path,
    code: int = 0,
    seconds: float = 300,
    variables: Mapping[str, str] | None = None,
) -> str:
    """Run a program that knows nothing of the checkout, and give what it prints; errors too where one is expected."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "COV"))}
    done = subprocess.run(
        [str(word) for word in command],
        cwd=folder,
        env={"OMP_NUM_THREADS": "1"} | kept | dict(variables or {}),
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    assert done.returncode == code, f"{done.args} gave {done.returncode}:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stdout + (done.stderr if code else "")


def tracked_files() -> set[str]:
    """What git knows of this checkout; of the files of an unpacked sdist, all but what tools leave behind."""
    if (ROOT / ".git").exists():
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
        return {name for name in listed.stdout.split("\0") if name and (ROOT / name).exists()}
    found = (path.relative_to(ROOT) for path in ROOT.rglob("*") if path.is_file())
    return {path.as_posix() for path in found if not LEFT.intersection(path.parts)} - {"PKG-INFO"}


@dataclass(frozen=True)
class Built:
    """Both distributions, the wheel made from the sdist."""

    sdist: Path
    wheel: Path

    def sdist_names(self) -> set[str]:
        """List the files of the sdist, without its folder."""
        with tarfile.open(self.sdist) as archive:
            return {member.name.partition("/")[2] for member in archive if member.isfile()}

    def wheel_names(self) -> set[str]:
        """List the files of the wheel."""
        with zipfile.ZipFile(self.wheel) as archive:
            return {name for name in archive.namelist() if not name.endswith("/")}

    def metadata(self) -> Message:
        """Read what an index and pip see of the wheel."""
        (name,) = (name for name in self.wheel_names() if name.endswith(".dist-info/METADATA"))
        with zipfile.ZipFile(self.wheel) as archive:
            return Parser().parsestr(archive.read(name).decode())


def build(folder: Path) -> Built:
    """Build the sdist in a copy of the checkout with rubbish in it, and the wheel in the unpacked sdist."""
    checkout, unpacked, dist = folder / "checkout", folder / "unpacked", folder / "dist"
    for name in tracked_files():
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, checkout / name)
    for name in RUBBISH:
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        (checkout / name).write_text("rubbish")
    call(sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", dist, folder=checkout)
    (sdist,) = dist.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(unpacked, filter="data")
    (source,) = unpacked.iterdir()
    call(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", dist, folder=source)
    (wheel,) = dist.glob("*.whl")
    return Built(sdist, wheel)


def lend(folder: Path, requirements: Iterable[str]) -> None:
    """Make a folder of links to what requirements need, of this environment, and to nothing else."""
    folder.mkdir()
    pending, seen = list(requirements), set()
    while pending:
        requirement = Requirement(pending.pop())
        if requirement in seen or (requirement.marker and not requirement.marker.evaluate({"extra": ""})):
            continue
        seen.add(requirement)
        distribution = metadata.distribution(requirement.name)
        for line in distribution.requires or ():
            needed = Requirement(line)
            if not needed.marker or any(needed.marker.evaluate({"extra": e}) for e in ("", *requirement.extras)):
                needed.marker = None
                pending.append(str(needed))
        for name in {file.parts[0] for file in distribution.files or ()} - {"..", "__pycache__"}:
            if not (folder / name).exists():
                (folder / name).symlink_to(Path(str(distribution.locate_file(name))))


def install(wheel: Path, folder: Path, requirements: Iterable[str]) -> Path:
    """Make an environment that holds the wheel and what is required, and give its folder of programs."""
    venv.create(folder, with_pip=False, symlinks=True)
    programs = folder / ("Scripts" if sys.platform == "win32" else "bin")
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", programs / "python")
    call(*pip, "install", "--quiet", "--no-deps", "--no-index", wheel, folder=folder)
    lend(folder / "lent", requirements)
    place = call(programs / "python", "-c", "import site; print(site.getsitepackages()[0])", folder=folder)
    (Path(place.strip()) / "lent.pth").write_text(f"{folder / 'lent'}\n")
    return programs
